"""The audit's way in: verify each block, admit it as a node would, name what does not fit.

Each block goes through the same steps as in a daemon: `decode_block` (signature over the received
bytes, strict form), then `Replica.admit` (chain, times, acks, forks). So the audit cannot disagree
with the daemons about what is valid; it only adds names for what is wrong.

Completeness follows from the acks: a block is admitted only if every block that it names is, so a
block that any centre acked cannot be left out without being named here as missing. What only its
author knew can be left out unseen at the end of a feed; comparing with another export shows it.

Memory grows with ids (some 50 bytes a block), never with block bodies: a block that names a later
one waits, but only WAITING_MAX blocks do.
"""

from __future__ import annotations

from array import array
from collections.abc import Callable
from typing import Final

from p2pfed.core.audit.findings import Findings
from p2pfed.core.blocks import Block, check_fork_proof, decode_block, peek_block_id
from p2pfed.core.charter import Charter, check_charter
from p2pfed.core.ids import BlockId, FederationId, FeedKey
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry, Trailer
from p2pfed.core.records import ForkProof
from p2pfed.core.replica import Admission, Fork, Replica
from p2pfed.core.waiting import BlockRef, block_refs
from p2pfed.errors import InputError

WAITING_MAX: Final = 1024
"""Blocks that are kept while they wait for one further on in the file."""
MISSING_MAX: Final = 10_000
"""Missing blocks that are told apart."""
_END_OF_TIME_MS: Final = 1 << 48


