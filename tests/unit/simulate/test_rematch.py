"""A past that is small enough to foretell, matched again under other rules."""

from __future__ import annotations

from dataclasses import replace

from p2pfed.core.ids import CentreName, JobId, OfferId, Position
from p2pfed.core.records import Job, Offer
from p2pfed.core.rules import Rules
from p2pfed.simulate.history import History, OfferChange, PastJob
from p2pfed.simulate.rematch import compare, rematch
from p2pfed.simulate.report.rematch_page import render_rematch
from tests.writers import START_MS

HOST, POOR, RICH = CentreName("host"), CentreName("poor"), CentreName("rich")
RULES = Rules(round_ms=1_000, settle_ms=0)
OFFER = Offer(
    resource_class="cpu",
    nodes=1,
    cores_per_node=1,
    memory_mib_per_node=1_000,
    walltime_max_s=1_000,
)


def past(home: CentreName, number: int, *, work_class: str = "normal", at_s: int = 1) -> PastJob:
    return PastJob(
        job_id=JobId(Position(home, 0, number, 0)),
        job=Job(
            resource_class="cpu",
            nodes=1,
            cores_per_node=1,
            memory_mib_per_node=10,
            walltime_s=100,
            work_class=work_class,
            payload_digest=bytes(32),
            payload_bytes=1,
        ),
        posted_ms=START_MS + at_s * 1_000,
        waited_ms=0,
        ran_ms=60_000,
    )


def history(*jobs: PastJob) -> History:
    change = OfferChange(
        at_ms=START_MS,
        offer_id=OfferId(Position(HOST, 0, 0, 0)),
        terms=OFFER,
        nodes=1,
        walltime_max_s=1_000,
        until_ms=0,
    )
    return History(
        jobs=jobs,
        left_out=2,
        changes=(change,),
        handover_ms=500,
        credit_lines=dict.fromkeys((HOST, POOR, RICH), 1_000_000),
        rules=RULES,
    )


def test_jobs_start_one_after_another_where_one_fits() -> None:
    first, second = past(POOR, 1), past(POOR, 2)
    waits = rematch(history(first, second), RULES).waits_ms
    assert waits[first.job_id] < 2_000
    assert 60_000 <= waits[second.job_id] <= 63_000


def test_other_weights_change_who_waits() -> None:
    first, second = past(POOR, 1), past(RICH, 2, work_class="low")
    waiting = past(POOR, 3)
    found = {c.centre: c for c in compare(history(first, second, waiting), RULES)}
    assert (found[RICH].less, found[RICH].more) == (0, 0)
    urgent, normal, low = RULES.classes
    low_first = replace(RULES, classes=(replace(low, points=20_000), urgent, normal))
    changed = {c.centre: c for c in compare(history(first, second, waiting), low_first)}
    assert (changed[RICH].less, changed[POOR].more) == (1, 2)
    assert changed[RICH].wait_proposed_ms < changed[RICH].wait_held_ms


def test_what_was_delivered_counts_for_the_host() -> None:
    outcome = rematch(history(past(POOR, 1)), RULES)
    assert outcome.balances[HOST] > 0 > outcome.balances[POOR]
    assert outcome.balances[RICH] == 0


def test_the_page_names_every_centre() -> None:
    found = history(past(POOR, 1))
    page = render_rematch("a proposal", found, ("round_ms: 1000 to 2000",), compare(found, RULES))
    assert all(name in page for name in (HOST, POOR, RICH))
    assert page.count("<svg") == 2
