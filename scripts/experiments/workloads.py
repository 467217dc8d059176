#!/usr/bin/env python3
"""Replays five real traces under many rules and templates: the figures of the experiments page.

    .venv/bin/python scripts/experiments/workloads.py [--traces DIR] [--jobs N] [NAME ...]

Without names all experiments run, about an hour on one core; names choose some of them
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
    return Result(
        case=case,
        names=workload.centres,
        comparison=compare(isolated, federated, run_ideal(workload), warmup_s),
        classes=tuple(size_classes(isolated, federated, warmup_s)),
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
    for seed in SEEDS[:2]:
        for label, checkpoints, to_shadow, long_share in (
            ("killed, to the shadow", False, True, 1.0),
            ("killed, all idle", False, False, 1.0),
            ("killed, to the shadow, long guests on 0.5", False, True, 0.5),
            ("killed, to the shadow, long guests on 0.25", False, True, 0.25),
            ("checkpointed, to the shadow", True, True, 1.0),
            ("checkpointed, all idle", True, False, 1.0),
        ):
            policy = replace(PREEMPTIBLE, to_shadow=to_shadow, long_share=long_share)
            options = FederationOptions(policy=policy, checkpoints=checkpoints)
            yield Case(label=label, seed=seed, options=options)


def templates(_: Sequence[str]) -> Iterator[Case]:
    """One thing of the offer template changed at a time; compare with the defaults, seed 1."""
    for seed in SEEDS[:1]:
        for label, options in (
            ("all idle, not to the shadow", with_policy(to_shadow=False)),
            ("nothing beyond the shadow", with_policy(beyond_shadow=False)),
            ("long guests anywhere", with_policy(long_share=1.0)),
            ("long guests on 0.4", with_policy(long_share=0.4)),
            ("long guests on 0.33", with_policy(long_share=0.33)),
            ("long guests on 0.25", with_policy(long_share=0.25)),
            ("no long guests", with_policy(long_share=0.0)),
            ("long is above 4 h", with_policy(long_s=14_400)),
            ("share 0.5", with_policy(share=0.5)),
            ("8 kept free", with_policy(kept_free=8)),
            ("export after 5 min", with_policy(after_wait_s=300)),
            ("export after 1 h", with_policy(after_wait_s=3_600)),
        ):
            yield Case(label=label, seed=seed, options=options)


def rules(_: Sequence[str]) -> Iterator[Case]:
    """One rule changed at a time; compare with the defaults, seed 1."""
    for seed in SEEDS[:1]:
        for label, options in (
            ("reserve_depth 0", with_rules(reserve_depth=0)),
            ("reserve_depth 8", with_rules(reserve_depth=8)),
            ("round 60 s", with_rules(round_ms=60_000)),
            ("round 300 s", with_rules(round_ms=300_000)),
            ("balance_points 0", with_rules(balance_points=0)),
            ("balance_points 5000", with_rules(balance_points=5_000)),
            ("min_balance -1000000 (off)", with_rules(min_balance=-1_000_000)),
            ("min_balance -250000", with_rules(min_balance=-250_000)),
            ("min_balance 0", with_rules(min_balance=0)),
        ):
            yield Case(label=label, seed=seed, options=options)


def groups(names: Sequence[str]) -> Iterator[Case]:
    """Every pair and every triple of the centres."""
    for size in (2, 3):
        for only in combinations(names, size):
            yield Case(label=" + ".join(only), only=only)


def riders(names: Sequence[str]) -> Iterator[Case]:
    """Each centre in turn only consumes, with the default debt limit and without any."""
    yield Case(label="all honest")
    for label, min_balance in (("-500000", -500_000), ("none", -1_000_000)):
        for name in names:
            options = with_rules(min_balance=min_balance)
            options = replace(options, policies={name: CentrePolicy.free_rider()})
            yield Case(label=f"{name} rides, debt limit {label}", options=options)
    for name in names:
        others = tuple(other for other in names if other != name)
        yield Case(label=f"without {name}", only=others)


def credit(names: Sequence[str]) -> Iterator[Case]:
    """Longer credit lines, if all are honest and if the first centre only consumes."""
    for days in (0.25, 0.5, 1.0):
        options = FederationOptions(credit_days=days)
        yield Case(label=f"credit of {days} d", options=options)
        options = replace(options, policies={names[0]: CentrePolicy.free_rider()})
        yield Case(label=f"credit of {days} d, {names[0]} rides", options=options)


def caps(names: Sequence[str]) -> Iterator[Case]:
    """Pairs again, with smaller parts of both machines for long guests."""
    for long_share in (0.25, 0.33, 0.4):
        for only in combinations(names, 2):
            label = f"{' + '.join(only)}, long guests on {long_share}"
            yield Case(label=label, only=only, options=with_policy(long_share=long_share))


def loads(_: Sequence[str]) -> Iterator[Case]:
    """Submit times compressed."""
    for load in (1.2, 1.5):
        yield Case(label=f"load {load}", load=load)
        options = FederationOptions(policy=PREEMPTIBLE)
        yield Case(label=f"load {load}, preemptible", load=load, options=options)


EXPERIMENTS: dict[str, Callable[[Sequence[str]], Iterator[Case]]] = {
    one.__name__: one
    for one in (defaults, templates, rules, preemptible, groups, caps, riders, credit, loads)
}


# What is printed


def percent(value: float | None) -> str:
    """A part as a percentage."""
    return "–" if value is None else f"{value * 100:.1f}"


def row(result: Result) -> str:
    """The line of one replay."""
    compared, names = result.comparison, result.names
    worse = ", ".join(f"{names[c.centre]} {c.label}" for c in result.classes if c.worse)
    ratios = " ".join(f"{result.ratio(centre):.2f}" for centre in range(len(names)))
    return (
        f"| {result.case.label} | {result.case.seed} | {compared.federated.mean_wait_s:,.0f} "
        f"| {percent(compared.way_wait)} | {percent(compared.way_slowdown)} "
        f"| {percent(compared.wait_cut)} | {ratios} | {worse or '–'} "
        f"| {percent(compared.federated.wasted)} | {compared.federated.exported:,} "
        f"| {compared.federated.delayed} |"
    )


HEAD = """\
| case | seed | mean wait, s | way, wait | way, slowdown | wait cut | × alone, by centre \
| classes worse | wasted | exported | held up |
| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"""


def summarise_groups(results: Sequence[Result]) -> None:
    """The medians over groups of one size."""
    for size in (2, 3):
        same = [result for result in results if len(result.case.only) == size]
        ways = [w for w in (result.comparison.way_wait for result in same) if w is not None]
        if ways:
            worst = [max(map(result.ratio, range(size))) for result in same]
            print(
                f"\nGroups of {size}: median {percent(median(ways))} of the way in mean wait, "
                f"least {percent(min(ways))}; a centre waits longer than alone in "
                f"{sum(ratio > 1 for ratio in worst)} of {len(same)}."
            )


def summarise_seeds(results: Sequence[Result]) -> None:
    """Means and least values over the seeds of each label."""
    for label in dict.fromkeys(result.case.label for result in results):
        same = [result.comparison for result in results if result.case.label == label]
        if len(same) < 2:
            continue
        waits = [one.way_wait or 0.0 for one in same]
        slowdowns = [one.way_slowdown or 0.0 for one in same]
        cuts = [one.wait_cut or 0.0 for one in same]
        print(
            f"\n{label}: way in wait {percent(fmean(waits))} (least {percent(min(waits))}), "
            f"in slowdown {percent(fmean(slowdowns))} (least {percent(min(slowdowns))}), "
            f"wait cut {percent(fmean(cuts))}."
        )


def summarise_riders(results: Sequence[Result]) -> None:
    """What riding gains, what honesty does, and what it costs the others."""
    honest = results[0]
    without = {r.case.label: r.comparison.wait_cut for r in results if r.case.only}
    print(
        "\n| case | rider's cut | as an honest centre | others' cut | with it honest | without it "
        "| its satisfaction if honest | if it rides |"
    )
    print("| --- | --- | --- | --- | --- | --- | --- | --- |")
    for result in results:
        for name in result.case.options.policies:
            rider = result.names.index(CentreName(name))
            print(
                f"| {result.case.label} | {percent(1 - result.ratio(rider))} "
                f"| {percent(1 - honest.ratio(rider))} | {percent(others_cut(result, rider))} "
                f"| {percent(others_cut(honest, rider))} | {percent(without[f'without {name}'])} "
                f"| {satisfaction(honest, rider)} | {satisfaction(result, rider)} |"
            )


def satisfaction(result: Result, centre: int) -> str:
    """A centre's satisfaction in the federation, in percent."""
    return percent(result.comparison.centres[centre][1].satisfaction)


def others_cut(result: Result, rider: int) -> float:
    """By which part all centres but one wait less than alone, over all their jobs."""
    rest = [one for centre, one in enumerate(result.comparison.centres) if centre != rider]
    before = sum(isolated.mean_wait_s * isolated.jobs for isolated, _, _ in rest)
    after = sum(federated.mean_wait_s * federated.jobs for _, federated, _ in rest)
    return 1 - after / before


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
        print(HEAD)
        results = []
        with Pool(given.jobs) as pool:
            for result in pool.imap(replay, [(traces, case) for case in cases]):
                results.append(result)
                print(row(result), flush=True)
        summarise_seeds(results)
        summarise_groups(results)
        if name == "riders":
            summarise_riders(results)
        print(flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
