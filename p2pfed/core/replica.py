"""The replica: which blocks of which feeds are held, and whether one more may join them.

Merging is set union. A block is admitted once its backlink and every block that it acks are
admitted, each with exactly the id that it names, and it must be later than all of them; so any set
of admitted blocks is causally closed, and so is every cut. What arrives too early waits; what would
never fit is refused. Any order, repetition and grouping of the same blocks gives the same frontier.

Only ids and times are kept (40 bytes a block), never the blocks. Three causes let a block wait: a
block before it or acked by it is missing (`Admission.lacks` says which to ask for), or it lies
further in the future than `max_skew_ms`. A local clock may delay a block but never judges it, else
replicas would part. The waiting room is bounded; what is dropped there is fetched again later.

Forks. Two different blocks of one centre at one place prove a fork (`Admission.forks`). The branch
that came first stays the feed: the one that the frontier tells and that we ack. But other centres
may have acked the other before they knew, and then their blocks rest on it. So a *side block* that
some waiting block names is admitted too, beside its feed (`is_side`): it is stored and sent to
whoever asks for it by its id, and it may come to count (`p2pfed.core.branches`). Side blocks nobody
names are dropped, which bounds them by what other centres acked. Which branch came first is chance,
so nothing that nodes must agree on may depend on it.

A replica can begin at a checkpoint (`stand_on`): of each feed the newest block under it is known,
and what it rests on comes later (`complete`). Until then a block that names something further down
is admitted on trust, and what it named is remembered.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from typing import Final

from p2pfed.core.admission import Admission, Fork, Outcome, Refusal
from p2pfed.core.blocks import (
    Block,
    decode_block,
    fork_proof,
    peek_block_id,
    peek_header,
    split_block,
)
from p2pfed.core.branches import Verdict
from p2pfed.core.chains import Chain
from p2pfed.core.checkpoint import TreeHead
from p2pfed.core.codec import encode
from p2pfed.core.ids import BlockId, FederationId, FeedKey, Frontier, Head, ViewDigest
from p2pfed.core.keyring import Keyring
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.units import HlcTime, hlc_ms
from p2pfed.core.waiting import (
    BlockRef,
    SeqRange,
    Unsure,
    WaitingRoom,
    backlink_ref,
    block_ref,
    block_refs,
    header_refs,
    merge_ranges,
)
from p2pfed.errors import InputError, StateError

_RECENT_HEADERS: Final = 256
"""Signed headers of the newest blocks are kept: most forks come to light at once."""


class Replica:
    """The blocks that one node has admitted, as ids and times, and those that wait."""

    __slots__ = (
        "_assumed",
        "_federation",
        "_feeds",
        "_floors",
        "_forked",
        "_joined",
        "_keep_branches",
        "_max_skew_ms",
        "_recent",
        "_room",
        "_side",
        "_stored",
        "_unsure",
        "keyring",
    )

    def __init__(
        self,
        federation: FederationId,
        keys: VerifyKeys,
        max_skew_ms: int,
        stored: Callable[[FeedKey, int], bytes | None] | None = None,
        *,
        keep_branches: bool = False,
        joined: Callable[[Block], None] | None = None,
    ) -> None:
        """Starts empty.

        Args:
            federation: whose blocks these are.
            keys: the founders' keys; later ones come with the blocks.
            max_skew_ms: how far ahead of the local clock a block may be before it waits.
            stored: reads an admitted block back, to prove a fork against an old one.
            joined: told of each block as it is admitted, before what waited for it is looked at.
                What it says may bring keys (`learn`).
            keep_branches: admit side blocks although nothing that waits names them: for whoever
                reads an export, where each block stands before those that name it.
        """
        self._keep_branches = keep_branches
        self._federation = federation
        self._joined = joined
        self._unsure = Unsure()
        self.keyring = Keyring(federation, keys)
        self._max_skew_ms = max_skew_ms
        self._stored = stored
        self._feeds: dict[FeedKey, Chain] = {}
        self._side: dict[BlockRef, HlcTime] = {}
        self._assumed: set[BlockRef] = set()
        self._floors: dict[FeedKey, int] = {}
        self._forked: dict[FeedKey, bool] = {}  # whether the proof was given
        self._room = WaitingRoom()
        self._recent: OrderedDict[BlockId, bytes] = OrderedDict()

    # Taking blocks in

    def receive(self, data: bytes, now_ms: int) -> Admission:
        """`admit` for a stranger's bytes; what is held already is not verified again.

        Raises:
            InputError: as `decode_block` and `admit`.
        """
        block_id = peek_block_id(data)
        if block_id in self._recent or self._room.holds(block_id):
            return Admission(duplicate=True)
        keys = self.keyring.keys
        try:
            block = decode_block(data, self._federation, keys)
        except InputError as error:
            if error.code != "block-key-unknown":
                raise
            return self._wait_for_key(data, error)
        return self.admit(block, now_ms)

    def _wait_for_key(self, data: bytes, error: InputError) -> Admission:
        """Keeps a block whose key may come with what it names; if all of that is here, raises."""
        header = peek_header(data)
        refs = header_refs(header)
        unmet = [ref for ref in refs if self._time(ref) is None]
        if not unmet:
            raise error
        dropped = self._unsure.add(header.block_id, data, refs)
        missing = [ref for ref in unmet if not self._room.holds(ref.block_id)]
        return Admission(
            waits=True, lacks=self._ranges(unmet), unmet=tuple(missing), dropped=dropped
        )

    def admit(self, block: Block, now_ms: int) -> Admission:
        """Admits the block, lets it wait, or proves that its author forked.

        Raises:
            InputError: `block-time-backlink` or `block-time-ack`: the block is not later than the
                one before it, or than one it acks, and never will be. Nothing changed. (If it also
                proves a fork, the admission tells both instead.)
        """
        known = self.holds(block_ref(block)) or self._is_below(block.feed, block.seq_num)
        if known or self._room.holds(block.block_id):
            return Admission(duplicate=True)
        outcome = Outcome()
        joined: list[BlockRef] = []
        try:
            unmet = self._place(block, now_ms, outcome, joined)
        except InputError as error:
            if not outcome.forks:
                raise
            outcome.refused.append(Refusal(block=block, error=error))
            unmet = []
        self._place_watchers(joined, now_ms, outcome)
        self._place_unsure(now_ms, outcome)
        waits = self._room.holds(block.block_id)
        if not waits:
            return outcome.freeze()
        missing = [ref for ref in unmet if not self._room.holds(ref.block_id)]
        return outcome.freeze(waits=True, lacks=self._ranges(unmet), unmet=missing)

    def release(self, now_ms: int) -> Admission:
        """Admits the blocks whose time has come; call it at `release_ms()`."""
        outcome = Outcome()
        joined: list[BlockRef] = []
        for block in self._room.take_due(now_ms):
            self._place(block, now_ms, outcome, joined)
        self._place_watchers(joined, now_ms, outcome)
        self._place_unsure(now_ms, outcome)
        return outcome.freeze()

    def release_ms(self) -> int | None:
        """When the next block that is complete but from the future may be admitted."""
        return self._room.due_ms()

    def restore_block(self, block: Block, *, side: bool = False) -> None:
        """Takes an admitted block back from one's own database, at start, in feed order.

        `side` says that it was admitted beside its feed.

        Raises:
            StateError: `replica-restore`: it does not extend its feed.
        """
        if side:
            self._side[block_ref(block)] = block.time
            self._forked.setdefault(block.feed, False)
        else:
            self.restore(block.feed, block.seq_num, block.block_id, block.time)
        self.keyring.joined(block, side=side)

    def restore(self, feed: FeedKey, seq_num: int, block_id: BlockId, time: HlcTime) -> None:
        """Takes the place of an admitted block back, without what it says of keys.

        Raises:
            StateError: `replica-restore`: it does not extend its feed.
        """
        chain = self._feeds.setdefault(feed, Chain())
        if seq_num != len(chain) or (chain.times and time <= chain.times[-1]):
            raise StateError(
                "replica-restore",
                f"block {seq_num} of {feed.centre} does not extend the {len(chain)} before it",
                remedy="the database is damaged: restore the centre from its peers",
            )
        chain.append(block_id, time)

    def stand_on(self, trees: Iterable[TreeHead]) -> None:
        """Begins, before any block, with what a checkpoint says of each feed, keys left out."""
        for tree in trees:
            chain = self._feeds[tree.feed] = Chain(tree.size - 1)
            chain.append(tree.block_id, tree.time)
            self._floors[tree.feed] = tree.size

    def floors(self) -> dict[FeedKey, int]:
        """The feeds of which the oldest blocks are not here, and how many those are."""
        return dict(self._floors)

    def complete(self, earlier: Replica) -> list[BlockRef]:
        """Takes from a replica of the blocks under the checkpoint what this one left out.

        Returns:
            What our blocks name and that one does not hold: whoever wrote them knew other blocks.
        """
        for feed in self._floors:
            self._feeds[feed].prepend(earlier._feeds[feed])
        self._floors.clear()
        self._side.update(earlier._side)
        for feed, proven in earlier._forked.items():
            self._forked.setdefault(feed, proven)
        self.keyring.complete(earlier.keyring)
        named, self._assumed = self._assumed, set()
        return sorted(ref for ref in named if not earlier.holds(ref))

    def set_max_skew(self, max_skew_ms: int) -> None:
        """Lets blocks wait from now on that are further ahead of the local clock than this."""
        self._max_skew_ms = max_skew_ms

    def set_keys(self, keys: VerifyKeys) -> None:
        """These are the founders' keys."""
        self.keyring.found(keys)

    # What is held

    def frontier(self) -> Frontier:
        """The newest block of every feed, by feed."""
        return {feed: chain.head() for feed, chain in sorted(self._feeds.items())}

    def head(self, feed: FeedKey) -> Head | None:
        """The newest block of the feed, None if it has none."""
        chain = self._feeds.get(feed)
        return chain.head() if chain else None

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of the block at this place, None if none is held."""
        chain = self._feeds.get(feed)
        return chain.block_id(seq_num) if chain and chain.has(seq_num) else None

    def time_of(self, feed: FeedKey, seq_num: int) -> HlcTime | None:
        """The time of the block at this place, None if none is held."""
        chain = self._feeds.get(feed)
        return chain.time(seq_num) if chain and chain.has(seq_num) else None

    def seq_at(self, feed: FeedKey, time: HlcTime) -> int | None:
        """The `seq_num` of the feed's block of just that time, None if there is none."""
        head = self._feeds[feed].head_at(time) if feed in self._feeds else None
        found = None if head is None else self.time_of(feed, head.seq_num)
        return head.seq_num if head is not None and found == time else None

    def holds(self, ref: BlockRef) -> bool:
        """Whether exactly this block is admitted, beside its feed or in it."""
        return self.block_id(ref.feed, ref.seq_num) == ref.block_id or ref in self._side

    def _is_below(self, feed: FeedKey, seq_num: int) -> bool:
        """Whether the place lies under the checkpoint that the feed is known from."""
        chain = self._feeds.get(feed)
        return chain is not None and seq_num < chain.first

    def is_side(self, block: Block) -> bool:
        """Whether the block is admitted beside its feed, on a branch that came second."""
        return block_ref(block) in self._side

    def branched(self) -> tuple[FeedKey, ...]:
        """The feeds of which side blocks are admitted, ascending."""
        return tuple(sorted({ref.feed for ref in self._side}))

    def forked(self) -> tuple[FeedKey, ...]:
        """The feeds of which two branches were seen, ascending."""
        return tuple(sorted(self._forked))

    def cut_frontier(self, cut: HlcTime) -> Frontier:
        """The newest block of every feed with a time up to `cut`, by feed."""
        found: Frontier = {}
        for feed, chain in sorted(self._feeds.items()):
            head = chain.head_at(cut)
            if head is not None:
                found[feed] = head
        return found

    def lacking(self, frontier: Mapping[FeedKey, Head]) -> tuple[SeqRange, ...]:
        """What to ask a peer with this frontier for: what it has and we neither hold nor await.

        A head that contradicts ours is asked for, as proof. Of a feed known to be forked nothing
        is asked here: what others acked of it comes up as lacking when their blocks arrive.
        """
        found: list[SeqRange] = []
        for feed, head in sorted(frontier.items()):
            if self._forked.get(feed):
                continue
            held = self._length(feed)
            if head.seq_num >= held:
                found += self._room.gaps(feed, held, head.seq_num)
            elif self.block_id(feed, head.seq_num) != head.block_id:
                found.append(SeqRange(feed, head.seq_num, head.seq_num))
        return tuple(found)

    def awaited(self) -> tuple[BlockRef, ...]:
        """What all waiting blocks together name and nobody holds here; ascending."""
        named = {ref for block in self._room.blocks() for ref in block_refs(block)}
        return tuple(
            ref
            for ref in sorted(named)
            if self._time(ref) is None and not self._room.holds(ref.block_id)
        )

    def waiting(self) -> tuple[int, int]:
        """How many blocks wait, and their bytes."""
        return len(self._room), self._room.total_bytes

    # Placing a block

    def _place(
        self, block: Block, now_ms: int, outcome: Outcome, joined: list[BlockRef]
    ) -> list[BlockRef]:
        """Lets the block join or wait; returns what it lacks, adds to `joined` what joined."""
        ref = block_ref(block)
        if self._contradicts(block, outcome) and not self._wanted_beside(ref):
            self._drop_followers(ref)
            return []
        unmet = self._unmet(block)
        due_ms = hlc_ms(block.time) - self._max_skew_ms
        if unmet:
            outcome.dropped += self._room.add(block, watched=unmet[0])
        elif due_ms > now_ms:
            outcome.dropped += self._room.add(block, due_ms=due_ms)
        else:
            self.keyring.check(block)
            if self._join(block, outcome):
                joined.append(ref)
        return unmet

    def _place_watchers(self, joined: list[BlockRef], now_ms: int, outcome: Outcome) -> None:
        """Places again what waited for the blocks that joined, until nothing moves."""
        while joined:
            for block in self._room.take_watchers(joined.pop()):
                try:
                    self._place(block, now_ms, outcome, joined)
                except InputError as error:
                    outcome.refused.append(Refusal(block=block, error=error))

    def _place_unsure(self, now_ms: int, outcome: Outcome) -> None:
        """Places the blocks whose key was not known when they came, and whose past is here now."""
        while self._unsure and outcome.admitted:
            ready = self._unsure.take(lambda ref: self._time(ref) is not None)
            if not ready:
                break
            for block_id, data in ready:
                joined: list[BlockRef] = []
                try:
                    block = decode_block(data, self._federation, self.keyring.keys)
                    self._place(block, now_ms, outcome, joined)
                except InputError:
                    # Whoever sends it again is told why.
                    outcome.dropped.append(block_id)
                self._place_watchers(joined, now_ms, outcome)

    def _contradicts(self, block: Block, outcome: Outcome) -> bool:
        """Whether the block can't extend the branch that we hold; a rival is a proven fork."""
        held = self.block_id(block.feed, block.seq_num)
        if held is not None:
            self._report_fork(block, held, outcome)
            return True
        # Before a fork is known, the block may wait for its backlink, which then proves it.
        backlink = backlink_ref(block)
        return (
            block.feed in self._forked
            and backlink is not None
            and self.block_id(*backlink[:2]) not in (None, backlink.block_id)
        )

    def _wanted_beside(self, ref: BlockRef) -> bool:
        return self._keep_branches or self._room.is_named(ref)

    def _unmet(self, block: Block) -> list[BlockRef]:
        """What the block names and we don't hold; refuses it if it is not later than the rest."""
        unmet: list[BlockRef] = []
        for ref in block_refs(block):
            time = self._time(ref)
            if time is None:
                unmet.append(ref)
            elif self._is_below(ref.feed, ref.seq_num):
                self._assumed.add(ref)
            elif block.time <= time:
                kind = "backlink" if ref.feed == block.feed else "ack"
                raise InputError(
                    f"block-time-{kind}",
                    f"block {block.seq_num} of {block.header.centre} is not later than block "
                    f"{ref.seq_num} of {ref.feed.centre}, which it names",
                )
        return unmet

    def _join(self, block: Block, outcome: Outcome) -> bool:
        """Adds a complete block to its feed, or remembers it beside its feed if it is named."""
        ref = block_ref(block)
        chain = self._feeds.get(ref.feed)
        length = len(chain) if chain else 0
        backlink = block.header.backlink
        if ref.seq_num == length and (chain is None or chain.head().block_id == backlink):
            chain = self._feeds.setdefault(ref.feed, Chain())
            chain.append(ref.block_id, block.time)
            self._admitted(block, outcome, side=False)
            self._recent[ref.block_id] = block.header.cose
            if len(self._recent) > _RECENT_HEADERS:
                self._recent.popitem(last=False)
            for rival in self._room.at(ref.feed, ref.seq_num):
                self._report_fork(rival, ref.block_id, outcome)
                if not self._wanted_beside(block_ref(rival)):
                    self._room.take(rival.block_id)
                    self._drop_followers(block_ref(rival))
            return True
        if self._wanted_beside(ref):
            self._side[ref] = block.time
            self._admitted(block, outcome, side=True)
            return True
        return False

    def _admitted(self, block: Block, outcome: Outcome, *, side: bool) -> None:
        outcome.admitted.append(block)
        self.keyring.joined(block, side=side)
        if self._joined is not None:
            self._joined(block)

    def _drop_followers(self, ref: BlockRef) -> None:
        """Drops the blocks that wait on a branch nobody named: nothing will ever release them."""
        branches = [ref]
        while branches:
            branches += [block_ref(block) for block in self._room.take_watchers(branches.pop())]

    def _report_fork(self, block: Block, held: BlockId, outcome: Outcome) -> None:
        if self._forked.get(block.feed):
            return
        first = self._recent.get(held)
        if first is None and self._stored is not None:
            data = self._stored(block.feed, block.seq_num)
            first = None if data is None else split_block(data)[0]
        proof = None if first is None else fork_proof(first, block.header.cose)
        self._forked[block.feed] = proof is not None
        outcome.forks.append(
            Fork(feed=block.feed, seq_num=block.seq_num, held=held, other=block, proof=proof)
        )

    def _time(self, ref: BlockRef) -> HlcTime | None:
        if self.block_id(ref.feed, ref.seq_num) == ref.block_id:
            return self.time_of(ref.feed, ref.seq_num)
        if self._is_below(ref.feed, ref.seq_num):
            return HlcTime(0)
        return self._side.get(ref)

    def _length(self, feed: FeedKey) -> int:
        chain = self._feeds.get(feed)
        return len(chain) if chain else 0

    def _ranges(self, unmet: list[BlockRef]) -> tuple[SeqRange, ...]:
        """What to ask for to get these blocks and all before them, without what waits here."""
        found: list[SeqRange] = []
        for ref in unmet:
            found += self._room.gaps(ref.feed, self._length(ref.feed), ref.seq_num - 1)
            if not self._room.holds(ref.block_id):
                found.append(SeqRange(ref.feed, ref.seq_num, ref.seq_num))
        return merge_ranges(found)


def view_digest(frontier: Mapping[FeedKey, Head], verdict: Verdict | None = None) -> ViewDigest:
    """The SHA-256 of the encoded list of `[centre, epoch, seq_num, block id]`, ascending.

    A feed that a verdict was given of has all its tips there (without what nobody acked of a
    branch), any other its head. Equal digests at a round's cut mean equal matching.
    """
    heads = set(frontier.items())
    if verdict is not None:
        heads = {(f, h) for f, h in heads if f not in verdict.judged} | set(verdict.tips)
    item = encode([[*feed, *head] for feed, head in sorted(heads)])
    return ViewDigest(hashlib.sha256(item).digest())
