"""Every pattern is found where it is, and is not seen where it is not; disputes end as they end."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pfed.core.accounting import Counter
from p2pfed.core.audit import AuditReport, FileSource, audit_ledger
from p2pfed.core.audit.usage import Standing
from p2pfed.core.charter import Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import (
    Accept,
    Adopt,
    Close,
    Dispute,
    Done,
    End,
    Job,
    Outcome,
    ProposalKind,
    Propose,
    Receipt,
    Record,
    Settle,
    Vote,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc
from p2pfed.simulate.scribes import Scribes, Tamper
from tests.unit.core.councils import card_of
from tests.writers import START_MS, Writer, private_key

RULES = Rules(fetch_ms=20_000, queue_ms=20_000, receipt_deadline_ms=60_000, objection_ms=0)
ZERO, ONE, TWO, THREE = (CentreName(f"centre-0{number}") for number in range(4))
Change = Callable[[CentreName, Any], Record]


def audited(
    tamper: Tamper | None = None, *, jobs: int = 60, rules: Rules = RULES, **options: Any
) -> AuditReport:
    options = {"walltimes_s": (20, 40), "rounds_max": 30, "per_round": 5, **options}
    scribes = Scribes(3, jobs=jobs, rules=rules, tamper=tamper, **options)
    return audit_ledger(FileSource(io.BytesIO(b"".join(scribes.export()))))


def each(kind: type[Record], by: CentreName, change: Change, *, of: int = 1) -> Tamper:
    """Changes every record of a kind by a centre, or `of - 1` of every `of`."""
    seen = [0]

    def changed(centre: CentreName, record: Record) -> Record:
        if centre != by or type(record) is not kind:
            return record
        seen[0] += 1
        return record if of > 1 and seen[0] % of == 0 else change(centre, record)

    def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        return [changed(centre, record) for record in records]

    return tamper


def late(by_ms: int) -> Tamper:
    """Centre zero's receipts come so much later."""
    held: list[tuple[int, list[Record]]] = []

    def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        if centre != ZERO:
            return records
        mine: list[Record] = [r for r in records if isinstance(r, Receipt | Done)]
        held.append((now_ms + by_ms, mine))
        due = [r for due_ms, those in held if due_ms <= now_ms for r in those]
        held[:] = [item for item in held if item[0] > now_ms]
        return [r for r in records if not isinstance(r, Receipt | Done)] + due

    return tamper


def closed(_: CentreName, record: Accept) -> Record:
    return Close(claim_id=record.claim_id, reason="policy")


def never_ran(_: CentreName, record: End) -> Record:
    return replace(record, outcome=int(Outcome.NOT_STARTED), core_s=0)


def urgent(_: CentreName, record: Job) -> Record:
    return replace(record, work_class="urgent", walltime_s=80_000, nodes=4, cores_per_node=32)


def among_themselves(open_one: bool) -> Tamper:
    """Zero and one run each other's jobs only; with `open_one` one of zero's goes elsewhere too."""
    left = [1 if open_one else 0]

    def meant(centre: CentreName, job: Job) -> Job:
        if centre == ZERO and left[0]:
            left[0] -= 1
            return replace(job, allow=(TWO,))
        partner = {ZERO: ONE, ONE: ZERO}.get(centre)
        return replace(job, deny=(ZERO, ONE)) if partner is None else replace(job, allow=(partner,))

    def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        return [meant(centre, r) if isinstance(r, Job) else r for r in records]

    return tamper


CASES: dict[str, tuple[Callable[[], Tamper], Callable[[], Tamper | None], str, dict[str, Any]]] = {
    "declines-frequent": (
        lambda: each(Accept, ONE, closed),
        lambda: each(Accept, ONE, closed, of=2),
        ONE,
        {"centres": 2},
    ),
    "offer-not-honoured": (
        lambda: each(Accept, ONE, closed),
        lambda: each(Accept, ONE, closed, of=5),
        ONE,
        {"jobs": 150},
    ),
    "host-runs-nothing": (
        lambda: each(End, ONE, never_ran),
        lambda: each(End, ONE, never_ran, of=10),
        ONE,
        {},
    ),
    "receipts-late": (lambda: late(50_000), lambda: late(20_000), ZERO, {}),
    "class-share-exceeded": (
        lambda: each(Job, ZERO, urgent),
        lambda: each(Job, ZERO, lambda c, r: replace(r, work_class="urgent")),
        ZERO,
        {"rounds_max": 3},
    ),
    "pair-closed": (
        lambda: among_themselves(open_one=False),
        lambda: among_themselves(open_one=True),
        ZERO,
        {"centres": 4, "jobs": 80},
    ),
}
"""For each pattern: what makes it, what nearly makes it, whose it is, and of which ledger."""


