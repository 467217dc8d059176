"""The node's ledger: what it admitted, what it knows live, and the one place that writes.

Blocks enter through `admit`, whoever wrote them, and own ones through `seal`, which runs the same
check. Both go into the live registers at once (the lifecycle reacts to them) and into the view,
which the matching reads up to a cut. A record written in a turn is folded at once as well, so that
what the turn does next already sees it; all records of a turn are sealed into one block at its end.

At a start the blocks on disk are folded once, into the view as far as every round to come will
reach. The live registers begin as a fork of the view's, and take what lies beyond.

Where a feed has branches, the live registers hold the branch that came first here: what we said and
did rests on what we saw. What counts, and so what the view holds, is the same for everyone
(`p2pfed.core.branches`). So a job that runs for a centre that turns out to have forked is ended and
accounted for like any other.
"""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Iterator
from typing import Final

from p2pfed.core.admission import Admission
from p2pfed.core.bearings import Bearings
from p2pfed.core.blocks import Block, check_fork_proof, decode_stored, seal_block
from p2pfed.core.checkpoint import Checkpoints
from p2pfed.core.clock import next_time
from p2pfed.core.codec import encode
from p2pfed.core.governance import GOVERNANCE_RECORDS
from p2pfed.core.ids import BlockId, FeedKey, Head, Position, PublicKey, ViewDigest
from p2pfed.core.keys import Signer, key_id
from p2pfed.core.limits import RECORDS_BYTES_MAX, RECORDS_PER_BLOCK_MAX
from p2pfed.core.recordcodec import encode_record
from p2pfed.core.records import (
    Checkpoint,
    ForkProof,
    NewEpoch,
    Record,
    RotateKey,
    StateDigests,
)
from p2pfed.core.registers import Registers
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.statecodec import dump_state, load_state
from p2pfed.core.tables import Forgotten
from p2pfed.core.units import HlcTime, hlc_cut, hlc_ms
from p2pfed.core.view import REST_US, View
from p2pfed.core.waiting import BlockRef
from p2pfed.errors import InputError
from p2pfed.node.effects import StoreBlocks, StoredBlock
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.shelf import Shelf, position_feed, read_by_time, stored
from p2pfed.node.snapshots import Snapshot

ACKS_AT_ONCE_MAX: Final = 640
"""Acks in one block of ours. One takes at most 82 bytes, so a header has room to spare."""
PAST_JOBS_KEPT: Final = 5_000
"""Closed jobs of ours, and guests that we ran, that stay in memory for whoever asks."""
_FORGET_EVERY: Final = 256
"""Blocks that a start folds before it lets go of what they closed."""
_NO_HEAD: Final = Head(-1, BlockId(b""))


