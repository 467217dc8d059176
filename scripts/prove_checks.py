"""What `scripts/prove-checks` runs: every deliberate bug, until something catches it."""

from __future__ import annotations

import sys

from p2pfed.simulate.model.search import Search
from tests.mutations.daemon import BUGS
from tests.mutations.lifecycle import MUTATIONS


def main(arguments: list[str]) -> int:
    """Returns 1 if a bug was not caught; arguments pick bugs by a part of their name."""
    missed = 0
    for bug in BUGS:
        if _picked(bug.name, arguments):
            caught = bug.catch()
            missed += caught is None
            told = "" if caught is None else f"seed {caught[0]} of {bug.seeds}: {caught[1].broken}"
            print(f"{'MISSED' if caught is None else 'caught'}  {bug.name}: {told}", flush=True)
    for mutation in MUTATIONS:
        if _picked(mutation.rule, arguments):
            with mutation.applied():
                found = Search(mutation.setting, situations_max=9_000).run()
            missed += not found.breach
            word = "caught" if found.breach else "MISSED"
            told = f"{found.breach}, after {len(found.story)} steps"
            print(f"{word}  without the rule: {mutation.rule}: {told}", flush=True)
    return 1 if missed else 0


def _picked(name: str, arguments: list[str]) -> bool:
    return not arguments or any(part in name for part in arguments)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
