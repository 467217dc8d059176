"""What is offered of what is idle, by example."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from p2pfed.shell.capacity.plan import Books, Held, Promise, Site
from p2pfed.shell.capacity.room import Shape
from tests.unit.shell.capacity.worlds import (
    NOW_MS,
    WHOLE,
    held,
    node,
    planned,
    seen,
    template,
    wish,
)


def ms(text: str) -> int:
    return int(datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()) * 1000


def test_what_is_idle_is_offered() -> None:
    part = planned(seen(node(1), node(2, idle=0), node(3)))["idle"]
    assert (part.nodes, part.walltime_max_s, part.until_ms) == (2, 7200, 0)


def test_nodes_in_pieces_are_no_nodes() -> None:
    assert planned(seen(node(1, idle=2), node(2, idle=3), node(3, idle=3)))["idle"].nodes == 0
    halves = template(cores_per_node=2, memory_mib_per_node=500)
    assert (
        planned(seen(node(1, idle=2), node(2, idle=3), node(3, idle=1)), halves)["idle"].nodes == 2
    )


def test_memory_bounds_as_cores_do() -> None:
    assert planned(seen(node(1, idle_memory_mib=999), node(2)))["idle"].nodes == 1


def test_guests_are_counted_once_where_they_run() -> None:
    look = seen(node(1, idle=0), node(2), node(3, idle=0), guests={"g": ["n1"]})
    assert planned(look, books=Books(held=(held("g"),)))["idle"].nodes == 2


def test_a_guest_that_takes_little_memory_keeps_no_other_node_off() -> None:
    small = Held(name="g", part="idle", nodes=1, shape=Shape(cores=4, gpus=0, memory_mib=64))
    look = seen(node(1, idle=0, idle_memory_mib=3936), node(2), guests={"g": ["n1"]})
    assert planned(look, books=Books(held=(small,)))["idle"].nodes == 2


def test_guests_that_share_a_node_leave_the_rest_of_it_on_offer() -> None:
    look = seen(node(1, idle=3), node(2, idle=1), guests={"g": ["n1"]})
    assert planned(look, books=Books(held=(held("g", cores=1),)))["idle"].nodes == 1


def test_a_guest_on_its_way_is_inside_the_size() -> None:
    # Two are idle; one of them is promised, so that one is free for others.
    part = planned(seen(node(1), node(2)), books=Books(held=(held(""),)))["idle"]
    assert part.nodes == 2


def test_a_guest_of_another_offer_on_its_way_takes_what_is_idle() -> None:
    part = planned(seen(node(1), node(2)), books=Books(held=(held("", part=""),)))["idle"]
    assert part.nodes == 1


def test_what_an_offer_opened_by_hand_promises_is_not_promised_again() -> None:
    books = Books(promised=(Promise(nodes=1, shape=WHOLE),))
    assert planned(seen(node(1), node(2)), books=books)["idle"].nodes == 1


def test_a_waiting_local_job_shrinks_the_grant() -> None:
    look = seen(node(1), node(2), node(3), wishes=(wish(nodes=2, cores=8),))
    assert planned(look)["idle"].nodes == 1
    shared = seen(node(1), node(2), wishes=(wish(cores=1),))
    assert planned(shared)["idle"].nodes == 1


def test_a_local_job_of_another_partition_takes_nothing_of_ours() -> None:
    look = seen(node(1), node(2, queues=("guest",)), wishes=(wish(nodes=2, cores=8),))
    assert planned(look)["idle"].nodes == 1


def test_what_is_idle_until_the_next_local_job_is_an_offer_of_its_own() -> None:
    start_s = NOW_MS // 1000 + 4000
    look = seen(node(1), node(2), node(3), wishes=(wish(nodes=4, cores=16, start_s=start_s),))
    parts = planned(look)
    assert parts["idle"].nodes == 0
    gap = parts["idle.gap"]
    assert (gap.nodes, gap.until_ms, gap.walltime_max_s) == (3, start_s * 1000, 3600)


@pytest.mark.parametrize("start_s", [0, NOW_MS // 1000 + 600])
def test_a_gap_of_unknown_or_small_length_is_no_offer(start_s: int) -> None:
    look = seen(node(1), wishes=(wish(start_s=start_s),))
    assert list(planned(look)) == ["idle"]


def test_gaps_may_be_left_alone() -> None:
    look = seen(node(1), wishes=(wish(start_s=NOW_MS // 1000 + 4000),))
    assert list(planned(look, template(gaps=False))) == ["idle"]


def test_windows_open_and_close_it() -> None:
    nights = template(windows=("Mon-Fri 18:00-08:00",), walltime_max_s=14_400)
    look = seen(node(1))
    assert planned(look, nights, now_ms=ms("2026-11-25 17:59")) == {}
    evening = planned(look, nights, now_ms=ms("2026-11-25 18:00"))["idle"]
    assert (evening.nodes, evening.until_ms, evening.walltime_max_s) == (1, 0, 14_400)


def test_the_end_of_a_window_shortens_the_walltime_before_it_comes() -> None:
    nights = template(windows=("Mon-Fri 18:00-08:00",), walltime_max_s=14_400)
    look = seen(node(1))
    end_ms = ms("2026-11-26 08:00")
    early = planned(look, nights, now_ms=ms("2026-11-26 06:00"))["idle"]
    assert (early.until_ms, early.walltime_max_s) == (end_ms, 6300)  # 7140 s on the grid
    late = planned(look, nights, now_ms=ms("2026-11-26 07:48"))["idle"]
    assert (late.until_ms, late.walltime_max_s) == (end_ms, 600)
    assert planned(look, nights, now_ms=ms("2026-11-26 07:50")) == {}


def test_nodes_are_kept_free() -> None:
    keeping = template(keep_free=2)
    assert planned(seen(node(1), node(2), node(3)), keeping)["idle"].nodes == 1
    assert planned(seen(node(1), node(2), node(3, idle=3)), keeping)["idle"].nodes == 0


def test_with_too_few_idle_nodes_guests_keep_what_they_have_and_no_more() -> None:
    look = seen(node(1, idle=0), node(2), guests={"g": ["n1"]})
    part = planned(look, template(keep_free=2), books=Books(held=(held("g"),)))["idle"]
    assert part.nodes == 1


def test_a_share_counts_what_guests_have_of_it() -> None:
    half = template(share=50)
    four = [node(number) for number in range(1, 5)]
    assert planned(seen(*four), half)["idle"].nodes == 2
    look = seen(node(1, idle=0), node(2, idle=0), *four[2:], guests={"g": ["n1", "n2"]})
    assert planned(look, half, books=Books(held=(held("g", nodes=2),)))["idle"].nodes == 2


def test_nodes_cores_and_hardware_are_bounds() -> None:
    four = seen(*(node(number) for number in range(1, 5)))
    assert planned(four, template(nodes=3))["idle"].nodes == 3
    assert planned(four, template(cores=11))["idle"].nodes == 2
    small = Site(queue="guest", gpu_gres="gpu", cores_max=4, overhead_ms=0)
    assert planned(four, template(), site=small)["idle"].nodes == 1


def test_longer_jobs_may_hold_a_share() -> None:
    parts = planned(seen(*(node(n) for n in range(1, 5))), template(long_share=25))
    assert [(p.name, p.nodes, p.walltime_max_s) for p in parts.values()] == [
        ("idle", 3, 3600),
        ("idle.long", 1, 7200),
    ]


def test_what_longer_jobs_hold_is_no_room_for_short_ones() -> None:
    look = seen(node(1, idle=0), node(2, idle=0), node(3), guests={"g": ["n1", "n2"]})
    books = Books(held=(held("g", part="idle.long", nodes=2),))
    parts = planned(look, template(long_share=25, nodes=3), books=books)
    assert (parts["idle"].nodes, parts["idle.long"].nodes) == (1, 0)


def test_templates_share_in_their_order() -> None:
    first, second = template(name="a", nodes=1), template(name="b")
    parts = planned(seen(node(1), node(2), node(3)), first, second)
    assert (parts["a"].nodes, parts["b"].nodes) == (1, 2)


def test_each_template_has_its_partition() -> None:
    look = seen(node(1), node(2, queues=("fat",)))
    parts = planned(look, template(), template(name="fat", partition="fat"))
    assert (parts["idle"].nodes, parts["fat"].nodes) == (1, 1)


def test_gpus_are_counted_by_their_type() -> None:
    look = seen(
        node(1, idle_gpus=(("a100", 2), ("v100", 1))), node(2, idle_gpus=(("v100", 4),)), node(3)
    )
    one = {"gpus_per_node": 1, "cores_per_node": 1, "memory_mib_per_node": 100}
    assert planned(look, template(**one))["idle"].nodes == 7
    assert planned(look, template(**one, gpu_gres="gpu:a100"))["idle"].nodes == 2
    assert planned(look, template(**one, gpu_gres="gpu:h100"))["idle"].nodes == 0
    both = planned(
        look, template(**one, gpu_gres="gpu:v100"), template(name="any", gpus_per_node=1)
    )
    assert (both["idle"].nodes, both["any"].nodes) == (5, 0)


def test_a_walltime_that_the_batch_system_would_not_begin_now_is_not_offered() -> None:
    part = planned(seen(node(1)), books=Books(limits_s={"idle": 1800}))["idle"]
    assert (part.nodes, part.walltime_max_s) == (1, 1800)
    assert planned(seen(node(1)), books=Books(limits_s={"idle": 0}))["idle"].nodes == 0


def test_a_template_that_does_not_follow_is_not_planned() -> None:
    assert planned(seen(node(1)), template(follow=False)) == {}
