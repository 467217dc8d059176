"""One pass over a ledger file: is it valid and complete, and what are the balances?

Theory of operation. A stranger trusts nothing but the charter. Blocks are verified and admitted by
`p2pfed.core.audit.intake` in the order of the file, and folded by `State.fold` as they come: the
state does not depend on that order. This is the quick question, which needs only a stream;
`p2pfed.core.audit.audit` asks everything, and needs to read twice.

Memory grows with ids and with the state, never with block bodies.
"""

from __future__ import annotations

from p2pfed.core.accounting import balance
from p2pfed.core.audit.findings import Findings
from p2pfed.core.audit.intake import Intake, open_entry
from p2pfed.core.audit.report import Balance, Report
from p2pfed.core.blocks import Block
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.core.ids import FederationId
from p2pfed.core.ledgerfile import Entry, Reader, Trailer, read_ledger
from p2pfed.core.replica import view_digest
from p2pfed.core.state import State
from p2pfed.core.units import hlc_cut, hlc_ms
from p2pfed.errors import InputError


def verify_ledger(
    reader: Reader, *, expected: FederationId | None = None, at_ms: int | None = None
) -> Report:
    """Verifies a ledger file in one pass; never raises for what the file holds.

    Args:
        reader: gives the file's bytes.
        expected: the federation that the ledger must be of; with None, whichever it says it is of.
            Without it a forger may bring along a charter of his own.
        at_ms: the wall time of the balances: blocks of later times are verified but not counted.
            None means the time of the newest block.
    """
    findings = Findings()
    verification: _Verification | None = None
    try:
        for entry in read_ledger(reader):
            if isinstance(entry, Trailer):
                if verification is not None:
                    verification.intake.compare(entry)
            elif verification is None:
                verification = _Verification(decode_charter(entry.data), findings, at_ms)
                verification.intake.check_founding(expected)
            else:
                verification.take(entry)
    except InputError as error:
        # The file can be read no further (or not at all); what was read is reported all the same.
        findings.error(error.code, error.where, error.what)
    if verification is None:
        return Report(findings=tuple(findings.kept), counts=findings.counts)
    return verification.report()


class _Verification:
    """A verification under way."""

    def __init__(self, charter: Charter, findings: Findings, at_ms: int | None) -> None:
        self.intake = Intake(charter, findings)
        self._charter = charter
        self._findings = findings
        self._at_ms = at_ms
        credit_lines = {card.name: card.credit_line for card in charter.founders}
        self._state = State(charter.rules, credit_lines, self.intake.convict)
        self._admitted = self._records = self._inert = 0
        self._newest_ms = 0

    def take(self, entry: Entry) -> None:
        """Verifies one block, admits it, and folds what that admits."""
        opened = open_entry(entry, self.intake.federation, self.intake.keys)
        for joined in self.intake.take(entry, opened):
            self._fold(joined.block)

    def _fold(self, block: Block) -> None:
        self._admitted += 1
        self._records += len(block.records)
        self._newest_ms = max(self._newest_ms, hlc_ms(block.time))
        if self._at_ms is not None and block.time > hlc_cut(self._at_ms):
            return
        for position, reason in self._state.fold(block):
            self._inert += 1
            self._findings.warning("record-inert", str(position), reason, block.feed.centre)

    def report(self) -> Report:
        """Everything that was found."""
        self.intake.name_missing()
        at_ms = self._newest_ms if self._at_ms is None else self._at_ms
        self._state.settle(at_ms)
        for centre in sorted(self._state.registers.suspended):
            text = "a record in the ledger proves its fork"
            self._findings.warning("fork-proven", centre, text, centre)
        standings = [(c, self._state.standing(c, at_ms)) for c in self._state.members]
        replica = self.intake.replica
        frontier = replica.frontier()
        return Report(
            federation=self._charter.federation_id,
            name=self._charter.name,
            at_ms=at_ms,
            blocks=self.intake.blocks,
            admitted=self._admitted,
            records=self._records,
            inert=self._inert,
            frontier=frontier,
            view_digest=view_digest(frontier),
            cut_digest=view_digest(replica.cut_frontier(hlc_cut(at_ms))),
            balances=tuple(Balance(c, standing, balance(standing)) for c, standing in standings),
            findings=tuple(self._findings.kept),
            counts=self._findings.counts,
        )
