"""Simulated links between nodes: ordered, delayed by chance, cut at any byte, torn by crashes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from p2pfed.core.ids import CentreName
from p2pfed.node.effects import CloseLink, Dial, Send, SendNamed, SendStored
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.protocol.framing import frame_blocks
from p2pfed.simulate.scene import Centre, Scene


@dataclass(slots=True)
class Link:
    """One connection: each end has its own id for it, each direction keeps its order."""

    ends: tuple[tuple[CentreName, LinkId], tuple[CentreName, LinkId]]
    free_ms: list[int] = field(default_factory=lambda: [0, 0])
    open: bool = True


class Network:
    """All links of a world."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._links: dict[tuple[CentreName, LinkId], Link] = {}
        self.severed: set[frozenset[CentreName]] = set()
        """Pairs of centres that can't reach each other."""

    def perform(
        self, centre: Centre, effect: Send | SendStored | SendNamed | CloseLink | Dial
    ) -> None:
        """Does what a node wants done on its links."""
        match effect:
            case Send():
                self._send(centre.name, effect.link, effect.data)
            case SendStored():
                self._send_stored(centre, effect)
            case SendNamed():
                named = [b.data for b in centre.disk.blocks if b.block_id == effect.block_id]
                self._send(centre.name, effect.link, frame_blocks(named))
            case CloseLink():
                link = self._links.get((centre.name, effect.link))
                if link is not None and link.open:
                    self._cut(link)
            case Dial():
                life = centre.life
                self._scene.soon(lambda: self._connect(centre.name, effect.centre, life))

    def crash(self, name: CentreName) -> None:
        """Tears all links of a centre."""
        self.cut(lambda link: any(end[0] == name for end in link.ends))

    def part(self, one: set[CentreName], other: set[CentreName]) -> None:
        """Severs every pair across the two sets; `severed.clear()` heals."""
        self.severed |= {frozenset((a, b)) for a in one for b in other}
        self.cut(lambda link: frozenset(end[0] for end in link.ends) in self.severed)

    def cut(self, which: Callable[[Link], bool]) -> None:
        """Tears the links that `which` picks."""
        for link in list(self._links.values()):
            if link.open and which(link):
                self._cut(link)

    def _connect(self, dialler: CentreName, listener: CentreName, life: int) -> None:
        here, there = self._scene.centres[dialler], self._scene.centres[listener]
        if here.node is None or here.life != life:
            return
        severed = frozenset((dialler, listener)) in self.severed
        if there.node is None or severed:
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

    def _send(self, name: CentreName, link_id: LinkId, data: bytes) -> None:
        link = self._links.get((name, link_id))
        if link is None or not link.open:
            return
        if self._scene.happens(self._scene.faults.cut_per_mille):
            self._cut(link)
            return
        side = 0 if link.ends[0] == (name, link_id) else 1
        other, other_id = link.ends[1 - side]
        arrive_ms = max(link.free_ms[side], self._scene.now_ms + self._scene.delay_ms())
        link.free_ms[side] = arrive_ms
        cut = self._scene.rng.randrange(len(data) + 1)
        for piece in (data[:cut], data[cut:]):
            if piece:
                self._scene.at(arrive_ms, self._arrival(link, other, other_id, piece))

    def _arrival(
        self, link: Link, name: CentreName, link_id: LinkId, data: bytes
    ) -> Callable[[], None]:
        def arrive() -> None:
            if link.open:
                self._scene.tell(name, LinkBytes(link=link_id, data=data))

        return arrive

    def _send_stored(self, centre: Centre, effect: SendStored) -> None:
        blocks = [
            b.data
            for b in sorted(centre.disk.blocks, key=lambda b: b.seq_num)
            if b.feed == effect.feed
            and not b.side
            and effect.from_seq <= b.seq_num <= effect.to_seq
        ]
        self._send(centre.name, effect.link, frame_blocks(blocks))

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
