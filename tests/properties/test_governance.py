"""Invariants 5 and 7 for decisions: the chain of versions is a function of the set of blocks."""

from __future__ import annotations

from itertools import pairwise
from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block
from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.progress import ProposalState, progress
from p2pfed.core.reasons import why_member, why_rules
from p2pfed.core.records import Leave, ProposalKind, WithdrawProposal
from tests.unit.core.councils import NAMES, Council, card_fields, card_of

seeds = st.integers(0, 1 << 32)


def council_of(seed: int, steps: int) -> Council:
    """Members that propose, vote (some twice), withdraw, adopt badly and well, and leave."""
    dice = Random(seed)
    council = Council(*NAMES[: dice.randint(1, 5)])
    proposals: list[Position] = []
    votes: dict[Position, list[Position]] = {}
    for _ in range(steps):
        name = dice.choice(council.names)
        council.now_ms += dice.choice((1, 300, 4_000, 20_000))
        action = dice.randrange(10)
        proposal = dice.choice(proposals) if proposals else None
        if action < 2 or proposal is None:
            proposals.append(_proposal(dice, council, name))
        elif action < 6:
            in_favour = dice.random() < 0.8
            votes.setdefault(proposal, []).extend(council.vote(proposal, name, in_favour=in_favour))
        elif action == 6:
            base = len(council.fold().versions())
            council.decide(name, proposal, *council.names, base=base)
        elif action == 7:
            base = dice.choice((1, len(council.fold().versions())))
            acked = council.names if dice.random() < 0.8 else ()
            council.adopt(name, proposal, votes.get(proposal, ()), base=base, acked_by=acked)
        elif action == 8:
            council.write(proposal.centre, WithdrawProposal(proposal_id=proposal))
        elif dice.random() < 0.2:
            council.write(name, Leave())
    return council


def _proposal(dice: Random, council: Council, name: str) -> Position:
    match dice.randrange(4):
        case 0:
            newcomer = dice.choice(("zeta", "eta"))
            return council.propose(name, ProposalKind.ADMIT, **card_fields(card_of(newcomer)))
        case 1:
            subject = dice.choice(council.names)
            return council.propose(name, ProposalKind.REMOVE, subject=subject)
        case 2:
            subject = dice.choice(council.names)
            return council.propose(name, ProposalKind.NEW_EPOCH, subject=subject, epoch=1)
        case _:
            return council.propose_rules(name, balance_points=dice.randrange(1_000))


def shuffled(dice: Random, blocks: list[Block]) -> list[Block]:
    """Another order in which each block follows its backlink and what it acks."""
    left, done, order = list(blocks), set[tuple[object, int]](), list[Block]()
    while left:
        ready = [b for b in left if _named(b) <= done]
        block = dice.choice(ready)
        left.remove(block)
        done.add((block.feed, block.seq_num))
        order.append(block)
    return order


def _named(block: Block) -> set[tuple[object, int]]:
    named: set[tuple[object, int]] = {(feed, head.seq_num) for feed, head in block.header.acks}
    if block.seq_num:
        named.add((block.feed, block.seq_num - 1))
    return named


def told(governance: Governance, cut_ms: int) -> object:
    """All that a node tells of the decisions."""
    return (
        governance.versions(),
        governance.members_at(cut_ms),
        governance.grants(),
        [progress(governance, p, cut_ms) for p in sorted(governance.proposals)],
        [why_member(governance, CentreName(n), cut_ms, suspended=False) for n in (*NAMES, "zeta")],
        why_rules(governance, cut_ms),
    )


@settings(max_examples=25, deadline=None)
@given(seeds, st.integers(5, 40))
def test_invariant_5_the_order_of_blocks_decides_nothing(seed: int, steps: int) -> None:
    council = council_of(seed, steps)
    cut_ms = council.last_ms() + 60_000
    wanted = told(council.fold(), cut_ms)
    for turn in range(3):
        assert told(council.fold(shuffled(Random(turn), council.blocks)), cut_ms) == wanted


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(5, 30), st.integers(0, 60))
def test_a_fork_of_the_registers_goes_its_own_way_to_the_same_end(
    seed: int, steps: int, at: int
) -> None:
    council = council_of(seed, steps)
    early, late = council.blocks[:at], council.blocks[at:]
    governance = council.fold(early)
    twin = governance.fork()
    before = told(governance, council.last_ms())
    council.fold(late, into=twin)
    assert told(governance, council.last_ms()) == before
    assert told(twin, council.last_ms()) == told(council.fold(), council.last_ms())


@settings(max_examples=20, deadline=None)
@given(seeds, st.integers(5, 40))
def test_every_version_was_carried_under_the_one_before_it(seed: int, steps: int) -> None:
    governance = council_of(seed, steps).fold()
    chain = governance.versions()
    for base, version in pairwise(chain):
        assert version.adopt is not None
        assert governance.void(version.adopt, chain[: base.number]) is None
        assert version.start_ms >= base.start_ms
        assert version.start_round >= base.start_round
    assert len({version.proposal_id for version in chain}) == len(chain)


def test_the_worlds_hold_decisions_of_every_fate() -> None:
    states, lengths = set(), set()
    for seed in range(16):
        council = council_of(seed, 30)
        governance = council.fold()
        cut_ms = council.last_ms() + 60_000
        lengths.add(len(governance.versions()))
        states |= {progress(governance, p, cut_ms).state for p in governance.proposals}
    assert max(lengths) >= 3
    assert states >= {
        ProposalState.OPEN,
        ProposalState.IN_FORCE,
        ProposalState.WITHDRAWN,
        ProposalState.REFUSED,
        ProposalState.IMPOSSIBLE,
    }
