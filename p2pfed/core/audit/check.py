"""One pass over a ledger file: verify each block, admit it as a node would, fold what is admitted.

Theory of operation. A stranger trusts nothing but the charter. Each block goes through the same
three steps as in a daemon: `decode_block` (signature over the received bytes, strict form),
`Replica.admit` (chain, times, acks, forks), `State.fold`. So the audit cannot disagree with the
daemons about what is valid or what it means; it only adds names for what is wrong.

Completeness follows from the acks: a block is admitted only if every block that it names is, so a
block that any centre acked cannot be left out without being named here as missing. What only its
author knew can be left out unseen at the end of a feed; comparing the frontier with that of
another centre's export shows it.

Memory grows with ids (some 50 bytes a block) and with the state, never with block bodies: a block
that names a later one waits, but only WAITING_MAX blocks do.
"""

from __future__ import annotations

from typing import Final

from p2pfed.core.accounting import balance
from p2pfed.core.audit.report import Balance, Findings, Report
from p2pfed.core.blocks import Block, check_fork_proof, decode_block, peek_block_id
from p2pfed.core.charter import Charter, check_charter, decode_charter
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey
from p2pfed.core.ledgerfile import Entry, Reader, Trailer, read_ledger
from p2pfed.core.records import ForkProof
from p2pfed.core.replica import Admission, Replica, view_digest
from p2pfed.core.state import State
from p2pfed.core.units import hlc_cut, hlc_ms
from p2pfed.core.waiting import BlockRef, ack_refs, backlink_ref
from p2pfed.errors import InputError

WAITING_MAX: Final = 1024
"""Blocks that are kept while they wait for one further on in the file."""
MISSING_MAX: Final = 10_000
"""Missing blocks that are told apart."""
_END_OF_TIME_MS: Final = 1 << 48


def verify_ledger(
    reader: Reader, *, expected: FederationId | None = None, at_ms: int | None = None
) -> Report:
    """Audits a ledger file in one pass; never raises for what the file holds.

    Args:
        reader: gives the file's bytes.
        expected: the federation that the ledger must be of; with None, whichever it says it is of.
            Without it a forger may bring along a charter of his own.
        at_ms: the wall time of the balances: blocks of later times are verified but not counted.
            None means the time of the newest block.
    """
    findings = Findings()
    audit: _Audit | None = None
    try:
        for entry in read_ledger(reader):
            if isinstance(entry, Trailer):
                if audit is not None:
                    audit.compare(entry)
            elif audit is None:
                audit = _Audit(decode_charter(entry.data), findings, at_ms)
                audit.check_founding(expected)
            else:
                audit.take(entry)
    except InputError as error:
        # The file can be read no further (or not at all); what was read is reported all the same.
        findings.error(error.code, error.where, error.what)
    if audit is None:
        return Report(findings=tuple(findings.kept), counts=findings.counts)
    return audit.report()


