"""What is over may be forgotten at any time, by any node: nobody can tell from the state."""

from __future__ import annotations

from collections.abc import Iterable
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.state import State
from p2pfed.core.statecodec import Section, dump_state, load_state
from p2pfed.core.units import hlc_ms
from tests.properties.ledger_worlds import LedgerWorld, causal_order
from tests.properties.test_state import fresh

seeds = st.integers(0, 1 << 32)
LATER_MS = 15 * 86_400_000
"""Past every deadline, and past the time that closed offers are kept."""


def newest_ms(blocks: Iterable[Block]) -> int:
    return max(hlc_ms(block.time) for block in blocks)


def dumped(state: State, cut_ms: int) -> list[Section]:
    state.settle(cut_ms)
    return dump_state(state)


def reloaded(state: State) -> State:
    again = fresh()
    load_state(dump_state(state), again)
    return again


def derived(state: State, cut_ms: int) -> object:
    """What a round reads and the state's bytes don't show."""
    return (
        [(home, [*state.queue.in_order(home)]) for home in state.queue.homes()],
        dict(state.offers()),
        [state.standing(centre, cut_ms) for centre in state.members],
        [state.committed(centre) for centre in state.members],
        state.accounts.totals(),
        state.alive(cut_ms),
    )


@settings(max_examples=30, deadline=None)
@given(seeds, seeds, st.sampled_from((0, 100_000, LATER_MS)))
def test_invariant_5_forgetting_at_any_moment_leaves_the_same_state(
    seed: int, order: int, later_ms: int
) -> None:
    """Late blocks and all: the forgetful node sees them in another order."""
    world = LedgerWorld(seed, 40)
    cut_ms = newest_ms(world.blocks) + later_ms
    keeps, forgets = fresh(), fresh()
    for block in world.blocks:
        keeps.fold(block)
    dice, seen_ms = Random(order), 0
    for block in causal_order(world.blocks, order):
        forgets.fold(block)
        seen_ms = max(seen_ms, hlc_ms(block.time))
        if dice.random() < 0.3:
            forgets.settle(seen_ms)
            forgets.forget()
    assert dumped(forgets, cut_ms) == dumped(keeps, cut_ms)
    assert derived(forgets, cut_ms) == derived(keeps, cut_ms)


@settings(max_examples=30, deadline=None)
@given(seeds, seeds, st.integers(0, 40))
def test_a_snapshot_and_what_came_after_it_is_the_whole_history(
    seed: int, order: int, taken_at: int
) -> None:
    world = LedgerWorld(seed, 40)
    blocks = [*causal_order(world.blocks, order)]
    whole, first = fresh(), fresh()
    for block in world.blocks:
        whole.fold(block)
    for block in blocks[:taken_at]:
        first.fold(block)
    first.settle(max([0, *(hlc_ms(block.time) for block in blocks[:taken_at])]))
    second = reloaded(first)
    assert dump_state(second) == dump_state(first)
    for block in blocks[taken_at:]:
        second.fold(block)
    for cut_ms in (newest_ms(blocks), newest_ms(blocks) + LATER_MS):
        assert dumped(second, cut_ms) == dumped(whole, cut_ms)
        assert derived(second, cut_ms) == derived(whole, cut_ms)


def test_the_worlds_hold_jobs_that_close() -> None:
    closed = 0
    for seed in range(20):
        state = fresh()
        for block in LedgerWorld(seed, 40).blocks:
            state.fold(block)
            state.settle(hlc_ms(block.time) + LATER_MS)
            closed += len(state.forget()[0])
    assert closed > 20
