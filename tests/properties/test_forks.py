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


@st.composite
def thefts(draw: st.DrawFn) -> tuple[list[Block], set[BlockId]]:
    """A feed whose key the members replaced, written on by a thief; and what was acked in time.

    Alpha's old feed; beta, gamma and delta ack parts of it; gamma's block at some point holds the
    decision, and whoever acks that knows it.
    """
    owner = Writer(NAMES[0])
    others = [Writer(name) for name in NAMES[1:]]
    written: list[Block] = []
    feed: list[Block] = []
    decision: Block | None = None
    shown: dict[CentreName, int] = {}
    knows: set[CentreName] = set()
    acked: dict[BlockId, set[CentreName]] = {}
    for _ in range(draw(st.integers(3, 24))):
        step = draw(st.integers(0, 3))
        if step == 0:
            block = owner.write(records=[Contact(address=f"at-{len(feed)}.example.org:1")])
            feed.append(block)
        else:
            writer = others[step - 1]
            seen = draw(st.integers(shown.get(writer.name, 0), len(feed))) if feed else 0
            named = [feed[seen - 1]] if seen > shown.get(writer.name, 0) else []
            if decision is None and writer.name == NAMES[2] and draw(st.booleans()):
                block = decision = writer.write(*named, records=[Contact(address="decided:1")])
                knows.add(writer.name)
            else:
                learns = decision is not None and writer.name not in knows and draw(st.booleans())
                if learns and decision is not None:
                    named.append(decision)
                    knows.add(writer.name)
                block = writer.write(*sorted(named, key=lambda b: b.feed))
            for old in feed[shown.get(writer.name, 0) : seen]:
                if writer.name not in knows:
                    acked.setdefault(old.block_id, set()).add(writer.name)
            shown[writer.name] = max(seen, shown.get(writer.name, 0))
        written.append(block)
    if decision is None:
        decision = others[1].write()
        written.append(decision)
    return [decision, *written], {b for b, who in acked.items() if len(who) >= majority(3)}


@settings(max_examples=120)
@given(thefts(), st.randoms(use_true_random=False))
def test_of_a_revoked_feed_counts_what_a_majority_acked_before_it_knew(
    history: tuple[list[Block], set[BlockId]], rng: random.Random
) -> None:
    (decision, *blocks), in_time = history
    feed = FeedKey(NAMES[0], 0)

    def counted(order: list[Block]) -> set[BlockId]:
        branches = Branches([feed], prove, {feed: [decision.position(0)]})
        for block in order:
            branches.add(block)
        modes = branches.judge(NAMES).modes
        return {b for b, mode in modes.items() if mode is Mode.COUNTS}

    assert counted(blocks) == in_time
    assert counted(causal_shuffle(blocks, rng)) == in_time
