"""What `scripts/check-lifecycle` runs: each setting of the tests, to its end or to a bound."""

from __future__ import annotations

import sys
import time

from p2pfed.simulate.model.search import Search
from tests.federation.test_every_way import SETTINGS


def main(arguments: list[str]) -> int:
    """Returns 1 if something is broken in a setting."""
    bound = int(arguments[0]) if arguments else 1_000_000
    broken = 0
    for name in arguments[1:] or SETTINGS:
        begun = time.process_time()
        found = Search(SETTINGS[name], situations_max=bound).run()
        spent_s = time.process_time() - begun
        print(
            f"{name}: {found.tell()} ({found.calls} calls of a node, {spent_s:.0f} s)", flush=True
        )
        broken += bool(found.breach)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
