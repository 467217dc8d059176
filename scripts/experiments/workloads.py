#!/usr/bin/env python3
"""Replays five real traces under many rules and templates: the figures of the experiments page.

    .venv/bin/python scripts/experiments/workloads.py [--traces DIR] [--jobs N] [NAME ...]

Without names all experiments run, about an hour and a half on one core; names choose some of them
(`--list` shows them). Each prints a Markdown table, as in docs/explanation/experiments.md.

The traces are SWF files of one folder, one per centre: `--traces`, else the folder `traces` of
`$P2PFED_SHARED` or of `../shared` beside the repository. Jobs of the first week are not counted.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations
from multiprocessing import Pool
from pathlib import Path
from statistics import fmean, median

from p2pfed.core.ids import CentreName
from p2pfed.core.rules import Rules
from p2pfed.simulate.workload import (
    PREEMPTIBLE,
    CentrePolicy,
    Comparison,
    FederationOptions,
    Shaping,
    SizeClass,
    Trace,
    compare,
    make_workload,
    read_trace,
    run_federated,
    run_ideal,
    run_isolated,
    size_classes,
)

WEEK_S = 7 * 86_400
SEEDS = (1, 2, 3, 4, 5)
_HOME = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """One replay."""

    label: str
    seed: int = 1
    only: tuple[str, ...] = ()
    load: float = 1.0
    options: FederationOptions = field(default_factory=FederationOptions)


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What a replay gave; `names` are the centres in the order of `comparison.centres`."""

    case: Case
    names: tuple[CentreName, ...]
    comparison: Comparison
    classes: tuple[SizeClass, ...]
    lowest_ppm: tuple[int, ...]

    def ratio(self, centre: int) -> float:
        """A centre's mean wait, as part of what it was alone."""
        before, after, _ = self.comparison.centres[centre]
        return after.mean_wait_s / before.mean_wait_s if before.mean_wait_s else 1.0


def replay(task: tuple[Sequence[Trace], Case]) -> Result:
    """Runs the three worlds of a case."""
    traces, case = task
    workload = make_workload(traces, Shaping(jitter_s=120, seed=case.seed, load=case.load))
    if case.only:
        workload = workload.only(case.only)
    isolated = run_isolated(workload)
    federated = run_federated(workload, case.options)
    warmup_s = int(WEEK_S / case.load)
    lowest = [0] * len(workload.centres)
    for sample in federated.balances:
        lowest[sample.centre] = min(lowest[sample.centre], sample.balance_ppm)
    return Result(
        case=case,
        names=workload.centres,
        comparison=compare(isolated, federated, run_ideal(workload), warmup_s),
        classes=tuple(size_classes(isolated, federated, warmup_s)),
        lowest_ppm=tuple(lowest),
    )


def with_policy(**changes: float | bool) -> FederationOptions:
    """The defaults, with another policy for all."""
    return FederationOptions(policy=replace(CentrePolicy(), **changes))  # type: ignore[arg-type]


def with_rules(**changes: int) -> FederationOptions:
    """The defaults, with other rules."""
    return FederationOptions(rules=Rules.from_mapping(dict(changes)))


# The experiments: what is run


def defaults(_: Sequence[str]) -> Iterator[Case]:
    """The shipped template and rules."""
    for seed in SEEDS:
        yield Case(label="defaults", seed=seed)


def preemptible(_: Sequence[str]) -> Iterator[Case]:
    """Guests that give way, started again or going on from a checkpoint."""
    for seed in SEEDS[:3]:
        for label, checkpoints in (("killed", False), ("checkpointed", True)):
            for shadow in (True, False):
                policy = replace(PREEMPTIBLE, to_shadow=shadow)
                for capped in (1.0, 0.5, 0.25):
                    yield Case(
                        label=f"{label}, {'to the shadow' if shadow else 'all idle'},"
                        f" long guests {capped}",
                        seed=seed,
                        options=FederationOptions(
                            policy=replace(policy, long_share=capped), checkpoints=checkpoints
                        ),
                    )


def templates(_: Sequence[str]) -> Iterator[Case]:
    """One thing of the offer template changed at a time."""
    for seed in SEEDS[:2]:
        for label, options in (
            ("defaults", FederationOptions()),
            ("all idle, not to the shadow", with_policy(to_shadow=False)),
            ("nothing beyond the shadow", with_policy(beyond_shadow=False)),
            ("long guests anywhere", with_policy(long_share=1.0)),
            ("long guests on 0.75", with_policy(long_share=0.75)),
            ("long guests on 0.25", with_policy(long_share=0.25)),
            ("no long guests", with_policy(long_share=0.0)),
            ("long is above 4 h", with_policy(long_s=14_400)),
            ("share 0.5", with_policy(share=0.5)),
            ("share 0.25", with_policy(share=0.25)),
            ("8 kept free", with_policy(kept_free=8)),
            ("export after 1 min", with_policy(after_wait_s=60)),
            ("export after 5 min", with_policy(after_wait_s=300)),
            ("export after 1 h", with_policy(after_wait_s=3_600)),
        ):
            yield Case(label=label, seed=seed, options=options)


