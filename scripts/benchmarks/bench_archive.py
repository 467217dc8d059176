"""What a job costs on disk: in the database, after its blocks moved to the archive, and there.

A ledger of whole job lifecycles is stored, and everything in it is moved as after a cosigned
checkpoint. Sizes are those of files; the database is measured with its write-ahead log folded back.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path

from p2pfed.core.charter import encode_charter
from p2pfed.core.checkpoint import TreeHead
from p2pfed.core.ids import FeedKey, PublicKey
from p2pfed.core.units import hlc_ms
from p2pfed.node.effects import CheckpointCosigned, StoredBlock
from p2pfed.node.shelf import stored
from p2pfed.shell.archivist import Archivist
from p2pfed.shell.sections import RetentionConfig
from p2pfed.simulate.scribes import Scribes
from p2pfed.store.database import Database


def store(folder: Path, scribes: Scribes) -> tuple[int, CheckpointCosigned]:
    """Stores the ledger; returns the bytes of its blocks, and a checkpoint over all of it."""
    heads: dict[FeedKey, TreeHead] = {}
    size = cut_ms = 0
    with _opened(folder, scribes) as database:
        batch: list[StoredBlock] = []
        for block in scribes.blocks():
            batch.append(stored(block))
            size += len(block.data)
            cut_ms = max(cut_ms, hlc_ms(block.time))
            heads[block.feed] = TreeHead(
                block.feed,
                block.seq_num + 1,
                block.block_id,
                bytes(32),
                block.time,
                PublicKey(bytes(32)),
            )
            if len(batch) == 1_000:
                database.append(batch)
                batch.clear()
        database.append(batch)
    under = CheckpointCosigned(cut_ms=cut_ms, state_hash=bytes(32), trees=tuple(heads.values()))
    return size, under


def _opened(folder: Path, scribes: Scribes) -> Database:
    return Database.open(folder / "ledger.sqlite", federation=scribes.charter.federation_id)


def bench(jobs: int, per_block: int) -> None:
    """One line of the table."""
    scribes = Scribes(1, centres=4, jobs=jobs, per_round=per_block, nodes=per_block * 3)
    with tempfile.TemporaryDirectory(prefix="p2pfed-bench-") as name:
        folder = Path(name)
        blocks, under = store(folder, scribes)
        path = folder / "ledger.sqlite"
        before = path.stat().st_size
        with _opened(folder, scribes) as database:
            config = RetentionConfig(keep_s=1, segment_kib=max(64, min(16_384, blocks >> 13)))
            charter = encode_charter(scribes.charter)
            federation = scribes.charter.federation_id
            archivist = Archivist(database, charter, federation, config, folder / "bearings")
            start_s = time.process_time()
            archivist.move_all(under, under.cut_ms + 10_000)
            move_s = time.process_time() - start_s
            rows = database.segments()
        moved = sum(row.blocks for row in rows)
        raw = sum(row.raw_bytes for row in rows)
        archived = sum(row.stored_bytes for row in rows)
        print(
            f"{jobs:>8,} {per_block:>9} {moved:>8,} {blocks / jobs:>10.0f} {before / jobs:>10.0f}"
            f" {path.stat().st_size / jobs:>10.0f} {archived / jobs:>10.0f} {raw / blocks:>8.0%}"
            f" {raw / move_s / 2**20:>9.1f}",
            flush=True,
        )


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, default=20_000)
    parser.add_argument("--per-block", type=int, nargs="*", default=[1, 10, 100])
    options = parser.parse_args()
    print("bytes for each job; MiB/s: blocks moved in a second of CPU")
    print(
        f"{'jobs':>8} {'per round':>9} {'blocks':>8} {'as blocks':>10} {'database':>10}"
        f" {'then':>10} {'archive':>10} {'moved':>8} {'MiB/s':>9}"
    )
    for per_block in options.per_block:
        bench(options.jobs, per_block)


if __name__ == "__main__":
    main()
