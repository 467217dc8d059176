"""What a partition has, from output of the test bed (Slurm 22.05.8) unless a comment says so."""

from __future__ import annotations

import pytest

from p2pfed.errors import ExecutorError
from p2pfed.execute.observation import LocalWish, SeenGuest
from p2pfed.execute.slurm.observe import (
    expand_hosts,
    hardware,
    parse_guests,
    parse_nodes,
    parse_test_only,
    parse_wishes,
    takes_back,
)

NODES = """\
gamma1|mixed|1/3/0/4|4000|200|gpu:fake:2|gpu:fake:1(IDX:0)|guest|
gamma1|mixed|1/3/0/4|4000|200|gpu:fake:2|gpu:fake:1(IDX:0)|local*|
gamma2|allocated|4/0/0/4|4000|800|gpu:fake:2|gpu:fake:0(IDX:N/A)|guest|
gamma3|idle+drain|0/0/4/4|4000|0|gpu:fake:2|gpu:fake:0(IDX:N/A)|guest|
gamma4|idle|0/4/0/4|4000|0|gpu:fake:2|gpu:fake:0(IDX:N/A)|guest|
"""
WAITING = """\
3|fedguest|1795445216|1|1|1|guest|OK|cpu=1,mem=200M|N/A|N/A|N/A|BeginTime|
10|resident|N/A|4|4|4|local|NO|cpu=4,mem=800M|N/A|N/A|N/A|Nodes required for job are DOWN, DRAINED \
or reserved for jobs in higher priority partitions|
11_1|resident|1795620199|2-3|8|8|local,federated|OK|cpu=8,mem=1600M|N/A|N/A|N/A|Priority|
11_2|resident|1795621080|2|8|8|local|OK||N/A|N/A|N/A|Resources|
12|resident|N/A|1|1|1|local|OK|cpu=1,mem=200M|N/A|N/A|N/A|Dependency|
13|resident|N/A|1|1|1|local|OK|cpu=1,mem=200M|N/A|N/A|N/A|JobHeldUser|
14|resident|N/A|1|1|1|local|OK|cpu=1,mem=200M|N/A|N/A|N/A|QOSMaxCpuPerUserLimit|
"""
# As Slurm 22.05.8 with slurmdbd printed them; the asked options stand beside.
ASKING = """\
21|resident|1795635238|1|2|2|local|OK|cpu=2,mem=1G,node=1,billing=2,gres/gpu=1|gres:gpu:fake:1|N/A|\
N/A|Resources|
22|resident|1795635480|2|4|4|local|OK|cpu=4,mem=1200M,node=2,billing=4,gres/gpu=2|N/A|gres:gpu:2|\
N/A|Priority|
24|resident|1795635780|1|2|2|local|OK|cpu=2,mem=400M,node=1,billing=2|N/A|N/A|gres:gpu:1|Priority|
30|resident|1795636980|1|1|1|local|OK|cpu=1,mem=4000M,node=1,billing=1|N/A|N/A|N/A|Priority|
"""


def test_only_what_slurm_would_give_now_is_idle() -> None:
    nodes = parse_nodes(NODES)
    assert [node.name for node in nodes] == ["gamma1", "gamma2", "gamma3", "gamma4"]
    assert [node.idle_cores for node in nodes] == [3, 0, 0, 4]
    assert [node.idle_memory_mib for node in nodes] == [3800, 3200, 0, 4000]
    assert [node.idle_gpus for node in nodes] == [
        (("fake", 1),),
        (("fake", 2),),
        (),
        (("fake", 2),),
    ]
    assert nodes[0].queues == ("guest", "local")


@pytest.mark.parametrize(
    "state",
    # sinfo(1): not responding, in maintenance, powering
    ["idle*", "mixed*", "idle$", "idle~", "idle#", "idle%", "down", "maint", "reserved",
     "completing", "mixed+drain", "idle+completing", "unknown"],
)  # fmt: skip
def test_a_node_in_any_other_state_has_nothing_to_give(state: str) -> None:
    (node,) = parse_nodes(f"n1|{state}|0/4/0/4|4000|0|gpu:2|(null)|guest|\n")
    assert (node.idle_cores, node.idle_memory_mib, node.idle_gpus) == (0, 0, ())


def test_a_node_planned_for_a_job_is_idle_until_then() -> None:
    (node,) = parse_nodes("n1|idle+planned|0/4/0/4|4000|0|(null)|(null)|guest|\n")
    assert (node.idle_cores, node.planned) == (4, True)