@pytest.mark.parametrize("code", CASES)
def test_a_pattern_is_found_where_it_is_and_only_there(code: str) -> None:
    make, nearly, whose, options = CASES[code]
    found = [f for f in audited(make(), **options).ledger.findings if f.code == code]
    assert whose in [finding.centre for finding in found]
    assert code not in audited(nearly(), **options).ledger.counts


def test_a_lively_ledger_shows_no_pattern() -> None:
    report = audited(decline_per_mille=150)
    assert report.ledger.findings == ()
    assert sum(sums.count for sums in report.trades.values()) >= 60


# Clocks


def two_clocks(ahead_ms: int) -> AuditReport:
    """Alpha and beta answer each other, at once or after a while; alpha's clock is ahead."""
    rules = Rules(clock_error_ms=1_000)
    charter: Charter = draft_charter(
        [card_of("alpha"), card_of("beta")], rules, "clocks", START_MS - 1
    )
    for name in ("alpha", "beta"):
        charter = sign_charter(charter, CentreName(name), private_key(name))
    writers = {n: Writer(n, federation=charter.federation_id) for n in ("alpha", "beta")}
    blocks, now_ms = [writers["alpha"].write(time=hlc(START_MS + ahead_ms))], START_MS
    for number in range(240):
        name = ("beta", "alpha")[number % 2]
        now_ms += (20_000, 10, 10, 20_000)[number % 4]
        stated = hlc(now_ms + (ahead_ms if name == "alpha" else 0))
        time = max(stated, blocks[-1].time + 1)
        blocks.append(writers[name].write(blocks[-1], time=type(stated)(time)))
    data = b"".join(write_ledger(encode_charter(charter), blocks))
    return audit_ledger(FileSource(io.BytesIO(data)))


def test_a_clock_that_is_ahead_is_named_and_one_that_is_not_is_not() -> None:
    (finding,) = two_clocks(4_000).ledger.findings
    assert (finding.code, finding.centre) == ("clock-offset", "alpha")
    assert two_clocks(1_000).ledger.findings == ()
    assert two_clocks(0).ledger.findings == ()


# Disputes


def standing_of(report: AuditReport) -> dict[Standing, int]:
    found: dict[Standing, int] = {}
    for trade, sums in report.trades.items():
        found[trade.standing] = found.get(trade.standing, 0) + sums.count
    return found


def settling(*parties: str) -> Tamper:
    """What is disputed is settled at 3 core-seconds by these, in their next blocks."""
    open_claims: list[ClaimId] = []
    told: set[tuple[ClaimId, CentreName]] = set()

    def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        said: list[Record] = []
        for claim_id, host in ((c, HOSTS.get(c)) for c in open_claims):
            party = "home" if centre == claim_id.centre else "host" if centre == host else ""
            if party in parties and (claim_id, centre) not in told:
                told.add((claim_id, centre))
                said.append(Settle(claim_id=claim_id, core_s=3))
        for record in records:
            if isinstance(record, End):
                HOSTS[ClaimId(record.claim_id)] = centre
            elif isinstance(record, Dispute):
                open_claims.append(ClaimId(record.claim_id))
        return [*records, *said]

    return tamper


HOSTS: dict[ClaimId, CentreName] = {}
"""Who ran each claim, as its End told."""


def test_a_dispute_that_both_settle_is_settled_and_one_that_one_settles_is_not() -> None:
    options: dict[str, Any] = {"dispute_per_mille": 300, "jobs": 30}
    both = audited(settling("home", "host"), **options)
    assert both.ledger.counts.keys() == {"usage-disputed"}
    disputed = both.ledger.counts["usage-disputed"]
    assert standing_of(both)[Standing.SETTLED] >= disputed - 1, "the last may lack a next block"
    alone = audited(settling("home"), **options)
    assert Standing.SETTLED not in standing_of(alone)
    assert standing_of(alone)[Standing.DISPUTED] == alone.ledger.counts["usage-disputed"]


