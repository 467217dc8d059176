"""Invariants 6 and 7 of the state: what is said without right counts for nothing, and what counts
can be counted again from the blocks alone."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.entries import outcome_of
from p2pfed.core.ids import CentreName, FeedKey, Position
from p2pfed.core.records import (
    CHARGED_OUTCOMES,
    Accept,
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    ForkProof,
    Handover,
    Inert,
    Job,
    Lost,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    Receipt,
    Record,
    Release,
    Start,
)
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, day_of, hlc, hlc_ms
from p2pfed.errors import InputError
from tests.properties.ledger_worlds import CREDIT_LINES, NAMES, RULES, LedgerWorld
from tests.writers import START_MS, Writer

seeds = st.integers(0, 1 << 32)
Recorder = Callable[[tuple[Position, ...]], Record]
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=4,
    memory_mib_per_node=1_024,
    walltime_s=600,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)
OFFER = Offer(
    resource_class="cpu",
    nodes=9,
    cores_per_node=4,
    memory_mib_per_node=8_192,
    walltime_max_s=7_200,
)
STRANGER = CentreName("gamma")


def proves_nothing(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise InputError("fork-proof-same", "the two headers are the same block")


def folded(blocks: Iterable[Block], cut_ms: int) -> State:
    state = State(RULES, CREDIT_LINES, proves_nothing)
    for block in blocks:
        state.fold(block)
    state.settle(cut_ms)
    return state


def counts(state: State, cut_ms: int) -> dict[str, Any]:
    """All that a round and the accounts read."""
    registers = state.registers
    return {
        "queue": [(home, [*state.queue.in_order(home)]) for home in state.queue.homes()],
        "offers": dict(state.offers()),
        "standings": [state.standing(centre, cut_ms) for centre in state.members],
        "alive": state.alive(cut_ms),
        "suspended": set(registers.suspended),
        "verdicts": {key: registers.judge(entry) for key, entry in registers.jobs.items()},
        "claims": {key: entry.state for key, entry in registers.claims.items() if entry.claim},
    }


def meddling(dice: Random, blocks: list[Block]) -> Record | Inert:
    """A record that its author has no right to: about what is another's, or about nothing."""
    positions = [p for block in blocks for p in block.positions() if p.centre != STRANGER]
    named = dice.choice(positions) if positions else Position(CentreName("alpha"), 0, 0, 0)
    absent = Position(CentreName("beta"), 0, 1 << 40, 0)
    about = dice.choice((named, named, absent))
    return dice.choice(
        (
            Inert("record-type-unknown", "record type 99"),
            Cancel(job_id=about),
            OfferClose(offer_id=about),
            OfferUpdate(offer_id=about, nodes=9, walltime_max_s=9),
            Release(claim_id=about, reason="x"),
            Handover(claim_id=about, lease_until_ms=1 << 40),
            Lost(claim_id=about),
            Receipt(claim_id=about, core_s=1),
            Accept(claim_id=absent, accept_until_ms=1 << 40),
            Close(claim_id=absent, reason="x"),
            Start(claim_id=absent, native_name="x"),
            End(claim_id=absent, outcome=1, started_ms=0, ended_ms=0, core_s=1 << 40),
            ForkProof(first=b"a", second=b"b"),
        )
    )


@settings(max_examples=60)
@given(seeds, seeds)
def test_invariant_6_records_without_right_change_nothing_that_counts(
    seed: int, meddler: int
) -> None:
    """Each of the stranger's blocks says more than it may, after all that it may say."""
    blocks = LedgerWorld(seed, 40).blocks
    dice = Random(meddler)
    cut_ms = max(hlc_ms(block.time) for block in blocks) + 1
    noisy = [
        replace(
            block,
            records=(
                *block.records,
                *(meddling(dice, blocks[:number]) for _ in range(dice.randint(0, 4))),
            ),
        )
        if block.feed.centre == STRANGER
        else block
        for number, block in enumerate(blocks)
    ]
    assert counts(folded(blocks, cut_ms), cut_ms) == counts(folded(noisy, cut_ms), cut_ms)


