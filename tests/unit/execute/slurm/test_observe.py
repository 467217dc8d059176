"""What a partition has, from output of the test bed (Slurm 22.05.8) unless a comment says so."""

from __future__ import annotations

import pytest

from p2pfed.errors import ExecutorError
from p2pfed.execute.slurm.observe import (
    hardware,
    make_observation,
    parse_nodes,
    parse_test_only,
    parse_waiting,
)

NODES = """\
gamma1|mixed|1/3/0/4|4000|200|gpu:fake:2|gpu:fake:1(IDX:0)|
gamma2|allocated|4/0/0/4|4000|800|gpu:fake:2|gpu:fake:0(IDX:N/A)|
gamma3|idle+drain|0/0/4/4|4000|0|gpu:fake:2|gpu:fake:0(IDX:N/A)|
gamma4|idle|0/4/0/4|4000|0|gpu:fake:2|gpu:fake:0(IDX:N/A)|
"""
WAITING = """\
3|fedguest|1795445216|1|1|guest|BeginTime
10|resident|N/A|4|4|local|Nodes required for job are DOWN, DRAINED or reserved
11|resident|N/A|2-3|8|local,federated|Priority
"""
STARTS = "11|resident|1795446000|2|8|local|Priority\n"


def test_only_what_slurm_would_give_now_is_idle() -> None:
    seen = make_observation(nodes=NODES, waiting="", starts="", guests="fedguest")
    assert (seen.idle_nodes, seen.idle_cores, seen.idle_gpus) == (1, 7, (("fake", 3),))
    assert [node.usable for node in seen.nodes] == [True, False, False, True]
    assert seen.nodes[2].states == ("idle", "drain")


@pytest.mark.parametrize(
    "state",
    # sinfo(1): not responding, in maintenance, powering, planned by backfill
    ["idle*", "mixed*", "idle$", "idle~", "idle#", "idle%", "down", "maint", "reserved",
     "completing", "mixed+drain", "idle+planned", "unknown"],
)  # fmt: skip
def test_a_node_in_any_other_state_has_nothing_to_give(state: str) -> None:
    text = f"n1|{state}|0/4/0/4|4000|0|(null)|(null)|\n"
    seen = make_observation(nodes=text, waiting="", starts="", guests="")
    assert (seen.idle_nodes, seen.idle_cores, seen.idle_gpus) == (0, 0, ())


def test_the_hardware_is_there_whoever_uses_it() -> None:
    found = hardware(parse_nodes(NODES))
    assert (found.nodes, found.cores_per_node, found.gpus_per_node) == (4, 4, 2)
    assert found.memory_mib_per_node == 4000
    assert hardware(()).nodes == 0


def test_local_jobs_wait_and_guests_do_not_count() -> None:
    seen = make_observation(nodes=NODES, waiting=WAITING, starts=STARTS, guests="fedguest")
    assert [job.job_id for job in seen.waiting] == ["10", "11"]
    assert seen.waiting[1].partitions == ("local", "federated")
    assert (seen.waiting[1].nodes, seen.waiting[1].cores) == (2, 8)
    assert seen.next_start_s == 1795446000


def test_an_estimate_without_queueing() -> None:
    line = (
        "sbatch: Job 11 to start at 1795445155 using 2 processors on nodes gamma[1-2] "
        "in partition local"
    )
    assert parse_test_only(line) == 1795445155
    with pytest.raises(ExecutorError, match="slurm-output"):
        parse_test_only("sbatch: something else")


@pytest.mark.parametrize(
    "line", ["", "gamma1|idle", "gamma1|idle|0/4|4000|0|x|y|", "a|b|c|d|e|f|g|"]
)
def test_nodes_that_cannot_be_read_have_a_code(line: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_nodes(f"{line}\n")
    assert (caught.value.code, caught.value.transient) == ("slurm-output", True)


@pytest.mark.parametrize("line", ["", "3|fedguest", "3|fedguest|N/A|many|1|guest|None"])
def test_waiting_jobs_that_cannot_be_read_have_a_code(line: str) -> None:
    with pytest.raises(ExecutorError, match="slurm-output"):
        parse_waiting(f"{line}\n")
