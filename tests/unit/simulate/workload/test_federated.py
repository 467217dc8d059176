"""Small federations, whose every step can be told beforehand."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.simulate.workload.federated import run_federated
from p2pfed.simulate.workload.ideal import run_ideal, run_isolated
from p2pfed.simulate.workload.lublin import synthetic_trace
from p2pfed.simulate.workload.metrics import compare, counted
from p2pfed.simulate.workload.options import PREEMPTIBLE, CentrePolicy, FederationOptions
from p2pfed.simulate.workload.outcome import Outcome
from p2pfed.simulate.workload.trace import DAY_S, TraceJob, make_trace
from p2pfed.simulate.workload.workload import Workload, make_workload

MONDAY = 1_704_067_200
HOUR_S = 3_600


def workload(**jobs: Sequence[tuple[int, int, int]]) -> Workload:
    """Centres of 4 processors; their jobs are (submit, run, processors), asking for 2 x run."""
    return make_workload(
        [
            make_trace(
                CentreName(name),
                [TraceJob(submit, run, 2 * run, procs) for submit, run, procs in rows],
                procs=4,
                start_unix_s=MONDAY,
            )
            for name, rows in jobs.items()
        ]
    )


BUSY = [(0, 7_200, 4), (5, 600, 2)]
"""The second job waits two hours for the first, alone."""
IDLE = [(90_000, 60, 1)]


def options(policy: CentrePolicy | None = None, **changes: object) -> FederationOptions:
    return replace(FederationOptions(policy=policy or CentrePolicy()), **changes)  # type: ignore[arg-type]


def run(jobs: Workload, **changes: object) -> Outcome:
    return run_federated(jobs, options(**changes))  # type: ignore[arg-type]


def test_a_job_that_waits_runs_where_processors_are_idle() -> None:
    outcome = run(workload(alpha=BUSY, beta=IDLE), delay_ms=200)
    assert outcome.where[1] == 1
    # the cut after 5 s is at 10 s, settled 3 s later; claim, accept, handover, payload take 0.2 s
    assert outcome.start_ms[1] == 10_000 + 3_000 + 4 * 200
    assert outcome.end_ms[1] == outcome.start_ms[1] + 600_000
    assert outcome.wait_ms[1] == outcome.start_ms[1] - 5_000
    assert (outcome.claims, outcome.declined) == (1, 0)


def test_alone_it_would_have_waited_for_the_end_of_the_first() -> None:
    assert run_isolated(workload(alpha=BUSY, beta=IDLE)).wait_ms[1] == 7_195_000


def test_under_one_scheduler_it_starts_at_once() -> None:
    outcome = run_ideal(workload(alpha=BUSY, beta=IDLE))
    assert (outcome.wait_ms[1], outcome.where[1]) == (0, 1)


def test_an_offer_refuses_homes_below_its_least_balance() -> None:
    closed = replace(CentrePolicy(), min_balance=1)
    jobs = workload(alpha=BUSY, beta=IDLE, gamma=IDLE)
    outcome = run(jobs, policies={"beta": closed})
    assert jobs.centres[outcome.where[1]] == "gamma"
    assert run(jobs, policy=closed).where[1] == jobs.home[1]


def test_a_centre_that_only_consumes_offers_nothing() -> None:
    outcome = run(workload(alpha=BUSY, beta=IDLE), policies={"beta": CentrePolicy.free_rider()})
    assert list(outcome.where) == list(outcome.workload.home)


@pytest.mark.parametrize(
    ("policy", "away"),
    [
        (CentrePolicy(), True),
        (CentrePolicy(exports=False), False),
        (CentrePolicy(share=0.25), False),
        (CentrePolicy(share=0.5), True),
        (CentrePolicy(kept_free=3), False),
        (CentrePolicy(long_s=1_199, long_share=0.25), False),
        (CentrePolicy(after_wait_s=3_600), True),
        (CentrePolicy(after_wait_s=7_300), False),
        (CentrePolicy(leaves_s=4), False),
        (CentrePolicy(windows=((60, 7_200),)), True),
        (CentrePolicy(windows=((60, 1_000),)), False),  # it could not be done by the end
        (CentrePolicy(windows=((86_400, 90_000),)), False),
        (CentrePolicy(speed=2.0), True),
    ],
)
def test_what_a_policy_says_decides_whether_a_job_goes_out(
    policy: CentrePolicy, away: bool
) -> None:
    outcome = run(workload(alpha=BUSY, beta=IDLE), policy=policy)
    assert (outcome.where[1] == 1) is away


def test_a_window_that_opens_later_is_waited_for() -> None:
    outcome = run(workload(alpha=BUSY, beta=IDLE), policy=CentrePolicy(windows=((60, 7_200),)))
    assert 60_000 <= outcome.start_ms[1] < 75_000


def test_guests_end_before_the_first_waiting_job_could_start() -> None:
    # beta: 2 of 4 processors till 2 000 s at the latest, then a job of 4 must start
    jobs = workload(alpha=BUSY, beta=[(0, 1_000, 2), (1, 100, 4)])
    outcome = run(jobs)
    beta = [job for job, home in enumerate(jobs.home) if home == 1]
    assert outcome.delayed_ms[beta[1]] == 0
    assert outcome.wait_ms[beta[1]] == run_isolated(jobs).wait_ms[beta[1]]


def test_without_that_limit_they_hold_it_up() -> None:
    jobs = workload(alpha=[(0, 7_200, 4), (5, 1_700, 2)], beta=[(0, 1_000, 2), (1, 100, 4)])
    policy = CentrePolicy(to_shadow=False, long_share=1.0)
    outcome = run(jobs, policies={"beta": policy})
    beta = [job for job, home in enumerate(jobs.home) if home == 1]
    assert outcome.delayed_ms[beta[1]] > 0


def preempted(**changes: object) -> Outcome:
    """A guest of 600 s at beta, where a job of all processors comes after 100 s."""
    jobs = workload(alpha=BUSY, beta=[(113, 300, 4)])
    return run(jobs, policy=PREEMPTIBLE, **changes)


def test_a_preemptible_guest_gives_way_at_once_and_starts_again() -> None:
    outcome = preempted(delay_ms=0)
    beta = list(outcome.workload.home).index(1)
    assert outcome.wait_ms[beta] == 0
    assert (outcome.requeues[1], outcome.wasted_s[1]) == (1, 2 * 100)
    assert outcome.end_ms[1] - outcome.start_ms[1] == 600_000
    assert outcome.wait_ms[1] == outcome.start_ms[1] - 5_000


def test_with_a_checkpoint_it_goes_on_where_it_was() -> None:
    outcome = preempted(delay_ms=0, checkpoints=True)
    assert (outcome.requeues[1], outcome.wasted_s[1]) == (1, 0)
    assert outcome.end_ms[1] - outcome.start_ms[1] == 500_000
    assert outcome.wait_ms[1] == outcome.end_ms[1] - 5_000 - 600_000


def test_a_job_that_was_cut_short_too_often_stays_at_home() -> None:
    """Each run that a host cut short is one attempt."""
    once = preempted(rules=Rules.from_mapping({"max_attempts": 1}))
    assert (once.requeues[1], once.where[1]) == (1, 0)
    twice = preempted(rules=Rules.from_mapping({"max_attempts": 2}))
    assert (twice.requeues[1], twice.where[1]) == (1, 1)


def test_a_job_that_was_sent_away_often_enough_goes_where_nobody_preempts() -> None:
    # beta and gamma are equally good for the job, but for what each does to its guests.
    beta = [(113, 300, 4), (900, 300, 4), (1_700, 300, 4)]
    policies = {"beta": PREEMPTIBLE, "gamma": CentrePolicy(windows=((500, DAY_S),))}
    jobs = workload(alpha=BUSY, beta=beta, gamma=IDLE)
    rules = Rules.from_mapping({"evictions_max": 1, "max_attempts": 9})
    strict = run(jobs, policies=policies, rules=rules, delay_ms=0)
    assert (strict.requeues[1], jobs.centres[strict.where[1]]) == (1, "gamma")
    assert strict.start_ms[1] >= 500_000  # nothing that preempts was good enough before

    alone = workload(alpha=BUSY, beta=beta)
    nowhere = run(alone, policies={"beta": PREEMPTIBLE}, rules=rules, delay_ms=0)
    assert (nowhere.requeues[1], alone.centres[nowhere.where[1]]) == (1, "alpha")


def small_federation() -> Workload:
    traces = [
        synthetic_trace(
            CentreName(name), procs=procs, jobs=jobs, seed=5, load=load, start_unix_s=MONDAY
        )
        for name, procs, jobs, load in (
            ("alpha", 64, 400, 0.95),
            ("beta", 32, 200, 0.5),
            ("gamma", 128, 400, 0.3),
        )
    ]
    return make_workload(traces)


@pytest.mark.parametrize("policy", [CentrePolicy(), PREEMPTIBLE], ids=["stay", "preemptible"])
def test_every_job_ends_and_no_machine_ever_holds_more_than_it_has(policy: CentrePolicy) -> None:
    jobs = small_federation()
    outcome = run(jobs, policy=policy)
    assert all(end > 0 for end in outcome.end_ms)
    assert all(wait >= 0 for wait in outcome.wait_ms)
    for centre, procs in enumerate(jobs.procs):
        changes: list[tuple[int, int]] = []
        for job, where in enumerate(outcome.where):
            if where == centre:
                changes.append((outcome.start_ms[job], jobs.width[job]))
                changes.append((outcome.end_ms[job], -jobs.width[job]))
        held = 0
        for _, change in sorted(changes):
            held += change
            assert held <= procs


def test_the_same_input_gives_the_same_outcome() -> None:
    one, two = run(small_federation()), run(small_federation())
    assert one == two


def test_a_loaded_centre_gains_and_the_sums_agree() -> None:
    jobs = small_federation()
    isolated, federated, ideal = run_isolated(jobs), run(jobs), run_ideal(jobs)
    compared = compare(isolated, federated, ideal, DAY_S)
    assert compared.federated.mean_wait_s < compared.isolated.mean_wait_s
    assert compared.federated.exported == compared.federated.hosted > 0
    assert sum(f.exported for _, f, _ in compared.centres) == compared.federated.exported
    assert sum(f.hosted for _, f, _ in compared.centres) == compared.federated.hosted
    assert sum(f.jobs for _, f, _ in compared.centres) == len(counted(federated, None, DAY_S))


def test_balances_stay_between_minus_one_and_one_and_someone_owes() -> None:
    samples = run(small_federation()).balances
    assert all(-1_000_000 <= sample.balance_ppm <= 1_000_000 for sample in samples)
    assert any(sample.balance_ppm < 0 for sample in samples if sample.centre == 0)


def test_progress_comes_to_its_end() -> None:
    told: list[tuple[int, int]] = []
    run_federated(workload(alpha=BUSY), progress=lambda done, jobs: told.append((done, jobs)))
    assert told[-1] == (2, 2)


def test_policies_of_strangers_and_rules_without_the_class_are_refused() -> None:
    with pytest.raises(InputError) as caught:
        run(workload(alpha=BUSY), policies={"omega": CentrePolicy()})
    assert caught.value.code == "workload-centre"
    rules = Rules.from_mapping({"classes": [{"name": "only", "points": 1}]})
    with pytest.raises(InputError) as caught:
        run(workload(alpha=BUSY), rules=rules)
    assert caught.value.code == "workload-option"
