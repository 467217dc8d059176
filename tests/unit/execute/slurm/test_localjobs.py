"""Local jobs are judged by what no user can choose; what can't be read is left out."""

from __future__ import annotations

import pytest

from p2pfed.errors import ExecutorError
from p2pfed.execute.slurm.commands import LOCAL_FORMAT, local_jobs, set_comment
from p2pfed.execute.slurm.localjobs import (
    LocalQueue,
    LocalRow,
    parse_limit_s,
    parse_local,
    parse_local_details,
)
from p2pfed.execute.slurm.runner import RefusedError

# As Slurm 22.05.8 printed it.
PENDING = "18|PENDING|1002|1795621119|4294901743|1|2|5:00|gres:gpu:1|(null)|Resources\n"
HELD = "18|PENDING|1002|1795621119|0|1|2|5:00|N/A|(null)|JobHeldAdmin\n"
TASK = "2_2|PENDING|1002|1795631436|4294901758|1|1|5:00|N/A|(null)|Resources\n"
PART = "3+0|PENDING|1002|1795631436|4294901757|1|1|5:00|N/A|(null)|Resources\n"
DEPENDS = "5|PENDING|1002|1795631436|4294901755|1|1|5:00|N/A|afterok:1(unfulfilled)|Dependency\n"
SHOWN = (
    "JobId=18 JobName=job.sh UserId=resident(1002) GroupId=resident(1002) MCS_label=N/A "
    "Priority=4294901743 JobState=PENDING Reason=Resources NumNodes=1 NumCPUs=2 NumTasks=2 "
    "MinCPUsNode=1 MinMemoryCPU=200M MinTmpDiskNode=0 Features=(null) "
    "Command=/home/resident/job.sh a b WorkDir=/home/resident "
    "Comment=p2pfed: alpha.4.0 runs at beta, as alpha.4.0  StdErr=/home/resident/slurm-18.out "
    "StdIn=/dev/null StdOut=/home/resident/slurm-18.out Power= TresPerNode=gres:gpu:1 \n"
)


def test_a_row_tells_what_a_job_needs_and_whether_it_is_held() -> None:
    waiting, held = parse_local(PENDING + HELD)
    assert (waiting.uid, waiting.nodes, waiting.cores, waiting.walltime_s) == (1002, 1, 2, 300)
    assert (waiting.gpus_per_node, waiting.bound, waiting.held) == (1, "", False)
    assert held.held
    assert waiting.task is None


def test_a_task_of_an_array_is_a_job_and_parts_and_followers_are_not() -> None:
    task, part, follower = parse_local(TASK + PART + DEPENDS)
    assert (task.job_id, task.task, task.bound) == ("2_2", ("2", "2"), "")
    assert "heterogeneous" in part.bound
    assert "dependency" in follower.bound


def test_nothing_that_a_user_can_name_freely_is_in_a_row() -> None:
    """A comment or name with a line end could forge a row of another user's job."""
    for free in ("%j", "%k", "%o", "%Z", "%w"):
        assert free not in LOCAL_FORMAT


def test_a_line_that_can_not_be_read_costs_only_itself() -> None:
    assert [row.job_id for row in parse_local("18|PENDING|x\n\n" + HELD)] == ["18"]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("5:00", 300),
        ("1:00:00", 3600),
        ("2-12:00:00", 216_000),
        ("7", 420),
        ("UNLIMITED", 0),
        ("NOT_SET", 0),
    ],
)
def test_a_time_limit_is_read_in_every_form_that_squeue_prints(text: str, seconds: int) -> None:
    assert parse_limit_s(text) == seconds


def test_details_tell_where_the_output_goes() -> None:
    found = parse_local_details(SHOWN)
    assert found.arguments == ("a", "b")
    assert found.folder == "/home/resident"
    assert found.stdout == found.stderr == "/home/resident/slurm-18.out"
    assert (found.memory_mib_per_core, found.memory_mib_per_node) == (200, 0)
    assert found.comment == "p2pfed: alpha.4.0 runs at beta, as alpha.4.0"
    assert not found.says_held
    assert found.throttle == ""


def test_details_of_a_task_tell_how_many_of_its_array_may_run_at_a_time() -> None:
    text = SHOWN.replace("JobName=", "ArrayJobId=7 ArrayTaskId=1 ArrayTaskThrottle=2 JobName=")
    assert parse_local_details(text).throttle == "2"


def test_a_wrapped_command_has_no_arguments() -> None:
    assert parse_local_details("JobId=1 WorkDir=/ Command=(null) \n").arguments == ()


def test_no_job_is_no_details() -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_local_details("slurm_load_jobs error\n")
    assert caught.value.code == "slurm-output"


class Recorder:
    """Stands where a runner stands: answers by the first words of a command, keeps all."""

    def __init__(self, **answers: str | ExecutorError) -> None:
        self.answers = answers
        self.commands: list[list[str]] = []

    def read(self, command: list[str]) -> str:
        self.commands.append(command)
        answer = self.answers.get(command[0], "")
        if isinstance(answer, ExecutorError):
            raise answer
        return answer

    act = read


def queue(reader: Recorder, operator: Recorder) -> LocalQueue:
    return LocalQueue(reader, operator)  # type: ignore[arg-type]


def row(text: str) -> LocalRow:
    (found,) = parse_local(text)
    return found


def test_only_our_own_hold_is_lifted() -> None:
    ours = SHOWN.replace("beta, as alpha.4.0", "beta (held)")
    for shown, line, lifted in (
        (ours, HELD, True),
        (SHOWN, HELD, False),  # an administrator's
        (ours, HELD.replace("JobHeldAdmin", "JobHeldUser"), False),
        (ours, PENDING, False),
    ):
        operator = Recorder()
        queue(Recorder(scontrol=shown), operator).free(row(line), "waits")
        assert (["scontrol", "release", "18"] in operator.commands) == lifted


def test_a_hold_says_so_before_it_holds() -> None:
    operator = Recorder()
    queue(Recorder(), operator).hold("18", "goes to beta")
    assert operator.commands == [
        set_comment("18", "p2pfed: goes to beta (held)"),
        ["scontrol", "hold", "18"],
    ]


def test_a_job_that_slurm_forgot_has_no_row() -> None:
    refusal = RefusedError("squeue", 1, "slurm_load_jobs error: Invalid job id specified")
    reader = Recorder(squeue=refusal)
    assert queue(reader, Recorder()).rows(("18",)) == {}
    assert reader.commands == [local_jobs(("18",))]
    other = Recorder(squeue=RefusedError("squeue", 1, "Invalid user"))
    with pytest.raises(RefusedError):
        queue(other, Recorder()).rows(("18",))
