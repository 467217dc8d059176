"""Writes a ledger file of as many jobs as wanted, as honest centres would have written it.

    python -m scripts.make_ledger --jobs 1000000 big.ledger

Every claim in it is justified and every record legal; `p2pfed audit big.ledger` must find nothing
but the disputes. The same seed gives the same bytes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from p2pfed.shell.collector import rarely_collecting
from p2pfed.simulate.scribes import Scribes


def make_ledger(path: Path, jobs: int, *, centres: int = 4, per_block: int = 100) -> None:
    """Writes the file.

    Args:
        path: where to.
        jobs: in all; each makes seven records.
        centres: how many write.
        per_block: jobs that each centre posts in a round, and so about the records in a block.
    """
    scribes = Scribes(
        1,
        centres=centres,
        jobs=jobs,
        per_round=per_block,
        nodes=per_block * 3,
        decline_per_mille=5,
        dispute_per_mille=1,
    )
    with rarely_collecting(), path.open("wb") as file:
        for piece in scribes.export():
            file.write(piece)


def main() -> None:
    """Reads the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--jobs", type=int, default=10_000)
    parser.add_argument("--centres", type=int, default=4)
    parser.add_argument("--per-block", type=int, default=100)
    options = parser.parse_args()
    make_ledger(options.file, options.jobs, centres=options.centres, per_block=options.per_block)


if __name__ == "__main__":
    main()
