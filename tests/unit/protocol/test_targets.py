from __future__ import annotations

from random import Random

import pytest

from p2pfed.core.ids import CentreName
from p2pfed.protocol.limits import (
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    PENALTY_MS_MAX,
    PENALTY_MS_MIN,
    REST_MS,
    ROTATE_MS,
    SPARSE_LINKS,
    SPARSE_LINKS_MAX,
    YIELD_MS,
)
from p2pfed.protocol.targets import Targets, keep_new_link

ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")
MANY = [CentreName(f"c{number:03d}") for number in range(100)]


def targets(me: CentreName, *others: CentreName, seed: int = 0) -> Targets:
    found = Targets(me, Random(seed))
    found.set_centres([me, *others])
    return found


def test_the_lesser_name_dials_at_once_and_the_greater_a_moment_later() -> None:
    middle = targets(BETA, ALPHA, GAMMA)
    assert middle.due(1_000) == [GAMMA]
    assert middle.wake_ms() == 1_000 + YIELD_MS
    assert middle.due(1_000 + YIELD_MS) == [ALPHA]
    assert middle.wake_ms() is None


def test_a_linked_centre_is_not_dialled() -> None:
    found = targets(ALPHA, BETA)
    found.up(BETA)
    assert found.due(0) == []
    assert found.next_dial_ms(BETA) is None


def test_failed_attempts_back_off_up_to_a_bound_and_success_forgets_them() -> None:
    found = targets(ALPHA, BETA)
    now_ms, waits = 0, []
    for _ in range(12):
        assert found.due(now_ms) == [BETA]
        found.failed(BETA, now_ms)
        next_ms = found.next_dial_ms(BETA)
        assert next_ms is not None
        waits.append(next_ms - now_ms)
        now_ms = next_ms
    assert BACKOFF_MS_MIN // 2 <= waits[0] <= BACKOFF_MS_MIN
    assert BACKOFF_MS_MAX // 2 <= waits[-1] <= BACKOFF_MS_MAX
    assert found.failures(BETA) == 12
    found.proved(BETA)
    assert found.failures(BETA) == 0


def test_jitter_comes_from_the_generator_alone() -> None:
    waits = []
    for seed in (1, 1, 2):
        found = targets(ALPHA, BETA, seed=seed)
        found.failed(BETA, 0)
        waits.append(found.next_dial_ms(BETA))
    assert waits[0] == waits[1] != waits[2]


def test_a_breach_costs_a_penalty_that_doubles_up_to_a_bound() -> None:
    found = targets(ALPHA, BETA)
    now_ms = 0
    for wait_ms in (PENALTY_MS_MIN, 2 * PENALTY_MS_MIN, 4 * PENALTY_MS_MIN):
        found.penalise(BETA, now_ms)
        assert found.penalised(BETA, now_ms + wait_ms - 1)
        assert not found.penalised(BETA, now_ms + wait_ms)
        now_ms += wait_ms
    for _ in range(40):
        found.penalise(BETA, now_ms)
    assert not found.penalised(BETA, now_ms + PENALTY_MS_MAX)
    assert found.due(now_ms + PENALTY_MS_MAX - 1) == []
    assert found.due(now_ms + PENALTY_MS_MAX) == [BETA]


def test_who_takes_us_for_no_member_is_dialled_rarely() -> None:
    found = targets(ALPHA, BETA)
    found.up(BETA)
    found.down(BETA, 0)
    found.rest(BETA, 0)
    assert found.due(REST_MS // 2 - 1) == []
    assert found.due(REST_MS) == [BETA]
    found.failed(BETA, REST_MS)
    assert found.due(REST_MS + BACKOFF_MS_MAX) == [BETA]


def test_a_clock_set_back_does_not_postpone_dialling() -> None:
    found = targets(ALPHA, BETA)
    found.failed(BETA, 10_000_000)
    assert found.due(0) == [BETA]


def test_a_centre_that_left_is_not_dialled() -> None:
    found = targets(ALPHA, BETA, GAMMA)
    found.set_centres([ALPHA, GAMMA])
    found.failed(BETA, 0)
    assert found.due(0) == [GAMMA]
    assert found.next_dial_ms(BETA) is None


def test_a_small_federation_is_a_full_mesh() -> None:
    found = targets(ALPHA, *MANY[:15])
    assert found.full_mesh
    assert found.due(0) == MANY[:15]
    assert found.accepts(1000)
    assert found.rotate(MANY[:15], 0) is None


def test_in_a_large_one_each_keeps_a_random_few() -> None:
    found = targets(ALPHA, *MANY)
    assert not found.full_mesh
    dialled = found.due(0)
    assert len(dialled) == SPARSE_LINKS
    assert dialled != MANY[:SPARSE_LINKS]
    assert found.due(0) == []
    assert found.wake_ms() is None
    found.failed(dialled[0], 0)
    assert len(found.due(0)) == 1
    assert not found.accepts(SPARSE_LINKS_MAX)


def test_even_in_a_large_one_everybody_can_be_sought() -> None:
    found = targets(ALPHA, *MANY)
    found.seek_everybody(True)
    assert found.due(0) == MANY
    found.seek_everybody(False)
    found.failed(MANY[0], 0)
    assert found.wake_ms() is None


def test_now_and_then_a_random_link_makes_room() -> None:
    found = targets(ALPHA, *MANY)
    linked = found.due(0)
    for centre in linked:
        found.up(centre)
    assert found.rotate(linked, 0) is None
    due_ms = found.wake_ms()
    assert due_ms is not None
    assert ROTATE_MS <= due_ms <= 2 * ROTATE_MS
    assert found.rotate(linked, due_ms) in linked
    assert found.rotate(linked, due_ms) is None


@pytest.mark.parametrize("a_was_first", [True, False])
def test_after_a_simultaneous_dial_both_ends_keep_the_same_link(a_was_first: bool) -> None:
    """One end saw the link that alpha dialled first, the other the link that beta dialled."""
    kept = []
    for me, peer in ((ALPHA, BETA), (BETA, ALPHA)):
        mine_first = (me == ALPHA) == a_was_first
        new_stays = keep_new_link(
            me=me, peer=peer, old_outbound=mine_first, new_outbound=not mine_first, same_run=True
        )
        kept.append(me if mine_first != new_stays else peer)
    assert kept == [ALPHA, ALPHA]


def test_the_link_of_a_restarted_peer_replaces_the_old_one() -> None:
    assert keep_new_link(me=ALPHA, peer=BETA, old_outbound=True, new_outbound=False, same_run=False)


def test_who_dials_again_has_lost_its_old_link() -> None:
    assert keep_new_link(me=ALPHA, peer=BETA, old_outbound=False, new_outbound=False, same_run=True)
