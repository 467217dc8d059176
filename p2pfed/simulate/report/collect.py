"""From what happened to each job to the report's values.

Waits count for the jobs that came after the warm-up, because a replay begins with empty machines;
levels over time and flows count everything. What the figures mean is defined in `workload.metrics`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Final

from p2pfed.simulate.report.curves import Interval, mean_levels, quantiles, step_of
from p2pfed.simulate.report.model import (
    WORLDS,
    Account,
    Activity,
    CentreReport,
    Figures,
    Report,
    SizeClass,
)
from p2pfed.simulate.workload.metrics import (
    SIZE_CLASSES,
    Summary,
    counted,
    fairness,
    quantile,
    size_classes,
    span_s,
    summarise,
    wait_s,
    way,
)
from p2pfed.simulate.workload.outcome import Outcome

STEPS: Final = 240
"""Parts of the replay that levels are averaged over: what a picture can show."""
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
    whole = {w: summarise(outcomes[w], None, warmup_s) for w in WORLDS}
    worse = {
        (part.centre, part.label)
        for part in size_classes(outcomes["isolated"], outcomes["federated"], warmup_s)
        if part.worse
    }
    centres = tuple(
        _centre(outcomes, centre, warmup_s, worse) for centre in range(len(workload.centres))
    )
    return Report(
        title=title,
        options=options,
        length_s=workload.submit_s[-1] if len(workload) else 0,
        warmup_s=warmup_s,
        worlds={world: _figures(summary) for world, summary in whole.items()},
        way_wait_ppm=_way_ppm(*(whole[world].mean_wait_s for world in WORLDS)),
        way_slowdown_ppm=_way_ppm(*(whole[world].slowdown for world in WORLDS)),
        fairness_ppm={
            world: _ppm(fairness([c.worlds[world].satisfaction_ppm / 1_000_000 for c in centres]))
            for world in WORLDS
        },
        wasted_ppm=_ppm(whole["federated"].wasted),
        flows=_flows(outcomes["federated"]),
        centres=centres,
    )


def _centre(
    outcomes: Outcomes, centre: int, warmup_s: int, worse: set[tuple[int, str]]
) -> CentreReport:
    federated = outcomes["federated"]
    workload = federated.workload
    own = counted(federated, centre, warmup_s)
    procs, length_s = workload.procs[centre], workload.submit_s[-1]
    summaries = {world: summarise(outcomes[world], centre, warmup_s) for world in WORLDS}
    found = summaries["federated"]
    work_s = sum(workload.run_s[job] * workload.width[job] for job in own)
    return CentreReport(
        centre=workload.centres[centre],
        processors=procs,
        load_ppm=_ppm(work_s / (procs * span_s(federated, warmup_s))),
        worlds={world: _figures(summary) for world, summary in summaries.items()},
        classes=tuple(_classes(outcomes, centre, own, worse)),
        exported=found.exported,
        hosted=found.hosted,
        exported_s=found.exported_core_s,
        hosted_s=found.hosted_core_s,
        return_ppm=_ppm(found.exported_core_s / found.hosted_core_s)
        if found.hosted_core_s
        else None,
        delayed=found.delayed,
        delayed_mean_s=round(found.delay_mean_s, 3),
        delayed_max_s=found.delay_max_s,
        preempted=found.requeues,
        wasted_s=sum(federated.wasted_s[job] for job in own) if federated.wasted_s else 0,
        accounts=tuple(
            Account(
                at_s=s.time_s, contribution=s.contribution, usage=s.usage, balance_ppm=s.balance_ppm
            )
            for s in federated.balances
            if s.centre == centre
        ),
        activity=_activity(outcomes, centre, length_s),
        wait_quantiles={
            world: quantiles(wait_s(outcomes[world], job) for job in own) for world in WORLDS
        },
    )


def _figures(summary: Summary) -> Figures:
    return Figures(
        jobs=summary.jobs,
        wait_mean_s=round(summary.mean_wait_s, 3),
        wait_median_s=summary.median_wait_s,
        wait_p95_s=summary.p95_wait_s,
        slowdown_mean=round(summary.slowdown, 3),
        satisfaction_ppm=_ppm(summary.satisfaction),
        utilisation_ppm=_ppm(summary.utilisation),
    )


def _classes(
    outcomes: Outcomes, centre: int, own: Sequence[int], worse: set[tuple[int, str]]
) -> Iterable[SizeClass]:
    workload = outcomes["isolated"].workload
    processors = workload.procs[centre]
    for name, above, upto in SIZE_CLASSES:
        jobs = [j for j in own if above * processors < workload.width[j] <= upto * processors]
        waits = {w: sorted(wait_s(o, job) for job in jobs) for w, o in outcomes.items()}
        yield SizeClass(
            name=name,
            jobs=len(jobs),
            wait_mean_s={w: round(fmean(v), 3) if v else 0.0 for w, v in waits.items()},
            wait_p95_s={w: quantile(v, 0.95) for w, v in waits.items()},
            worse=(centre, name) in worse,
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


def _ppm(part: float) -> int:
    return round(part * 1_000_000)


def _way_ppm(isolated: float, federated: float, ideal: float) -> int | None:
    part = way(isolated, federated, ideal)
    return None if part is None else _ppm(part)
