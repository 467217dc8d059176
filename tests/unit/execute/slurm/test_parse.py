"""Slurm's output, as the test bed's Slurm 22.05.8 printed it unless a comment says otherwise."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.errors import ExecutorError
from p2pfed.execute.slurm.parse import (
    count_gpus,
    gpus_by_type,
    parse_accounting,
    parse_config,
    parse_details,
    parse_memory,
    parse_queue,
    parse_seconds,
    parse_submitted,
)

QUEUE = """\
8|FAILED|cap.chdir|1795445091|1795445091|JobLaunchFailure
1|OUT_OF_MEMORY|cap.oom|1795445091|1795445091|OutOfMemory
6|PENDING|cap.begin|1795448691|1795448991|BeginTime
7_[0-1]|PENDING|cap.array|N/A|N/A|JobHeldUser
10|PENDING|cap.wide|N/A|N/A|Nodes required for job are DOWN, DRAINED or reserved for jobs in \
higher priority partitions
5|COMPLETING|cap.usr1|1795445091|1795445094|None
"""
PREEMPTED = (
    "JobId=2 JobName=cap.preempt UserId=fedguest(1001) GroupId=fedguest(1001) MCS_label=N/A "
    "Priority=4294901758 Nice=0 Account=(null) QOS=(null) JobState=PREEMPTED Reason=None "
    "Dependency=(null) Requeue=0 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:15 "
    "DerivedExitCode=0:0 RunTime=00:00:03 TimeLimit=00:05:00 TimeMin=N/A SubmitTime=1795445091 "
    "EligibleTime=1795445091 AccrueTime=1795445091 StartTime=1795445091 EndTime=1795445094 "
    "Deadline=N/A PreemptEligibleTime=1795445091 PreemptTime=1795445094 SuspendTime=None "
    "SecsPreSuspend=0 LastSchedEval=1795445091 Scheduler=Backfill Partition=guest "
    "NodeList=gamma1 BatchHost=gamma1 NumNodes=1 NumCPUs=1 NumTasks=1 CPUs/Task=1 "
    "ReqB:S:C:T=0:0:*:* TRES=cpu=1,mem=200M,node=1,billing=1 Socks/Node=* "
    "NtasksPerN:B:S:C=0:0:*:* CoreSpec=* JOB_GRES=gpu:fake:1   Nodes=gamma1 CPU_IDs=1 Mem=200 "
    "GRES= MinCPUsNode=1 StdOut=/dev/null Power= TresPerNode=gres:gpu:fake:1 \n"
)
COMPLETION = (
    "1|OUT_OF_MEMORY|1795445091|1795445091|0:125|1||\n5|PREEMPTED|1795445091|1795445094|0:0|1||\n"
)


def test_the_queue_is_read_row_by_row_whatever_the_reason_holds() -> None:
    rows, odd = parse_queue(QUEUE)
    assert odd == ()
    assert [row.job_id for row in rows] == ["8", "1", "6", "7_[0-1]", "10", "5"]
    assert rows[4].reason.startswith("Nodes required for job are DOWN, DRAINED")
    assert (rows[3].start_s, rows[2].start_s, rows[2].end_s) == (0, 1795448691, 1795448991)


@pytest.mark.parametrize(
    "line",
    [
        "12|RUNNING|name",
        "x|RUNNING|name|1|2|None",
        "12|HIBERNATING|name|1|2|None",  # no Slurm has it: a state of the future
        "slurm_load_jobs: some warning about |RUNNING| jobs",
        "",
    ],
)
def test_an_odd_line_is_handed_back_and_costs_only_itself(line: str) -> None:
    rows, odd = parse_queue(f"{line}\n{QUEUE}")
    assert (len(rows), odd) == (6, (line,))


def test_a_queue_that_was_cut_off_tells_nothing() -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_queue(QUEUE[:-3])
    assert (caught.value.code, caught.value.transient) == ("slurm-output", True)


def test_details_of_a_preempted_job() -> None:
    details = parse_details(PREEMPTED)
    assert (details.state, details.preempted) == ("PREEMPTED", True)
    assert (details.start_s, details.end_s) == (1795445091, 1795445094)
    assert (details.exit_code, details.signal) == (0, 15)
    assert (details.cores, details.gpus) == (1, 1)


def test_a_preempt_time_of_none_is_no_preemption() -> None:
    text = PREEMPTED.replace("PreemptTime=1795445094", "PreemptTime=None")
    assert not parse_details(text).preempted


def test_a_number_that_is_no_signal_counts_as_none() -> None:
    text = PREEMPTED.replace("ExitCode=0:15 ", "ExitCode=0:125 ")
    assert parse_details(text).signal == 0


def test_the_first_of_two_equal_keys_counts() -> None:
    text = PREEMPTED.replace("StdOut=/dev/null", "StdOut=/x JobState=COMPLETED ExitCode=0:0")
    assert parse_details(text).state == "PREEMPTED"


@pytest.mark.parametrize(
    ("old", "new", "code"),
    [
        ("JobState=PREEMPTED", "JobState=HIBERNATING", "slurm-state"),
        ("JobState=PREEMPTED", "", "slurm-output"),
        ("ExitCode=0:15", "ExitCode=ok", "slurm-output"),
        (PREEMPTED, "", "slurm-output"),
    ],
)
def test_details_that_cannot_be_read_have_a_code(old: str, new: str, code: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_details(PREEMPTED.replace(old, new, 1))
    assert (caught.value.code, caught.value.transient) == (code, True)


@pytest.mark.parametrize(
    ("text", "job_id"),
    [
        ("12\n", "12"),
        ("12;gamma\n", "12"),  # sbatch(1), --parsable in a federation of clusters
        ("a plugin's greeting\n12\n", "12"),  # job_submit plugins of sites may print
        ("12_4\n", "12_4"),
        ("12+1\n", "12+1"),
    ],
)
def test_the_id_of_a_submitted_job_is_found(text: str, job_id: str) -> None:
    assert parse_submitted(text) == job_id


@pytest.mark.parametrize("text", ["", "\n", "ok\n", "0\n", "-1\n", "12 13\n"])
def test_a_submission_without_an_id_may_have_happened(text: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_submitted(text)
    assert caught.value.transient


def test_completion_records_tell_of_the_job_asked_for() -> None:
    found = parse_accounting(COMPLETION, "5")
    assert found is not None
    assert (found.state, found.start_s, found.end_s) == ("PREEMPTED", 1795445091, 1795445094)
    assert parse_accounting(COMPLETION, "6") is None


# Steps and memory: the columns are those of sacct(1) in 22.05 with slurmdbd.
STEPS = """\
9|CANCELLED by 1001|1795445091|1795445099|0:0|4||billing=4,cpu=4,gres/gpu=2,mem=128M,node=2
9.batch|CANCELLED|1795445091|1795445099|0:15|4|2048K|cpu=2,gres/gpu=1
9.0|CANCELLED|1795445091|1795445099|0:15|4|3.5M|cpu=4,gres/gpu=2
"""


def test_accounting_tells_the_most_memory_of_any_step() -> None:
    found = parse_accounting(STEPS, "9")
    assert found is not None
    assert (found.state, found.cores, found.gpus, found.memory_mib_max) == ("CANCELLED", 4, 2, 3)
    assert parse_memory(STEPS, "9") == 3
    assert parse_memory("", "9") == 0


# As sacct of Slurm 22.05.8 with slurmdbd printed it on the test bed (`up --accounting`).
ACCOUNTED = """\
28|CANCELLED by 1001|1795634454|1795634463|0:0|1||billing=1,cpu=1,mem=64M,node=1
28.batch|CANCELLED|1795634454|1795634464|0:15|1|672K|cpu=1,mem=64M,node=1
11|FAILED|1795634369|1795634372|3:0|1||billing=1,cpu=1,mem=200M,node=1
11.batch|FAILED|1795634369|1795634372|3:0|1|336K|cpu=1,mem=200M,node=1
"""


def test_what_slurmdbd_accounted_is_read() -> None:
    cancelled, failed = parse_accounting(ACCOUNTED, "28"), parse_accounting(ACCOUNTED, "11")
    assert cancelled is not None and failed is not None
    assert (cancelled.state, cancelled.end_s - cancelled.start_s) == ("CANCELLED", 9)
    assert (failed.state, failed.exit_code, failed.cores) == ("FAILED", 3, 1)
    assert (failed.memory_mib_max, parse_memory(ACCOUNTED, "28")) == (1, 1)


def test_a_job_that_accounting_believes_to_run_is_not_over() -> None:
    assert parse_accounting("9|RUNNING|1795445091|Unknown|0:0|4||\n", "9") is None


def test_gpus_are_counted_by_type() -> None:
    assert gpus_by_type("gpu:fake:2(IDX:0-1)") == {"fake": 2}
    assert gpus_by_type("gpu:a100:4(S:0,2),gpu:2,shard:8") == {"a100": 4, "": 2}
    assert count_gpus("(null)") == count_gpus("") == count_gpus("gpu:fake:0(IDX:N/A)") == 0


def test_the_configuration_is_a_list_of_settings() -> None:
    config = parse_config(
        "Configuration data as of x\nClusterName             = alpha\nKillWait  = 3 sec\n"
    )
    assert parse_seconds(config["KillWait"]) == 3
    assert parse_seconds("2 min") == 120
    assert parse_seconds("UNLIMITED") == 0
    with pytest.raises(ExecutorError):
        parse_config("nothing\n")


@given(st.text(max_size=200))
def test_any_text_is_read_or_is_a_named_error(text: str) -> None:
    readers = (
        parse_queue,
        parse_details,
        parse_submitted,
        parse_config,
        lambda text: parse_accounting(text, "5"),
    )
    for reader in readers:
        with suppress(ExecutorError):
            reader(text)
