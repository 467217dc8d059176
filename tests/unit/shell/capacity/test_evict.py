"""Which guests go for a local job, by example."""

from __future__ import annotations

from p2pfed.shell.capacity.evict import Guest, to_evict
from p2pfed.shell.capacity.room import Shape
from tests.unit.shell.capacity.worlds import node, seen, wish

OLD = Guest(name="old", started_ms=1000, shape=Shape(4, 0, 250 * 4))
YOUNG = Guest(name="young", started_ms=2000, shape=Shape(4, 0, 250 * 4))
SMALL = Guest(name="small", started_ms=3000, shape=Shape(1, 0, 250 * 1))


def test_nobody_goes_while_nobody_waits() -> None:
    assert to_evict(seen(node(1, idle=0), guests={"old": ["n1"]}), [OLD]) == ()


def test_what_is_idle_is_taken_first() -> None:
    look = seen(node(1, idle=0), node(2), guests={"old": ["n1"]}, wishes=(wish(),))
    assert to_evict(look, [OLD]) == ()


def test_the_youngest_goes() -> None:
    nodes = node(1, idle=0), node(2, idle=0)
    look = seen(*nodes, guests={"old": ["n1"], "young": ["n2"]}, wishes=(wish(),))
    assert to_evict(look, [OLD, YOUNG]) == ("young",)


def test_as_few_as_possible_go() -> None:
    nodes = node(1, idle=3), node(2, idle=0)
    look = seen(*nodes, guests={"small": ["n1"], "old": ["n2"]}, wishes=(wish(cores=2),))
    assert to_evict(look, [OLD, SMALL]) == ()
    look = seen(*nodes, guests={"small": ["n1"], "old": ["n2"]}, wishes=(wish(whole_nodes=True),))
    assert to_evict(look, [OLD, SMALL]) == ("small",)


def test_nobody_goes_in_vain() -> None:
    look = seen(node(1, idle=0), guests={"old": ["n1"]}, wishes=(wish(nodes=2, cores=8),))
    assert to_evict(look, [OLD]) == ()


def test_guests_that_may_not_be_preempted_stay() -> None:
    nodes = node(1, idle=0), node(2, idle=0)
    look = seen(*nodes, guests={"old": ["n1"], "young": ["n2"]}, wishes=(wish(nodes=2, cores=8),))
    assert to_evict(look, [OLD]) == ()


def test_who_leaves_already_makes_room() -> None:
    leaving = Guest(name="young", started_ms=2000, shape=Shape(4, 0, 250 * 4), leaving=True)
    nodes = node(1, idle=0), node(2, idle=0)
    guests = {"old": ["n1"], "young": ["n2"]}
    assert to_evict(seen(*nodes, guests=guests, wishes=(wish(),)), [OLD, leaving]) == ()
    two = (wish(), wish())
    assert to_evict(seen(*nodes, guests=guests, wishes=two), [OLD, leaving]) == ("old",)


def test_nobody_else_goes_while_the_node_of_who_left_is_completing() -> None:
    """It shows nothing idle then; found on a real cluster, where a second guest went in vain."""
    leaving = Guest(name="young", started_ms=2000, shape=Shape(4, 0, 64), leaving=True)
    nodes = node(1, idle=0, idle_memory_mib=3936), node(2, idle=0, idle_memory_mib=0)
    look = seen(
        *nodes, guests={"old": ["n1"], "young": ["n2"]}, wishes=(wish(memory_mib=200, gpus=0),)
    )
    assert to_evict(look, [OLD, leaving]) == ()


def test_a_guest_of_several_nodes_makes_room_on_all_of_them() -> None:
    wide = Guest(name="wide", started_ms=1000, shape=Shape(4, 0, 250 * 4))
    look = seen(
        node(1, idle=0), node(2, idle=0), guests={"wide": ["n1", "n2"]}, wishes=(wish(), wish())
    )
    assert to_evict(look, [wide]) == ("wide",)


def test_local_jobs_of_other_partitions_take_nothing_back() -> None:
    look = seen(node(1, idle=0, queues=("guest",)), guests={"old": ["n1"]}, wishes=(wish(),))
    assert to_evict(look, [OLD]) == ()


GPUS = {"gpus": (("a100", 2),), "idle_gpus": ()}


def test_a_job_that_waits_for_gpus_sends_those_away_who_hold_them() -> None:
    with_gpus = Guest(name="gpus", started_ms=1000, shape=Shape(1, 2, 250, "a100"))
    nodes = (node(1, idle=2, **GPUS),)
    guests = {"gpus": ["n1"], "small": ["n1"]}
    waits = wish(cores=1, gpus=1, gpu_type="a100", memory_mib=100)
    look = seen(*nodes, guests=guests, wishes=(waits,))
    assert to_evict(look, [with_gpus, SMALL]) == ("gpus",), "the younger one holds none"
    other = wish(cores=1, gpus=1, gpu_type="v100")
    assert to_evict(seen(*nodes, guests=guests, wishes=(other,)), [with_gpus, SMALL]) == ()
    enough = (node(1, idle=2, gpus=(("a100", 2),), idle_gpus=(("a100", 1),)),)
    assert to_evict(seen(*enough, guests=guests, wishes=(waits,)), [with_gpus, SMALL]) == ()


def test_a_guest_without_a_type_of_gpu_holds_those_of_its_node() -> None:
    untyped = Guest(name="gpus", started_ms=1000, shape=Shape(1, 2, 250))
    look = seen(
        node(1, idle=3, **GPUS),
        guests={"gpus": ["n1"]},
        wishes=(wish(cores=1, gpus=2, gpu_type="a100"),),
    )
    assert to_evict(look, [untyped]) == ("gpus",)


def test_a_job_that_waits_for_memory_sends_those_away_who_hold_it() -> None:
    greedy = Guest(name="greedy", started_ms=1000, shape=Shape(1, 0, 3500))
    look = seen(
        node(1, idle=3, idle_memory_mib=500),
        guests={"greedy": ["n1"]},
        wishes=(wish(cores=1, memory_mib=2000),),
    )
    assert to_evict(look, [greedy]) == ("greedy",)
    modest = seen(
        node(1, idle=3, idle_memory_mib=500),
        guests={"greedy": ["n1"]},
        wishes=(wish(cores=1, memory_mib=400),),
    )
    assert to_evict(modest, [greedy]) == ()
