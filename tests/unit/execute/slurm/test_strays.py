"""What of the guests' account is none of the daemon's."""

from __future__ import annotations

from pathlib import Path

from p2pfed.execute import notices
from p2pfed.execute.slurm.parse import parse_queue
from p2pfed.execute.slurm.strays import GuestQueue, strays_of, whole_id
from p2pfed.execute.strays import Stray
from tests.unit.execute.slurm.test_localjobs import Recorder

# As Slurm 22.05.8 printed it, in the format of commands.SQUEUE_FORMAT.
QUEUE = (
    "3|RUNNING|p2pfed-beta.7.0-ab|1795631436|1795631736|None\n"
    "4|PENDING|wrap|N/A|N/A|Priority\n"
    "7_[0-3]|PENDING|wrap|N/A|N/A|Resources\n"
    "5|COMPLETING|wrap|1795631436|1795631736|None\n"
    "6|CANCELLED|wrap|1795631436|1795631736|None\n"
)


def queue(runner: Recorder) -> GuestQueue:
    return GuestQueue(runner, "fedguest")  # type: ignore[arg-type]


def strays(own: dict[str, Path]) -> list[Stray]:
    return strays_of(queue(Recorder(squeue=QUEUE)).rows(), own)


def test_only_what_is_not_over_and_has_no_name_of_ours_is_a_stray(tmp_path: Path) -> None:
    assert strays({"p2pfed-beta.7.0-ab": tmp_path}) == [Stray("4", "wrap"), Stray("7", "wrap")]
    assert Stray("3", "p2pfed-beta.7.0-ab") in strays({})


def test_a_job_under_the_name_of_ours_is_a_stray_if_ours_has_another_id(tmp_path: Path) -> None:
    (tmp_path / "batch").mkdir()
    notices.post(str(tmp_path / "batch" / "submitted"), {"job_id": "3", "at_ms": "1"})
    own = {"p2pfed-beta.7.0-ab": tmp_path}
    assert Stray("3", "p2pfed-beta.7.0-ab") not in strays(own)
    copy = QUEUE.replace("3|RUNNING", "9|PENDING")
    rows, _ = parse_queue(copy)
    assert Stray("9", "p2pfed-beta.7.0-ab") in strays_of(rows, own)


def test_a_stray_is_ended_whole_by_its_id() -> None:
    runner = Recorder()
    queue(runner).end(Stray(whole_id("7_[0-3]"), "wrap"))
    assert runner.commands == [["scancel", "--quiet", "7"]]
    assert whole_id("7+1") == "7"
