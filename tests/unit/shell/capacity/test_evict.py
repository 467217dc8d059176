"""Which guests go for a local job, by example."""

from __future__ import annotations

from p2pfed.shell.capacity.evict import Guest, to_evict
from tests.unit.shell.capacity.worlds import node, seen, wish

OLD = Guest(name="old", started_ms=1000, cores=4)
YOUNG = Guest(name="young", started_ms=2000, cores=4)
SMALL = Guest(name="small", started_ms=3000, cores=1)


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
    leaving = Guest(name="young", started_ms=2000, cores=4, leaving=True)
    nodes = node(1, idle=0), node(2, idle=0)
    guests = {"old": ["n1"], "young": ["n2"]}
    assert to_evict(seen(*nodes, guests=guests, wishes=(wish(),)), [OLD, leaving]) == ()
    two = (wish(), wish())
    assert to_evict(seen(*nodes, guests=guests, wishes=two), [OLD, leaving]) == ("old",)


def test_a_guest_of_several_nodes_makes_room_on_all_of_them() -> None:
    wide = Guest(name="wide", started_ms=1000, cores=4)
    look = seen(
        node(1, idle=0), node(2, idle=0), guests={"wide": ["n1", "n2"]}, wishes=(wish(), wish())
    )
    assert to_evict(look, [wide]) == ("wide",)


def test_local_jobs_of_other_partitions_take_nothing_back() -> None:
    look = seen(node(1, idle=0, queues=("guest",)), guests={"old": ["n1"]}, wishes=(wish(),))
    assert to_evict(look, [OLD]) == ()
