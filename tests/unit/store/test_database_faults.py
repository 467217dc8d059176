"""A write, a sync or a rename may fail, or the process may die there: at each one in turn.

Holds invariant 3 (nothing acknowledged is lost) and the storage half of invariant 8 (no fork after
a crash: the high-water mark and the ledger allow to go on).
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p2pfed.core.ids import CentreName, FeedKey, PublicKey
from p2pfed.store.database import Database
from p2pfed.store.highwater import HighWater, Mark, Restart, begun, judge_restart

HERE = Path(__file__).parent
FEED = FeedKey(CentreName("alpha"), 0)
KEY = PublicKey(bytes(32))

FAULTS = {
    "the process is killed": 0,
    "the disk is full": errno.ENOSPC,
    "the quota is used up": errno.EDQUOT,
    "the disk fails": errno.EIO,
}


@pytest.fixture(scope="module")
def fault_layer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        pytest.skip("no C compiler to build the layer that injects faults")
    library = tmp_path_factory.mktemp("faults") / "faults.so"
    source = HERE / "faults.c"
    subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", library, source, "-ldl"], check=True)
    return library


def report_of(program: str, fault: str, fault_layer: Path, folder: Path) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, HERE / program, folder, str(FAULTS[fault])],
        env={**os.environ, "LD_PRELOAD": str(fault_layer), "PYTHONPATH": str(HERE.parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )
    report: dict[str, Any] = json.loads(done.stdout)
    return report


@pytest.mark.parametrize("fault", FAULTS)
def test_no_block_is_lost_at_any_write_of_a_move_to_the_archive(
    fault: str, fault_layer: Path, tmp_path: Path
) -> None:
    report = report_of("archive_fault_program.py", fault, fault_layer, tmp_path)
    assert report["broken"] == []
    assert report["writes"] > 20
    assert report["unsynced"] == 0


@pytest.mark.parametrize("fault", FAULTS)
def test_nothing_acknowledged_is_lost_at_any_write(
    fault: str, fault_layer: Path, tmp_path: Path
) -> None:
    report = report_of("fault_program.py", fault, fault_layer, tmp_path)
    assert report["broken"] == []
    # Six blocks with their marks: fewer writes would mean that the layer saw nothing.
    assert report["writes"] > 60
    assert report["syncs"] >= 12
    assert report["unsynced"] == 0


WRITER = """
import sys
from pathlib import Path
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head
from p2pfed.store.database import Database
from p2pfed.store.rows import BlockRow
from p2pfed.store.highwater import HighWater
folder, feed = Path(sys.argv[1]), FeedKey(CentreName("alpha"), 0)
mark = HighWater(folder / "highwater")
with Database.open(folder / "state/ledger.sqlite", federation=b"f" * 32) as database:
    number = database.block_count()
    while True:
        block_id = BlockId(number.to_bytes(32, "big"))
        database.append([BlockRow(feed, number, block_id, number, bytes(5000))])
        mark.write(feed, Head(number, block_id))
        print(number, flush=True)
        number += 1
"""


def test_a_writer_killed_at_random_moments_loses_nothing_that_it_acknowledged(
    tmp_path: Path,
) -> None:
    chance = random.Random(20)
    HighWater(tmp_path / "highwater").begin(FEED.centre, KEY)
    expected = -1
    for _ in range(12):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, tmp_path], stdout=subprocess.PIPE, text=True
        )
        assert writer.stdout is not None
        for _ in range(chance.randrange(1, 120)):
            expected = int(writer.stdout.readline())
        writer.send_signal(signal.SIGKILL)
        # What it still said before it died was acknowledged as well.
        rest = [line for line in writer.stdout.read().split("\n") if line]
        expected = max([expected, *map(int, rest)])
        writer.stdout.close()
        assert writer.wait() == -signal.SIGKILL
        with Database.open(tmp_path / "state/ledger.sqlite", federation=b"f" * 32) as database:
            head = database.frontier()[FEED]
            assert head.seq_num in (expected, expected + 1)
            assert [row.seq_num for row in database.blocks()] == list(range(head.seq_num + 1))
            mark = HighWater(tmp_path / "highwater").read()
            assert mark is not None
            assert mark.head.seq_num in (head.seq_num, head.seq_num - 1)
            own, beginning = Mark(FEED, head), begun(FEED.centre, KEY)
            verdict = judge_restart(mark, own, database.block_id, beginning)
            assert verdict is Restart.START
