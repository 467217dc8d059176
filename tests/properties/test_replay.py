"""A node that starts again knows what it knew, though it verifies nothing and folds once."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.ids import CentreName
from p2pfed.core.keys import key_id
from p2pfed.core.units import hlc_ms
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.ledger import Ledger
from p2pfed.node.rounds import Rounds
from p2pfed.node.turn import Turn
from p2pfed.simulate.disk import Disk
from tests.properties.ledger_worlds import CREDIT_LINES, NAMES, RULES, LedgerWorld
from tests.properties.test_state import asked, said
from tests.writers import FEDERATION, keys_of, private_key, public_key

LATER_MS = 10 * (RULES.max_skew_ms + RULES.round_ms)


def new_ledger() -> Ledger:
    name = CentreName("alpha")
    me = Identity(
        name=name, signer=private_key(name), kid=key_id(public_key(name)), address="alpha:1"
    )
    federation = Federation(
        id=FEDERATION,
        keys=keys_of(*NAMES),
        rules=RULES,
        rules_version=1,
        credit_lines=CREDIT_LINES,
        addresses={CentreName(other): f"{other}:1" for other in NAMES},
    )
    return Ledger(me, federation, Disk())


def received(blocks: Sequence[Block]) -> Ledger:
    ledger = new_ledger()
    for block in blocks:
        ledger.receive(block.data, hlc_ms(block.time))
    return ledger


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(0, 60), st.integers(0, 60))
def test_invariant_3_a_replay_leads_where_receiving_led(
    seed: int, stored: int, asked_at: int
) -> None:
    """Stopped after `stored` blocks, the live registers first read after `asked_at`."""
    blocks = LedgerWorld(seed, 60).blocks
    never_stopped = received(blocks)
    restarted = new_ledger()
    for number, block in enumerate(blocks[:stored]):
        restarted.replay(block.data)
        if number == asked_at:
            assert said(restarted.live) == said(received(blocks[: number + 1]).live)
    for block in blocks[stored:]:
        restarted.receive(block.data, hlc_ms(block.time))
    newest_ms = hlc_ms(max(block.time for block in blocks))
    for cut_ms in (newest_ms - RULES.round_ms, newest_ms, newest_ms + LATER_MS):
        for ledger in (restarted, never_stopped):
            ledger.view.advance(cut_ms)
            ledger.forget()
        assert asked(restarted.view.state, cut_ms) == asked(never_stopped.view.state, cut_ms)
        assert said(restarted.live) == said(never_stopped.live)
    assert restarted.replica.frontier() == never_stopped.replica.frontier()


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32), st.integers(-LATER_MS, LATER_MS))
def test_invariant_4_no_round_after_a_start_lies_before_what_is_folded(
    seed: int, clock_ms: int
) -> None:
    """Also with a clock that was set back while the centre was down."""
    blocks = LedgerWorld(seed, 60).blocks
    ledger = new_ledger()
    for block in blocks:
        ledger.replay(block.data)
    newest_ms = hlc_ms(max(block.time for block in blocks))
    rounds = Rounds(ledger)
    now_ms = newest_ms + clock_ms
    rounds.run(Turn(now_ms), claim=False)
    if rounds.last < 0:
        assert now_ms < rounds.due_ms()
    else:
        cut_ms = rounds.last * RULES.round_ms
        assert ledger.view.cut_ms == cut_ms
        plain = received(blocks)
        plain.view.advance(cut_ms)
        assert asked(ledger.view.state, cut_ms) == asked(plain.view.state, cut_ms)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 1 << 32))
def test_a_stored_block_is_what_was_received(seed: int) -> None:
    for block in LedgerWorld(seed, 20).blocks:
        assert decode_stored(block.data) == block
