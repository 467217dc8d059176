"""The hard cases of deciding together, between nodes; and each node can show why it is so.

docs/reference/governance.md lists all such cases with the tests that hold them.
"""

from __future__ import annotations

import copy
import json

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.charter import Card, write_card
from p2pfed.core.ids import CentreName, Position, PublicKey
from p2pfed.core.progress import ProposalState, progress
from p2pfed.core.reasons import why_member, why_rules
from p2pfed.core.records import ProposalKind, Vote
from p2pfed.simulate.world import World
from tests.federation.councils import (
    governance_of,
    node_of,
    propose,
    propose_rules,
    say,
    versions,
    vote,
)
from tests.federation.test_decisions import A, B, C, D, E, federation


def alike(world: World, *away: CentreName) -> bool:
    """Whether all centres tell the same of members and rules, and the same reasons."""
    told = []
    for name in world.centres:
        if name in away:
            continue
        ledger = node_of(world, name).ledger
        governance, cut_ms = ledger.view.state.governance, ledger.view.cut_ms
        told.append(
            (
                governance.versions(),
                [
                    why_member(governance, c, cut_ms, suspended=c in ledger.live.suspended)
                    for c in sorted(world.centres)
                ],
                why_rules(governance, cut_ms),
            )
        )
    return all(other == told[0] for other in told)


def in_force(world: World, proposal: Position, *away: CentreName) -> bool:
    """Whether every centre lives by the proposal, and all tell alike."""
    for name in world.centres.keys() - set(away):
        governance = governance_of(world, name)
        if proposal not in governance.proposals:
            return False
        cut_ms = node_of(world, name).ledger.view.cut_ms
        if progress(governance, proposal, cut_ms).state is not ProposalState.IN_FORCE:
            return False
    return alike(world, *away)


def test_a_vote_that_arrives_after_the_notice_moves_nothing() -> None:
    world = federation(21, 4)
    proposal = propose_rules(world, A, balance_points=71)
    vote(world, proposal, B)
    world.run(3_000)
    world.network.part({A, B, C}, {D})
    vote(world, proposal, C)
    assert isinstance(say(world, D, Vote(proposal_id=proposal, in_favour=False)), str)
    assert world.run(40_000, lambda: versions(world, A)[0][0] == 2)
    world.run(10_000)
    world.network.severed.clear()
    assert world.run(60_000, lambda: in_force(world, proposal)), versions(world)
    for name in (A, B, C, D):
        ballots = governance_of(world, name).ballots(proposal)
        assert {c: ballot.in_favour for c, ballot in ballots.items()} == {
            A: True,
            B: True,
            C: True,
            D: False,
        }


def test_of_two_adopts_on_two_sides_of_a_partition_the_lower_round_wins_everywhere() -> None:
    world = federation(22, 5)
    proposal = propose_rules(world, A, balance_points=72)
    vote(world, proposal, E)
    world.run(3_000)
    world.network.part({A, B}, {C, D, E})
    vote(world, proposal, B, C)
    assert world.run(60_000, lambda: {v[0] for v in versions(world)} == {2}), versions(world)
    sides = [governance_of(world, name).versions()[1] for name in (A, C)]
    assert sides[0].adopt != sides[1].adopt
    assert sides[0].start_round != sides[1].start_round
    assert not alike(world)
    world.network.severed.clear()
    assert world.run(60_000, lambda: in_force(world, proposal)), versions(world)
    (winner,) = {governance_of(world, name).versions()[1].adopt for name in world.centres}
    first = min(sides, key=lambda version: (version.start_round, version.adopt or ()))
    assert winner == first.adopt
    reasons = why_rules(governance_of(world, D), node_of(world, D).ledger.view.cut_ms).reasons
    assert any("adopts nothing" in reason for reason in reasons)


def test_a_centre_that_forks_to_vote_both_ways_is_counted_alike_by_all() -> None:
    world = federation(23, 5)
    forker = world.centres[E]
    forker.honest = False
    proposal = propose_rules(world, A, balance_points=73)
    world.run(3_000)
    snapshot = copy.deepcopy(forker.disk)
    for seen_by, in_favour in (({A, B}, True), ({C, D}, False)):
        others = {A, B, C, D} - seen_by
        world.network.severed.clear()
        world.network.part({E}, others)
        world.network.part(seen_by, others)
        assert world.run(20_000, lambda: forker.up)
        vote(world, proposal, E, in_favour=in_favour)
        world.run(6_000)
        if in_favour:
            world.network.part({E}, seen_by)
            world.crash(E, down_ms=1_000)
            forker.disk.blocks, forker.disk.mark = snapshot.blocks, snapshot.mark
            forker.disk.local = snapshot.local
    world.network.severed.clear()
    vote(world, proposal, B, C)
    assert world.run(90_000, lambda: in_force(world, proposal, E)), versions(world, A, B, C, D)
    assert E in node_of(world, A).ledger.live.suspended
    assert "suspended" in str(
        why_member(governance_of(world, C), E, node_of(world, C).ledger.view.cut_ms, suspended=True)
    )


def renewed(world: World, name: CentreName, seed: int) -> dict[str, object]:
    """Gives a centre that is down another key; the fields of a proposal with its new card."""
    centre = world.centres[name]
    centre.key = Ed25519PrivateKey.from_private_bytes(bytes([seed]) * 32)
    centre.public_key = PublicKey(centre.key.public_key().public_bytes_raw())
    card = Card(name=name, public_key=centre.public_key, address=f"{name}:1", credit_line=1_000)
    written = json.loads(write_card(card, centre.key))
    return {
        "subject": name,
        "epoch": 1,
        "public_key": card.public_key,
        "address": card.address,
        "credit_line": card.credit_line,
        "card_signature": bytes.fromhex(written["signature"]),
    }


def test_a_removed_centre_comes_back_with_another_key() -> None:
    world = federation(24, 4)
    removal = propose(world, A, ProposalKind.REMOVE, subject=D)
    vote(world, removal, B)
    assert world.run(60_000, lambda: in_force(world, removal, D))
    world.crash(D, down_ms=1_000)
    back = propose(world, B, ProposalKind.READMIT, **renewed(world, D, 7))
    vote(world, back, A, C)
    assert world.run(120_000, lambda: world.all_up() and in_force(world, back)), versions(world)
    member = governance_of(world, A).members_at(node_of(world, A).ledger.view.cut_ms)[D]
    assert (member.epoch, member.public_key) == (1, world.centres[D].public_key)
    assert node_of(world, D).me.epoch == 1
    world.run(5_000)
    assert D in node_of(world, A).ledger.view.state.alive(node_of(world, A).ledger.view.cut_ms)


def test_a_replaced_key_takes_over_between_nodes_and_the_old_feed_stays_on_record() -> None:
    world = federation(25, 3)
    world.crash(C, down_ms=15_000)
    replacing = propose(world, A, ProposalKind.REPLACE_KEY, **renewed(world, C, 9))
    vote(world, replacing, B)
    assert world.run(120_000, lambda: world.all_up() and in_force(world, replacing))
    world.run(5_000)
    for name in (A, B):
        ledger = node_of(world, name).ledger
        assert world.centres[name].trusted[C] == world.centres[C].public_key
        assert {f.epoch for f in ledger.replica.frontier() if f.centre == C} == {0, 1}
        assert C in ledger.view.state.alive(ledger.view.cut_ms)
