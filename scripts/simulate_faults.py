"""What `scripts/simulate-faults` runs: many trials in parallel, or one again with its trace."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from itertools import islice

from p2pfed.simulate.hardship.trial import Outcome, Plan, draw_plan, run_trial, shrink

HOUR_MS = 3_600_000
_MESSAGES = ("Send", "SendStored", "SendNamed", "Dial", "CloseLink", "StoreBlocks", "Note")


def main(arguments: list[str]) -> int:
    """Returns 1 if a trial broke something."""
    options = _parse(arguments)
    if options.seed is not None:
        return _replay(options)
    first, _, last = options.seeds.partition("..")
    seeds = range(int(first), int(last or first) + 1)
    begun, end_s = time.monotonic(), options.minutes * 60
    done, world_ms, runs, broken = 0, 0, 0, []
    with ProcessPoolExecutor(options.workers) as pool:
        for outcome in _trials(pool, seeds, options.workers):
            done += 1
            world_ms += outcome.simulated_ms
            runs += outcome.runs
            if outcome.broken:
                broken.append(outcome)
                print(f"BROKEN  {outcome.broken}\n        {outcome.plan.command()}", flush=True)
            if time.monotonic() - begun > end_s:
                break
        pool.shutdown(cancel_futures=True)
    print(
        f"{done} federations, {runs} native jobs, {world_ms / HOUR_MS:.2f} federation-hours, "
        f"{len(broken)} broken, {time.monotonic() - begun:.0f} s"
    )
    for outcome in broken[:3]:
        smallest = shrink(outcome)
        print(f"shrunk: {smallest.broken}\n        {smallest.plan.command()}", flush=True)
    return 1 if broken else 0


def _trials(pool: ProcessPoolExecutor, seeds: range, workers: int) -> Iterator[Outcome]:
    """The outcomes in the order of the seeds; no more seeds are begun than workers wait for."""
    left = iter(seeds)
    waiting = [pool.submit(_trial, seed) for seed in islice(left, 2 * workers)]
    while waiting:
        yield waiting.pop(0).result()
        waiting += [pool.submit(_trial, seed) for seed in islice(left, 1)]


def _trial(seed: int) -> Outcome:
    return run_trial(draw_plan(seed))


def _replay(options: argparse.Namespace) -> int:
    plan = draw_plan(options.seed)
    if options.centres is not None:
        kinds = tuple(options.kinds.split(",")) if options.kinds != "none" else ()
        plan = Plan(
            seed=plan.seed,
            centres=options.centres,
            jobs=options.jobs,
            seconds=options.seconds,
            kinds=kinds,
        )
    outcome = run_trial(plan, tell=print if options.all else _tell)
    print(f"trace {outcome.trace}")
    print(outcome.broken or "nothing broke")
    return 1 if outcome.broken else 0


def _tell(line: str) -> None:
    """Prints what a reader of the story wants to know: not each message."""
    if line.rsplit(" ", 1)[-1] not in _MESSAGES:
        print(line)


def _parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="scripts/simulate-faults")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--seeds", help="A..B: these seeds, both included")
    what.add_argument("--seed", type=int, help="one seed, with its trace")
    parser.add_argument("--minutes", type=int, default=1, help="how long to go on with --seeds")
    parser.add_argument("--seconds", type=int, default=30, help="how long faults last with --seed")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--all", action="store_true", help="tell of messages, too, with --seed")
    parser.add_argument("--centres", type=int)
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--kinds", default="none", help="faults, by comma")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
