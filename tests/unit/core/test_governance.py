"""The chain of versions: what the members decided, from their records alone."""

from __future__ import annotations

import pytest

from p2pfed.core.ids import CentreName, FeedKey, Position
from p2pfed.core.proposals import votes_needed
from p2pfed.core.records import Leave, ProposalKind, WithdrawProposal
from p2pfed.core.units import hlc
from tests.unit.core.councils import NAMES, RULES, Council, card_fields, card_of
from tests.writers import START_MS

ALPHA, BETA, ZETA = CentreName("alpha"), CentreName("beta"), CentreName("zeta")


def admission(council: Council, proposer: str = "alpha", name: str = "zeta") -> Position:
    return council.propose(proposer, ProposalKind.ADMIT, **card_fields(card_of(name)))


def test_the_charter_is_the_first_version() -> None:
    (version,) = Council("alpha", "beta").fold().versions()
    assert (version.number, version.rules_version, version.rules) == (1, 1, RULES)
    assert list(version.members) == ["alpha", "beta"]


def test_a_newcomer_is_a_member_from_the_effective_round_on() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    adopt = council.adopt("beta", proposal, votes)
    version = council.fold().versions()[-1]
    member = version.members[ZETA]
    assert (member.adopt, member.votes) == (adopt, tuple(sorted(votes)))
    assert (member.since_ms, member.feed) == (version.start_ms, FeedKey(ZETA, 0))
    assert ZETA not in council.fold().members_at(version.start_ms - 1)
    assert ZETA in council.fold().members_at(version.start_ms)
    assert [g.feed for g in council.fold().grants()] == [FeedKey(ZETA, 0)]


def test_too_few_votes_adopt_nothing() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    council.adopt("alpha", proposal, council.vote(proposal, "alpha"))
    assert len(council.fold().versions()) == 1


def test_a_vote_that_was_changed_counts_as_it_first_was() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    no = council.vote(proposal, "beta", in_favour=False)
    yes = council.vote(proposal, "beta", "alpha")
    assert no
    council.adopt("alpha", proposal, yes)
    assert len(council.fold().versions()) == 1


def test_an_adopt_takes_effect_no_sooner_than_the_notice() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    own_round = council.now_ms // RULES.round_ms
    soon = council.adopt("alpha", proposal, votes, effective_round=own_round + 9)
    late = council.adopt("alpha", proposal, votes, effective_round=own_round + 1_000)
    governance = council.fold()
    assert len(governance.versions()) == 1
    assert "sooner than the notice" in str(governance.void(soon, governance.versions()))
    assert "too long after" in str(governance.void(late, governance.versions()))


def test_an_adopt_that_nobody_acked_before_it_takes_effect_makes_no_version() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    council.adopt("alpha", proposal, votes, acked_by=())
    council.wait(60)
    council.write("beta")
    council.write("gamma")
    assert len(council.fold().versions()) == 1


def test_of_two_adopts_with_different_rounds_the_lower_round_wins() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    round_now = council.now_ms // RULES.round_ms
    council.adopt("alpha", proposal, votes, effective_round=round_now + 20)
    lower = council.adopt("beta", proposal, votes, effective_round=round_now + 15)
    chain = council.fold().versions()
    assert [v.adopt for v in chain] == [None, lower]
    assert chain[1].start_round == round_now + 15


def test_of_two_proposals_adopted_at_once_one_wins_and_the_other_can_follow_it() -> None:
    council = Council("alpha", "beta", "gamma")
    first = council.propose_rules("alpha", balance_points=1)
    second = council.propose_rules("beta", balance_points=2)
    votes = [council.vote(p, "alpha", "beta") for p in (first, second)]
    round_now = council.now_ms // RULES.round_ms
    council.adopt("alpha", first, votes[0], effective_round=round_now + 15)
    council.adopt("beta", second, votes[1], effective_round=round_now + 15)
    chain = council.fold().versions()
    assert [v.rules.balance_points for v in chain] == [500, 1]
    council.adopt("beta", second, votes[1], base=2)
    chain = council.fold().versions()
    assert [v.rules.balance_points for v in chain] == [500, 1, 2]
    assert [v.rules_version for v in chain] == [1, 2, 3]


def test_a_removal_takes_two_votes_and_the_subject_has_none() -> None:
    council = Council("alpha", "beta", "gamma")
    removal = council.propose("alpha", ProposalKind.REMOVE, subject="gamma")
    own = council.vote(removal, "alpha", "gamma")
    council.adopt("alpha", removal, own)
    assert "gamma" in council.fold().versions()[-1].members
    council.adopt("alpha", removal, [*own, *council.vote(removal, "beta")])
    assert list(council.fold().versions()[-1].members) == ["alpha", "beta"]


