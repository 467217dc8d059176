"""The report as values: what the JSON document holds, field by field, and what the pages draw.

docs/reference/simulate.md describes every field for readers; a test holds both together. Durations
are seconds (waits and means to the millisecond), amounts processor-seconds, rates parts per
million. Medians and percentiles are waits that jobs really had (nearest rank).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Final

FORMAT: Final = 1
"""Of the JSON document; rises when a field changes its meaning or goes."""

WORLDS: Final = ("isolated", "federated", "ideal")
"""Each centre alone; under p2pfed; one queue over all machines."""

QUANTILES: Final = 200
"""Steps of a waiting time distribution."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How the jobs of one centre, or of all, fared in one world.

    Attributes:
        jobs: jobs counted: submitted after the warm-up.
        wait_mean_s, wait_median_s, wait_p95_s: time from submission to end in which a job did no
            lasting work.
        slowdown_mean: bounded slowdown, run times below 10 s counted as 10 s (Feitelson et al.).
        satisfaction_ppm: mean of its inverse: 1 000 000 if no job waited.
        utilisation_ppm: used processor time over all there was, between the warm-up's end and the
            last submission.
    """

    jobs: int
    wait_mean_s: float
    wait_median_s: float
    wait_p95_s: float
    slowdown_mean: float
    satisfaction_ppm: int
    utilisation_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeClass:
    """Jobs of one centre by their size.

    Attributes:
        name: `narrow` up to a quarter of the home machine, `medium` up to half, `wide` above.
        jobs: how many there are.
        wait_mean_s, wait_p95_s: by world.
        worse: in the federated world the 95th percentile is longer by more than 15 minutes and more
            than 10 %; never of fewer than 20 jobs, where one decides.
    """

    name: str
    jobs: int
    wait_mean_s: Mapping[str, float]
    wait_p95_s: Mapping[str, float]
    worse: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A centre's account at one time of the federated world.

    Attributes:
        at_s: seconds since the replay's beginning.
        contribution, usage: decayed points.
        balance_ppm: what they come to, -1 000 000 to 1 000 000.
    """

    at_s: int
    contribution: int
    usage: int
    balance_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Activity:
    """One centre's machine and queue over time: means over equal steps.

    Attributes:
        step_s: the length of a step.
        isolated: processors in use if the centre is alone.
        own, guests: processors in use under p2pfed, by jobs of this centre and of others.
        queue_isolated, queue_federated: processors that this centre's waiting jobs ask for.
    """

    step_s: int
    isolated: tuple[float, ...]
    own: tuple[float, ...]
    guests: tuple[float, ...]
    queue_isolated: tuple[float, ...]
    queue_federated: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreReport:
    """One centre's part of the report.

    Attributes:
        centre: its name.
        processors: its size.
        load_ppm: processor time that its jobs asked for by running, over all that it had.
        worlds: its own jobs, by world.
        classes: its own jobs by size.
        exported: its jobs that ran elsewhere; hosted: others' jobs that ran here.
        exported_s, hosted_s: the processor-seconds of these jobs' last runs.
        return_ppm: the one over the other: what it got for what it gave; None if it gave nothing.
        delayed: its own jobs that stood first in its queue and would have begun but for guests.
        delayed_mean_s, delayed_max_s: for how long, over those jobs.
        preempted: runs of its jobs that other centres cut short.
        wasted_s: processor-seconds of its jobs that were so lost.
        accounts: over time.
        activity: over time.
        wait_quantiles: by world, the waits of its own jobs at 0, 0.5 … 100 percent.
    """

    centre: str
    processors: int
    load_ppm: int
    worlds: Mapping[str, Figures]
    classes: tuple[SizeClass, ...]
    exported: int
    hosted: int
    exported_s: int
    hosted_s: int
    return_ppm: int | None
    delayed: int
    delayed_mean_s: float
    delayed_max_s: float
    preempted: int
    wasted_s: int
    accounts: tuple[Account, ...]
    activity: Activity
    wait_quantiles: Mapping[str, tuple[float, ...]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """Everything that one replay found.

    Attributes:
        title: what was replayed, for headings.
        options: what was asked for, as the command line says it.
        length_s: from the beginning to the last submission.
        warmup_s: jobs submitted before this are simulated but not counted.
        worlds: the jobs of all centres, by world.
        way_wait_ppm, way_slowdown_ppm: how much of the way from isolated to ideal the federation
            goes; None if both are equal. More than 1 000 000 where it beats one common queue.
        fairness_ppm: by world, how alike the centres' users are satisfied: Jain's index.
        wasted_ppm: processor time lost to preemption, of all there was.
        flows: processor-seconds by home and host.
        centres: in the order given.
    """

    title: str
    options: Mapping[str, object]
    length_s: int
    warmup_s: int
    worlds: Mapping[str, Figures]
    way_wait_ppm: int | None
    way_slowdown_ppm: int | None
    fairness_ppm: Mapping[str, int]
    wasted_ppm: int
    flows: Mapping[str, Mapping[str, int]]
    centres: tuple[CentreReport, ...]

    @property
    def traces(self) -> Mapping[str, str]:
        """What was read of each centre, in words: jobs, processors, what was left out."""
        found = self.options.get("traces", {})
        return found if isinstance(found, dict) else {}

    def to_json(self) -> dict[str, object]:
        """The document that `p2pfed simulate --json` prints."""
        return {"format": FORMAT, **asdict(self)}
