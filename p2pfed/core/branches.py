"""Which blocks count of a feed that has branches, or whose key was taken from it.

Theory of operation. An honest feed is a chain, and all of it counts. Of a *watched* feed (two
blocks stand at one place, or somebody proved that, or the members gave its author another key) what
counts follows from what the other members acked:

- A block is **named** if a block of another centre acks it or one after it. Nobody relied on a
  block that is not named, nobody needs to have it, and it takes no part (a federation of one has no
  others: there all blocks are named).
- A member **supports** a block that it acks, and those before it, in a block that does not know the
  *closer*: a fork proof, or the Adopt that gave the author another key. A block knows what stands
  in it, in those before it, and in what its author acked directly.
- A feed **forked** at the lowest place where two named blocks differ or a proof says so. Up to
  there it counts. Beyond, a block counts that a majority of the other members supports, unless a
  rival at its place has a majority too: of two, neither counts. So a writer can't repudiate its
  past by forking late, and of a federation of two the other one decides by what it acked first.
- A feed that is closed by another key counts as far as a majority of the others supports it:
  whoever has the old key can't add to the past.

What is named and does not count still *binds* its author (`p2pfed.core.binding`). All of this is a
function of the set of blocks: any order of `add` in which each follows what it names gives the same
verdict (design invariant 5), and nothing that is not named can change it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Final

from p2pfed.core.blocks import Block
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head, Position
from p2pfed.core.records import ForkProof
from p2pfed.errors import InputError

Prove = Callable[[ForkProof], tuple[FeedKey, int]]
"""The feed and `seq_num` that a proof convicts; raises `InputError` if it proves nothing."""
_NEVER: Final = 1 << 62


class Mode(Enum):
    """What a block of a watched feed is worth."""

    COUNTS = "counts"
    BINDS = "binds"
    IGNORED = "ignored"


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What counts of the watched feeds.

    Attributes:
        judged: the watched feeds.
        modes: of every block of a watched feed.
        forked: the feeds whose author contradicted itself, as far as these blocks show.
        tips: the newest blocks that are not ignored, by feed, then place, then id. With the heads
            of the other feeds they say exactly which blocks the verdict was made from.
    """

    judged: frozenset[FeedKey] = frozenset()
    modes: Mapping[BlockId, Mode] = field(default_factory=dict)
    forked: frozenset[FeedKey] = frozenset()
    tips: tuple[tuple[FeedKey, Head], ...] = ()


@dataclass(slots=True, eq=False)
class _Node:
    """One block of a watched feed."""

    seq_num: int
    block_id: BlockId
    parent: _Node | None
    knows: frozenset[FeedKey]
    children: list[_Node] = field(default_factory=list)
    named: bool = False

    def chain(self) -> Iterator[_Node]:
        """The block and those before it, newest first."""
        node: _Node | None = self
        while node is not None:
            yield node
            node = node.parent


@dataclass(slots=True)
class _Tree:
    """A watched feed: its blocks, and what other centres acked of it before they knew better."""

    nodes: dict[BlockId, _Node] = field(default_factory=dict)
    roots: list[_Node] = field(default_factory=list)
    acked: dict[CentreName, set[BlockId]] = field(default_factory=dict)
    proven_at: int = _NEVER
    closed: bool = False


