"""What `scripts/prove-checks` runs: rules left out, and bugs put in, one at a time."""

from __future__ import annotations

import json
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

from p2pfed.simulate.model.search import Search
from tests.mutations.lifecycle import MUTATIONS
from tests.mutations.patched import Bug, read_bugs


def main(arguments: list[str]) -> int:
    """Returns 1 if anything was not caught; arguments pick rules and bugs by a part of their words.

    `lifecycle` or `worlds` as the first one leaves out the other half.
    """
    halves = [word for word in arguments[:1] if word in ("lifecycle", "worlds")]
    words = arguments[len(halves) :]
    missed = 0
    if "worlds" not in halves:
        missed += _leave_rules_out(words)
    if "lifecycle" not in halves:
        missed += _put_bugs_in(words)
    return 1 if missed else 0


def _leave_rules_out(words: list[str]) -> int:
    missed = 0
    for mutation in MUTATIONS:
        if _picked(mutation.rule, words):
            with mutation.applied():
                found = Search(mutation.setting, situations_max=9_000).run()
            missed += not found.breach
            word = "caught" if found.breach else "MISSED"
            told = f"{found.breach}, after {len(found.story)} steps"
            print(f"{word}  without the rule: {mutation.rule}: {told}", flush=True)
    return missed


def _put_bugs_in(words: list[str]) -> int:
    missed = 0
    bugs = [bug for bug in read_bugs() if _picked(bug.name, words)]
    with ThreadPoolExecutor(2) as pool:
        for bug, told in zip(bugs, pool.map(catch, bugs), strict=True):
            missed += not told["broken"]
            word = "caught" if told["broken"] else "MISSED"
            seeds = f"{told['seeds']} of {bug.seeds} seeds"
            print(f"{word}  {bug.name}: {seeds}: {told['broken']}", flush=True)
    return missed


def catch(bug: Bug) -> dict[str, object]:
    """Tries a bug in a process of its own: how many seeds that took, and what broke."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.mutations.patched", bug.name],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        # It broke even more than the checks expect.
        return {"seeds": 1, "broken": done.stderr.strip().splitlines()[-1]}
    told: dict[str, object] = json.loads(lines[-1])
    return told


def _picked(name: str, words: list[str]) -> bool:
    return not words or any(part in name for part in words)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
