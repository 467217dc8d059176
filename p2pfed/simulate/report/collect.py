"""From what happened to each job to the report's values.

Waits count for the jobs that came after the warm-up, because a replay begins with empty machines;
levels over time and flows count everything. Sums are integers; rounding comes last.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from p2pfed.simulate.report.curves import Interval, mean_levels, nearest_rank, quantiles, step_of
from p2pfed.simulate.report.model import (
    Account,
    Activity,
    CentreReport,
    Figures,
    Report,
    SizeClass,
    way_ppm,
)
from p2pfed.simulate.workload.outcome import Outcome

STEPS: Final = 240
"""Parts of the replay that levels are averaged over: what a picture can show."""
SLOWDOWN_LEAST_MS: Final = 10_000
"""Shorter run times count as this in the slowdown, or jobs of a second would decide it."""
SIZES: Final = ((0, 25, "up to 25 %"), (25, 50, "25 to 50 %"), (50, 100, "over 50 %"))
"""Classes of size, as parts of the home machine: above the first, up to the second."""
Outcomes = Mapping[str, Outcome]


def make_report(
    outcomes: Outcomes, *, title: str, options: Mapping[str, object], warmup_s: int
) -> Report:
    """The report on the three worlds of one workload.

    Args:
        outcomes: by world; each of the same workload.
        title: what was replayed.
        options: what was asked for.
        warmup_s: jobs that came before this are not counted.
    """
    workload = outcomes["isolated"].workload
    length_s = workload.submit_s[-1] if len(workload) else 0
    counted = [job for job, submit_s in enumerate(workload.submit_s) if submit_s >= warmup_s]
    window = (min(warmup_s, length_s), length_s)
    everywhere = range(len(workload.centres))
    worlds = {
        world: _figures(outcome, counted, everywhere, window) for world, outcome in outcomes.items()
    }
    means = [worlds[world].wait_mean_s for world in ("isolated", "federated", "ideal")]
    slowdowns = [worlds[world].slowdown_mean for world in ("isolated", "federated", "ideal")]
    capacity_s = sum(workload.procs) * (window[1] - window[0])
    wasted_s = outcomes["federated"].wasted_s
    return Report(
        title=title,
        options=options,
        length_s=length_s,
        warmup_s=warmup_s,
        worlds=worlds,
        way_wait_ppm=way_ppm(*means),
        way_slowdown_ppm=way_ppm(*slowdowns),
        wasted_ppm=_ppm(sum(wasted_s[job] for job in counted) if wasted_s else 0, capacity_s),
        flows=_flows(outcomes["federated"]),
        centres=tuple(_centre(outcomes, centre, counted, window) for centre in everywhere),
    )


def _centre(
    outcomes: Outcomes, centre: int, counted: Sequence[int], window: tuple[int, int]
) -> CentreReport:
    federated = outcomes["federated"]
    workload = federated.workload
    own = [job for job in counted if workload.home[job] == centre]
    work_s = sum(workload.run_s[job] * workload.width[job] for job in own)
    delays_ms = [federated.delayed_ms[job] for job in own] if federated.delayed_ms else []
    delays_ms = [delay for delay in delays_ms if delay > 0]
    return CentreReport(
        centre=workload.centres[centre],
        processors=workload.procs[centre],
        load_ppm=_ppm(work_s, workload.procs[centre] * (window[1] - window[0])),
        worlds={w: _figures(o, own, [centre], window) for w, o in outcomes.items()},
        classes=tuple(_classes(outcomes, own, workload.procs[centre])),
        exported=sum(federated.where[job] != centre for job in own),
        hosted=sum(
            federated.where[job] == centre and workload.home[job] != centre for job in counted
        ),
        delayed=len(delays_ms),
        delayed_mean_s=_mean_s(delays_ms),
        delayed_max_s=max(delays_ms, default=0) / 1_000,
        preempted=sum(federated.requeues[job] for job in own) if federated.requeues else 0,
        wasted_s=sum(federated.wasted_s[job] for job in own) if federated.wasted_s else 0,
        accounts=tuple(
            Account(
                at_s=s.time_s, contribution=s.contribution, usage=s.usage, balance_ppm=s.balance_ppm
            )
            for s in federated.balances
            if s.centre == centre
        ),
        activity=_activity(outcomes, centre, window[1]),
        wait_quantiles={
            w: tuple(ms / 1_000 for ms in quantiles(o.wait_ms[job] for job in own))
            for w, o in outcomes.items()
        },
    )


def _figures(
    outcome: Outcome, jobs: Sequence[int], machines: Iterable[int], window: tuple[int, int]
) -> Figures:
    """How these jobs fared, and how much of these machines was used."""
    waits_ms = sorted(outcome.wait_ms[job] for job in jobs)
    return Figures(
        jobs=len(jobs),
        wait_mean_s=_mean_s(waits_ms),
        wait_median_s=nearest_rank(waits_ms, 50) / 1_000,
        wait_p95_s=nearest_rank(waits_ms, 95) / 1_000,
        slowdown_mean=_slowdown(outcome, jobs),
        utilisation_ppm=_utilisation_ppm(outcome, set(machines), window),
    )


def _slowdown(outcome: Outcome, jobs: Sequence[int]) -> float:
    """Mean bounded slowdown; the run time is the one at home, so that machines compare."""
    total = 0.0
    for job in jobs:
        run_ms = outcome.workload.run_s[job] * 1_000
        total += max(1.0, (outcome.wait_ms[job] + run_ms) / max(run_ms, SLOWDOWN_LEAST_MS))
    return round(total / len(jobs), 3) if jobs else 0.0


def _utilisation_ppm(outcome: Outcome, machines: set[int], window: tuple[int, int]) -> int:
    begin_ms, end_ms = window[0] * 1_000, window[1] * 1_000
    workload = outcome.workload
    used_ms = 0
    for job, where in enumerate(outcome.where):
        if where in machines:
            lasted_ms = min(outcome.end_ms[job], end_ms) - max(outcome.start_ms[job], begin_ms)
            used_ms += max(0, lasted_ms) * workload.width[job]
    return _ppm(used_ms, sum(workload.procs[m] for m in machines) * (end_ms - begin_ms))


def _classes(outcomes: Outcomes, own: Sequence[int], processors: int) -> Iterable[SizeClass]:
    width = outcomes["isolated"].workload.width
    for above, upto, name in SIZES:
        jobs = [j for j in own if above * processors < width[j] * 100 <= upto * processors]
        waits_ms = {w: sorted(o.wait_ms[job] for job in jobs) for w, o in outcomes.items()}
        yield SizeClass(
            name=name,
            jobs=len(jobs),
            wait_mean_s={w: _mean_s(waits) for w, waits in waits_ms.items()},
            wait_p95_s={w: nearest_rank(waits, 95) / 1_000 for w, waits in waits_ms.items()},
        )


def _activity(outcomes: Outcomes, centre: int, length_s: int) -> Activity:
    isolated, federated = outcomes["isolated"], outcomes["federated"]
    home = federated.workload.home
    jobs = range(len(home))
    own = [job for job in jobs if home[job] == centre]
    here = [job for job in jobs if federated.where[job] == centre]

    def levels(intervals: Iterable[Interval]) -> tuple[float, ...]:
        return mean_levels(intervals, length_s, STEPS)

    return Activity(
        step_s=step_of(length_s, STEPS),
        isolated=levels(_runs(isolated, own)),
        own=levels(_runs(federated, [job for job in here if home[job] == centre])),
        guests=levels(_runs(federated, [job for job in here if home[job] != centre])),
        queue_isolated=levels(_waits(isolated, own)),
        queue_federated=levels(_waits(federated, own)),
    )


def _runs(outcome: Outcome, jobs: Iterable[int]) -> Iterable[Interval]:
    """When the jobs' last runs used how many processors."""
    width = outcome.workload.width
    for job in jobs:
        yield outcome.start_ms[job] // 1_000, outcome.end_ms[job] // 1_000, width[job]


def _waits(outcome: Outcome, jobs: Iterable[int]) -> Iterable[Interval]:
    """When the jobs waited for how many processors: from submission to the last start."""
    workload = outcome.workload
    for job in jobs:
        yield workload.submit_s[job], outcome.start_ms[job] // 1_000, workload.width[job]


def _flows(outcome: Outcome) -> dict[str, dict[str, int]]:
    """Processor-seconds of last runs, by home and host."""
    workload = outcome.workload
    names = workload.centres
    found: dict[str, dict[str, int]] = {a: dict.fromkeys(names, 0) for a in names}
    for job, where in enumerate(outcome.where):
        lasted_ms = outcome.end_ms[job] - outcome.start_ms[job]
        work_s = lasted_ms * workload.width[job] // 1_000
        found[names[workload.home[job]]][names[where]] += work_s
    return found


def _mean_s(values_ms: Sequence[int]) -> float:
    """The mean in seconds, rounded down to the millisecond."""
    return sum(values_ms) // len(values_ms) / 1_000 if values_ms else 0.0


def _ppm(part: int, whole: int) -> int:
    return part * 1_000_000 // whole if whole > 0 else 0