def attempt(dice: Random, offers: list[Position]) -> Iterator[tuple[str, Recorder]]:
    """One job's way to its end: who writes next, and what, given the ids of job and claim."""
    offer_id = dice.choice(offers)
    home = dice.choice([name for name in NAMES if name != offer_id.centre])
    host = str(offer_id.centre)
    settlements = (
        lambda ids: Receipt(claim_id=ids[1], core_s=dice.randint(0, 9_000)),
        lambda ids: Dispute(claim_id=ids[1], core_s=dice.randint(0, 9_000), reason="less"),
    )
    yield home, lambda ids: replace(JOB, nodes=dice.randint(1, 3))
    yield (
        home,
        lambda ids: Claim(
            job_id=ids[0],
            offer_id=offer_id,
            attempt=1,
            round=0,
            rules_version=1,
            view_digest=bytes(32),
            claim_until_ms=START_MS,
        ),
    )
    yield host, lambda ids: Accept(claim_id=ids[1], accept_until_ms=START_MS)
    yield home, lambda ids: Handover(claim_id=ids[1], lease_until_ms=START_MS)
    yield host, lambda ids: Start(claim_id=ids[1], native_name="native")
    if dice.random() < 0.2:
        yield home, lambda ids: Cancel(job_id=ids[0])
    if dice.random() < 0.2:
        yield home, lambda ids: Lost(claim_id=ids[1])
    if dice.random() < 0.2:
        yield home, dice.choice(settlements)
    yield (
        host,
        lambda ids: End(
            claim_id=ids[1],
            outcome=int(dice.choice((1, 1, 1, *Outcome))),
            started_ms=START_MS,
            ended_ms=START_MS,
            core_s=dice.randint(0, 9_000),
        ),
    )
    if dice.random() < 0.8:
        yield home, dice.choice(settlements)
    if dice.random() < 0.2:
        yield home, lambda ids: Cancel(job_id=ids[0])


def usage_world(seed: int, attempts: int) -> list[Block]:
    """Blocks, in the order of their times, of attempts that overlap."""
    dice = Random(seed)
    writers = {name: Writer(name) for name in NAMES}
    opened = {name: writers[name].write(records=[OFFER]) for name in NAMES}
    blocks = list(opened.values())
    offers = [block.position(0) for block in blocks]
    going = [(attempt(dice, offers), list[Position]()) for _ in range(attempts)]
    now_ms = START_MS
    while going:
        now_ms += dice.choice((10, 1_000, 9_000, 40_000))
        steps, ids = dice.choice(going)
        step = next(steps, None)
        if step is None:
            going.remove((steps, ids))
            continue
        author, record = step
        time = HlcTime(hlc(now_ms))
        block = writers[author].write(records=[record(tuple(ids))], time=time, acks={})
        ids.append(block.position(0))
        blocks.append(block)
    return blocks


def used_by_definition(state: State, cut_ms: int) -> dict[tuple[CentreName, int], int]:
    """What each home used on each day, from the registers alone, with no thought for speed."""
    used: dict[tuple[CentreName, int], int] = defaultdict(int)
    for entry in state.registers.claims.values():
        job, end, ended = state.registers.job_of(entry.claim_id), entry.host_side.end, 0
        if job is None or end is None or outcome_of(entry, job) not in CHARGED_OUTCOMES:
            continue
        ended = entry.host_side.ended
        deadline_ms = hlc_ms(ended) + RULES.receipt_deadline_ms
        amount = min(end.core_s, job.job.nodes * job.job.cores_per_node * job.job.walltime_s)
        settlement, dispute = entry.settlement, entry.dispute
        if dispute and ended < entry.disputed and hlc_ms(entry.disputed) <= deadline_ms:
            amount = min(amount, dispute.core_s)
        elif settlement and ended < entry.settled and hlc_ms(entry.settled) <= deadline_ms:
            amount = min(amount, settlement.core_s)
        elif cut_ms < deadline_ms:
            continue
        used[entry.home, day_of(hlc_ms(ended))] += amount
    return {key: amount for key, amount in used.items() if amount}


@settings(max_examples=50)
@given(seeds, st.integers(0, 100_000), st.integers(1, 5))
def test_invariant_7_usage_counted_as_blocks_come_is_usage_counted_at_the_end(
    seed: int, later_ms: int, every: int
) -> None:
    blocks = usage_world(seed, 8)
    cut_ms = hlc_ms(blocks[-1].time) + later_ms
    state = State(RULES, CREDIT_LINES, proves_nothing)
    for number, block in enumerate(blocks):
        if number % every == 0:
            state.settle(hlc_ms(block.time) - 1)
            state.committed(block.feed.centre)
        state.fold(block)
    state.settle(cut_ms)
    counters = state.accounts.counters()
    counted = {(k.writer, k.day): v.consumed for k, v in counters.items() if v.consumed}
    assert counted == used_by_definition(state, cut_ms)
    again = folded(blocks, cut_ms)
    assert counters == again.accounts.counters()
    for centre in state.members:
        assert state.standing(centre, cut_ms) == again.standing(centre, cut_ms)


def test_the_worlds_hold_usage_of_every_fate() -> None:
    fates = set()
    for seed in range(20):
        blocks = usage_world(seed, 8)
        cut_ms = hlc_ms(blocks[-1].time)
        state = folded(blocks, cut_ms)
        for entry in state.registers.claims.values():
            end, settlement = entry.host_side.ended, type(entry.settlement).__name__
            late = hlc_ms(entry.settled) - hlc_ms(end) > RULES.receipt_deadline_ms
            fates.add((settlement, "early" if entry.settled < end else "late" if late else ""))
        assert used_by_definition(state, cut_ms)
    both = {(kind, when) for kind in ("Receipt", "Dispute") for when in ("early", "late", "")}
    assert both <= fates
