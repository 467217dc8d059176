"""The state is a function of the blocks: not of their order, of when it is asked, or of forking."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.ids import FeedKey
from p2pfed.core.records import ForkProof
from p2pfed.core.registers import Registers
from p2pfed.core.state import State
from p2pfed.core.units import hlc_ms
from tests.properties.ledger_worlds import CREDIT_LINES, RULES, LedgerWorld, causal_order

seeds = st.integers(0, 1 << 32)


def convict(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise AssertionError("these worlds hold no proofs")


def fresh() -> State:
    return State(RULES, CREDIT_LINES, convict)


def fold(registers: Registers, blocks: Iterable[Block]) -> None:
    for block in blocks:
        for position, record in zip(block.positions(), block.records, strict=True):
            registers.fold(position, block.time, record)


def said(registers: Registers) -> dict[str, Any]:
    """All that the registers hold, by value, and what follows for each job."""
    return {
        "offers": {key: entry.copy() for key, entry in registers.offers.items()},
        "jobs": {key: entry.copy() for key, entry in registers.jobs.items()},
        "claims": {key: entry.copy() for key, entry in registers.claims.items()},
        "by offer": {key: sorted(held) for key, held in registers.claims_by_offer.items()},
        "contacts": dict(registers.contacts),
        "verdicts": {key: registers.judge(entry) for key, entry in registers.jobs.items()},
    }


def asked(state: State, cut_ms: int) -> dict[str, Any]:
    """All that a round, the accounts and the audit read at a cut, but for what is closed."""
    state.settle(cut_ms)
    state.forget()
    return {
        "queue": [(home, [*state.queue.in_order(home)]) for home in state.queue.homes()],
        "offers": dict(state.offers()),
        "standings": [state.standing(centre, cut_ms) for centre in state.members],
        "totals": state.accounts.totals(),
        "alive": state.alive(cut_ms),
        **said(state.registers),
    }


@settings(max_examples=60, deadline=None)
@given(seeds, seeds)
def test_invariant_5_any_causal_order_of_the_blocks_gives_the_same_state(
    seed: int, order: int
) -> None:
    world = LedgerWorld(seed, 40)
    newest_ms = max(hlc_ms(block.time) for block in world.blocks)
    one, other = fresh(), fresh()
    for block in world.blocks:
        one.fold(block)
    for block in causal_order(world.blocks, order):
        other.fold(block)
    for cut_ms in (newest_ms, newest_ms + 100_000):
        assert asked(one, cut_ms) == asked(other, cut_ms)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(1, 9))
def test_invariant_5_asking_in_between_changes_nothing(seed: int, every: int) -> None:
    world = LedgerWorld(seed, 40)
    blocks = sorted(world.blocks, key=lambda block: (block.time, block.feed))
    often, once = fresh(), fresh()
    for number, block in enumerate(blocks):
        often.fold(block)
        once.fold(block)
        if number % every == 0:
            asked(often, hlc_ms(block.time))
    cut_ms = hlc_ms(blocks[-1].time)
    assert asked(often, cut_ms) == asked(once, cut_ms)


@settings(max_examples=60, deadline=None)
@given(seeds, st.integers(0, 40), st.integers(0, 40))
def test_invariant_5_a_fork_of_the_registers_goes_its_own_way(
    seed: int, forked_at: int, ahead: int
) -> None:
    """The fork runs ahead, as the live registers do, and the origin follows."""
    blocks = LedgerWorld(seed, 40).blocks
    origin = Registers(convict, RULES.max_attempts)
    fold(origin, blocks[:forked_at])
    fork = origin.fork()
    before = said(origin)
    assert said(fork) == before
    held = dict(fork.claims)
    fold(fork, blocks[forked_at:ahead])
    assert said(origin) == before
    fold(origin, blocks[forked_at:])
    fold(fork, blocks[max(ahead, forked_at) :])
    plain = Registers(convict, RULES.max_attempts)
    fold(plain, blocks)
    assert said(origin) == said(fork) == said(plain)
    # What was said of a claim that its centre never made is gone; nobody writes to it either.
    assert all(fork.claims.get(claim_id, entry) is entry for claim_id, entry in held.items())


def test_the_worlds_hold_what_the_properties_are_about() -> None:
    claims = [
        entry
        for seed in range(20)
        for state in [fresh()]
        for block in LedgerWorld(seed, 60).blocks
        if state.fold(block) is not None
        for entry in state.registers.claims.values()
    ]
    states = {entry.state.value for entry in claims}
    assert states >= {"claimed", "accepted", "leased", "started", "ended", "closed", "lost"}
    assert any(entry.claim is None for entry in claims)
    assert any(entry.settlement is not None for entry in claims)
