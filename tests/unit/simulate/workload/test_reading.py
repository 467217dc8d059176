"""Traces from files: SWF, packed or not, and what sacct prints."""

from __future__ import annotations

import gzip
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.simulate.workload.reading import read_trace
from p2pfed.simulate.workload.sacct import parse_sacct
from p2pfed.simulate.workload.swf import parse_swf
from p2pfed.simulate.workload.trace import WALLTIME_MAX_S, TraceJob

NAME = CentreName("alpha")
HEADER = "; UnixStartTime: 1704067200\n; MaxNodes: 32 (dual CPU)\n;   MaxProcs: 64\n"


def swf(submit: int, run: int, used: int, asked: int, walltime: int) -> str:
    """A record."""
    return f"1 {submit} 7 {run} {used} -1 -1 {asked} {walltime} -1 1 3 3 -1 -1 1 -1 -1\n"


def test_a_swf_record_is_what_was_asked_for_and_how_long_it_ran() -> None:
    trace = parse_swf(HEADER + swf(5, 30, 8, 16, 60), NAME)
    assert trace.jobs == (TraceJob(5, 30, 60, 16),)
    assert (trace.procs, trace.start_unix_s, trace.skipped) == (64, 1704067200, 0)


def test_what_was_not_asked_for_is_taken_from_what_was_used() -> None:
    trace = parse_swf(HEADER + swf(0, 30, 8, -1, -1), NAME)
    assert trace.jobs == (TraceJob(0, 30, 30, 8),)


def test_a_job_that_exceeds_its_time_is_ended() -> None:
    assert parse_swf(HEADER + swf(0, 90, 1, 1, 60), NAME).jobs[0].run_s == 60


def test_jobs_come_in_order_and_impossible_ones_are_counted() -> None:
    records = swf(9, 1, 1, 1, 1) + swf(4, 1, 1, 1, 1) + swf(0, -1, 1, 1, 1) + swf(0, 1, 65, 65, 1)
    trace = parse_swf(HEADER + records + swf(0, 1, -1, -1, 1), NAME)
    assert [job.submit_s for job in trace.jobs] == [4, 9]
    assert trace.skipped == 3


def test_a_header_without_processors_is_met_by_their_number() -> None:
    assert parse_swf(swf(0, 1, 1, 1, 1), NAME, procs=8).procs == 8
    assert parse_swf("; MaxNodes: 4\n" + swf(0, 1, 1, 1, 1), NAME).procs == 4


SACCT = """\
JobID|Submit|Eligible|ElapsedRaw|TimelimitRaw|NCPUS|State
12|2026-01-31T09:30:00|2026-01-31T09:31:00|120|60|4|COMPLETED
12.batch|2026-01-31T09:30:00|Unknown|120||4|COMPLETED
13|2026-01-31T09:30:00|Unknown|5|UNLIMITED|2|CANCELLED by 1000
14|2026-01-31T09:40:00|Unknown|0|60|2|CANCELLED
15|2026-01-31T09:40:00|Unknown|30|60|2|RUNNING
16|1769852400|Unknown|30|1|2|TIMEOUT
"""


def test_sacct_tells_the_same() -> None:
    trace = parse_sacct(SACCT, NAME, procs=16)
    assert trace.start_unix_s == 1769851800
    assert trace.jobs == (
        TraceJob(0, 5, WALLTIME_MAX_S, 2),
        TraceJob(60, 120, 3600, 4),
        TraceJob(600, 30, 60, 2),
    )
    assert trace.skipped == 3


ODD = {
    "a greeting above": ("Welcome to alpha!\nsacct: error: slurmdbd\n", "", 0),
    "the names once more": ("", "JobID|Submit|ElapsedRaw|TimelimitRaw|NCPUS|State\n", 0),
    "an empty line with bars": ("", "|||||\n\n", 0),
    "a job that was printed twice": ("", "7|1769852400|30|60|2|COMPLETED\n" * 2, 1),
    "a job of an array and a part of a pair": (
        "",
        "9_4|1769852400|30|60|2|TIMEOUT\n10+1|1769852400|30|60|2|CANCELLED by 1000\n",
        0,
    ),
}