class Branches:
    """Collects the blocks up to a cut and judges the watched feeds.

    Args:
        watched: the feeds to judge. Watching one that turns out to be a plain chain is harmless:
            all of it counts.
        prove: judges a `ForkProof`.
        revoked: for feeds whose author was given another key, the positions of the records that
            did so. They take effect once their block is added.
    """

    def __init__(
        self,
        watched: Iterable[FeedKey],
        prove: Prove,
        revoked: Mapping[FeedKey, Collection[Position]] | None = None,
    ) -> None:
        self._trees = {feed: _Tree() for feed in sorted(watched)}
        self._prove = prove
        self._closing: dict[tuple[FeedKey, int], set[FeedKey]] = {}
        for feed, positions in (revoked or {}).items():
            for centre, epoch, seq_num, _ in positions:
                self._closing.setdefault((FeedKey(centre, epoch), seq_num), set()).add(feed)
        # Of a feed that is not watched: from which block on its author knew a closer.
        self._knew_from: dict[FeedKey, dict[FeedKey, int]] = {}
        self._judged: tuple[tuple[CentreName, ...], Verdict] | None = None

    def add(self, block: Block) -> None:
        """Takes a block; what it names was added before."""
        own = self._trees.get(block.feed)
        parent = own.nodes[block.header.backlink] if own and block.header.backlink else None
        knows = set(parent.knows if parent else ())
        knows |= self._closed_here(block)
        for feed, head in block.header.acks:
            knows |= self._known_at(feed, head)
        if own is None:
            knew = self._knew_from.setdefault(block.feed, {})
            for feed in sorted(knows):
                knew.setdefault(feed, block.seq_num)
            knows |= knew.keys()
        else:
            node = _Node(block.seq_num, block.block_id, parent, frozenset(knows))
            own.nodes[block.block_id] = node
            (parent.children if parent else own.roots).append(node)
            self._judged = None
        for feed, head in block.header.acks:
            tree = self._trees.get(feed)
            if tree is not None and feed.centre != block.feed.centre:
                self._judged = None
                self._name(tree.nodes[head.block_id])
                if feed not in knows:
                    tree.acked.setdefault(block.feed.centre, set()).add(head.block_id)

    def _closed_here(self, block: Block) -> set[FeedKey]:
        """The watched feeds of which this very block holds a closer."""
        found: set[FeedKey] = set()
        for record in block.records:
            if isinstance(record, ForkProof):
                try:
                    feed, seq_num = self._prove(record)
                except InputError:
                    continue
                tree = self._trees.get(feed)
                if tree is not None:
                    self._judged = None
                    tree.proven_at = min(tree.proven_at, seq_num)
                    found.add(feed)
        for feed in self._closing.get((block.feed, block.seq_num), ()):
            if feed in self._trees:
                self._judged = None
                self._trees[feed].closed = True
                found.add(feed)
        return found

    def _known_at(self, feed: FeedKey, head: Head) -> frozenset[FeedKey]:
        """The closers that the author of this block knew when it wrote it."""
        tree = self._trees.get(feed)
        if tree is not None:
            return tree.nodes[head.block_id].knows
        knew = self._knew_from.get(feed, {})
        return frozenset(closed for closed, since in knew.items() if since <= head.seq_num)

    def _name(self, node: _Node) -> None:
        for before in node.chain():
            if before.named:
                break
            before.named = True

    # Judging

    def judge(self, members: Collection[CentreName]) -> Verdict:
        """What counts of each watched feed, given who is a member.

        The same object as before if nothing that was added since matters.
        """
        asked = tuple(sorted(members))
        if self._judged is None or self._judged[0] != asked:
            self._judged = asked, self._judge(asked)
        return self._judged[1]

    def _judge(self, members: tuple[CentreName, ...]) -> Verdict:
        modes: dict[BlockId, Mode] = {}
        forked: set[FeedKey] = set()
        tips: list[tuple[FeedKey, Head]] = []
        for feed, tree in self._trees.items():
            others = [centre for centre in members if centre != feed.centre]
            named = {n.block_id for n in tree.nodes.values() if n.named or not others}
            fork_at = _fork_at(tree, named)
            if fork_at < _NEVER:
                forked.add(feed)
            counted = _counted(tree, named, fork_at, others)
            for block_id in tree.nodes:
                if block_id in counted:
                    modes[block_id] = Mode.COUNTS
                else:
                    modes[block_id] = Mode.BINDS if block_id in named else Mode.IGNORED
            used = named | counted
            heads = [
                Head(node.seq_num, node.block_id)
                for node in tree.nodes.values()
                if node.block_id in used and all(c.block_id not in used for c in node.children)
            ]
            tips += [(feed, head) for head in sorted(heads)]
        return Verdict(
            judged=frozenset(self._trees), modes=modes, forked=frozenset(forked), tips=tuple(tips)
        )


def majority(others: int) -> int:
    """How many of the other members must support a block; 0 if there are none."""
    return others // 2 + 1 if others else 0


def _fork_at(tree: _Tree, named: set[BlockId]) -> int:
    """The lowest place where the author contradicts itself."""
    places: set[int] = set()
    lowest = tree.proven_at
    for block_id in sorted(named):
        seq_num = tree.nodes[block_id].seq_num
        if seq_num in places:
            lowest = min(lowest, seq_num)
        places.add(seq_num)
    return lowest


def _counted(
    tree: _Tree, named: set[BlockId], fork_at: int, others: list[CentreName]
) -> set[BlockId]:
    need = majority(len(others))
    if fork_at == _NEVER and not tree.closed:
        return _walk(tree, lambda node: node.block_id in named) | _tail(tree, named)
    supporters = _supporters(tree, others)
    floor = 0 if tree.closed and fork_at == _NEVER else fork_at
    return _walk(
        tree,
        lambda node: (
            node.block_id in named
            and (node.seq_num < floor or len(supporters.get(node.block_id, ())) >= need)
        ),
    )


def _walk(tree: _Tree, fits: Callable[[_Node], bool]) -> set[BlockId]:
    """The chain from the first block on, as long as exactly one block fits at the next place."""
    found: set[BlockId] = set()
    level = tree.roots
    while len(fitting := [node for node in level if fits(node)]) == 1:
        found.add(fitting[0].block_id)
        level = fitting[0].children
    return found


def _tail(tree: _Tree, named: set[BlockId]) -> set[BlockId]:
    """The newest blocks of a plain chain that nobody has acked yet."""
    found: set[BlockId] = set()
    level = tree.roots
    while level:
        known = [node for node in level if node.block_id in named]
        if len(level) > 1 and not known:
            break
        node = known[0] if known else level[0]
        if not known:
            found.add(node.block_id)
        level = node.children
    return found


def _supporters(tree: _Tree, others: list[CentreName]) -> dict[BlockId, set[CentreName]]:
    found: dict[BlockId, set[CentreName]] = {}
    for centre in others:
        for block_id in tree.acked.get(centre, ()):
            for node in tree.nodes[block_id].chain():
                support = found.setdefault(node.block_id, set())
                if centre in support:
                    break
                support.add(centre)
    return found