def test_of_two_members_neither_can_expel_the_other() -> None:
    council = Council("alpha", "beta")
    removal = council.propose("alpha", ProposalKind.REMOVE, subject="beta")
    council.adopt("alpha", removal, council.vote(removal, "alpha", "beta"))
    assert len(council.fold().versions()) == 1


def test_a_federation_of_one_decides_alone() -> None:
    council = Council("alpha")
    council.decide("alpha", admission(council), "alpha")
    assert list(council.fold().versions()[-1].members) == ["alpha", "zeta"]


def test_who_has_left_is_no_member_and_has_no_vote() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "gamma")
    council.write("gamma", Leave(reason="moved"))
    council.adopt("alpha", proposal, votes)
    governance = council.fold()
    assert list(governance.members_at(council.now_ms)) == ["alpha", "beta"]
    assert len(governance.versions()) == 1, "one vote of two is left"
    council.adopt("alpha", proposal, [*votes, *council.vote(proposal, "beta")])
    assert list(council.fold().versions()[-1].members) == ["alpha", "beta", "zeta"]


def test_a_former_member_comes_back_with_its_next_epoch() -> None:
    council = Council("alpha", "beta", "gamma")
    council.write("gamma", Leave())
    again = council.propose("alpha", ProposalKind.ADMIT, **card_fields(card_of("gamma")))
    council.decide("alpha", again, "alpha", "beta")
    assert len(council.fold().versions()) == 1, "it was a member before"
    back = council.propose(
        "alpha",
        ProposalKind.READMIT,
        epoch=1,
        **card_fields(card_of("gamma", "gamma two"), "gamma two"),
    )
    council.decide("alpha", back, "alpha", "beta")
    governance = council.fold()
    assert governance.members_at(council.now_ms)[CentreName("gamma")].epoch == 1


def test_a_proposal_of_someone_who_is_no_member_any_more_is_not_adopted() -> None:
    council = Council("alpha", "beta", "gamma", "delta")
    proposal = admission(council, "delta")
    votes = council.vote(proposal, "alpha", "beta", "gamma")
    removal = council.propose("alpha", ProposalKind.REMOVE, subject="delta")
    council.decide("alpha", removal, "alpha", "beta", "gamma")
    adopt = council.adopt("alpha", proposal, votes, base=2)
    governance = council.fold()
    assert [v.number for v in governance.versions()] == [1, 2]
    assert "its proposer delta" in str(governance.void(adopt, governance.versions()))


def test_a_withdrawn_proposal_is_not_adopted() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    council.write("alpha", WithdrawProposal(proposal_id=proposal))
    council.write("beta")
    council.adopt("beta", proposal, votes)
    assert len(council.fold().versions()) == 1


def test_a_withdrawal_that_nobody_knew_of_changes_no_decision() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    votes = council.vote(proposal, "alpha", "beta")
    known = list(council.blocks)
    council.write("alpha", WithdrawProposal(proposal_id=proposal))
    withdrawn = council.blocks.pop()
    council.adopt("beta", proposal, votes, acked_by=("gamma",))
    council.blocks.append(withdrawn)
    assert len(council.fold().versions()) == 2
    assert known


def test_votes_and_adoption_have_an_end() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = council.propose(
        "alpha",
        ProposalKind.ADMIT,
        deadline_ms=council.now_ms + 5_000,
        **card_fields(card_of("zeta")),
    )
    votes = council.vote(proposal, "alpha")
    council.wait(6)
    late = council.vote(proposal, "beta")
    council.adopt("alpha", proposal, [*votes, *late])
    assert len(council.fold().versions()) == 1, "a vote after the deadline"
    in_time = council.propose(
        "alpha",
        ProposalKind.ADMIT,
        deadline_ms=council.now_ms + 5_000,
        **card_fields(card_of("zeta")),
    )
    votes = council.vote(in_time, "alpha", "beta")
    council.wait(60)
    council.adopt("alpha", in_time, votes)
    assert len(council.fold().versions()) == 1, "an adoption long after it"


def test_a_proven_fork_costs_the_vote_until_a_new_epoch() -> None:
    council = Council("alpha", "beta", "gamma")
    forked = FeedKey(CentreName("gamma"), 0)
    proven = hlc(council.now_ms)
    council.wait(1)
    raised = council.propose("alpha", ProposalKind.NEW_EPOCH, subject="gamma", epoch=1)
    council.decide("alpha", raised, "alpha", "beta")
    governance = council.fold()
    governance.convict(forked, proven)
    assert "gamma" not in governance.electors(governance.versions()[0], hlc(council.now_ms))
    assert "gamma" in governance.electors(governance.versions()[1], hlc(council.now_ms))