def test_what_both_agreed_on_is_what_counts() -> None:
    consumed = audited(settling("home", "host"), dispute_per_mille=1000, jobs=15).counters
    alone = audited(dispute_per_mille=1000, jobs=15).counters
    assert 0 < sum(c.consumed for c in consumed.values()) < sum(c.consumed for c in alone.values())


def test_a_dispute_that_the_members_decide_is_settled_as_they_say() -> None:
    rules = replace(RULES, notice_rounds=1, dispute_settle_ms=1_000, dispute_vote_ms=600_000)
    council = Deciders(rules)
    report = council.audit()
    assert council.adopted, "no dispute came to a decision"
    assert [version.number for version in report.versions] == [1, 2]
    assert standing_of(report)[Standing.SETTLED] == 1
    assert report.ledger.counts.keys() == {"usage-disputed"}


class Deciders:
    """Three centres of which one disputes a usage record, and all vote on it."""

    def __init__(self, rules: Rules) -> None:
        self.rules = rules
        self.dispute: Dispute | None = None
        self.disputed_ms = 0
        self.host = ZERO
        self.hosts: dict[Position, CentreName] = {}
        self.proposal: Position | None = None
        self.votes: dict[CentreName, Position] = {}
        self.adopted = False
        self.scribes = Scribes(
            3,
            jobs=40,
            per_round=1,
            rules=rules,
            walltimes_s=(20, 40),
            rounds_max=60,
            dispute_per_mille=100,
            tamper=self.tamper,
        )

    def audit(self) -> AuditReport:
        return audit_ledger(FileSource(io.BytesIO(b"".join(self.scribes.export()))))

    def _next(self, centre: CentreName, index: int) -> Position:
        head = self.scribes._heads.get(self.scribes.scribes[centre].feed)
        return Position(centre, 0, 0 if head is None else head.seq_num + 1, index)

    def tamper(self, centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        for record in records:
            if isinstance(record, End):
                self.hosts[record.claim_id] = centre
            elif isinstance(record, Dispute) and self.dispute is None:
                self.dispute, self.disputed_ms = record, now_ms
                self.host = self.hosts[record.claim_id]
        # One step at most in each phase of a round: all have heard of it before the next.
        if self.dispute is None or now_ms <= self.disputed_ms + 2_000 or not records:
            return records
        return [*records, *self._said(self.dispute, centre, now_ms, len(records))]

    def _said(self, dispute: Dispute, centre: CentreName, now_ms: int, index: int) -> list[Record]:
        home = dispute.claim_id.centre
        if self.proposal is None and centre == home:
            self.proposal, self.disputed_ms = self._next(centre, index), now_ms
            return [
                Propose(
                    kind=int(ProposalKind.DISPUTE),
                    deadline_ms=now_ms + 300_000,
                    subject=self.host,
                    claims=(dispute.claim_id,),
                    core_s=dispute.core_s + 1,
                )
            ]
        if self.proposal is None:
            return []
        if centre not in self.votes and len(self.votes) < 3:
            self.votes[centre] = self._next(centre, index)
            self.disputed_ms = now_ms if len(self.votes) == 3 else self.disputed_ms
            return [Vote(proposal_id=self.proposal, in_favour=True)]
        if len(self.votes) == 3 and centre == home and not self.adopted:
            self.adopted = True
            version = self.scribes._state.version
            return [
                Adopt(
                    proposal_id=self.proposal,
                    base_version=1,
                    effective_round=version.start_after(now_ms),
                    votes=tuple(sorted(self.votes.values())),
                )
            ]
        return []


def test_counters_name_what_each_delivered_and_consumed() -> None:
    report = audited(jobs=15)
    given = sum(counter.contributed for counter in report.counters.values())
    taken = sum(counter.consumed for counter in report.counters.values())
    assert given == taken > 0
    assert Counter(0, 0) not in report.counters.values()