def rules(_: Sequence[str]) -> Iterator[Case]:
    """One rule changed at a time."""
    for seed in SEEDS[:2]:
        for label, options in (
            ("defaults", FederationOptions()),
            ("reserve_depth 0", with_rules(reserve_depth=0)),
            ("reserve_depth 2", with_rules(reserve_depth=2)),
            ("reserve_depth 8", with_rules(reserve_depth=8)),
            ("round 1 s, settle 0.3 s", with_rules(round_ms=1_000, settle_ms=300)),
            ("round 60 s", with_rules(round_ms=60_000)),
            ("round 300 s", with_rules(round_ms=300_000)),
            ("balance_points 0", with_rules(balance_points=0)),
            ("balance_points 5000", with_rules(balance_points=5_000)),
            ("min_balance -1000000", with_rules(min_balance=-1_000_000)),
            ("min_balance -250000", with_rules(min_balance=-250_000)),
            ("min_balance 0", with_rules(min_balance=0)),
            ("delay 2 s", FederationOptions(delay_ms=2_000)),
        ):
            yield Case(label=label, seed=seed, options=options)


def groups(names: Sequence[str]) -> Iterator[Case]:
    """Every pair and every triple of the centres."""
    for size in (2, 3):
        for only in combinations(names, size):
            yield Case(label=" + ".join(only), only=only)


def riders(names: Sequence[str]) -> Iterator[Case]:
    """Each centre in turn only consumes; compare with the defaults of the same seed."""
    yield Case(label="all honest")
    for label, min_balance in (("-500000", -500_000), ("none", -1_000_000)):
        for name in names:
            options = with_rules(min_balance=min_balance)
            options = replace(options, policies={name: CentrePolicy.free_rider()})
            yield Case(label=f"{name} rides, min_balance {label}", options=options)


def loads(_: Sequence[str]) -> Iterator[Case]:
    """Submit times compressed."""
    for load in (1.2, 1.5):
        for seed in SEEDS[:2]:
            yield Case(label=f"load {load}", seed=seed, load=load)
            options = FederationOptions(policy=PREEMPTIBLE)
            yield Case(label=f"load {load}, preemptible", seed=seed, load=load, options=options)


EXPERIMENTS: dict[str, Callable[[Sequence[str]], Iterator[Case]]] = {
    one.__name__: one for one in (defaults, templates, rules, preemptible, groups, riders, loads)
}


# What is printed


def percent(value: float | None) -> str:
    """A part as a percentage."""
    return "–" if value is None else f"{value * 100:.1f}"


def table(results: Sequence[Result]) -> None:
    """A line for each replay, and for each label the mean of its seeds."""
    names = results[0].names
    print(
        "| case | seed | wait s | way, wait | way, slowdown | wait cut | worst centre | "
        "classes worse | wasted | exported |"
    )
    print("| --- " * 10 + "|")
    for result in results:
        compared = result.comparison
        worst = max(range(len(result.names)), key=result.ratio)
        worse = [c for c in result.classes if c.worse]
        print(
            f"| {result.case.label} | {result.case.seed} "
            f"| {compared.federated.mean_wait_s:,.0f} "
            f"| {percent(compared.way_wait)} | {percent(compared.way_slowdown)} "
            f"| {percent(compared.wait_cut)} "
            f"| {result.names[worst]} × {result.ratio(worst):.2f} "
            f"| {', '.join(f'{result.names[c.centre]} {c.label}' for c in worse) or '–'} "
            f"of {len(result.classes)} "
            f"| {percent(compared.federated.wasted)} | {compared.federated.exported:,} |"
        )
    print()
    print(
        "| mean of the seeds | way, wait (least) | way, slowdown (least) | wait cut | "
        + " | ".join(f"{name} ×" for name in names if len(names) == len(results[-1].names))
        + " |"
    )
    print("| --- " * (4 + len(names)) + "|")
    for label in dict.fromkeys(result.case.label for result in results):
        same = [result for result in results if result.case.label == label]
        waits = [result.comparison.way_wait or 0.0 for result in same]
        slowdowns = [result.comparison.way_slowdown or 0.0 for result in same]
        cuts = [result.comparison.wait_cut or 0.0 for result in same]
        ratios = [
            f"{fmean(result.ratio(c) for result in same):.2f}" for c in range(len(same[0].names))
        ]
        print(
            f"| {label} | {percent(fmean(waits))} ({percent(min(waits))}) "
            f"| {percent(fmean(slowdowns))} ({percent(min(slowdowns))}) "
            f"| {percent(fmean(cuts))} | {' | '.join(ratios)} |"
        )
    for size in (2, 3):
        ways = [r.comparison.way_wait for r in results if len(r.case.only) == size]
        found = [one for one in ways if one is not None]
        if found:
            print(
                f"\nGroups of {size}: median {percent(median(found))} of the way in mean wait, "
                f"least {percent(min(found))}."
            )
    print(flush=True)


def main() -> int:
    """Runs the experiments that the command line names."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--traces", type=Path)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--list", action="store_true")
    given = parser.parse_args()
    if given.list:
        for name, experiment in EXPERIMENTS.items():
            print(f"{name}: {experiment.__doc__}")
        return 0
    shared = Path(os.environ.get("P2PFED_SHARED", _HOME.parent / "shared"))
    folder = given.traces or shared / "traces"
    paths = sorted(folder.glob("*.swf*"))
    if not paths:
        print(f"no traces in {folder}: give a folder of SWF files (--traces)", file=sys.stderr)
        return 2
    traces = [read_trace(path, CentreName(path.name.split(".")[0])) for path in paths]
    names = [trace.name for trace in traces]
    for name in given.names or EXPERIMENTS:
        cases = list(EXPERIMENTS[name](names))
        print(f"## {name}: {EXPERIMENTS[name].__doc__}\n", flush=True)
        with Pool(given.jobs) as pool:
            table(pool.map(replay, [(traces, case) for case in cases], chunksize=1))
    return 0


if __name__ == "__main__":
    sys.exit(main())