def test_rounds_are_counted_through_when_their_length_changes() -> None:
    council = Council("alpha", "beta", "gamma")
    change = council.propose_rules("alpha", round_ms=4_000)
    council.decide("alpha", change, "alpha", "beta")
    old, new = council.fold().versions()
    assert new.cut_ms(new.start_round) == old.cut_ms(new.start_round) == new.start_ms
    assert new.cut_ms(new.start_round + 1) == new.start_ms + 4_000
    assert new.round_at(new.start_ms + 7_999) == new.start_round + 1


def test_a_share_of_the_rules_changes_by_its_own_share() -> None:
    council = Council(*NAMES)
    change = council.propose_rules("alpha", rules_above_ppm=400_000)
    votes = council.vote(change, "alpha", "beta", "gamma")
    council.adopt("alpha", change, votes)
    assert len(council.fold().versions()) == 1
    council.adopt("alpha", change, [*votes, *council.vote(change, "delta")])
    assert council.fold().versions()[-1].rules.rules_above_ppm == 400_000


@pytest.mark.parametrize(
    ("kind", "electors", "needed"),
    [
        (ProposalKind.ADMIT, 1, 1),
        (ProposalKind.ADMIT, 2, 2),
        (ProposalKind.ADMIT, 4, 3),
        (ProposalKind.REMOVE, 1, 2),
        (ProposalKind.REMOVE, 3, 2),
        (ProposalKind.NEW_EPOCH, 1, 1),
        (ProposalKind.NEW_EPOCH, 2, 2),
        (ProposalKind.DISPUTE, 0, 1),
    ],
)
def test_how_many_votes_it_takes(kind: ProposalKind, electors: int, needed: int) -> None:
    council = Council("alpha", "beta")
    fields: dict[str, object] = {"subject": "beta"}
    if kind is ProposalKind.ADMIT:
        fields = card_fields(card_of("zeta"))
    if kind is ProposalKind.DISPUTE:
        fields["claims"] = (Position(ALPHA, 0, 0, 0),)
    council.propose("alpha", kind, **fields)
    (proposal,) = council.fold().proposals.values()
    assert votes_needed(proposal, electors, RULES) == needed


def test_a_card_that_its_key_did_not_sign_makes_no_proposal() -> None:
    council = Council("alpha", "beta")
    fields = {**card_fields(card_of("zeta")), "credit_line": 10**9}
    council.propose("alpha", ProposalKind.ADMIT, **fields)
    assert not council.fold().proposals


def test_a_second_centre_with_the_same_key_is_not_admitted() -> None:
    council = Council("alpha", "beta", "gamma")
    fields = card_fields(card_of("zeta", "beta"), "beta")
    proposal = council.propose("alpha", ProposalKind.ADMIT, **fields)
    council.decide("alpha", proposal, "alpha", "beta", "gamma")
    assert len(council.fold().versions()) == 1


def test_a_centre_that_forks_to_vote_both_ways_counts_as_the_adopting_centre_saw_it() -> None:
    council = Council("alpha", "beta", "gamma")
    proposal = admission(council)
    rival = council.writers["gamma"].branch()
    (no,) = council.vote(proposal, "gamma", in_favour=False)
    against = council.blocks.pop()
    council.writers["gamma"] = rival
    council.wait(1)
    council.write("gamma")
    (yes,) = council.vote(proposal, "gamma")
    council.adopt("alpha", proposal, [yes, *council.vote(proposal, "alpha")])
    assert yes > no
    council.blocks.append(against)
    council.wait(60)
    for order in (council.blocks, [council.blocks[-1], *council.blocks[:-1]]):
        governance = council.fold(order)
        governance.convict(FeedKey(CentreName("gamma"), 0), hlc(council.now_ms))
        assert len(governance.versions()) == 2, "the Adopt came before the proof"
        early = council.fold(order)
        early.convict(FeedKey(CentreName("gamma"), 0), hlc(START_MS))
        assert len(early.versions()) == 1, "whose fork is proven has no vote"


def test_two_proposals_at_one_place_of_a_forked_feed_are_none() -> None:
    council = Council("alpha", "beta", "gamma")
    rival = council.writers["alpha"].branch()
    proposal = council.propose_rules("alpha", balance_points=1)
    hidden = council.blocks.pop()
    council.writers["alpha"] = rival
    assert council.propose_rules("alpha", balance_points=2) == proposal
    council.decide("beta", proposal, "beta", "gamma")
    assert len(council.fold().versions()) == 2
    governance = council.fold([*council.blocks, hidden])
    assert len(governance.versions()) == 1
