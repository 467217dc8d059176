"""Gossip nodes and the wires between them, in one thread, from one seed.

A wire carries bytes in order and cuts them anywhere, as TCP does. What is sent is tapped: for each
link it is known which blocks crossed it how often, and how many bytes in all.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from random import Random

from p2pfed.core.blocks import Block
from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.replica import Replica
from p2pfed.core.rules import Rules
from p2pfed.core.waiting import BlockRef
from p2pfed.errors import InputError
from p2pfed.node.effects import (
    CloseLink,
    Dial,
    Effect,
    Note,
    Send,
    SendNamed,
    SendStored,
    StoredBlock,
)
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.node.gossip import Gossip
from p2pfed.protocol.framing import FrameReader, frame_blocks
from p2pfed.protocol.messages import Blocks, claimed_ref, decode_message
from tests.writers import FEDERATION, START_MS, Writer, keys_of


def stored(block: Block) -> StoredBlock:
    return StoredBlock(
        feed=block.feed,
        seq_num=block.seq_num,
        block_id=block.block_id,
        time=block.time,
        data=block.data,
    )


class Peer:
    """A centre as gossip sees it: it writes blocks, keeps what it admits, and nothing else."""

    def __init__(self, name: str, names: Sequence[str], seed: int, active_peers: int = 16) -> None:
        self.name = CentreName(name)
        self.writer = Writer(name)
        self.replica = Replica(FEDERATION, keys_of(*names), 60_000)
        self.blocks: dict[tuple[FeedKey, int], Block] = {}
        self.by_id: dict[BlockId, Block] = {}
        self.acked: dict[FeedKey, int] = {}
        members = {CentreName(other): f"{other}:1" for other in names if other != name}
        self.rules = Rules()
        self.gossip = self.start(members, seed, active_peers)
        self.notes: list[Note] = []

    def start(self, members: dict[CentreName, str], seed: int, active_peers: int = 16) -> Gossip:
        rng = Random(f"{seed} {self.name}")
        self.gossip = Gossip(
            self.name, FEDERATION, members, rng, self.rules, active_peers=active_peers
        )
        return self.gossip

    def write(self, now_ms: int) -> list[Effect]:
        """A new block that acks everything held."""
        acked = [
            self.blocks[feed, head.seq_num]
            for feed, head in sorted(self.replica.frontier().items())
            if feed != self.writer.feed and self.acked.get(feed) != head.seq_num
        ]
        block = self.writer.write(*acked)
        self.acked |= {b.feed: b.seq_num for b in acked}
        self.replica.admit(block, now_ms)
        self.keep([block])
        return self.gossip.own_block(stored(block), now_ms)

    def keep(self, blocks: Sequence[Block]) -> None:
        self.by_id |= {b.block_id: b for b in blocks}
        heads = (b for b in blocks if not self.replica.is_side(b))
        self.blocks |= {(b.feed, b.seq_num): b for b in heads}

    def receive(self, event: LinkBytes, now_ms: int) -> list[Effect]:
        heard = self.gossip.link_bytes(event, now_ms, self.replica)
        effects = list(heard.effects)
        admitted: list[Block] = []
        for data in heard.blocks:
            try:
                admission = self.replica.receive(data, now_ms)
            except InputError as error:
                effects += self.gossip.misbehaved(event.link, error, now_ms)
                break
            admitted += admission.admitted
            for fork in admission.forks:
                self.gossip.forked(fork.feed)
            if admission.unmet:
                effects += self.gossip.lacks(admission.unmet, event.link, now_ms)
        self.keep(admitted)
        if admitted:
            block_list = [stored(b) for b in admitted if not self.replica.is_side(b)]
            effects += self.gossip.admitted(block_list, now_ms, event.link)
        return effects


@dataclass
class Wire:
    """One connection: for each end the bytes on their way to it, and what crossed."""

    dialler: CentreName
    answerer: CentreName
    queues: dict[CentreName, deque[bytes]] = field(default_factory=lambda: defaultdict(deque))
    ends: set[CentreName] = field(default_factory=set)
    crossed: Counter[BlockRef] = field(default_factory=Counter)
    bytes_to: Counter[CentreName] = field(default_factory=Counter)
    taps: dict[CentreName, FrameReader] = field(default_factory=lambda: defaultdict(FrameReader))

    def other(self, end: CentreName) -> CentreName:
        return self.answerer if end == self.dialler else self.dialler


class Mesh:
    """Peers, wires and a clock; `apart` holds pairs that can't reach each other."""

    def __init__(self, names: Sequence[str], seed: int = 0, active_peers: int = 16) -> None:
        self.rng = Random(seed)
        self.now_ms = START_MS
        self.peers = {CentreName(n): Peer(n, names, seed, active_peers) for n in names}
        self.wires: dict[LinkId, Wire] = {}
        self.past: list[Wire] = []
        self.apart: set[frozenset[CentreName]] = set()
        self.chunk_bytes_max = 1 << 16
        self._next_link = 1

    # The world's moves

    def write(self, name: str) -> None:
        centre = CentreName(name)
        self.perform(centre, self.peers[centre].write(self.now_ms))

    def tick(self, after_ms: int = 0) -> None:
        self.now_ms += after_ms
        for name, peer in self.peers.items():
            self.perform(name, peer.gossip.tick(self.now_ms, peer.replica))

    def cut(self, a: str, b: str) -> None:
        """Loses the wires between two centres with everything on them, and keeps them apart."""
        pair = frozenset({CentreName(a), CentreName(b)})
        self.apart.add(pair)
        for link, wire in list(self.wires.items()):
            if {wire.dialler, wire.answerer} == pair:
                self.lose(link)

    def lose(self, link: LinkId) -> None:
        wire = self.wires.pop(link)
        self.past.append(wire)
        for end in sorted(wire.ends):
            self.perform(end, self.peers[end].gossip.link_down(LinkDown(link=link), self.now_ms))

    def heal(self) -> None:
        self.apart.clear()

    def flow_once(self) -> bool:
        """Delivers one piece of what is under way somewhere; False if nothing is."""
        ready = [
            (link, end) for link, w in self.wires.items() for end in sorted(w.ends) if w.queues[end]
        ]
        if not ready:
            return self._finish_closing()
        link, end = ready[self.rng.randrange(len(ready))]
        queue = self.wires[link].queues[end]
        data = queue.popleft()
        cut = self.rng.randint(1, min(len(data), self.chunk_bytes_max))
        if data[cut:]:
            queue.appendleft(data[cut:])
        event = LinkBytes(link=link, data=data[:cut])
        self.perform(end, self.peers[end].receive(event, self.now_ms))
        return True

    def flow(self) -> None:
        """Delivers everything that is under way and what follows from it."""
        while self.flow_once():
            pass

    def settle(self, for_ms: int = 5_000) -> None:
        """Lets time pass as far as somebody waits for it, delivering everything."""
        end_ms = self.now_ms + for_ms
        self.tick()
        self.flow()
        while (due_ms := self.wake_ms()) <= end_ms:
            self.tick(max(0, due_ms - self.now_ms))
            self.flow()
        self.now_ms = end_ms

    def wake_ms(self) -> int:
        times = (peer.gossip.wake_ms() for peer in self.peers.values())
        return min((t for t in times if t is not None), default=1 << 62)

    def restart(self, name: str, *, keep: Sequence[FeedKey] = ()) -> None:
        """Loses a peer's links and memory; what it admitted stays, or only the feeds in `keep`."""
        peer = self.peers[CentreName(name)]
        for link, wire in list(self.wires.items()):
            if peer.name in wire.ends:
                self.lose(link)
        members = {other: f"{other}:1" for other in self.peers if other != peer.name}
        peer.start(members, self.rng.randrange(1 << 30))

    # Effects

    def perform(self, centre: CentreName, effects: Sequence[Effect]) -> None:
        for effect in effects:
            match effect:
                case Send(link=link, data=data):
                    self._send(centre, link, data)
                case SendStored(link=link, feed=feed, from_seq=first, to_seq=last):
                    blocks = self.peers[centre].blocks
                    data = frame_blocks(blocks[feed, s].data for s in range(first, last + 1))
                    self._send(centre, link, data)
                case SendNamed(link=link, block_id=block_id):
                    data = frame_blocks([self.peers[centre].by_id[block_id].data])
                    self._send(centre, link, data)
                case CloseLink(link=link):
                    self._close(centre, link)
                case Dial(centre=other):
                    self._dial(centre, other)
                case Note():
                    self.peers[centre].notes.append(effect)
                case _:
                    raise AssertionError(f"gossip never asks for {effect}")

    def _send(self, centre: CentreName, link: LinkId, data: bytes) -> None:
        wire = self.wires.get(link)
        if wire is None or centre not in wire.ends:
            return
        assert data, "nothing is sent as nothing"
        other = wire.other(centre)
        wire.queues[other].append(data)
        for body in wire.taps[other].feed(data):
            message = decode_message(body)
            if isinstance(message, Blocks):
                wire.crossed.update(claimed_ref(block) for block in message.blocks)
                wire.bytes_to[other] += sum(map(len, message.blocks))

    def _close(self, centre: CentreName, link: LinkId) -> None:
        wire = self.wires.get(link)
        if wire is not None:
            wire.ends.discard(centre)

    def _finish_closing(self) -> bool:
        for link, wire in list(self.wires.items()):
            if len(wire.ends) < 2:
                self.lose(link)
                return True
        return False

    def _dial(self, centre: CentreName, other: CentreName) -> None:
        dialler = self.peers[centre].gossip
        if frozenset({centre, other}) in self.apart:
            event = DialFailed(centre=other, why="unreachable")
            self.perform(centre, dialler.dial_failed(event, self.now_ms))
            return
        link = LinkId(self._next_link)
        self._next_link += 1
        self.wires[link] = Wire(centre, other, ends={centre, other})
        for end, peer_name in ((centre, other), (other, centre)):
            up = LinkUp(link=link, centre=peer_name, outbound=end == centre)
            peer = self.peers[end]
            frontier = peer.replica.frontier()
            self.perform(end, peer.gossip.link_up(up, self.now_ms, frontier))

    # What is looked at

    def all_wires(self) -> list[Wire]:
        return [*self.past, *self.wires.values()]

    def crossings_max(self) -> int:
        """How often the same block crossed the same link at most."""
        return max((max(w.crossed.values(), default=0) for w in self.all_wires()), default=0)

    def block_bytes_to(self, name: str) -> int:
        """Bytes of blocks that were sent to a centre over all links."""
        return sum(wire.bytes_to[CentreName(name)] for wire in self.all_wires())

    def converged(self) -> bool:
        frontiers = [peer.replica.frontier() for peer in self.peers.values()]
        return all(frontier == frontiers[0] for frontier in frontiers)

    def linked_pairs(self) -> int:
        return sum(len(peer.gossip.linked()) for peer in self.peers.values()) // 2
