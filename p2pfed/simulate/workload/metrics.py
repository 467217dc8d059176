"""What outcomes mean: waits, slowdowns, utilisation, and how far a federation gets.

Waiting times are in seconds, jobs are counted by their home. A warm-up can be left out: jobs that
came in it are replayed, but not counted (what ran and waited at a log's beginning is not in it, so
the first days look emptier than they were).

The *bounded slowdown* of a job is `max(1, (end - submission) / max(run time, 10 s))` (Feitelson et
al., "Theory and practice in parallel job scheduling", JSSPP 1997), its run time being that at home.
The *way* is `(isolated - federated) / (isolated - ideal)` of a mean: 0 is no gain, 1 what the ideal
world gets; it can be more. Quantiles are by nearest rank: a value that occurred.

The *satisfaction* of a centre's users is the mean of `1 / bounded slowdown` over its jobs: 1 if all
of them ran at once, 0.5 if they waited for as long as they ran. Unlike a mean wait it is not ruled
by the few that wait longest. *Fairness* between centres is Jain's index of their satisfactions
(Jain, Chiu, Hawe, DEC-TR-301, 1984): 1 if all users are served alike, `1/n` if those of one centre
get everything.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean

from p2pfed.simulate.workload.outcome import Outcome

BOUND_S = 10
"""Run times below this count as this in a slowdown."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Summary:
    """The jobs of a centre, or of all, in one world; and what its machine did.

    Attributes:
        jobs: how many are counted; the means of none are 0.
        mean_wait_s: waiting time: mean, and
        median_wait_s: median, and
        p95_wait_s: 95th percentile.
        slowdown: mean bounded slowdown.
        satisfaction: mean of its inverse; 1 if there are no jobs.
        exported: counted jobs that ran at another centre.
        hosted: counted jobs of others that ran here (of all: the same as exported).
        hosted_core_s: their processor-seconds.
        exported_core_s: processor-seconds that counted jobs used elsewhere.
        utilisation: the part of the machine that was busy with runs that were not lost, from the
            end of the warm-up to the last submission.
        wasted: the part of the machine's capacity in this time that lost runs took (of all guests
            of all machines, if of all; runs are counted at the job's home).
        requeues: how often counted jobs were cut short.
        delayed: counted jobs that guests held up at the head of their queue.
        delay_mean_s: by how much, on average over those.
        delay_max_s: by how much at most.
    """

    jobs: int
    mean_wait_s: float
    median_wait_s: float
    p95_wait_s: float
    slowdown: float
    satisfaction: float
    exported: int
    hosted: int
    hosted_core_s: int
    exported_core_s: int
    utilisation: float
    wasted: float
    requeues: int
    delayed: int
    delay_mean_s: float
    delay_max_s: float


def wait_s(outcome: Outcome, job: int) -> float:
    """How long a job waited."""
    return outcome.wait_ms[job] / 1_000


def bounded_slowdown(outcome: Outcome, job: int) -> float:
    """A job's bounded slowdown."""
    workload = outcome.workload
    response_s = outcome.end_ms[job] / 1_000 - workload.submit_s[job]
    return max(1.0, response_s / max(workload.run_s[job], BOUND_S))


def counted(outcome: Outcome, centre: int | None = None, warmup_s: int = 0) -> list[int]:
    """The jobs of a centre (None: of all) that came after the warm-up."""
    workload = outcome.workload
    return [
        job
        for job, home in enumerate(workload.home)
        if workload.submit_s[job] >= warmup_s and centre in (None, home)
    ]


