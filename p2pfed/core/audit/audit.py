"""The whole audit of one ledger: everything that it proves, and everything that it does not.

Theory of operation. The source is read twice. The first reading learns where each block stands and
how the source ends. The second takes the blocks in the order of their times: each is verified and
admitted (`intake`), waits until the rounds before it are judged, and is folded into the common
state (`course`), where claims are held against the matching (`justify`), every record against the
lifecycle (`conduct`), usage against receipts (`usage`), and patterns are counted (`patterns`).

Order of time is a causal order for every valid block, for a block must be later than all that it
names. So a block that lacks something when its turn comes will lack it for ever.

Memory follows ids (about 100 bytes a block), what is under way (jobs that are not over) and the
blocks of a few rounds, never the length of what is long over.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from p2pfed.core.accounting import balance
from p2pfed.core.audit.conduct import Conduct
from p2pfed.core.audit.cosigning import CheckpointWatch
from p2pfed.core.audit.course import SAMPLES, Course, Handler, Samples, Told
from p2pfed.core.audit.findings import Findings, Focus
from p2pfed.core.audit.intake import Intake, feed_name, open_entry
from p2pfed.core.audit.justify import Justifier
from p2pfed.core.audit.onlooker import Onlooker
from p2pfed.core.audit.patterns import Patterns
from p2pfed.core.audit.report import AuditReport, Balance, Report
from p2pfed.core.audit.source import Index, LedgerSource
from p2pfed.core.audit.story import Story
from p2pfed.core.audit.usage import Sink, UsageBook
from p2pfed.core.audit.views import Library
from p2pfed.core.blocks import Block
from p2pfed.core.branches import Mode, Verdict
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.core.constitution import founders
from p2pfed.core.governance import Governance
from p2pfed.core.ids import FederationId, FeedKey, Position
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry, Trailer
from p2pfed.core.records import Record
from p2pfed.core.replica import view_digest
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc_cut, hlc_ms
from p2pfed.errors import InputError

Opened = tuple[Entry, Block | InputError]
Opener = Callable[[Iterable[Entry], FederationId, Callable[[], VerifyKeys]], Iterator[Opened]]
"""Verifies entries, in their order, with the keys that are known by then; elsewhere, perhaps."""


def audit_ledger(
    source: LedgerSource,
    *,
    expected: FederationId | None = None,
    focus: Focus | None = None,
    at_ms: int | None = None,
    opener: Opener | None = None,
    samples: int = SAMPLES,
    sink: Sink | None = None,
) -> AuditReport:
    """Audits a ledger; never raises for what it holds.

    Args:
        source: where to read it, twice.
        expected: the federation that it must be of; with None, whichever it says it is of.
        focus: what findings are reported; the whole ledger is audited in any case.
        at_ms: the time of the balances, as for `verify_ledger`.
        opener: verifies blocks in another way than one by one in this process.
        samples: about how many points the curves of the accounts have.
        sink: takes each usage record, once it is known what became of it.
    """
    findings = Findings(focus or Focus())
    scan = _Scan(source, findings)
    if scan.charter is None:
        empty = Report(findings=tuple(findings.kept), counts=findings.counts)
        return AuditReport(source=source.name, ledger=empty)
    audit = _Audit(source, scan, scan.charter, focus or Focus(), at_ms, samples, sink)
    audit.intake.check_founding(expected)
    audit.read(scan.index, opener)
    if scan.trailer is not None:
        audit.intake.compare(scan.trailer)
    return audit.report()


class _Scan:
    """The first reading."""

    def __init__(self, source: LedgerSource, findings: Findings) -> None:
        self.charter: Charter | None = None
        self.trailer: Trailer | None = None
        self.findings = findings
        self.index = Index()
        try:
            for entry in source.entries():
                if isinstance(entry, Trailer):
                    self.trailer = entry
                elif self.charter is None:
                    self.charter = decode_charter(entry.data)
                else:
                    self.index.add(entry)
        except InputError as error:
            # It can be read no further (or not at all); what was read is audited all the same.
            findings.error(error.code, error.where, error.what)


class _Audit:
    """An audit under way."""

    def __init__(
        self,
        source: LedgerSource,
        scan: _Scan,
        charter: Charter,
        focus: Focus,
        at_ms: int | None,
        samples: int,
        sink: Sink | None,
    ) -> None:
        findings = scan.findings
        self._source = source
        self._charter = charter
        self._findings = findings
        self._at_ms = at_ms
        self.intake = Intake(charter, findings, self._stored)
        replica = self.intake.replica
        self._library = Library(replica, source.fetch)
        self._cosigning = CheckpointWatch(replica, self._library.get, findings)
        self._admitted = self._records = self._inert = 0
        self._newest_ms = 0
        rules = charter.rules
        self._justifier = Justifier(
            replica, findings, self._governance, lambda: self._forked, self._onlooker
        )
        first, last = scan.index.span()
        self._course = Course(
            self._fresh,
            self._library,
            self._justifier,
            self._watch,
            Samples(hlc_ms(HlcTime(first)), hlc_ms(HlcTime(last)), rules, samples),
        )
        self._conduct = Conduct(self._course.state, findings, replica.forked)
        self._usage = UsageBook(self._course.state, findings, sink)
        self._patterns = Patterns(self._course.state, findings)
        self._handlers = _together(self._conduct, self._usage, self._patterns)
        self._story = None if focus.job is None else Story(focus.job)

    def _fresh(self) -> State:
        credit_lines = {card.name: card.credit_line for card in self._charter.founders}
        return State(
            self._charter.rules, credit_lines, self.intake.convict, founders(self._charter)
        )

    def _governance(self) -> Governance:
        return self._course.state.governance

    @property
    def _forked(self) -> bool:
        return self.intake.forked or bool(self._course.state.registers.convicted)

    def _onlooker(self) -> Onlooker:
        intake = self.intake
        return Onlooker(intake.federation, intake.keys, self._library, self._fresh, intake.convict)

    def _stored(self, feed: FeedKey, seq_num: int) -> bytes | None:
        return self._library.data(feed, seq_num)

    # The second reading

    def read(self, index: Index, opener: Opener | None) -> None:
        """Takes every block, in the order of their times."""
        entries = self._entries(index)
        opened = (opener or open_here)(entries, self.intake.federation, lambda: self.intake.keys)
        for entry, found in opened:
            for block, _, offset in self.intake.take(entry, found):
                self._take(block, offset)

    def _entries(self, index: Index) -> Iterator[Entry]:
        for number, offset in index.places():
            try:
                yield Entry(number, offset, self._source.fetch(offset))
            except InputError as error:
                self._findings.error(error.code, f"byte {offset}", error.what)

    def _take(self, block: Block, offset: int) -> None:
        self._admitted += 1
        self._records += len(block.records)
        now_ms = hlc_ms(block.time)
        self._newest_ms = max(self._newest_ms, now_ms)
        self._library.add(block, offset)
        counted = self._at_ms is None or block.time <= hlc_cut(self._at_ms)
        if counted and not self.intake.replica.is_side(block):
            self._course.take(block)

    def _watch(self, block: Block, told: Told, inert: list[tuple[Position, str]]) -> None:
        """Every block that the common state has folded is looked at from all sides."""
        for position, reason in inert:
            self._inert += 1
            self._findings.warning("record-inert", str(position), reason, block.feed.centre)
        self._conduct.hear(block)
        self._patterns.hear(block)
        now_ms, handlers = hlc_ms(block.time), self._handlers
        for position, record in told:
            for handle in handlers.get(type(record), ()):
                handle(record, position, now_ms)
        self._cosigning.watch(block)
        if self._story is not None:
            self._story.watch(block, inert)

    # The end

    def report(self) -> AuditReport:
        """Everything that was found."""
        self.intake.name_missing()
        at_ms = self._newest_ms if self._at_ms is None else self._at_ms
        self._course.finish(at_ms)
        self._usage.finish(at_ms)
        self._patterns.finish()
        self._cosigning.finish()
        state, verdict = self._course.state, None
        if self._forked:
            # What counts of a forked feed follows from everything that others acked of it.
            auditor = self._onlooker()
            auditor.learn(self._library.tips())
            auditor.advance(at_ms)
            state, verdict = auditor.state, auditor.verdict
            self._name_branches(verdict)
        for centre in sorted(state.registers.suspended):
            text = "a record in the ledger proves its fork"
            self._findings.warning("fork-proven", centre, text, centre)
        return AuditReport(
            source=self._source.name,
            ledger=self._verified(state, verdict, at_ms),
            by_centre=self._findings.by_centre,
            days=tuple(self._course.days),
            curve=tuple(self._course.curve),
            claims=self._justifier.tallies,
            trades=self._usage.trades,
            declines=dict(self._patterns.declines),
            counters=state.accounts.counters(),
            totals=tuple(state.accounts.totals()),
            versions=state.governance.versions(),
            story=() if self._story is None else tuple(self._story.lines),
        )

    def _name_branches(self, verdict: Verdict) -> None:
        """Says of every forked feed what counts of each branch."""
        for feed in sorted(verdict.forked):
            tips = [head for other, head in verdict.tips if other == feed]
            told = ", ".join(
                f"{head.seq_num} {head.block_id.hex()[:16]} "
                f"{verdict.modes.get(head.block_id, Mode.IGNORED).value}"
                for head in tips
            )
            self._findings.notice(
                "fork-branches", feed_name(feed), f"its newest blocks: {told}", feed.centre
            )

    def _verified(self, state: State, verdict: Verdict | None, at_ms: int) -> Report:
        replica = self.intake.replica
        frontier = replica.frontier()
        standings = [(c, state.standing(c, at_ms)) for c in state.members]
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
            cut_digest=view_digest(replica.cut_frontier(hlc_cut(at_ms)), verdict),
            balances=tuple(Balance(c, standing, balance(standing)) for c, standing in standings),
            findings=tuple(self._findings.kept),
            counts=self._findings.counts,
        )


def _together(*watchers: Conduct | UsageBook | Patterns) -> dict[type[Record], list[Handler]]:
    """All that look at each type of record, in this order."""
    found: dict[type[Record], list[Handler]] = {}
    for watcher in watchers:
        for kind, handle in watcher.handlers.items():
            found.setdefault(kind, []).append(handle)
    return found


def open_here(
    entries: Iterable[Entry], federation: FederationId, keys: Callable[[], VerifyKeys]
) -> Iterator[Opened]:
    """Verifies entries one by one, in this process."""
    for entry in entries:
        yield entry, open_entry(entry, federation, keys())