class Intake:
    """What stands in a ledger and counts, and findings for what does not.

    Attributes:
        replica: the admitted blocks.
        blocks: block entries that were read, valid or not.
    """

    def __init__(
        self,
        charter: Charter,
        findings: Findings,
        stored: Callable[[FeedKey, int], bytes | None] | None = None,
    ) -> None:
        """Starts empty.

        Args:
            charter: of the federation; its keys are trusted, and nothing else.
            findings: where to name what is wrong.
            stored: reads an admitted block again, to prove a fork against an old one.
        """
        self.charter = charter
        self.federation = charter.federation_id
        self.keys = charter.keys()
        self.replica = Replica(self.federation, self.keys, max_skew_ms=0, stored=stored)
        self.blocks = 0
        self._findings = findings
        self._numbers: dict[FeedKey, array[int]] = {}
        self._named: dict[BlockRef, str] = {}
        self._held_back: dict[BlockId, int] = {}
        self._furthest: dict[FeedKey, int] = {}
        self._invalid: set[BlockId] = set()

    def convict(self, proof: ForkProof) -> tuple[FeedKey, int]:
        """The feed that a proof convicts, and where.

        Raises:
            InputError: as `check_fork_proof`.
        """
        return check_fork_proof(proof, self.federation, self.keys)

    def __deepcopy__(self, memo: dict[int, object]) -> Intake:
        """Itself: states that are copied go on asking it who a proof convicts."""
        return self

    def check_founding(self, expected: FederationId | None) -> None:
        """Judges the charter itself."""
        if expected is not None and expected != self.federation:
            text = f"the ledger is of federation {self.federation.hex()}, not {expected.hex()}"
            self._findings.error("ledger-federation", "charter", text)
        missing = check_charter(self.charter).missing
        if missing:
            text = f"not signed by {', '.join(missing)}"
            self._findings.error("charter-incomplete", "charter", text)

    # Blocks

    def take(self, entry: Entry, opened: Block | InputError) -> tuple[Block, ...]:
        """Admits a block that was verified, or names why it is not valid.

        Returns:
            The blocks that joined, in causal order.
        """
        self.blocks += 1
        where = f"entry {entry.number} (byte {entry.offset})"
        if isinstance(opened, InputError):
            self._findings.error(opened.code, where, opened.what)
            self._remember_invalid(entry.data)
            return ()
        try:
            return self._admit(opened, entry.number, where)
        except InputError as error:
            self._findings.error(error.code, block_name(opened), error.what, opened.feed.centre)
            self._invalid.add(opened.block_id)
            return ()

    def _remember_invalid(self, data: bytes) -> None:
        """Notes which block a bad entry stands for, if it still tells."""
        try:
            self._invalid.add(peek_block_id(data))
        except InputError:
            return

    def _admit(self, block: Block, number: int, where: str) -> tuple[Block, ...]:
        unmet = [ref for ref in block_refs(block) if not self.replica.holds(ref)]
        if unmet:
            self._name(unmet, block)
            if self.replica.waiting()[0] >= WAITING_MAX:
                self._hold_back(block, number)
                return ()
        admission = self.replica.admit(block, _END_OF_TIME_MS)
        self._judge(block, admission, number, where)
        for admitted in admission.admitted:
            came = self._held_back.pop(admitted.block_id, number)
            self._check_order(admitted, came)
        return admission.admitted

    def _name(self, unmet: list[BlockRef], block: Block) -> None:
        for ref in unmet[: max(0, MISSING_MAX - len(self._named))]:
            self._named.setdefault(ref, block_name(block))

    def _hold_back(self, block: Block, number: int) -> None:
        self._held_back[block.block_id] = number
        self._furthest[block.feed] = max(self._furthest.get(block.feed, 0), block.seq_num)

    def _check_order(self, block: Block, number: int) -> None:
        """Names a block that stands in the file before one that it names."""
        for ref in block_refs(block):
            numbers = self._numbers.get(ref.feed, ())
            if ref.seq_num < len(numbers) and numbers[ref.seq_num] > number:
                text = f"stands in the file before {_ref_name(ref)}, on which it rests"
                self._findings.error("ledger-order", block_name(block), text)
                break
        self._numbers.setdefault(block.feed, array("Q")).append(number)

    def _judge(self, block: Block, admission: Admission, number: int, where: str) -> None:
        if admission.duplicate:
            text = f"stands in the file again at {where}"
            self._findings.error("ledger-repeat", block_name(block), text)
        if admission.waits:
            self._hold_back(block, number)
        for refusal in admission.refused:
            refused = refusal.block
            self._findings.error(
                refusal.error.code, block_name(refused), refusal.error.what, refused.feed.centre
            )
            self._held_back.pop(refused.block_id, None)
            self._invalid.add(refused.block_id)
        for fork in admission.forks:
            self._name_fork(fork)
        joined = any(admitted.block_id == block.block_id for admitted in admission.admitted)
        beside = self.replica.block_id(block.feed, block.seq_num) != block.block_id
        if not joined and not admission.waits and not admission.duplicate and beside:
            text = f"{where} lies beside its feed"
            self._findings.error("fork-branch", block_name(block), text, block.feed.centre)

    def _name_fork(self, fork: Fork) -> None:
        place = f"{feed_name(fork.feed)}.{fork.seq_num}"
        text = f"two blocks are signed: {fork.held.hex()} and {fork.other.block_id.hex()}"
        if fork.proof is not None:
            text += f"; signed headers {fork.proof.first.hex()} and {fork.proof.second.hex()}"
        self._findings.warning("fork", place, text, fork.feed.centre)

    # The end

    def compare(self, trailer: Trailer) -> None:
        """Compares what was found with what the trailer says was written."""
        if trailer.block_count != self.blocks:
            text = f"the trailer counts {trailer.block_count} blocks, the file has {self.blocks}"
            self._findings.error("ledger-count", "trailer", text)
        found = self.replica.frontier()
        for feed in sorted(trailer.frontier.keys() | found.keys()):
            stated, held = trailer.frontier.get(feed), found.get(feed)
            if stated != held:
                says = "nothing" if stated is None else f"{stated.seq_num} {stated.block_id.hex()}"
                has = "nothing" if held is None else f"{held.seq_num} {held.block_id.hex()}"
                text = f"the trailer's head is {says}, the blocks lead to {has}"
                self._findings.error("ledger-frontier", feed_name(feed), text)

    def name_missing(self) -> None:
        """Names the blocks that others name and that did not come, once everything has come."""
        for ref, namer in sorted(self._named.items()):
            if self.replica.holds(ref) or ref.block_id in self._held_back:
                continue
            self._name_missing(ref, namer)
        if self._held_back:
            count = len(self._held_back)
            subject = "1 block rests" if count == 1 else f"{count} blocks rest"
            text = f"{subject} on what is missing; what they say counts for nothing"
            self._findings.error("blocks-not-admitted", "", text)

    def _name_missing(self, ref: BlockRef, namer: str) -> None:
        held = self.replica.block_id(ref.feed, ref.seq_num)
        code, centre = "block-missing", ref.feed.centre
        if ref.block_id in self._invalid:
            text = f"{namer} rests on it, and it is not valid"
        elif held is not None:
            text = f"{namer} names {ref.block_id.hex()} here, the feed holds {held.hex()}"
        elif self._furthest.get(ref.feed, -1) >= ref.seq_num:
            text = f"{namer} names it as {ref.block_id.hex()}, and it is not in the file"
        else:
            code = "tail-withheld"
            head = self.replica.head(ref.feed)
            last = "with nothing" if head is None else f"at {head.seq_num}"
            text = f"{namer} names it as {ref.block_id.hex()}; the file ends {last}"
        self._findings.error(code, _ref_name(ref), text, centre)


def open_entry(entry: Entry, federation: FederationId, keys: VerifyKeys) -> Block | InputError:
    """The verified block in an entry, or why there is none."""
    try:
        return decode_block(entry.data, federation, keys)
    except InputError as error:
        return error


def feed_name(feed: FeedKey) -> str:
    """`alpha`, or `alpha.1` in epoch 1."""
    return f"{feed.centre}.{feed.epoch}" if feed.epoch else feed.centre


def block_name(block: Block) -> str:
    """`alpha.12`, or `alpha.1.12` in epoch 1, as in the ids of its records."""
    return f"{feed_name(block.feed)}.{block.seq_num}"


def _ref_name(ref: BlockRef) -> str:
    return f"{feed_name(ref.feed)}.{ref.seq_num}"
