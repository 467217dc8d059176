"""One centre of the model: the daemon's own node, as a function of what it knows.

Theory of operation. A search needs states that can be compared, kept and taken up again; a node is
an object that changes. So a centre is kept as a value, `Local`: the blocks that it holds, its local
rows and high-water mark, the payloads on its disk, and, while its daemon runs, the plain values
that its parts keep in memory. `Centres.call` builds the node from that value, lets it handle one
event, and takes the value of what it became. What a centre does depends on its own value, the event
and its clock alone, so every such call is made once and remembered: a search over millions of
situations of the whole federation calls the real code some ten thousand times.

Three things are left out, because they would make equal situations look different and decide
nothing here: signatures, acks, and heartbeats. Matching is left to chance: the search lets a home
claim any waiting job at any open offer, so hosts judge every claim as one from another view.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.ids import (
    BlockId,
    CentreName,
    ClaimId,
    FederationId,
    FeedKey,
    Head,
    Place,
    PublicKey,
)
from p2pfed.core.keys import SIGNATURE_BYTES, VerifyKeys, key_id
from p2pfed.core.records import Record
from p2pfed.core.rules import Rules
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import (
    AnswerTransfer,
    Effect,
    FetchPayload,
    ForgetClaim,
    NameHandover,
    SendPayload,
    StoreBlocks,
    SubmitNative,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.recovery import ROWS, Memory
from p2pfed.simulate.disk import NO_BLOCK_YET, judge_disk
from p2pfed.simulate.model.facts import DOWN, Facts, facts_of
from p2pfed.simulate.model.memory import Kept, freeze_node, thaw_node
from p2pfed.simulate.model.node import Boot, Input, ModelLedger, ModelNode


class _NoSignature:
    def sign(self, message: bytes, /) -> bytes:
        return bytes(SIGNATURE_BYTES)


class _Shelf:
    """No block is read back here: nobody forks, or the search ends."""

    def block(self, feed: FeedKey, seq_num: int) -> bytes | None:
        return None

    def index(self) -> Iterable[Place]:
        return ()

    def data(self, admission: int) -> bytes:
        raise AssertionError(f"no block {admission} is read back")

    def stored(self) -> Iterable[bytes]:
        return ()


class Local(NamedTuple):
    """All that one centre is.

    Attributes:
        feeds: for each centre, the numbers of the blocks held (see `Centres.blocks`), in order.
        mark: the head that the high-water file names; None if there is no file.
        rows: the local rows that a node wants back.
        payloads: claims whose payload is on disk.
        memory: what the running daemon keeps beside its ledger; None while it is down.
    """

    feeds: tuple[tuple[int, ...], ...]
    mark: Head | None = None
    rows: tuple[tuple[str, bytes], ...] = ()
    payloads: frozenset[ClaimId] = frozenset()
    memory: Kept | None = None


Result = tuple[int, tuple[Effect, ...]]
"""What a centre becomes, and the effects (of `TOLD`) that it wants performed, in order."""

TOLD = (
    StoreBlocks,
    FetchPayload,
    NameHandover,
    AnswerTransfer,
    SendPayload,
    SubmitNative,
    ForgetClaim,
)
"""The effects that change something here; the search brings the rest about by itself."""


class Centres:
    """All centres of a model, what they have been, and what came of their calls.

    A `Local` is known by its number here, so that a search compares and keeps numbers.

    Args:
        names: the centres, in the order of all tuples here.
        rules: the federation's rules.
    """

    def __init__(self, names: Sequence[CentreName], rules: Rules) -> None:
        self.names = tuple(names)
        self.blocks: list[Block] = []
        self._orders: list[tuple[int, FeedKey]] = []
        self._block_numbers: dict[BlockId, int] = {}
        self.locals: list[Local] = []
        self._local_numbers: dict[tuple[int, Local], int] = {}
        self._facts: list[Facts] = []
        self._calls: dict[tuple[int, int, Input, int], Result] = {}
        self.federation = Federation(
            id=FederationId(bytes(32)),
            keys=VerifyKeys((name, _public_key(name)) for name in self.names),
            rules=rules,
            rules_version=1,
            credit_lines=dict.fromkeys(self.names, 100_000),
            addresses={name: f"{name}:1" for name in self.names},
        )

    @property
    def calls(self) -> int:
        """How often the real code was called."""
        return len(self._calls)

    def found(self, posted: Mapping[int, Sequence[Record]], now_ms: int) -> list[int]:
        """Centres that run, have posted what is given, and know of each other."""
        nodes = [self._node(who, _nothing(self.names)) for who in range(len(self.names))]
        feeds: list[tuple[int, ...]] = []
        for who, node in enumerate(nodes):
            node.start(Memory.SURE, None, now_ms)
            node.recovery.ready = node._was_ready = True  # noqa: SLF001
            for record in posted.get(who, ()):
                node.ledger.write(record, now_ms)
            feeds.append((self.number(node.ledger.seal(now_ms)),))
        found = []
        for who, node in enumerate(nodes):
            assert isinstance(node.ledger, ModelLedger)
            for (number,) in feeds:
                if self.blocks[number].feed != node.me.feed:
                    node.ledger.take(self.blocks[number], now_ms)
            node.ledger.drain()
            state = Local(tuple(feeds), node.ledger.head, memory=freeze_node(node, now_ms))
            found.append(self._keep(who, state, node))
        return found

    def number(self, block: Block) -> int:
        """The number of a block, equal for equal blocks."""
        found = self._block_numbers.setdefault(block.block_id, len(self.blocks))
        if found == len(self.blocks):
            self.blocks.append(block)
            self._orders.append((block.time, block.feed))
        return found

    def facts(self, number: int) -> Facts:
        """What the centre itself would say of its claims; `DOWN` if its daemon does not run."""
        return self._facts[number]

    def keep_down(self, who: int, state: Local) -> int:
        """The number of a centre whose daemon does not run."""
        return self._keep(who, state._replace(memory=None), None)

    def with_payload(self, who: int, number: int, claim_id: ClaimId, *, here: bool) -> int:
        """The same centre once a payload has come to its disk, or has gone from it."""
        state = self.locals[number]
        payloads = state.payloads | {claim_id} if here else state.payloads - {claim_id}
        found = self._local_numbers.setdefault(
            (who, state._replace(payloads=payloads)), len(self.locals)
        )
        if found == len(self.locals):
            self.locals.append(state._replace(payloads=payloads))
            self._facts.append(self._facts[number])
        return found

    def block(self, block_id: BlockId) -> Block:
        """The block of this id, which some centre has stored."""
        return self.blocks[self._block_numbers[block_id]]

    def _keep(self, who: int, state: Local, node: ModelNode | None) -> int:
        number = self._local_numbers.setdefault((who, state), len(self.locals))
        if number == len(self.locals):
            self.locals.append(state)
            self._facts.append(DOWN if node is None else facts_of(node))
        return number

    def call(self, who: int, number: int, given: Input, now_ms: int) -> Result:
        """What the centre becomes if everything is performed, and what it wants done."""
        key = who, number, given, now_ms
        found = self._calls.get(key)
        if found is None:
            found = self._calls[key] = self._call(who, self.locals[number], given, now_ms)
        return found

    def _call(self, who: int, state: Local, given: Input, now_ms: int) -> Result:
        node = self._node(who, state)
        if isinstance(given, Boot):
            held = node.ledger.replica.block_id
            memory, target = judge_disk(node.me.feed, node.ledger.head, state.mark, held)
            effects = node.start(memory, target, now_ms, dict(state.rows))
        else:
            assert state.memory is not None, "a daemon that is down is told something"
            thaw_node(node, state.memory)
            effects = node.do(given, now_ms, self.blocks)
        after = state._replace(memory=freeze_node(node, now_ms))
        for effect in effects:
            if isinstance(effect, StoreBlocks):
                after = self.store(after, effect)
        return self._keep(who, after, node), tuple(e for e in effects if isinstance(e, TOLD))

    def store(self, state: Local, effect: StoreBlocks) -> Local:
        """The centre once these blocks and rows are on its disk."""
        feeds = [*state.feeds]
        for stored in effect.blocks:
            at = self.names.index(stored.feed.centre)
            number = self._block_numbers.get(stored.block_id)
            if number is None:
                number = self.number(decode_stored(stored.data))
            if number not in feeds[at]:
                feeds[at] = (*feeds[at], number)
        rows = dict(state.rows) | {k: v for k, v in effect.local if k.startswith(ROWS)}
        mark = state.mark if effect.own_head is None else effect.own_head[1]
        return state._replace(feeds=tuple(feeds), mark=mark, rows=tuple(sorted(rows.items())))

    def _node(self, who: int, state: Local) -> ModelNode:
        name = self.names[who]
        me = Identity(
            name=name, signer=_NoSignature(), kid=key_id(_public_key(name)), address=f"{name}:1"
        )
        node = ModelNode(me, self.federation, AdmissionPolicy(), Random(0), _Shelf())
        assert isinstance(node.ledger, ModelLedger)
        node.heard.told = {}
        for number in sorted((n for feed in state.feeds for n in feed), key=self.order):
            node.ledger.take_back(self.blocks[number])
        node.ledger.live.contacts[name] = me.address
        node.rounds.last = 0
        return node

    def order(self, number: int) -> tuple[int, FeedKey]:
        """By time, as causes come before what they led to."""
        return self._orders[number]


def _public_key(name: CentreName) -> PublicKey:
    """A key that names the member; nothing is verified with it."""
    key = Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32))
    return PublicKey(key.public_key().public_bytes_raw())


def _nothing(names: tuple[CentreName, ...]) -> Local:
    return Local(feeds=tuple(() for _ in names), mark=NO_BLOCK_YET)