def test_the_hardware_is_there_whoever_uses_it() -> None:
    found = hardware(parse_nodes(NODES))
    assert (found.nodes, found.cores_per_node, found.gpus_per_node) == (4, 4, 2)
    assert found.memory_mib_per_node == 4000
    assert hardware(()).nodes == 0


def test_local_jobs_that_wait_for_nodes_are_wishes_and_no_others() -> None:
    assert parse_wishes(WAITING, "fedguest") == (
        LocalWish(
            job_id="10", queues=("local",), nodes=4, cores=4, whole_nodes=True, memory_mib=200
        ),
        LocalWish(
            job_id="11_1",
            queues=("federated", "local"),
            nodes=2,
            cores=8,
            start_s=1795620199,
            memory_mib=800,
        ),
        LocalWish(job_id="11_2", queues=("local",), nodes=2, cores=8, start_s=1795621080),
    )


def test_what_waits_tells_its_memory_and_gpus_on_each_node_however_it_asked() -> None:
    found = parse_wishes(ASKING, "fedguest")
    assert [(w.memory_mib, w.gpus, w.gpu_type) for w in found] == [
        (1024, 1, "fake"),  # --mem=1G --gres=gpu:fake:1
        (600, 1, ""),  # --mem-per-cpu=300 -n 4 -N 2 --gpus=2
        (400, 2, ""),  # --gpus-per-task=1 -n 2
        (4000, 0, ""),  # --mem=0
    ]


def test_guests_hold_the_nodes_they_run_on() -> None:
    text = "p2pfed-b.0.7.0-1a2b|gamma[1-2,4]\np2pfed-a.0.7.0-1a2b|gamma3\nwaits|\n"
    assert parse_guests(text) == (
        SeenGuest(name="p2pfed-a.0.7.0-1a2b", nodes=("gamma3",)),
        SeenGuest(name="p2pfed-b.0.7.0-1a2b", nodes=("gamma1", "gamma2", "gamma4")),
    )


@pytest.mark.parametrize(
    ("text", "hosts"),
    [
        ("", ()),
        ("n1", ("n1",)),
        ("n[08-11]", ("n08", "n09", "n10", "n11")),
        ("n[1,3-4],gpu2", ("n1", "n3", "n4", "gpu2")),
        ("rack[1-2]n[1-2]", ("rack1n1", "rack1n2", "rack2n1", "rack2n2")),
        ("a[1-2]-x,b", ("a1-x", "a2-x", "b")),
    ],
)
def test_host_lists_are_expanded(text: str, hosts: tuple[str, ...]) -> None:
    assert expand_hosts(text) == hosts


@pytest.mark.parametrize("nodes", ["n[1-x]", "n[3-1]", "n[]", "n[0-99999999]"])
def test_host_lists_that_cannot_be_read_have_a_code(nodes: str) -> None:
    with pytest.raises(ExecutorError, match="slurm-output"):
        parse_guests(f"guest|{nodes}\n")


@pytest.mark.parametrize(
    ("kind", "mode", "expected"),
    [
        ("preempt/partition_prio", "REQUEUE", True),
        ("preempt/qos", "CANCEL", True),
        ("preempt/partition_prio", "OFF", False),
        ("preempt/none", "REQUEUE", False),
    ],
)
def test_slurm_takes_nodes_back_where_it_is_set_up_to(kind: str, mode: str, expected: bool) -> None:
    assert takes_back({"PreemptType": kind}, {"PreemptMode": mode}) == expected


def test_an_estimate_without_queueing() -> None:
    line = (
        "sbatch: Job 11 to start at 1795445155 using 2 processors on nodes gamma[1-2] "
        "in partition local"
    )
    assert parse_test_only(line) == 1795445155
    with pytest.raises(ExecutorError, match="slurm-output"):
        parse_test_only("sbatch: something else")


@pytest.mark.parametrize(
    "line", ["", "gamma1|idle", "gamma1|idle|0/4|4000|0|x|y|p|", "a|b|c|d|e|f|g|h|"]
)
def test_nodes_that_cannot_be_read_have_a_code(line: str) -> None:
    with pytest.raises(ExecutorError) as caught:
        parse_nodes(f"{line}\n")
    assert (caught.value.code, caught.value.transient) == ("slurm-output", True)


@pytest.mark.parametrize("line", ["", "3|fedguest", "3|fedguest|N/A|many|1|1|guest|OK|||||None|"])
def test_waiting_jobs_that_cannot_be_read_have_a_code(line: str) -> None:
    with pytest.raises(ExecutorError, match="slurm-output"):
        parse_wishes(f"{line}\n", "")
