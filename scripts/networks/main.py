"""What `scripts/bad-networks` runs: one fault after the other, and what came of it."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence

from scripts.networks.faults import FAULTS, last
from scripts.networks.spaces import refusal
from scripts.networks.stage import staged


def main(arguments: Sequence[str]) -> int:
    """Returns 1 if something that must hold did not, 2 if there are no namespaces here."""
    about = "\n".join(f"  {name:9} {fault.__doc__}" for name, fault in FAULTS.items())
    parser = argparse.ArgumentParser(
        prog="scripts/bad-networks",
        description="Faults of networks, processes and disks under five real daemons.",
        epilog=f"faults:\n{about}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--seconds", type=float, default=20, help="how long each fault lasts")
    parser.add_argument("--jobs", type=int, default=2, help="each centre posts, before and in it")
    parser.add_argument("--centres", type=int, default=5)
    parser.add_argument("--seed", type=int, default=1, help="of what is lost and delayed")
    parser.add_argument("faults", nargs="*", choices=[[], *FAULTS], help="all, if none is named")
    options = parser.parse_args(arguments)
    if why := refusal():
        print(f"no network namespaces here: {why}", file=sys.stderr)
        return 2
    failed = 0
    for name in options.faults or FAULTS:
        began_s = time.monotonic()
        try:
            with staged(options.centres, options.seed) as stage:
                last(stage, name, options.seconds, options.jobs)
                posted = sum(map(len, stage.jobs.values()))
                linked_s = stage.until_whole()
                warnings = stage.check()
                refused = dict(stage.refused)
                stage.federation.proven = True
        except AssertionError as error:
            failed += 1
            print(f"BROKEN  {name}: {error}", flush=True)
            continue
        took_s = time.monotonic() - began_s
        print(
            f"ok      {name}: {posted} jobs ran once, linked again after {linked_s:.1f} s, "
            f"refused {refused or 'none'}, warnings of audits {warnings or 'none'}, {took_s:.0f} s",
            flush=True,
        )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
