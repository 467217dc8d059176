"""Merging blocks is a join: order, repetition and grouping change nothing."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.ids import Frontier
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.units import HlcTime, hlc_ms
from tests.writers import CONTACT, FEDERATION, START_MS, Writer, keys_of

NAMES = ("alpha", "beta", "gamma")
KEYS = keys_of(*NAMES)
SKEW = 60_000
FAR_MS = 1 << 47


@st.composite
def ledgers(draw: st.DrawFn) -> list[Block]:
    """Blocks of three centres in an order in which they could have been written."""
    writers = [Writer(name) for name in NAMES]
    written: list[Block] = []
    for _ in range(draw(st.integers(1, 18))):
        writer = draw(st.sampled_from(writers))
        others = {block.feed: block for block in written if block.feed != writer.feed}
        acked = draw(st.sets(st.sampled_from(sorted(others)))) if others else set()
        leap_ms = draw(st.sampled_from([0, 0, 1, 40_000, 100_000]))
        latest = max([writer.time, *(others[feed].time for feed in acked)])
        written.append(
            writer.write(
                *(others[feed] for feed in sorted(acked)),
                time=HlcTime(latest + 1 + (leap_ms << 16)),
            )
        )
    return written


def deliver(blocks: list[Block], restarts: bool = False) -> Replica:
    """A replica that got the blocks in this order, and then the time to admit them all."""
    held = Replica(FEDERATION, KEYS, SKEW)
    admitted: list[Block] = []
    for block in blocks:
        admitted += held.admit(block, START_MS).admitted
        if restarts:
            held = Replica(FEDERATION, KEYS, SKEW)
            for known in admitted:
                held.restore(known.feed, known.seq_num, known.block_id, known.time)
    while (due_ms := held.release_ms()) is not None:
        held.release(due_ms)
    return held


def cuts(blocks: list[Block]) -> list[HlcTime]:
    return sorted({HlcTime(block.time + change) for block in blocks for change in (-1, 0)})


@settings(max_examples=150)
@given(ledgers(), st.randoms(use_true_random=False))
def test_invariant_5_any_order_and_repetition_gives_the_same_replica(
    blocks: list[Block], rng: random.Random
) -> None:
    straight = deliver(blocks)
    mixed = [*blocks, *rng.sample(blocks, rng.randrange(len(blocks)))]
    rng.shuffle(mixed)
    shuffled = deliver(mixed)
    newest: Frontier = {block.feed: block.head for block in blocks}
    assert straight.frontier() == shuffled.frontier() == newest
    assert shuffled.waiting() == (0, 0)
    for cut in cuts(blocks):
        ours, theirs = straight.cut_frontier(cut), shuffled.cut_frontier(cut)
        assert view_digest(ours) == view_digest(theirs)


@settings(max_examples=100)
@given(ledgers(), st.data())
def test_invariant_5_two_replicas_that_exchange_what_they_lack_end_up_equal(
    blocks: list[Block], data: st.DataObject
) -> None:
    parts = [data.draw(st.lists(st.sampled_from(blocks), unique_by=id)) for _ in range(2)]
    one, two = (deliver(part) for part in parts)
    by_place = {(block.feed, block.seq_num): block for block in blocks}
    while one.frontier() != two.frontier():
        for held, other in ((one, two), (two, one)):
            wanted = held.lacking(other.frontier())
            for feed, from_seq, to_seq in wanted:
                for seq_num in range(from_seq, to_seq + 1):
                    held.admit(by_place[feed, seq_num], FAR_MS)
            assert held.lacking(other.frontier()) == ()
    for part in parts:
        for block in deliver(part).frontier().items():
            assert one.frontier()[block[0]] >= block[1]


@settings(max_examples=100)
@given(ledgers(), st.randoms(use_true_random=False))
def test_invariant_4_every_cut_is_causally_closed(blocks: list[Block], rng: random.Random) -> None:
    rng.shuffle(blocks)
    held = deliver(blocks)
    for cut in cuts(blocks):
        frontier = held.cut_frontier(cut)
        for block in blocks:
            if block.feed in frontier and block.seq_num <= frontier[block.feed].seq_num:
                assert block.time <= cut
                for ack in block.header.acks:
                    assert frontier[ack.feed].seq_num >= ack.head.seq_num
            else:
                assert block.time > cut


@settings(max_examples=100)
@given(ledgers(), st.randoms(use_true_random=False))
def test_invariant_5_a_restart_after_every_block_changes_nothing(
    blocks: list[Block], rng: random.Random
) -> None:
    rng.shuffle(blocks)
    blocks.sort(key=lambda block: block.time)
    in_time = [block for block in blocks if hlc_ms(block.time) <= START_MS + SKEW]
    assert deliver(in_time, restarts=True).frontier() == deliver(in_time).frontier()


@settings(max_examples=100)
@given(ledgers(), st.integers(0, 3), st.randoms(use_true_random=False))
def test_invariant_6_a_fork_costs_only_its_author(
    blocks: list[Block], fork_at: int, rng: random.Random
) -> None:
    """Honest feeds converge, whatever branch each replica saw first and whichever was acked."""
    writer = Writer("mallory")
    trunk = [writer.write() for _ in range(fork_at)]
    other = writer.branch()
    branches = [
        [*trunk, writer.write(), writer.write()],
        [*trunk, other.write(records=[CONTACT]), other.write()],
    ]
    honest = Writer("delta")
    witnesses = [honest.write(branches[0][-1]), honest.write(branches[1][-1]), honest.write()]
    keys = keys_of(*NAMES, "mallory", "delta")
    everything = [*blocks, *branches[0], *branches[1], *witnesses]
    by_place: dict[object, list[Block]] = {}
    for block in everything:
        by_place.setdefault((block.feed, block.seq_num), []).append(block)
    rng.shuffle(everything)
    held = Replica(FEDERATION, keys, FAR_MS)
    proven = False
    queue = everything
    while queue:
        found = held.admit(queue.pop(), START_MS)
        proven = proven or any(fork.proof for fork in found.forks)
        assert not found.refused
        for wanted in held.awaited() if not queue else ():
            queue += by_place[wanted.feed, wanted.seq_num]
    frontier = held.frontier()
    assert proven
    assert held.forked() == (writer.feed,)
    assert frontier.pop(writer.feed).seq_num == fork_at + 1
    newest = {block.feed: block.head for block in [*blocks, *witnesses]}
    assert frontier == newest
    assert held.waiting() == (0, 0)
