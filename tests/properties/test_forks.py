"""Forked feeds: whoever holds the same blocks computes the same, however they came.

Members write at random; some fork at random places, each branch shown to some members first; who
sees both writes the proof. Every node must end up with the same view, and an observer that folds
everything at once must agree with one that was told block by block.
"""

from __future__ import annotations

import random
from collections.abc import Iterable
from dataclasses import dataclass, field

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block, check_fork_proof, fork_proof
from p2pfed.core.branches import Branches, Mode, Verdict, majority
from p2pfed.core.ids import BlockId, CentreName, FeedKey
from p2pfed.core.records import Contact, ForkProof
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.view import View, in_time
from tests.writers import FEDERATION, START_MS, Writer, keys_of

NAMES = tuple(CentreName(name) for name in ("alpha", "beta", "gamma", "delta"))
KEYS = keys_of(*NAMES)


def prove(proof: ForkProof) -> tuple[FeedKey, int]:
    return check_fork_proof(proof, FEDERATION, KEYS)


@dataclass
class Centre:
    """A member: its branches (one, if it is honest) and what each has been shown."""

    tips: list[Writer]
    shown: list[dict[FeedKey, Block]] = field(default_factory=lambda: [{}])
    told: list[set[FeedKey]] = field(default_factory=lambda: [set()])


@st.composite
def histories(draw: st.DrawFn) -> tuple[int, list[Block]]:
    """How many members there are, and their blocks in an order that could have been."""
    count = draw(st.integers(1, len(NAMES)))
    centres = [Centre([Writer(name)]) for name in NAMES[:count]]
    written: list[Block] = []
    heads: dict[FeedKey, list[Block]] = {}
    for _ in range(draw(st.integers(1, 22))):
        centre = draw(st.sampled_from(centres))
        if centre is centres[0] and len(centre.tips) < 3 and draw(st.integers(0, 3)) == 0:
            at = draw(st.integers(0, len(centre.tips) - 1))
            centre.tips.append(centre.tips[at].branch())
            centre.shown.append(dict(centre.shown[at]))
            centre.told.append(set(centre.told[at]))
        at = draw(st.integers(0, len(centre.tips) - 1))
        writer, shown, told = centre.tips[at], centre.shown[at], centre.told[at]
        others = sorted(feed for feed in heads if feed.centre != writer.name)
        acked = []
        records: list[ForkProof] = []
        for feed in draw(st.sets(st.sampled_from(others))) if others else ():
            seen = draw(st.sampled_from(heads[feed]))
            before = shown.get(feed)
            if before is not None and seen.seq_num < before.seq_num:
                continue
            shown[feed] = seen
            acked.append(seen)
        for feed in others:
            rivals = rivals_of(heads[feed])
            if rivals and feed not in told and draw(st.integers(0, 4)) == 0:
                told.add(feed)
                records.append(fork_proof(*(block.header.cose for block in rivals)))
        # Another address makes the branches differ although they say nothing else.
        extra = [Contact(address=f"branch-{at}.example.org:7411")] if at else []
        block = writer.write(*sorted(acked, key=lambda b: b.feed), records=[*records, *extra])
        written.append(block)
        heads.setdefault(block.feed, []).append(block)
    return count, written


def rivals_of(blocks: list[Block]) -> list[Block]:
    """The first two different blocks at one place."""
    by_place: dict[int, Block] = {}
    for block in blocks:
        first = by_place.setdefault(block.seq_num, block)
        if first.block_id != block.block_id:
            return [first, block]
    return []


def causal_shuffle(blocks: list[Block], rng: random.Random) -> list[Block]:
    """Another order in which each block follows what it names."""
    left = list(blocks)
    done: set[BlockId] = set()
    found: list[Block] = []
    while left:
        ready = [
            b
            for b in left
            if {b.header.backlink, *(a.head.block_id for a in b.header.acks)} <= done | {None}
        ]
        block = rng.choice(ready)
        left.remove(block)
        done.add(block.block_id)
        found.append(block)
    return found


def judged(blocks: Iterable[Block], members: int) -> Verdict:
    branches = Branches([FeedKey(NAMES[0], 0)], prove)
    for block in blocks:
        branches.add(block)
    return branches.judge(NAMES[:members])


@settings(max_examples=150)
@given(histories(), st.randoms(use_true_random=False))
def test_invariant_5_the_same_blocks_give_the_same_verdict(
    history: tuple[int, list[Block]], rng: random.Random
) -> None:
    count, blocks = history
    assert judged(blocks, count) == judged(causal_shuffle(blocks, rng), count)


@settings(max_examples=150)
@given(histories())
def test_what_counts_is_one_chain_and_every_rival_has_no_majority(
    history: tuple[int, list[Block]],
) -> None:
    count, blocks = history
    verdict = judged(blocks, count)
    own = {b.block_id: b for b in blocks if b.feed.centre == NAMES[0]}
    counted = [b for b in own.values() if verdict.modes[b.block_id] is Mode.COUNTS]
    assert sorted(b.seq_num for b in counted) == list(range(len(counted)))
    for block in counted:
        backlink = block.header.backlink
        assert backlink is None or verdict.modes[backlink] is Mode.COUNTS


@settings(max_examples=150)
@given(histories())
def test_blocks_that_nobody_acked_change_nothing_of_a_forked_feed(
    history: tuple[int, list[Block]],
) -> None:
    count, blocks = history
    verdict = judged(blocks, count)
    kept = [b for b in blocks if verdict.modes.get(b.block_id) is not Mode.IGNORED]
    again = judged(kept, count)
    assert again.tips == verdict.tips
    assert all(verdict.modes[block_id] is mode for block_id, mode in again.modes.items())


def viewed(
    blocks: list[Block], members: int, rng: random.Random | None = None
) -> tuple[object, ...]:
    """What a view holds that got the blocks in this order, rounds in between or one alone."""
    history: list[Block] = []
    lines = dict.fromkeys(NAMES[:members], 1_000)
    view = View(lambda: State(Rules(), lines, prove), in_time(lambda: list(history)), prove)
    view.watch({FeedKey(NAMES[0], 0)}, {})
    for block in blocks:
        history.append(block)
        view.add(block)
        if rng is not None and rng.random() < 0.4:
            view.advance(START_MS + 1)
    view.advance(START_MS + 1)
    state = view.state
    contacts, heard = dict(state.registers.contacts), dict(state.heard)
    return view.verdict, contacts, heard, sorted(state.suspended), state.inert_count


@settings(max_examples=80)
@given(histories(), st.randoms(use_true_random=False))
def test_invariant_5_rounds_in_between_change_nothing(
    history: tuple[int, list[Block]], rng: random.Random
) -> None:
    count, blocks = history
    assert viewed(causal_shuffle(blocks, rng), count, rng) == viewed(blocks, count)


def test_the_majority_of_the_others_in_small_federations() -> None:
    assert [majority(members - 1) for members in (1, 2, 3, 4, 5)] == [0, 1, 2, 2, 3]