class _Audit:
    """An audit under way."""

    def __init__(self, charter: Charter, findings: Findings, at_ms: int | None) -> None:
        self._charter = charter
        self._federation = charter.federation_id
        self._keys = charter.keys()
        self._findings = findings
        self._at_ms = at_ms
        self._replica = Replica(self._federation, self._keys, max_skew_ms=0)
        credit_lines = {card.name: card.credit_line for card in charter.founders}
        self._state = State(charter.rules, credit_lines, self._convict)
        self._blocks = self._admitted = self._records = self._inert = 0
        self._newest_ms = 0
        self._named: dict[BlockRef, str] = {}
        self._held_back: set[BlockId] = set()
        self._invalid: set[BlockId] = set()

    def _convict(self, proof: ForkProof) -> CentreName:
        return check_fork_proof(proof, self._federation, self._keys)[0].centre

    def check_founding(self, expected: FederationId | None) -> None:
        """Judges the charter itself."""
        if expected is not None and expected != self._federation:
            text = f"the ledger is of federation {self._federation.hex()}, not {expected.hex()}"
            self._findings.error("ledger-federation", "charter", text)
        missing = check_charter(self._charter).missing
        if missing:
            text = f"not signed by {', '.join(missing)}"
            self._findings.error("charter-incomplete", "charter", text)

    # Blocks

    def take(self, entry: Entry) -> None:
        """Verifies one block, admits it, and folds what that admits."""
        self._blocks += 1
        where = f"entry {entry.number} (byte {entry.offset})"
        try:
            block = decode_block(entry.data, self._federation, self._keys)
        except InputError as error:
            self._findings.error(error.code, where, error.what)
            self._remember_invalid(entry.data)
            return
        try:
            self._admit(block, where)
        except InputError as error:
            self._findings.error(error.code, _name(block), error.what)
            self._invalid.add(block.block_id)

    def _remember_invalid(self, data: bytes) -> None:
        """Notes which block a bad entry stands for, if it still tells."""
        try:
            self._invalid.add(peek_block_id(data))
        except InputError:
            return

    def _admit(self, block: Block, where: str) -> None:
        backlink = backlink_ref(block)
        refs = ack_refs(block) if backlink is None else [backlink, *ack_refs(block)]
        unmet = [ref for ref in refs if not self._replica.holds(ref)]
        for ref in unmet[: max(0, MISSING_MAX - len(self._named))]:
            self._named.setdefault(ref, _name(block))
        if unmet and self._replica.waiting()[0] >= WAITING_MAX:
            self._held_back.add(block.block_id)
            return
        admission = self._replica.admit(block, _END_OF_TIME_MS)
        self._judge(block, admission, where)
        for admitted in admission.admitted:
            self._held_back.discard(admitted.block_id)
            if admitted.block_id != block.block_id:
                text = f"stands in the file before {_name(block)}, on which it rests"
                self._findings.error("ledger-order", _name(admitted), text)
            self._fold(admitted)

    def _judge(self, block: Block, admission: Admission, where: str) -> None:
        if admission.duplicate:
            text = f"stands in the file again at {where}"
            self._findings.error("ledger-repeat", _name(block), text)
        if admission.waits:
            self._held_back.add(block.block_id)
        for refusal in admission.refused:
            self._findings.error(refusal.error.code, _name(refusal.block), refusal.error.what)
            self._held_back.discard(refusal.block.block_id)
            self._invalid.add(refusal.block.block_id)
        for fork in admission.forks:
            place = f"{_feed_name(fork.feed)}.{fork.seq_num}"
            text = f"two blocks are signed: {fork.held.hex()} and {fork.other.block_id.hex()}"
            self._findings.warning("fork", place, text)
        joined = any(admitted.block_id == block.block_id for admitted in admission.admitted)
        beside = self._replica.block_id(block.feed, block.seq_num) != block.block_id
        if not joined and not admission.waits and not admission.duplicate and beside:
            self._findings.error("fork-branch", _name(block), f"{where} lies beside its feed")

    def _fold(self, block: Block) -> None:
        self._admitted += 1
        self._records += len(block.records)
        self._newest_ms = max(self._newest_ms, hlc_ms(block.time))
        if self._at_ms is not None and block.time > hlc_cut(self._at_ms):
            return
        for position, reason in self._state.fold(block):
            self._inert += 1
            self._findings.warning("record-inert", str(position), reason)

    # The end

    def compare(self, trailer: Trailer) -> None:
        """Compares what was found with what the trailer says was written."""
        if trailer.block_count != self._blocks:
            text = f"the trailer counts {trailer.block_count} blocks, the file has {self._blocks}"
            self._findings.error("ledger-count", "trailer", text)
        found = self._replica.frontier()
        for feed in sorted(trailer.frontier.keys() | found.keys()):
            stated, held = trailer.frontier.get(feed), found.get(feed)
            if stated != held:
                says = "nothing" if stated is None else f"{stated.seq_num} {stated.block_id.hex()}"
                has = "nothing" if held is None else f"{held.seq_num} {held.block_id.hex()}"
                text = f"the trailer's head is {says}, the blocks lead to {has}"
                self._findings.error("ledger-frontier", _feed_name(feed), text)

    def _name_missing(self) -> None:
        for ref, namer in sorted(self._named.items()):
            if self._replica.holds(ref) or ref.block_id in self._held_back:
                continue
            held = self._replica.block_id(ref.feed, ref.seq_num)
            if ref.block_id in self._invalid:
                text = f"{namer} rests on it, and it is not valid"
            elif held is not None:
                text = f"{namer} names {ref.block_id.hex()} here, the feed holds {held.hex()}"
            else:
                text = f"{namer} names it as {ref.block_id.hex()}, and it is not in the file"
            self._findings.error("block-missing", f"{_feed_name(ref.feed)}.{ref.seq_num}", text)
        if self._held_back:
            count = len(self._held_back)
            subject = "1 block rests" if count == 1 else f"{count} blocks rest"
            text = f"{subject} on what is missing; what they say counts for nothing"
            self._findings.error("blocks-not-admitted", "", text)

    def report(self) -> Report:
        """Everything that was found."""
        self._name_missing()
        at_ms = self._newest_ms if self._at_ms is None else self._at_ms
        self._state.settle(at_ms)
        for centre in sorted(self._state.registers.suspended):
            self._findings.warning("fork-proven", centre, "a record in the ledger proves its fork")
        standings = [(c, self._state.standing(c, at_ms)) for c in self._state.members]
        frontier = self._replica.frontier()
        return Report(
            federation=self._federation,
            name=self._charter.name,
            at_ms=at_ms,
            blocks=self._blocks,
            admitted=self._admitted,
            records=self._records,
            inert=self._inert,
            frontier=frontier,
            view_digest=view_digest(frontier),
            cut_digest=view_digest(self._replica.cut_frontier(hlc_cut(at_ms))),
            balances=tuple(Balance(c, standing, balance(standing)) for c, standing in standings),
            findings=tuple(self._findings.kept),
            counts=self._findings.counts,
        )


def _feed_name(feed: FeedKey) -> str:
    return f"{feed.centre}.{feed.epoch}" if feed.epoch else feed.centre


def _name(block: Block) -> str:
    """`alpha.12`, or `alpha.1.12` in epoch 1, as in the ids of its records."""
    return f"{_feed_name(block.feed)}.{block.seq_num}"