def quantile(ordered: Sequence[float], part: float) -> float:
    """The value at this part (0 to 1) of an ascending sequence, by nearest rank; 0 of none."""
    if not ordered:
        return 0.0
    rank = -int(-part * len(ordered) // 1)
    return ordered[max(0, min(len(ordered), rank) - 1)]


def summarise(outcome: Outcome, centre: int | None = None, warmup_s: int = 0) -> Summary:
    """A summary of one centre (its index), or of all (None)."""
    workload = outcome.workload
    jobs = counted(outcome, centre, warmup_s)
    waits = sorted(wait_s(outcome, job) for job in jobs)
    slowdowns = [bounded_slowdown(outcome, job) for job in jobs]
    away = [job for job in jobs if outcome.where[job] != workload.home[job]]
    everyone = jobs if centre is None else counted(outcome, None, warmup_s)
    guests = [
        job
        for job in everyone
        if outcome.where[job] != workload.home[job] and centre in (None, outcome.where[job])
    ]
    delays = [outcome.delayed_ms[job] / 1_000 for job in jobs if outcome.delayed_ms[job:]]
    delays = [delay for delay in delays if delay > 0]
    capacity = _capacity_core_s(outcome, centre, warmup_s)
    wasted = sum(outcome.wasted_s[job] for job in jobs) if outcome.wasted_s else 0
    return Summary(
        jobs=len(jobs),
        mean_wait_s=fmean(waits) if waits else 0.0,
        median_wait_s=quantile(waits, 0.5),
        p95_wait_s=quantile(waits, 0.95),
        slowdown=fmean(slowdowns) if jobs else 0.0,
        satisfaction=fmean(1 / slowdown for slowdown in slowdowns) if jobs else 1.0,
        exported=len(away),
        hosted=len(guests),
        hosted_core_s=sum(_core_s(outcome, job) for job in guests),
        exported_core_s=sum(_core_s(outcome, job) for job in away),
        utilisation=_busy_core_s(outcome, centre, warmup_s) / capacity,
        wasted=wasted / capacity,
        requeues=sum(outcome.requeues[job] for job in jobs) if outcome.requeues else 0,
        delayed=len(delays),
        delay_mean_s=fmean(delays) if delays else 0.0,
        delay_max_s=max(delays, default=0.0),
    )


def _core_s(outcome: Outcome, job: int) -> int:
    ran_ms = outcome.end_ms[job] - outcome.start_ms[job]
    return ran_ms * outcome.workload.width[job] // 1_000


def span_s(outcome: Outcome, warmup_s: int) -> int:
    """The time from the end of the warm-up to the last submission, at least 1 s."""
    submit_s = outcome.workload.submit_s
    return max(1, (submit_s[-1] if submit_s else 0) - warmup_s)


def _capacity_core_s(outcome: Outcome, centre: int | None, warmup_s: int) -> int:
    procs = outcome.workload.procs
    return span_s(outcome, warmup_s) * (sum(procs) if centre is None else procs[centre])


def _busy_core_s(outcome: Outcome, centre: int | None, warmup_s: int) -> float:
    """Processor-seconds of runs within the time that is counted."""
    begin, end = warmup_s * 1_000, (warmup_s + span_s(outcome, warmup_s)) * 1_000
    width = outcome.workload.width
    busy_ms = sum(
        max(0, min(outcome.end_ms[job], end) - max(outcome.start_ms[job], begin)) * width[job]
        for job, where in enumerate(outcome.where)
        if centre in (None, where)
    )
    return busy_ms / 1_000


def way(isolated: float, federated: float, ideal: float) -> float | None:
    """The share of the way from isolated to ideal; None if there is no way to go."""
    return (isolated - federated) / (isolated - ideal) if isolated > ideal else None


def fairness(satisfactions: Sequence[float]) -> float:
    """Jain's index of what centres get: `(sum x)^2 / (n sum x^2)`, 1/n to 1; 1 of nothing."""
    squares = sum(value * value for value in satisfactions)
    return sum(satisfactions) ** 2 / (len(satisfactions) * squares) if squares else 1.0


def cut(isolated: float, federated: float) -> float | None:
    """By which part a wait was reduced (negative: it grew); None if there was none."""
    return 1 - federated / isolated if isolated > 0 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Three worlds of one workload; `centres` follow the workload's order."""

    isolated: Summary
    federated: Summary
    ideal: Summary
    centres: tuple[tuple[Summary, Summary, Summary], ...]

    @property
    def way_wait(self) -> float | None:
        """The way in mean wait."""
        return way(self.isolated.mean_wait_s, self.federated.mean_wait_s, self.ideal.mean_wait_s)

    @property
    def way_slowdown(self) -> float | None:
        """The way in mean bounded slowdown."""
        return way(self.isolated.slowdown, self.federated.slowdown, self.ideal.slowdown)

    @property
    def wait_cut(self) -> float | None:
        """By which part the federation reduces the mean wait of all."""
        return cut(self.isolated.mean_wait_s, self.federated.mean_wait_s)


def compare(isolated: Outcome, federated: Outcome, ideal: Outcome, warmup_s: int = 0) -> Comparison:
    """Summaries of all centres together and of each, in (isolated, federated, ideal)."""
    worlds = (isolated, federated, ideal)
    centres = range(len(isolated.workload.procs))
    whole = [summarise(world, None, warmup_s) for world in worlds]
    return Comparison(
        isolated=whole[0],
        federated=whole[1],
        ideal=whole[2],
        centres=tuple(
            (
                summarise(isolated, centre, warmup_s),
                summarise(federated, centre, warmup_s),
                summarise(ideal, centre, warmup_s),
            )
            for centre in centres
        ),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClass:
    """Jobs of one centre of about one width, in two worlds.

    Attributes:
        centre: index.
        label: `narrow` up to a quarter of the home's machine, `medium` up to half, `wide` above.
        worse: the 95th percentile of the wait grew by more than 15 minutes and more than 10 %.
    """

    centre: int
    label: str
    jobs: int
    isolated_p95_s: float
    federated_p95_s: float
    worse: bool


SIZE_CLASSES = (("narrow", 0.0, 0.25), ("medium", 0.25, 0.5), ("wide", 0.5, 1.0))
_SLACK_S, _SLACK_PART = 900, 0.10


def size_classes(
    isolated: Outcome, federated: Outcome, warmup_s: int = 0, least_jobs: int = 20
) -> list[SizeClass]:
    """Every class of at least `least_jobs` jobs, by centre and width."""
    workload = isolated.workload
    found = []
    for centre, procs in enumerate(workload.procs):
        jobs = counted(isolated, centre, warmup_s)
        for label, above, up_to in SIZE_CLASSES:
            members = [j for j in jobs if above * procs < workload.width[j] <= up_to * procs]
            if len(members) < least_jobs:
                continue
            before = quantile(sorted(wait_s(isolated, job) for job in members), 0.95)
            after = quantile(sorted(wait_s(federated, job) for job in members), 0.95)
            slack_s = max(_SLACK_S, before * _SLACK_PART)
            found.append(
                SizeClass(
                    centre=centre,
                    label=label,
                    jobs=len(members),
                    isolated_p95_s=before,
                    federated_p95_s=after,
                    worse=after > before + slack_s,
                )
            )
    return found