@pytest.mark.parametrize("phrase", ODD)
def test_odd_lines_of_sacct_do_no_harm(phrase: str, tmp_path: Path) -> None:
    above, below, skipped = ODD[phrase]
    rows = "JobID|Submit|ElapsedRaw|TimelimitRaw|NCPUS|State\n1|1769851800|5|60|2|COMPLETED\n"
    path = tmp_path / "trace"
    path.write_text(above + rows + below)
    trace = read_trace(path, NAME, procs=4)
    assert trace.jobs[0] == TraceJob(0, 5, 3_600, 2)
    assert trace.skipped == skipped
    assert len(trace.jobs) == 1 + sum("|2|" in line for line in set(below.splitlines()))


def test_one_unreadable_line_of_a_hundred_is_left_out() -> None:
    head = "JobID|Submit|ElapsedRaw|TimelimitRaw|NCPUS\n"
    rows = "".join(f"{number}|{1769851800 + number}|5|60|2\n" for number in range(99))
    trace = parse_sacct(head + "99|2026-13-01T00:00:00|5|60|2\n" + rows, NAME, procs=2)
    assert (len(trace.jobs), trace.skipped) == (99, 1)
    with pytest.raises(InputError):
        parse_sacct(head + "99|noon|5|60|2\n98|one|5\n" + rows, NAME, procs=2)


def test_times_of_sacct_may_be_written_as_clocks() -> None:
    text = "Submit|Elapsed|Timelimit|AllocCPUS\n2026-01-31T09:30:00|1-00:10:05|2-00:00:00|8\n"
    assert parse_sacct(text, NAME, procs=8).jobs == (TraceJob(0, 87_005, 172_800, 8),)


def test_the_clock_of_a_machine_may_have_a_time_zone() -> None:
    row = "Submit|ElapsedRaw|TimelimitRaw|NCPUS\n2026-01-31T09:30:00|1|1|1\n"
    trace = parse_sacct(row, NAME, procs=1, zone=ZoneInfo("Europe/Stockholm"))
    assert trace.start_unix_s == 1769851800 - 3_600


@pytest.mark.parametrize("pack", [bytes, gzip.compress], ids=["plain", "packed"])
def test_what_a_file_holds_decides_how_it_is_read(
    tmp_path: Path, pack: Callable[[bytes], bytes]
) -> None:
    one, two = tmp_path / "one.txt", tmp_path / "two.txt"
    one.write_bytes(pack((HEADER + swf(0, 1, 1, 1, 1)).encode()))
    two.write_bytes(pack(SACCT.encode()))
    assert len(read_trace(one, NAME).jobs) == 1
    assert len(read_trace(two, NAME, procs=16).jobs) == 3


BAD: dict[str, tuple[str, str, int | None]] = {
    "no processors known": (swf(0, 1, 1, 1, 1), "workload-procs-missing", None),
    "no job at all": (HEADER, "workload-empty", None),
    "only jobs that are too wide": (swf(0, 1, 9, 9, 1), "workload-empty", 8),
    "a machine of no processors": (swf(0, 1, 1, 1, 1), "workload-procs", -1),
    "a record that is too short": (HEADER + "1 2 3\n", "workload-line", None),
    "a word for a number": (HEADER + "1 2 3 four 5 6 7 8 9\n", "workload-line", None),
    "a number that is infinite": (HEADER + "1 inf 7 1 1 -1 -1 1 1\n", "workload-line", None),
    "sacct without a size": (SACCT, "workload-procs-missing", None),
    "sacct without a column": ("JobID|Submit|NCPUS\n1|2026-01-01|1\n", "workload-columns", 4),
    "sacct with a row too short": (SACCT + "17|2026\n", "workload-line", 4),
    "sacct with a wrong date": (SACCT.replace("T09:30", "T9h30"), "workload-line", 4),
    "sacct with a limit of words": (SACCT.replace("|60|", "|one day|"), "workload-line", 4),
    "sacct without bars": (SACCT.replace("|", "  "), "workload-columns", 4),
    "an empty file": ("", "workload-procs-missing", None),
}  # fmt: skip


@pytest.mark.parametrize("phrase", BAD)
def test_bad_traces_are_refused(phrase: str, tmp_path: Path) -> None:
    text, code, procs = BAD[phrase]
    path = tmp_path / "trace"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_trace(path, NAME, procs=procs)
    assert caught.value.code == code


def test_files_that_cannot_be_read_are_refused(tmp_path: Path) -> None:
    broken = tmp_path / "broken.swf.gz"
    broken.write_bytes(gzip.compress(bytes(range(256)))[:99])
    for path in (tmp_path / "nowhere", broken, tmp_path):
        with pytest.raises(InputError) as caught:
            read_trace(path, NAME)
        assert caught.value.code == "workload-file"
