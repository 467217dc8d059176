"""What `scripts/prove-checks` runs: every rule left out, until the search misses it."""

from __future__ import annotations

import sys

from p2pfed.simulate.model.search import Search
from tests.mutations.lifecycle import MUTATIONS


def main(arguments: list[str]) -> int:
    """Returns 1 if a rule was not missed; arguments pick rules by a part of their words."""
    missed = 0
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
