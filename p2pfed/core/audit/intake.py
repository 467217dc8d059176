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
from typing import Final, NamedTuple

from p2pfed.core.admission import Admission, Fork
from p2pfed.core.audit.findings import Findings
from p2pfed.core.blocks import Block, check_fork_proof, decode_block, peek_block_id
from p2pfed.core.charter import Charter, check_charter
from p2pfed.core.constitution import founders
from p2pfed.core.governance import Governance
from p2pfed.core.ids import BlockId, FederationId, FeedKey, Head
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry, Trailer
from p2pfed.core.newcomers import Newcomers
from p2pfed.core.records import ForkProof
from p2pfed.core.replica import Replica
from p2pfed.core.waiting import BlockRef, block_ref, block_refs
from p2pfed.errors import InputError

WAITING_MAX: Final = 1024
"""Blocks that are kept while they wait for one further on in the file."""
MISSING_MAX: Final = 10_000
"""Missing blocks that are told apart."""
_END_OF_TIME_MS: Final = 1 << 48


class Joined(NamedTuple):
    """A block, and the number and offset of its entry."""

    block: Block
    number: int
    offset: int


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
        self.replica = Replica(self.federation, charter.keys(), max_skew_ms=0, stored=stored)
        governance = Governance(founders(charter), charter.rules)
        self._newcomers = Newcomers(governance, self.replica.keyring)
        self.blocks = 0
        self._findings = findings
        self._numbers: dict[FeedKey, array[int]] = {}
        self._named: dict[BlockRef, str] = {}
        self._held_back: dict[BlockId, Joined | None] = {}
        self._furthest: dict[FeedKey, int] = {}
        self._invalid: set[BlockId] = set()
        self._beside: dict[BlockId, Joined] = {}

    @property
    def keys(self) -> VerifyKeys:
        """The charter's keys, and those that decisions in the blocks so far have granted."""
        return self.replica.keyring.keys

    def convict(self, proof: ForkProof) -> tuple[FeedKey, int]:
        """The feed that a proof convicts, and where.

        Raises:
            InputError: as `check_fork_proof`.
        """
        return check_fork_proof(proof, self.federation, self.keys)

    @property
    def forked(self) -> bool:
        """Whether a second branch of any feed has come to light so far."""
        return bool(self.replica.forked() or self.replica.branched())

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

    def take(self, entry: Entry, opened: Block | InputError) -> list[Joined]:
        """Admits a block that was verified, or names why it is not valid.

        Returns:
            The blocks that joined, in causal order, and where each stands.
        """
        self.blocks += 1
        where = f"entry {entry.number} (byte {entry.offset})"
        if isinstance(opened, InputError) and opened.code == "block-key-unknown":
            # It may have been opened before the decision was read that grants its key.
            opened = open_entry(entry, self.federation, self.keys)
        if isinstance(opened, InputError):
            self._findings.error(opened.code, where, opened.what)
            self._remember_invalid(entry.data)
            return []
        try:
            return self._admit(Joined(opened, entry.number, entry.offset), where)
        except InputError as error:
            self._findings.error(error.code, block_name(opened), error.what, opened.feed.centre)
            self._invalid.add(opened.block_id)
            return []

    def _remember_invalid(self, data: bytes) -> None:
        """Notes which block a bad entry stands for, if it still tells."""
        try:
            self._invalid.add(peek_block_id(data))
        except InputError:
            return

    def _admit(self, came: Joined, where: str) -> list[Joined]:
        block = came.block
        unmet = [ref for ref in block_refs(block) if not self.replica.holds(ref)]
        if unmet:
            self._name(unmet, block)
            if self.replica.waiting()[0] >= WAITING_MAX:
                self._hold_back(came)
                return []
        admission = self.replica.admit(block, _END_OF_TIME_MS)
        self._judge(came, admission, where)
        joined = list(admission.admitted)
        forked = self.replica.forked()
        if forked and any(ref.feed in forked for ref in unmet):
            joined += self._offer_again()
        found = []
        for one in joined:
            self._newcomers.take(one)
            stood = self._held_back.pop(one.block_id, None) or self._beside.pop(one.block_id, None)
            found.append(came if stood is None else stood)
            self._check_order(one, found[-1].number)
            self._beside.pop(one.block_id, None)
        return found

    def _offer_again(self) -> list[Block]:
        """Offers what a fork kept out once more: something that waits may name it by now.

        Newest first, because a block that waits names the one before it, and so on down a branch.
        """
        joined: list[Block] = []
        while self.replica.waiting()[0]:
            kept = [*self._beside.values(), *self._held_back.values()]
            out = [one.block for one in kept if one is not None]
            found: list[Block] = []
            for block in sorted(out, key=lambda block: (block.time, block.block_id), reverse=True):
                if not self.replica.holds(block_ref(block)):
                    found += self.replica.admit(block, _END_OF_TIME_MS).admitted
            joined += found
            if not found:
                break
        return joined

    def _name(self, unmet: list[BlockRef], block: Block) -> None:
        for ref in unmet[: max(0, MISSING_MAX - len(self._named))]:
            self._named.setdefault(ref, block_name(block))

    def _hold_back(self, came: Joined) -> None:
        block, full = came.block, len(self._held_back) >= WAITING_MAX
        self._held_back[block.block_id] = None if full else came
        self._furthest[block.feed] = max(self._furthest.get(block.feed, 0), block.seq_num)

    def _check_order(self, block: Block, number: int) -> None:
        """Names a block that stands in the file before one that it names."""
        for ref in block_refs(block):
            numbers = self._numbers.get(ref.feed, ())
            if (
                ref.seq_num < len(numbers)
                and numbers[ref.seq_num] > number
                and self.replica.block_id(ref.feed, ref.seq_num) == ref.block_id
            ):
                text = f"stands in the file before {_ref_name(ref)}, on which it rests"
                self._findings.error("ledger-order", block_name(block), text)
                break
        if not self.replica.is_side(block):
            self._numbers.setdefault(block.feed, array("Q")).append(number)

    def _judge(self, came: Joined, admission: Admission, where: str) -> None:
        block = came.block
        if admission.duplicate:
            text = f"stands in the file again at {where}"
            self._findings.error("ledger-repeat", block_name(block), text)
        if admission.waits:
            self._hold_back(came)
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
            if len(self._beside) < WAITING_MAX:
                self._beside[block.block_id] = came
            else:
                self._name_beside(block)

    def _name_fork(self, fork: Fork) -> None:
        place = f"{feed_name(fork.feed)}.{fork.seq_num}"
        text = f"two blocks are signed: {fork.held.hex()} and {fork.other.block_id.hex()}"
        if fork.proof is not None:
            text += f"; signed headers {fork.proof.first.hex()} and {fork.proof.second.hex()}"
        self._findings.warning("fork", place, text, fork.feed.centre)

    def _name_beside(self, block: Block) -> None:
        text = "it lies beside its feed, and no other centre ever acked it"
        self._findings.error("fork-branch", block_name(block), text, block.feed.centre)

    # The end

    def compare(self, trailer: Trailer) -> None:
        """Compares what was found with what the trailer says was written."""
        if trailer.block_count != self.blocks:
            text = f"the trailer counts {trailer.block_count} blocks, the file has {self.blocks}"
            self._findings.error("ledger-count", "trailer", text)
        found = self.replica.frontier()
        for feed in sorted(trailer.frontier.keys() | found.keys()):
            stated, held = trailer.frontier.get(feed), found.get(feed)
            if stated != held and not self._is_branch(feed, stated):
                says = "nothing" if stated is None else f"{stated.seq_num} {stated.block_id.hex()}"
                has = "nothing" if held is None else f"{held.seq_num} {held.block_id.hex()}"
                text = f"the trailer's head is {says}, the blocks lead to {has}"
                self._findings.error("ledger-frontier", feed_name(feed), text)

    def _is_branch(self, feed: FeedKey, head: Head | None) -> bool:
        """Whether a head is on a branch of a forked feed: which one is told is the exporter's."""
        return (
            head is not None
            and feed in self.replica.forked()
            and self.replica.holds(BlockRef(feed, *head))
        )

    def name_missing(self) -> None:
        """Names what others name and did not come, and what nobody names, at the end."""
        for came in self._beside.values():
            self._name_beside(came.block)
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
