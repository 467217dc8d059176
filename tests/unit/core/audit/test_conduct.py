"""Every way to break the lifecycle that a signature allows is named, and nothing honest is."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from p2pfed.core.audit import AuditReport, FileSource, Severity, audit_ledger
from p2pfed.core.ids import CentreName, ClaimId, OfferId, Position
from p2pfed.core.records import (
    Accept,
    Claim,
    Close,
    Dispute,
    End,
    Handover,
    Job,
    Lost,
    OfferClose,
    OfferUpdate,
    Receipt,
    Record,
    Start,
)
from p2pfed.core.rules import Rules
from p2pfed.simulate.scribes import Scribes, Tamper

RULES = Rules(fetch_ms=20_000, queue_ms=20_000, receipt_deadline_ms=60_000, objection_ms=0)
Change = Callable[[Any], list[Record]]


def audited(tamper: Tamper | None = None, *, jobs: int = 12, **options: Any) -> AuditReport:
    options.setdefault("rules", RULES)
    options.setdefault("walltimes_s", (20, 40))
    options.setdefault("rounds_max", 30)
    scribes = Scribes(3, jobs=jobs, per_round=1, tamper=tamper, **options)
    return audit_ledger(FileSource(io.BytesIO(b"".join(scribes.export()))))


def once(kind: type[Record], change: Change) -> Callable[[], Tamper]:
    """Changes the first record of a kind."""

    def make() -> Tamper:
        done: list[Record] = []

        def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
            for index, record in enumerate(records):
                if type(record) is kind and not done:
                    done.append(record)
                    return [*records[:index], *change(record), *records[index + 1 :]]
            return records

        return tamper

    return make


def delayed(kind: type[Record], by_ms: int, change: Change | None = None) -> Callable[[], Tamper]:
    """Holds the first record of a kind back for some time."""

    def make() -> Tamper:
        held: list[tuple[CentreName, int, Record]] = []

        def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
            if not held:
                for index, record in enumerate(records):
                    if type(record) is kind:
                        held.append((centre, now_ms + by_ms, record))
                        return [*records[:index], *records[index + 1 :]]
            elif held[0][0] == centre and 0 < held[0][1] <= now_ms:
                record = held[0][2]
                held[0] = (centre, 0, record)
                return [*records, *(change(record) if change else [record])]
            return records

        return tamper

    return make


def answered(kind: type[Record], answer: Change, by: Callable[[Any], CentreName]) -> Any:
    """In place of the first record of a kind, somebody else speaks in its next block."""

    def make() -> Tamper:
        seen: list[Record] = []

        def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
            if not seen:
                for index, record in enumerate(records):
                    if type(record) is kind:
                        seen.append(record)
                        return [*records[:index], *records[index + 1 :]]
            elif len(seen) == 1 and centre == by(seen[0]):
                seen.append(seen[0])
                return [*records, *answer(seen[0])]
            return records

        return tamper

    return make


def another_offer(claim: Claim) -> list[Record]:
    names = {"centre-00", "centre-01", "centre-02"} - {claim.job_id.centre, claim.offer_id.centre}
    other = CentreName(names.pop())
    return [replace(claim, offer_id=OfferId(Position(other, 0, 0, 0)))]


def home(record: Any) -> CentreName:
    centre: CentreName = record.claim_id.centre
    return centre


def nowhere(record: Any) -> ClaimId:
    return ClaimId(Position(record.claim_id.centre, 0, 0, 77))


def closing() -> Tamper:
    return once_before(Accept, lambda centre: OfferClose(offer_id=Position(centre, 0, 0, 0)))


def shrinking() -> Tamper:
    def update(centre: CentreName) -> Record:
        return OfferUpdate(offer_id=Position(centre, 0, 0, 0), nodes=0, walltime_max_s=86_400)

    return once_before(Accept, update)


def once_before(kind: type[Record], said: Callable[[CentreName], Record]) -> Tamper:
    """Somebody says something just before its first record of a kind."""
    done: list[CentreName] = []

    def tamper(centre: CentreName, now_ms: int, records: list[Record]) -> list[Record]:
        if not done and kind in map(type, records):
            done.append(centre)
            return [said(centre), *records]
        return records

    return tamper


BREACHES: dict[str, tuple[str, Callable[[], Tamper]]] = {
    "a claim on an offer that the matching gave to others": (
        "claim-unjustified",
        once(Claim, another_offer),
    ),
    "a claim that cites a digest out of the air": (
        "claim-view-false",
        once(Claim, lambda c: [replace(c, view_digest=b"\x07" * 32)]),
    ),
    "a claim that cites a round long over": (
        "claim-view-stale",
        once(Claim, lambda c: [replace(c, round=c.round - 9)]),
    ),
    "a claim that cites a round to come": (
        "claim-round-ahead",
        once(Claim, lambda c: [replace(c, round=c.round + 9)]),
    ),
    "a claim for longer than agreed": (
        "claim-too-long",
        once(Claim, lambda c: [replace(c, claim_until_ms=c.claim_until_ms + 1)]),
    ),
    "two claims for one job": ("claim-job-bound", once(Claim, lambda c: [c, c])),
    "two leases for one job": ("lease-double", once(Claim, lambda c: [c, c])),
    "a claim on an offer that nobody made": (
        "claim-offer-unknown",
        once(Claim, lambda c: [replace(c, offer_id=Position(c.offer_id.centre, 0, 0, 50))]),
    ),
    "an accept after the claim was over": ("accept-late", delayed(Accept, 40_000)),
    "an accept for longer than agreed": (
        "accept-too-long",
        once(Accept, lambda a: [replace(a, accept_until_ms=a.accept_until_ms + 1)]),
    ),
    "an accept on a closed offer": ("accept-offer-closed", closing),
    "an accept beyond what is offered": ("capacity-exceeded", shrinking),
    "an accept of a claim that nobody made": (
        "claim-unknown",
        once(Accept, lambda a: [a, replace(a, claim_id=nowhere(a))]),
    ),
    "a handover that nobody accepted": (
        "handover-not-accepted",
        answered(Accept, lambda a: [Handover(claim_id=a.claim_id, lease_until_ms=1)], home),
    ),
    "a handover after the accept was over": ("handover-late", delayed(Handover, 200_000)),
    "a lease for longer than agreed": (
        "lease-too-long",
        once(Handover, lambda h: [replace(h, lease_until_ms=h.lease_until_ms + 1)]),
    ),
    "a start without a lease": (
        "start-without-lease",
        once(Accept, lambda a: [a, Start(claim_id=a.claim_id, native_name="too-soon")]),
    ),
    "a start that outlasts its lease": ("start-late", delayed(Start, 50_000)),
    "usage beyond the claim": (
        "end-over-claim",
        once(End, lambda e: [replace(e, core_s=e.core_s * 99 + 99)]),
    ),
    "an end in the future": (
        "end-times",
        once(End, lambda e: [replace(e, ended_ms=e.ended_ms + 10_000_000)]),
    ),
    "an end before its start": (
        "end-times",
        once(End, lambda e: [replace(e, ended_ms=e.started_ms - 1, core_s=0)]),
    ),
    "a job that ran beyond its lease": (
        "end-after-lease",
        delayed(End, 140_000, lambda e: [replace(e, ended_ms=e.ended_ms + 130_000)]),
    ),
    "a job declared lost during its lease": (
        "lost-early",
        once(Handover, lambda h: [h, Lost(claim_id=h.claim_id)]),
    ),
    "a receipt of what was not stated": (
        "settlement-early",
        once(Handover, lambda h: [h, Receipt(claim_id=h.claim_id, core_s=1)]),
    ),
    "a receipt of other amounts": (
        "receipt-differs",
        once(Receipt, lambda r: [replace(r, core_s=r.core_s + 1)]),
    ),
    "a dispute that states more": (
        "dispute-more",
        once(
            Receipt,
            lambda r: [Dispute(claim_id=r.claim_id, core_s=r.core_s + 1, reason="more")],
        ),
    ),
    "a record that its author has no move for": ("record-inert", once(Accept, lambda a: [a, a])),
    "usage that nobody answers": ("usage-overdue", once(Receipt, lambda r: [])),
    "usage that is answered too late": ("usage-overdue", delayed(Receipt, 80_000)),
    "a dispute": (
        "usage-disputed",
        once(Receipt, lambda r: [Dispute(claim_id=r.claim_id, core_s=0, reason="nothing ran")]),
    ),
}


@pytest.mark.parametrize("case", BREACHES)
def test_a_broken_rule_is_named_with_who_broke_it(case: str) -> None:
    code, make = BREACHES[case]
    report = audited(make())
    assert report.ledger.ok, "the file itself is sound"
    found = [finding for finding in report.ledger.findings if finding.code == code]
    assert found, report.ledger.counts
    assert all(finding.centre is not None for finding in found)
    assert (found[0].centre, code) in report.by_centre


def test_honest_centres_give_no_finding_but_their_disputes() -> None:
    report = audited(jobs=60, rounds_max=60, decline_per_mille=200, dispute_per_mille=100)
    assert set(report.ledger.counts) <= {"usage-disputed"}
    assert sum(tally.justified for tally in report.claims.values()) >= 60
    assert {reason for _, _, reason in report.declines} == {"no-capacity"}


def test_a_claim_that_is_not_a_match_is_told_what_it_should_have_been() -> None:
    report = audited(once(Claim, another_offer)())
    finding = next(f for f in report.ledger.findings if f.code == "claim-unjustified")
    assert "gives" in finding.text
    assert finding.job is not None
    tally = report.claims[finding.job.centre]
    assert tally.unjustified == 1
    assert tally.justified > 0


def test_a_job_under_two_leases_names_the_claim_that_had_it() -> None:
    report = audited(once(Claim, lambda c: [c, c])())
    finding = next(f for f in report.ledger.findings if f.code == "lease-double")
    assert finding.severity is Severity.WARNING
    assert "is leased under claim" in finding.text


def test_every_usage_record_is_accounted_for() -> None:
    report = audited(jobs=40, rounds_max=60, dispute_per_mille=300)
    kinds = {trade.standing.value for trade in report.trades}
    assert kinds == {"receipted", "disputed"}
    assert sum(sums.count for sums in report.trades.values()) == 40


def test_the_records_that_the_table_uses_are_there() -> None:
    # Guards the table: a world without jobs or closes would make some of its cases empty.
    scribes = Scribes(3, jobs=30, per_round=1, rules=RULES, decline_per_mille=300)
    kinds = {type(record) for block in scribes.blocks() for record in block.records}
    assert {Job, Claim, Accept, Close, Handover, Start, End, Receipt} <= kinds
