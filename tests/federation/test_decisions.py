"""Decisions of simulated federations: whoever holds the same blocks lives by the same version."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest

from p2pfed.core.entries import OfferEntry
from p2pfed.core.ids import CentreName
from p2pfed.core.progress import ProposalState, progress
from p2pfed.core.records import Leave, ProposalKind, WithdrawProposal
from p2pfed.errors import P2pfedError
from p2pfed.simulate.world import World
from tests.federation.councils import (
    NAMES,
    agreed,
    governance_of,
    propose,
    propose_rules,
    say,
    versions,
    vote,
)
from tests.federation.scenarios import (
    CALM,
    RULES,
    UNKIND,
    busy_federation,
    heal,
    job,
    offer,
    settled,
    states,
)

DECIDING = replace(RULES, notice_rounds=4)
A, B, C, D, E = NAMES[:5]


def federation(seed: int, centres: int) -> World:
    world = World(seed, centres, DECIDING, CALM)
    assert world.run(20_000, world.all_up)
    world.run(3_000)
    return world


@pytest.mark.parametrize("seed", range(3))
def test_rules_change_under_load_and_no_job_is_lost_or_run_twice(seed: int) -> None:
    world = busy_federation(seed, UNKIND, jobs=16)
    world.run(4_000)
    world.faults = CALM
    assert world.run(20_000, world.all_up)
    proposal = propose_rules(world, A, round_ms=2_000, balance_points=7, claim_wait_ms=6_000)
    vote(world, proposal, B, C)
    assert world.run(90_000, lambda: agreed(world, 2)), versions(world)
    assert versions(world)[0][2].round_ms == 2_000
    heal(world)
    assert set(states(world).values()) == {"completed"}


def test_a_claim_under_old_rules_is_declined_kindly_and_its_job_runs_all_the_same() -> None:
    world = federation(1, 3)
    world.open_offer(A, offer())
    proposal = propose_rules(world, A, balance_points=9)
    vote(world, proposal, B)
    assert world.run(20_000, lambda: len(governance_of(world, C).versions()) == 2)
    start_ms = governance_of(world, C).versions()[1].start_ms
    for number in range(40):
        world.at(start_ms - 2_000 + number * 100, partial(_submit, world, number))
    assert world.run(200_000, lambda: len(states(world, B)) == 40 and settled(world))
    world.checks.at_the_end()
    assert set(states(world, B).values()) == {"completed"}


def test_votes_cross_a_partition_and_both_sides_agree_when_it_heals() -> None:
    world = federation(2, 5)
    world.network.part({A, B}, {C, D, E})
    proposal = propose_rules(world, A, balance_points=11)
    vote(world, proposal, B)
    world.run(20_000)
    assert {number for number, _, _ in versions(world)} == {1}
    world.network.severed.clear()
    vote(world, proposal, D)
    assert world.run(60_000, lambda: agreed(world, 2)), versions(world)


def test_who_learns_of_a_version_late_switches_and_holds_the_same_state() -> None:
    world = federation(3, 4)
    world.open_offer(A, offer())
    world.network.part({A, B, C}, {D})
    proposal = propose_rules(world, A, idle_rate_ppm=500_000, offer_lease_ms=4_000)
    vote(world, proposal, B, C)
    assert world.run(40_000, lambda: versions(world, A)[0][0] == 2)
    world.run(10_000)
    assert versions(world, D)[0][0] == 1
    world.network.severed.clear()
    assert world.run(60_000, lambda: agreed(world, 2)), versions(world)
    world.run(10_000)
    world.checks.at_the_end()


def test_a_member_is_removed_while_its_jobs_run_elsewhere() -> None:
    world = federation(4, 4)
    world.open_offer(A, offer())
    world.submit(D, job(1, walltime_s=20))
    assert world.run(30_000, lambda: "started" in states(world, A).values())
    removal = propose(world, A, ProposalKind.REMOVE, subject=D)
    vote(world, removal, B)
    assert world.run(60_000, lambda: versions(world, A)[0][1] == (A, B, C))
    world.submit(D, job(2))
    assert world.run(60_000, lambda: "completed" in states(world, A).values())
    world.run(10_000)
    assert "started" not in states(world, D).values()
    assert len(world.runs) == 1
    assert all(members == (A, B, C) for _, members, _ in versions(world))


def test_who_leaves_needs_nobody_and_what_runs_goes_on() -> None:
    world = federation(5, 3)
    world.open_offer(C, offer())
    world.submit(A, job(1, walltime_s=10))
    assert world.run(30_000, lambda: "started" in states(world, A).values())
    assert isinstance(say(world, C, Leave(reason="moving")), str)
    assert world.run(30_000, lambda: all(m == (A, B) for _, m, _ in versions(world)))
    assert world.run(60_000, lambda: set(states(world, A).values()) == {"completed"})
    assert all(o.closed for o in _live_offers(world, A) if o.host == C)
    refused = say(world, C, WithdrawProposal(proposal_id=propose_rules(world, A, reserve_depth=2)))
    assert isinstance(refused, P2pfedError)
    assert refused.code == "not-a-member"


def _submit(world: World, number: int) -> None:
    world.submit(B, job(number))


def _live_offers(world: World, name: CentreName) -> list[OfferEntry]:
    node = world.centres[name].node
    assert node is not None
    return list(node.ledger.live.offers.values())


def test_two_proposals_adopted_at_once_take_effect_one_after_the_other() -> None:
    world = federation(6, 3)
    first = propose_rules(world, A, balance_points=21)
    second = propose_rules(world, B, balance_points=22)
    vote(world, first, C)
    vote(world, second, C)
    assert world.run(90_000, lambda: agreed(world, 3)), versions(world)
    assert {first, second} == {v.proposal_id for v in governance_of(world, C).versions()[1:]}


def test_a_proposal_that_can_not_be_carried_any_more_ends() -> None:
    world = federation(7, 3)
    proposal = propose_rules(world, A, balance_points=31)
    vote(world, proposal, B, C, in_favour=False)
    world.run(5_000)
    for name in world.centres:
        found = progress(governance_of(world, name), proposal, world.now_ms)
        assert found.state is ProposalState.REFUSED
    late = propose_rules(world, A, balance_points=32)
    world.run(70_000)
    for name in world.centres:
        assert progress(governance_of(world, name), late, world.now_ms).state is (
            ProposalState.EXPIRED
        )
    assert agreed(world, 1)


def test_clocks_of_voters_may_differ_by_what_is_allowed() -> None:
    world = federation(8, 4)
    for name, offset_ms in ((A, 450), (B, -450), (C, 4_500), (D, -450)):
        world.centres[name].clock_offset_ms = offset_ms
    proposal = propose_rules(world, A, balance_points=41)
    vote(world, proposal, B, C)
    assert world.run(90_000, lambda: agreed(world, 2)), versions(world)


def test_of_two_members_with_one_down_nothing_is_decided() -> None:
    world = federation(9, 2)
    world.crash(B, down_ms=60_000)
    proposal = propose_rules(world, A, balance_points=51)
    world.run(50_000)
    assert versions(world, A)[0][0] == 1
    assert world.run(20_000, world.all_up)
    assert progress(governance_of(world, A), proposal, world.now_ms).state in (
        ProposalState.OPEN,
        ProposalState.EXPIRED,
    )


def test_a_federation_of_one_changes_its_rules_alone() -> None:
    world = federation(10, 1)
    propose_rules(world, A, balance_points=61)
    assert world.run(40_000, lambda: agreed(world, 2))