class Ledger:
    """Replica, live registers and view of one centre, and its own feed.

    Attributes:
        unsaved: blocks and records since the last snapshot: what a start would have to fold.
        base: the checkpoint that this ledger begins with, while what lies under it is not known.
    """

    def __init__(self, me: Identity, federation: Federation, shelf: Shelf) -> None:
        rules = federation.rules
        self.me = me
        self.federation = federation
        self.replica = Replica(
            federation.id, federation.keys, rules.max_skew_ms, shelf.block, joined=self._joined
        )
        self.base: Bearings | None = None
        self._sealing = False
        self._unproven = False
        self.keys_changed = True
        self._shelf = shelf
        self.checkpoints = Checkpoints()
        self.view = View(self._new_state, self._by_time, self._prove, rest_us=REST_US)
        self.touched: deque[Position] = deque()
        self.news: set[Position] = set()
        self.fresh: list[StoredBlock] = []
        self._records: list[Record] = []
        self._records_bytes = 0
        self._acked: dict[FeedKey, Head] = {}
        self._local: list[tuple[str, bytes]] = []
        self._first_sealed: int | None = None
        self._latest = HlcTime(0)
        self._forces: dict[FeedKey, int] = {}
        self._live: Registers | None = None
        self._past: deque[Forgotten] = deque()
        self._replayed = 0
        self.unsaved = 0
        self.proofs: dict[FeedKey, ForkProof] = {}
        self._replayed_sides: list[Block] = []

    def _prove(self, proof: ForkProof) -> tuple[FeedKey, int]:
        try:
            return check_fork_proof(proof, self.federation.id, self.replica.keyring.keys)
        except InputError as error:
            # The key may still come; then this proof has to be looked at again.
            self._unproven = self._unproven or error.code == "block-key-unknown"
            raise

    def _empty_state(self) -> State:
        federation = self.federation
        return State(federation.rules, federation.credit_lines, self._prove, federation.founders())

    def _new_state(self) -> State:
        """The state before the first block that `_history` gives."""
        state = self._empty_state()
        if self.base is not None:
            load_state(self.base.sections, state)
        return state

    def _history(self) -> Iterator[Block]:
        """Every admitted block, in the order of admission: those on disk, then the newest."""
        below = {} if self.base is None else {t.feed: t.size for t in self.base.trees}
        for block in map(decode_stored, self._shelf.stored()):
            if block.seq_num >= below.get(block.feed, 0):
                yield block
        yield from (decode_stored(block.data) for block in self.fresh)

    def _by_time(self, limit: HlcTime) -> Iterator[Block]:
        """The blocks that `_history` gives, up to a time and in the order of their times."""
        below = {} if self.base is None else {t.feed: t.size for t in self.base.trees}
        return read_by_time(self._shelf, list(self.fresh), below, limit)

    @property
    def rules(self) -> Rules:
        """The rules that hold in our newest round."""
        return self.view.state.rules

    @property
    def live(self) -> Registers:
        """The registers as of every admitted block; the first use ends the replay."""
        if self._live is None:
            registers = self.view.state.registers
            if self._replayed_sides or registers.suspended:
                self._live = self._fold_live()
            else:
                self._live = registers.fork()
                for past in self._past:
                    self._live.recall_job(past)
                for block in self.view.waiting():
                    self._fold_into(self._live, block)
            beyond = hlc_cut(self.view.cut_ms)
            for block in self._replayed_sides:
                if block.time > beyond:
                    self.view.add(block)
            self._replayed_sides.clear()
            self.replica.keyring.learn(self._live.governance.grants())
            self._forces = self._live.governance.forces()
            self._watch(self._live)
        return self._live

    def _fold_live(self) -> Registers:
        """Live registers from every block on disk, for a ledger in which a feed has branches."""
        live = self._new_state().registers
        for block in self._history():
            self._fold_into(live, block)
        return live

    def _fold_into(self, live: Registers, block: Block) -> list[Position | str]:
        """Folds what a block says to us: of a branch that came second, what members decide by."""
        if not live.counts(block):
            return []
        if not self.replica.is_side(block):
            return live.fold_block(block)
        live.governance.witness(block)
        return [
            live.fold(position, block.time, record)
            for position, record in zip(block.positions(), block.records, strict=True)
            if isinstance(record, (ForkProof, *GOVERNANCE_RECORDS))
        ]

    def _watch(self, live: Registers) -> None:
        """Has the view judge the feeds that have, or may have, branches.

        What counts of them is judged from all their blocks, so it has to wait for the history.
        """
        if self.base is not None:
            return
        revoked = live.governance.revoked()
        self.view.watch({*self.replica.branched(), *live.convicted, *revoked}, revoked)

    # What others wrote

    def receive(self, data: bytes, now_ms: int) -> Admission:
        """Takes a stranger's block: verifies it, admits it and what it completes, or lets it wait.

        A fork that comes to light is proven in our own feed; its second branch is not admitted.

        Raises:
            InputError: the bytes are not a valid block of the federation; nothing changed.
        """
        return self._take_all(self.replica.receive(data, now_ms))

    def release(self, now_ms: int) -> Admission:
        """Admits the blocks that were from the future and whose time has come."""
        return self._take_all(self.replica.release(now_ms))

    def replay(self, data: bytes, *, side: bool = False) -> None:
        """Takes a block from our own disk, where only admitted blocks are; for start-up.

        `side` says that it stands beside its feed. Nothing is verified again, and nothing counts
        as touched.

        Raises:
            InputError: the stored bytes are not a block.
            StateError: `replica-restore`: the block does not extend its feed.
        """
        block = decode_stored(data)
        self.replica.restore_block(block, side=side)
        if side:
            self._replayed_sides.append(block)
            return
        if self._live is None:
            self._note(block)
            self.fold_behind()
            self._replayed += 1
            if self._replayed % _FORGET_EVERY == 0:
                self.forget()
        else:
            self._take(block, fresh=False)

    def fold_behind(self) -> None:
        """Folds what every round to come will count."""
        # A block is admitted at most `max_skew_ms` early, so no round still lies before this.
        rules = self.rules
        margin_ms = rules.max_skew_ms + rules.round_ms + rules.settle_ms
        self.view.catch_up(max(0, hlc_ms(self._latest) - margin_ms))

    def forget(self) -> None:
        """Lets go of what is closed at the cut; of our own jobs and guests, the newest are kept."""
        jobs, offers = self.view.state.forget()
        for past in jobs:
            if self._concerns_us(past):
                self._past.append(past)
            elif self._live is not None:
                self._live.forget_job(past.job.job_id)
        while len(self._past) > PAST_JOBS_KEPT:
            oldest = self._past.popleft()
            if self._live is not None:
                self._live.forget_job(oldest.job.job_id)
        for offer_id in offers:
            if self._live is not None:
                self._live.forget_offer(offer_id)

    def _concerns_us(self, past: Forgotten) -> bool:
        me = self.me.name
        return past.job.job_id.centre == me or any(
            entry.claim is not None and entry.claim.offer_id.centre == me for entry in past.claims
        )

    # Checkpoints to begin with

    def stand_on(self, bearings: Bearings) -> None:
        """Begins above a checkpoint; then comes `resume`, with its state or a later snapshot."""
        self.base = bearings
        self.replica.stand_on(bearings.trees)
        self._latest = max((tree.time for tree in bearings.trees), default=HlcTime(0))

    def complete(self, earlier: Ledger) -> list[BlockRef]:
        """Takes over what lies under the checkpoint; returns as `Replica.complete`."""
        named = self.replica.complete(earlier.replica)
        self.base = None
        self.proofs.update(earlier.proofs)
        self._watch(self.live)
        return named

    # Snapshots

    def resume(self, snapshot: Snapshot) -> None:
        """Begins with a state that was folded before; then come `recall` and `replay`.

        Raises:
            InputError: `state-form`: the snapshot does not hold a state; begin with a fresh ledger.
        """
        state = self._empty_state()
        load_state(snapshot.sections, state)
        self.view.resume(state)
        self._acked.update(snapshot.acked)
        self.replica.keyring.restore(snapshot.keys)
        self._past.extend(snapshot.past)
        self.checkpoints.restore(snapshot.said)

    def recall(self, feed: FeedKey, seq_num: int, block_id: BlockId, time: HlcTime) -> None:
        """Takes a block back that the snapshot counts, in the order of storing."""
        self.replica.restore(feed, seq_num, block_id, time)
        self._latest = max(self._latest, time)

    def snapshot(self) -> Snapshot | None:
        """The state at the last round's cut; None where only a fold of all blocks can tell it."""
        state = self.view.state
        if self.view.judged or state.stale or self.replica.forked():
            return None
        frontier = {}
        for feed, seq_num in state.registers.folded.items():
            block_id = self.replica.block_id(feed, seq_num)
            assert block_id is not None, "what is folded is admitted"
            frontier[feed] = Head(seq_num, block_id)
        self.unsaved = 0
        return Snapshot(
            federation=self.federation.id,
            frontier=frontier,
            acked=dict(self._acked),
            keys=self.replica.keyring.dump(),
            sections=tuple(dump_state(state)),
            past=tuple(self._past),
            said=tuple(self.checkpoints.said()),
        )

    def _take_all(self, admission: Admission) -> Admission:
        if admission.admitted:
            self._watch(self.live)
        for fork in admission.forks:
            if fork.proof is not None and fork.feed.centre != self.me.name:
                self.proofs.setdefault(fork.feed, fork.proof)
        return admission

    def _joined(self, block: Block) -> None:
        """The replica has admitted a block; what it says of keys is needed for those behind it."""
        if not self._sealing:
            self._take(block)
            self._learn_keys(block)

    def _learn_keys(self, block: Block) -> None:
        kinds = set(map(type, block.records))
        if kinds.isdisjoint((RotateKey, NewEpoch, *GOVERNANCE_RECORDS)):
            return
        governance = self.live.governance
        self.keys_changed = True
        self.replica.keyring.learn(governance.grants())
        before, self._forces = self._forces, governance.forces()
        held = self.replica.frontier()
        if self._unproven or any(
            before.get(feed) != self._forces.get(feed) for feed in held if feed != block.feed
        ):
            self._unproven = False
            self.renew()

    def _note(self, block: Block) -> None:
        self.view.add(block)
        for index, record in enumerate(block.records):
            if isinstance(record, Checkpoint | StateDigests):
                self.checkpoints.fold(block.position(index), record)
        self.unsaved += 1 + len(block.records)
        self._latest = max(self._latest, block.time)
        if block.feed == self.me.feed and not self.replica.is_side(block):
            self._acked.update(dict(block.header.acks))

    def _take(self, block: Block, *, fresh: bool = True) -> None:
        live = self.live
        self._note(block)
        for touched in self._fold_into(live, block):
            if not isinstance(touched, str):
                self._touch(touched)
        if fresh:
            self.fresh.append(stored(block, side=self.replica.is_side(block)))

    # What we write

    @property
    def head(self) -> Head | None:
        """The newest block of our own feed."""
        return self.replica.head(self.me.feed)

    @property
    def next_position(self) -> Position:
        """Where the next record will stand."""
        head = self.head
        seq_num = 0 if head is None else head.seq_num + 1
        return Position(self.me.name, self.me.epoch, seq_num, len(self._records))

    @property
    def unsealed(self) -> bool:
        """True if records or local rows wait to be sealed."""
        return bool(self._records or self._local)

    def write(self, record: Record, now_ms: int) -> Position:
        """Adds a record to the block of this turn, and folds it at once.

        Returns:
            The record's position: its id.
        """
        size = len(encode(encode_record(record)))
        full = len(self._records) >= RECORDS_PER_BLOCK_MAX
        if full or self._records_bytes + size > RECORDS_BYTES_MAX - 16:
            self.seal(now_ms)
        position = self.next_position
        if isinstance(record, Checkpoint | StateDigests):
            self.checkpoints.fold(position, record)
        self._records.append(record)
        self._records_bytes += size
        touched = self.live.fold(position, self.next_time(now_ms), record)
        assert not isinstance(touched, str), f"own record is inert: {touched}"
        self._touch(touched)
        return position

    def _touch(self, touched: Position) -> None:
        self.touched.append(touched)
        self.news.add(touched)

    def keep(self, key: str, value: bytes) -> None:
        """Stores a local row in one transaction with this turn's block."""
        self._local.append((key, value))

    def next_time(self, now_ms: int) -> HlcTime:
        """The time of the next block that we write."""
        return next_time(now_ms, self._latest)

    def seal(self, now_ms: int) -> Block:
        """Signs the records of this turn (or none: a heartbeat) into a block and admits it."""
        head = self.head
        acks = self._new_acks()
        if self._first_sealed is None:
            self._first_sealed = 0 if head is None else head.seq_num + 1
        block = seal_block(
            federation=self.federation.id,
            signer=self.me.signer,
            kid=self.me.kid,
            centre=self.me.name,
            epoch=self.me.epoch,
            seq_num=0 if head is None else head.seq_num + 1,
            backlink=None if head is None else head.block_id,
            time=self.next_time(now_ms),
            acks=acks,
            records=tuple(self._records),
        )
        self._records.clear()
        self._records_bytes = 0
        self._acked.update(acks)
        self._latest = block.time
        self._sealing = True
        try:
            self.replica.admit(block, hlc_ms(block.time))
        finally:
            self._sealing = False
        self.view.add(block)
        self.unsaved += 1 + len(block.records)
        self.live.governance.witness(block)
        self.live.note_folded(block.feed, block.seq_num)
        self.fresh.append(stored(block))
        self._learn_keys(block)
        return block

    def _new_acks(self) -> dict[FeedKey, Head]:
        """The heads of others that our feed has not acked yet, as many as fit a header.

        What does not fit stands in a later block: the feeds furthest ahead of our acks come first.
        """
        changed = [
            (self._acked.get(feed, _NO_HEAD).seq_num - head.seq_num, feed, head)
            for feed, head in self.replica.frontier().items()
            if feed != self.me.feed and self._acked.get(feed) != head
        ]
        if len(changed) > ACKS_AT_ONCE_MAX:
            changed = sorted(changed)[:ACKS_AT_ONCE_MAX]
        return {feed: head for _, feed, head in changed}

    def drain(self) -> list[StoreBlocks]:
        """What must be durable before this turn's other effects, at most one new block in each.

        The high-water file follows each block that we seal, so that after a crash it is one block
        behind at most. It never follows blocks of ours that we take back from peers: until all of
        them are here, it alone says how many there are. Local rows go with the first: a row without
        its record is harmless, not the reverse.
        """
        batches: list[list[StoredBlock]] = [[]]
        for block in self.fresh:
            batches[-1].append(block)
            if self._is_new(block):
                batches.append([])
        if not batches[-1] and len(batches) > 1:
            batches.pop()
        effects = [
            StoreBlocks(blocks=tuple(batch), own_head=self._own_head(batch))
            for batch in batches
            if batch
        ]
        if self._local:
            local = tuple(self._local)
            effects = effects or [StoreBlocks(blocks=())]
            effects[0] = dataclasses.replace(effects[0], local=local)
        self.fresh = []
        self._local = []
        return effects

    def _is_new(self, block: StoredBlock) -> bool:
        """True if we sealed the block in this run."""
        first = self._first_sealed
        ours = block.feed == self.me.feed and not block.side
        return first is not None and ours and block.seq_num >= first

    def _own_head(self, batch: list[StoredBlock]) -> tuple[FeedKey, Head] | None:
        last = batch[-1]
        return (last.feed, Head(last.seq_num, last.block_id)) if self._is_new(last) else None

    def digest(self, cut_ms: int) -> ViewDigest:
        """The view digest at a cut; the view must stand at it."""
        frontier = self.replica.cut_frontier(hlc_cut(cut_ms))
        return view_digest(frontier, self.view.verdict)

    def rotate(self, record: RotateKey, signer: Signer, now_ms: int) -> Position:
        """Goes over to another key: this turn's block is the last that the old one signs."""
        position = self.write(record, now_ms)
        self.seal(now_ms)
        self.use_key(signer, key_id(PublicKey(record.public_key)))
        return position

    def use_key(self, signer: Signer, kid: bytes) -> None:
        """Signs with this key; what the ledger says of it is not looked at."""
        self.me = dataclasses.replace(self.me, signer=signer, kid=kid)

    def begin_epoch(self, epoch: int) -> None:
        """What we write from now on stands in another feed of ours."""
        self.me = dataclasses.replace(self.me, epoch=epoch)
        self._acked = {}
        self._first_sealed = None

    def renew(self) -> None:
        """Makes the view and the live registers anew from the stored blocks.

        For when something that a fold goes by has changed for blocks that were folded already.
        """
        self.view.renew()
        self._live = self._fold_live()

    def stored_block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        """The bytes of a block; None if it is not stored, or not yet."""
        return self._shelf.block(feed, seq_num)

    def block_id_at(self, position: Position) -> BlockId | None:
        """The id of the block that a record stands in; None if it is not sealed or not held."""
        return self.replica.block_id(position_feed(position), position.seq_num)
