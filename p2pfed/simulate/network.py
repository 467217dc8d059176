"""Simulated links between nodes: ordered, delayed by chance, cut at any byte, torn by crashes.

A link is what TCP makes of a bad network. A lost packet delays what stands behind it. In a *hole*
nothing passes in one direction: bytes wait for it to close, and neither end can tell. Across a
*severed* pair nothing passes in either direction and connections break at once.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.node.effects import CloseLink, Dial, Send, SendNamed, SendStored
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.protocol.framing import frame_blocks
from p2pfed.simulate.scene import Centre, Scene

RETRANSMIT_MS: Final = 200
"""How long the first retransmission of a lost packet takes; each further one takes twice that."""
DIAL_TIMEOUT_MS: Final = 3_000
PIECES_PER_MILLE: Final = 125
"""How often a message arrives in two pieces."""


@dataclass(slots=True)
class Link:
    """One connection: each end has its own id for it, each direction keeps its order."""

    ends: tuple[tuple[CentreName, LinkId], tuple[CentreName, LinkId]]
    free_ms: list[int] = field(default_factory=lambda: [0, 0])
    waiting: tuple[list[bytes], list[bytes]] = field(default_factory=lambda: ([], []))
    open: bool = True

    def way(self, side: int) -> tuple[CentreName, CentreName]:
        """From whom to whom this direction leads."""
        return self.ends[side][0], self.ends[1 - side][0]


class Network:
    """All links of a world."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._links: dict[tuple[CentreName, LinkId], Link] = {}
        self.severed: set[frozenset[CentreName]] = set()
        """Pairs of centres that can't reach each other."""
        self.holes: set[tuple[CentreName, CentreName]] = set()
        """Directions in which nothing passes."""
        self.parted: Callable[[], None] = lambda: None
        """Is told when connections that are not links of this module have to break, too."""

    def perform(
        self, centre: Centre, effect: Send | SendStored | SendNamed | CloseLink | Dial
    ) -> None:
        """Does what a node wants done on its links."""
        match effect:
            case Send():
                self.send(centre.name, effect.link, effect.data)
            case SendStored():
                self._send_stored(centre, effect)
            case SendNamed():
                named = [b.data for b in centre.disk.blocks if b.block_id == effect.block_id]
                self.send(centre.name, effect.link, frame_blocks(named))
            case CloseLink():
                link = self._links.get((centre.name, effect.link))
                if link is not None and link.open:
                    self._cut(link)
            case Dial():
                life = centre.life
                self._scene.soon(lambda: self._connect(centre.name, effect.centre, life))

    # Faults

    def crash(self, name: CentreName) -> None:
        """Tears all links of a centre."""
        self.cut(lambda link: any(end[0] == name for end in link.ends))

    def part(self, one: set[CentreName], other: set[CentreName]) -> None:
        """Severs every pair across the two sets; `severed.clear()` heals."""
        self.severed |= {frozenset((a, b)) for a in one for b in other}
        self.cut(lambda link: frozenset(end[0] for end in link.ends) in self.severed)
        self.parted()

    def cut(self, which: Callable[[Link], bool]) -> None:
        """Tears the links that `which` picks."""
        for link in list(self._links.values()):
            if link.open and which(link):
                self._cut(link)

    def open_hole(self, sender: CentreName, receiver: CentreName) -> None:
        """From now on nothing that the one sends comes to the other."""
        self.holes.add((sender, receiver))

    def close_hole(self, sender: CentreName, receiver: CentreName) -> None:
        """What waited passes, in its order."""
        self.holes.discard((sender, receiver))
        for (name, _), link in list(self._links.items()):
            side = 0 if link.ends[0][0] == name else 1
            if link.open and link.way(side) == (sender, receiver):
                waiting = list(link.waiting[side])
                link.waiting[side].clear()
                for data in waiting:
                    self._pass(link, side, data)

    def heal(self) -> None:
        """Everybody reaches everybody."""
        self.severed.clear()
        for sender, receiver in sorted(self.holes):
            self.close_hole(sender, receiver)

    def reaches(self, one: CentreName, other: CentreName) -> bool:
        """Whether a new connection between the two would come about."""
        blocked = frozenset((one, other)) in self.severed
        return not blocked and not {(one, other), (other, one)} & self.holes

    def links_of(self, name: CentreName) -> list[tuple[LinkId, CentreName]]:
        """The open links of a centre, and who is at their other ends."""
        found = []
        for (end, link_id), link in sorted(self._links.items()):
            if end == name and link.open:
                side = 0 if link.ends[0] == (end, link_id) else 1
                found.append((link_id, link.ends[1 - side][0]))
        return found

    # Bytes

    def _connect(self, dialler: CentreName, listener: CentreName, life: int) -> None:
        here, there = self._scene.centres[dialler], self._scene.centres[listener]
        if here.node is None or here.life != life:
            return
        if not self.reaches(dialler, listener):
            wait_ms = DIAL_TIMEOUT_MS if self.holes else 0
            failed = DialFailed(centre=listener, why="no answer")
            self._scene.at(self._scene.now_ms + wait_ms, lambda: self._tell(here, life, failed))
            return
        if there.node is None:
            self._scene.tell(dialler, DialFailed(centre=listener, why="down"))
            return
        link = Link(
            ((dialler, LinkId(self._scene.new_id())), (listener, LinkId(self._scene.new_id())))
        )
        self._links.update(dict.fromkeys(link.ends, link))
        for (name, link_id), other, outbound in (
            (link.ends[0], listener, True),
            (link.ends[1], dialler, False),
        ):
            self._scene.tell(name, LinkUp(link=link_id, centre=other, outbound=outbound))

    def _tell(self, centre: Centre, life: int, event: DialFailed) -> None:
        if centre.life == life:
            self._scene.tell(centre.name, event)

    def send(self, name: CentreName, link_id: LinkId, data: bytes) -> None:
        """Sends bytes from one end of a link, whoever made them."""
        link = self._links.get((name, link_id))
        if link is None or not link.open or not data:
            return
        if self._scene.happens(self._scene.faults.cut_per_mille):
            self._cut(link)
            return
        self._pass(link, 0 if link.ends[0] == (name, link_id) else 1, data)

    def _pass(self, link: Link, side: int, data: bytes) -> None:
        scene, faults = self._scene, self._scene.faults
        if link.way(side) in self.holes:
            link.waiting[side].append(data)
            return
        wait_ms, again_ms = scene.delay_ms(), RETRANSMIT_MS
        while scene.happens(faults.loss_per_mille):
            wait_ms, again_ms = wait_ms + again_ms, 2 * again_ms
        arrive_ms = max(link.free_ms[side], scene.now_ms + wait_ms)
        if faults.bytes_per_ms:
            arrive_ms += len(data) // faults.bytes_per_ms
        link.free_ms[side] = arrive_ms
        name, link_id = link.ends[1 - side]
        cut = scene.rng.randrange(len(data)) if scene.happens(PIECES_PER_MILLE) else 0
        for piece in (data[:cut], data[cut:]):
            if piece:
                scene.at(arrive_ms, self._arrival(link, name, link_id, piece))

    def _arrival(
        self, link: Link, name: CentreName, link_id: LinkId, data: bytes
    ) -> Callable[[], None]:
        def arrive() -> None:
            if link.open:
                self._scene.tell(name, LinkBytes(link=link_id, data=data))

        return arrive

    def _send_stored(self, centre: Centre, effect: SendStored) -> None:
        blocks = {
            b.seq_num: b.data
            for b in centre.disk.blocks
            if b.feed == effect.feed
            and not b.side
            and effect.from_seq <= b.seq_num <= effect.to_seq
        }
        self.send(centre.name, effect.link, frame_blocks([blocks[n] for n in sorted(blocks)]))

    def _cut(self, link: Link) -> None:
        link.open = False
        for name, link_id in link.ends:
            self._links.pop((name, link_id), None)
            self._scene.at(
                self._scene.now_ms, self._down(name, link_id, self._scene.centres[name].life)
            )

    def _down(self, name: CentreName, link_id: LinkId, life: int) -> Callable[[], None]:
        def down() -> None:
            if self._scene.centres[name].life == life:
                self._scene.tell(name, LinkDown(link=link_id))

        return down
