"""Proposals, votes and their adoption, folded into who is a member and which rules hold.

Theory of operation. Each record fills a register of its author, so that order can't matter: my
proposals, my first vote on each, my withdrawals, my adoptions, that I leave. What follows from all
of them is a chain of versions (`p2pfed.core.constitution`), computed from the registers when asked:
the charter is version 1, and of the valid Adopts that build on a version, the one with the lowest
(effective round, id) makes the next. An Adopt is valid if, under the version that it builds on,

- its author and the proposer are members that have not left and whose fork is not proven;
- the proposal can be applied, and was not withdrawn before;
- the votes that it names are first votes in favour, in time, of enough of those who have a vote;
- it takes effect no sooner than the notice after its own round, and not unreasonably later;
- another member acked it before it takes effect. A block's author chooses its time within what it
  published before; without such a witness, whoever kept silent could rewrite a past that all others
  lived by.

So the chain is a function of the set of folded blocks, on every node alike. A block that comes late
may still change a version that has begun: whoever learns it late switches at the next round, and
`State` is then folded anew (`Governance.changed_since`).
"""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Callable, Collection, Iterable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import NamedTuple

from p2pfed.core.blocks import Block
from p2pfed.core.constitution import Member, Version, founding
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, Position, PublicKey
from p2pfed.core.proposals import (
    EPOCH_KINDS,
    Disputed,
    Proposal,
    check_form,
    enact,
    refusal,
    votes_needed,
    without_vote,
)
from p2pfed.core.records import Adopt, Leave, ProposalKind, Propose, Record, Vote, WithdrawProposal
from p2pfed.core.rules import Rules
from p2pfed.core.units import HlcTime, hlc, hlc_ms
from p2pfed.errors import InputError

GOVERNANCE_RECORDS = (Propose, Vote, WithdrawProposal, Adopt, Leave)
UNWITNESSED = "no other member acked it before it would have taken effect"
LONE_MEMBERS_MAX = 2
"""In a federation of at most this many a member may begin a new epoch without a vote."""
LATEST_FACTOR = 4
"""An Adopt may take effect at most this many times the usual notice after its own round."""


class Ballot(NamedTuple):
    """A centre's vote on a proposal."""

    vote_id: Position
    time: HlcTime
    in_favour: bool
    reason: str


class Grant(NamedTuple):
    """Leave to write a feed, as an Adopt states it; whether the feed counts, the chain says.

    `public_key` is None where the centre keeps the key that it has.
    """

    feed: FeedKey
    public_key: PublicKey | None
    adopt: Position


def _favour(ballot: Ballot) -> tuple[bool, HlcTime, str]:
    return ballot.in_favour, ballot.time, ballot.reason


@dataclass(frozen=True, slots=True)
class _Adoption:
    record: Adopt
    time: HlcTime


class Governance:
    """The registers of governance, and the chain of versions that follows from them.

    Args:
        members: the founders.
        rules: the charter's rules.
        sees_claims: False where the ledger's claims are not at hand, and so its disputes are not:
            what members adopt of a dispute is then taken as they say.
    """

    def __init__(
        self, members: Iterable[Member], rules: Rules, *, sees_claims: bool = True
    ) -> None:
        self._founding = founding(members, rules)
        self._sees_claims = sees_claims
        self.proposals: dict[Position, Proposal] = {}
        self.votes: dict[Position, dict[Position, Ballot]] = {}
        self._ambiguous: set[Position] = set()
        self.withdrawn: dict[Position, tuple[Position, HlcTime]] = {}
        self.adopts: dict[Position, _Adoption] = {}
        self.leaves: dict[FeedKey, tuple[Position, HlcTime]] = {}
        self.convicted: dict[FeedKey, HlcTime] = {}
        self.declared: dict[FeedKey, HlcTime] = {}
        self.disputes: dict[ClaimId, Disputed] = {}
        self.said: dict[Position, list[tuple[HlcTime, Record]]] = {}
        self._seen: dict[Position, dict[CentreName, HlcTime]] = {}
        self._watched: dict[FeedKey, list[Position]] = {}
        self._chain: tuple[Version, ...] | None = None
        self._forces: dict[FeedKey, int] | None = None
        self.folders: dict[type[Record], Callable[..., Position | str]] = {
            Propose: self._fold_propose,
            Vote: self._fold_vote,
            WithdrawProposal: self._fold_withdrawal,
            Adopt: self._fold_adopt,
            Leave: self._fold_leave,
        }

    def fork(self) -> Governance:
        """Second registers with the same contents, for a fold that goes its own way from here."""
        members, rules = self._founding.members.values(), self._founding.rules
        twin = Governance(members, rules, sees_claims=self._sees_claims)
        for name in (
            "proposals",
            "withdrawn",
            "adopts",
            "leaves",
            "convicted",
            "declared",
            "disputes",
        ):
            setattr(twin, name, copy(getattr(self, name)))
        twin.votes = {key: dict(ballots) for key, ballots in self.votes.items()}
        twin._ambiguous = set(self._ambiguous)
        twin.said = {key: [*said] for key, said in self.said.items()}
        twin._seen = {key: dict(seen) for key, seen in self._seen.items()}
        twin._watched = {feed: [*watched] for feed, watched in self._watched.items()}
        return twin

    def _forget(self) -> None:
        """What followed from the registers has to be found anew."""
        self._chain = None
        self._forces = None

    # Folding

    def fold(self, position: Position, time: HlcTime, record: Record) -> Position | str:
        """Writes one record into its author's registers.

        Returns:
            The record's position, or a text that says why the record is inert.
        """
        self._forget()
        said = self.said.setdefault(position, [])
        if (time, record) not in said:
            said.append((time, record))
        return self.folders[type(record)](position, time, record)

    def seen(self) -> list[tuple[Position, CentreName, HlcTime]]:
        """When other centres first acked what needs a witness, ascending."""
        return sorted((at, c, time) for at, seen in self._seen.items() for c, time in seen.items())

    def restore(
        self,
        said: Iterable[tuple[Position, HlcTime, Record]],
        seen: Iterable[tuple[Position, CentreName, HlcTime]],
    ) -> None:
        """Takes back what `said` (by position) and `seen` held; nothing was folded yet."""
        for position, time, record in said:
            self.fold(position, time, record)
        for position, centre, time in seen:
            self._seen[position][centre] = time
        self._forget()

    def _fold_propose(self, position: Position, time: HlcTime, record: Propose) -> Position | str:
        try:
            proposal = check_form(position, time, record)
        except InputError as error:
            return f"{error.code}: {error.what}"
        if self.proposals.setdefault(position, proposal) != proposal:
            self._ambiguous.add(position)
        return position

    def _fold_vote(self, position: Position, time: HlcTime, record: Vote) -> Position | str:
        ballots = self.votes.setdefault(record.proposal_id, {})
        ballot = Ballot(position, time, record.in_favour, record.reason)
        # Two branches of a forked feed may say both at one position: that is a vote in favour.
        ballots[position] = max(ballots.get(position, ballot), ballot, key=_favour)
        if any(p.centre == position.centre and p < position for p in ballots):
            return f"{position.centre} voted on {record.proposal_id} already"
        return position

    def ballots(self, proposal_id: Position) -> dict[CentreName, Ballot]:
        """The first vote of each centre, in the order of the centres."""
        found: dict[CentreName, Ballot] = {}
        for vote_id, ballot in sorted(self.votes.get(proposal_id, {}).items()):
            found.setdefault(vote_id.centre, ballot)
        return found

    def _fold_withdrawal(
        self, position: Position, time: HlcTime, record: WithdrawProposal
    ) -> Position | str:
        if record.proposal_id.centre != position.centre:
            return f"{record.proposal_id} is not a proposal of its author"
        if record.proposal_id in self.withdrawn:
            return f"{record.proposal_id} is withdrawn already"
        self.withdrawn[record.proposal_id] = position, time
        self._watch(position)
        return position

    def _fold_adopt(self, position: Position, time: HlcTime, record: Adopt) -> Position | str:
        self.adopts[position] = _Adoption(record, time)
        self._watch(position)
        return position

    def _fold_leave(self, position: Position, time: HlcTime, record: Leave) -> Position | str:
        feed = FeedKey(position.centre, position.epoch)
        if feed in self.leaves:
            return f"{position.centre} has left already"
        self.leaves[feed] = position, time
        return position

    def _watch(self, position: Position) -> None:
        insort(self._watched.setdefault(FeedKey(position.centre, position.epoch), []), position)
        self._seen[position] = {}

    def witness(self, block: Block) -> bool:
        """Takes note of the adoptions and withdrawals that a block acks; True if any was news."""
        if not self._watched:
            return False
        centre, time, news = block.feed.centre, block.time, False
        for feed, head in block.header.acks:
            watched = self._watched.get(feed)
            if watched is None:
                continue
            index = bisect_right(watched, (*feed, head.seq_num, 1 << 16))
            # First acks never descend along a feed: what lies before one that stays, stays.
            while index and self._sees(watched[index - 1], centre, time):
                index -= 1
                news = True
        return news

    def _sees(self, position: Position, centre: CentreName, time: HlcTime) -> bool:
        seen = self._seen[position]
        if centre in seen and seen[centre] <= time:
            return False
        seen[centre] = time
        self._forget()
        return True

    def convict(self, feed: FeedKey, time: HlcTime) -> None:
        """A proof that the feed was forked stands in a block of that time."""
        if time < self.convicted.get(feed, HlcTime(1 << 64)):
            self.convicted[feed] = time
            self._forget()

    def declare(self, feed: FeedKey, time: HlcTime) -> None:
        """The author of the feed, which begins in a block of that time, began it without a vote."""
        self.declared[feed] = time
        self._forget()

    def dispute(self, claim_id: ClaimId, disputed: Disputed) -> None:
        """What stands in the ledger of a dispute, in place of what stood before."""
        if self.disputes.get(claim_id) != disputed:
            self.disputes[claim_id] = disputed
            self._forget()

    # The chain

    def versions(self) -> tuple[Version, ...]:
        """Every version there is, the charter's first; later ones may not have begun."""
        if self._chain is None:
            chain = [self._founding]
            by_base: dict[int, list[tuple[int, Position]]] = {}
            for adopt_id, adoption in self.adopts.items():
                key = adoption.record.effective_round, adopt_id
                by_base.setdefault(adoption.record.base_version, []).append(key)
            decided: set[Position | None] = set()
            while (following := self._next(chain[-1], decided, by_base)) is not None:
                chain.append(following)
                decided.add(following.proposal_id)
            self._chain = tuple(chain)
        return self._chain

    def _next(
        self,
        base: Version,
        decided: Collection[Position | None],
        by_base: Mapping[int, list[tuple[int, Position]]],
    ) -> Version | None:
        for effective_round, adopt_id in sorted(by_base.get(base.number, ())):
            if self._flaw(adopt_id, base, decided) is None:
                adoption = self.adopts[adopt_id]
                return enact(
                    self.proposals[adoption.record.proposal_id],
                    base,
                    self.present(base, adoption.time),
                    effective_round=effective_round,
                    adopt=adopt_id,
                    votes=adoption.record.votes,
                )
        return None

    def version_at(self, cut_ms: int) -> Version:
        """The version that holds at a cut."""
        chain = self.versions()
        return chain[bisect_right(chain, cut_ms, key=lambda version: version.start_ms) - 1]

    def version_in(self, round_number: int) -> Version:
        """The version that holds in a round."""
        chain = self.versions()
        return chain[bisect_right(chain, round_number, key=lambda v: v.start_round) - 1]

    def present(self, version: Version, time: HlcTime) -> dict[CentreName, Member]:
        """The members of a version that had not left before `time`.

        Of at most two, none can outvote the other's absence: there a new epoch that a member
        declared before `time` is its own.
        """
        members = dict(version.members)
        if len(members) <= LONE_MEMBERS_MAX:
            for feed, declared in sorted(self.declared.items()):
                member = members.get(feed.centre)
                if member is not None and declared < time and feed.epoch > member.epoch:
                    members[feed.centre] = replace(member, epoch=feed.epoch)
        return {
            name: member
            for name, member in members.items()
            if member.feed not in self.leaves or self.leaves[member.feed][1] >= time
        }

    def forces(self) -> dict[FeedKey, int]:
        """From which time in ms on what a feed says counts, for each feed that ever does."""
        if self._forces is None:
            found: dict[FeedKey, int] = {}
            for version in self.versions():
                for member in version.members.values():
                    found.setdefault(member.feed, version.start_ms)
            for feed, declared in self.declared.items():
                version = self.version_at(hlc_ms(declared))
                if feed in {m.feed for m in self.present(version, HlcTime(declared + 1)).values()}:
                    found[feed] = min(hlc_ms(declared), found.get(feed, hlc_ms(declared)))
            self._forces = found
        return self._forces

    def suspended(self, forked: Iterable[FeedKey], cut_ms: int | None = None) -> set[CentreName]:
        """The centres of those of the feeds that are no old ones, at a cut or by all known."""
        if cut_ms is None:
            members = self.present(self.versions()[-1], HlcTime(1 << 64))
        else:
            members = self.members_at(cut_ms)
        epochs = {name: member.epoch for name, member in members.items()}
        return {feed.centre for feed in forked if feed.epoch >= epochs.get(feed.centre, 0)}

    def revoked(self) -> dict[FeedKey, frozenset[Position]]:
        """The feeds whose author was given another key for a later one, and the Adopts that did."""
        found: dict[FeedKey, set[Position]] = {}
        chain = self.versions()
        for before, version in pairwise(chain):
            for name, member in version.members.items():
                old = before.known.get(name)
                other = old is not None and old.public_key != member.public_key
                if old is not None and other and version.adopt is not None:
                    found.setdefault(old.feed, set()).add(version.adopt)
        return {feed: frozenset(adopts) for feed, adopts in sorted(found.items())}

    def in_force(self, feed: FeedKey, time: HlcTime) -> bool:
        """Whether a block of that feed and time counts."""
        since_ms = self.forces().get(feed)
        return since_ms is not None and since_ms <= hlc_ms(time)

    def members_at(self, cut_ms: int) -> dict[CentreName, Member]:
        """The members at a cut: those who have left in a block up to it are none any more."""
        return self.present(self.version_at(cut_ms), hlc(cut_ms + 1))

    def electors(self, version: Version, time: HlcTime) -> dict[CentreName, Member]:
        """The members that may decide: present, and their fork not proven before `time`."""
        return {
            name: member
            for name, member in self.present(version, time).items()
            if self.convicted.get(member.feed, time) >= time
        }

    def grants(self) -> tuple[Grant, ...]:
        """Every leave to write a feed that an Adopt states and votes in favour stand behind.

        It only grows with the blocks folded, so it may be asked when a block is admitted; the chain
        may say later that another Adopt won.
        """
        found = []
        for adopt_id, adoption in sorted(self.adopts.items()):
            proposal = self.proposals.get(adoption.record.proposal_id)
            if proposal is None or proposal.kind not in EPOCH_KINDS or not adoption.record.votes:
                continue
            ballots = self.votes.get(proposal.proposal_id, {})
            named = [ballots.get(vote_id) for vote_id in adoption.record.votes]
            if all(ballot is not None and ballot.in_favour for ballot in named):
                key = proposal.card.public_key if proposal.card is not None else None
                feed = FeedKey(proposal.subject, proposal.epoch)
                found.append(Grant(feed, key, adopt_id))
        return tuple(found)

    # Judging

    def void(self, adopt_id: Position, chain: Iterable[Version]) -> str | None:
        """Why an Adopt makes no version after the last of `chain`; None if it may."""
        *_, base = versions = tuple(chain)
        return self._flaw(adopt_id, base, {version.proposal_id for version in versions})

    def _flaw(
        self, adopt_id: Position, base: Version, decided: Collection[Position | None]
    ) -> str | None:
        adoption = self.adopts[adopt_id]
        record, time = adoption.record, adoption.time
        proposal = self.proposals.get(record.proposal_id)
        if record.base_version != base.number:
            return f"it builds on version {record.base_version}"
        if proposal is None or proposal.proposed >= time:
            return f"{record.proposal_id} is no proposal that came before it"
        if record.proposal_id in self._ambiguous:
            return f"{record.proposal_id} is two proposals, on two branches of a feed"
        if record.proposal_id in decided:
            return f"{record.proposal_id} is adopted already"
        electors = self.electors(base, time)
        if adopt_id.centre not in electors:
            return f"{adopt_id.centre} is not a member with a vote"
        return (
            self._not_in_time(adoption, proposal, base)
            or self.obstacle(proposal, base, time)
            or self._not_carried(adoption, proposal, base, electors)
            or self._unwitnessed(adopt_id, proposal, base, electors)
        )

    def _not_in_time(self, adoption: _Adoption, proposal: Proposal, base: Version) -> str | None:
        own_round = base.round_at(hlc_ms(adoption.time))
        effective_round = adoption.record.effective_round
        if effective_round < own_round + base.rules.notice_rounds:
            return f"round {effective_round} is sooner than the notice after its own, {own_round}"
        if effective_round > own_round + LATEST_FACTOR * base.ample_rounds:
            return f"round {effective_round} is too long after its own, {own_round}"
        if effective_round < base.start_round:
            return f"round {effective_round} is before the version that it builds on"
        if hlc_ms(adoption.time) > self.adopt_until_ms(proposal, base):
            return "it came after the time for adopting was over"
        return None

    def adopt_until_ms(self, proposal: Proposal, base: Version) -> int:
        """Until when a carried proposal may be adopted: the deadline and one usual notice."""
        return proposal.deadline_ms + base.ample_rounds * base.rules.round_ms

    def obstacle(self, proposal: Proposal, base: Version, time: HlcTime) -> str | None:
        """Why the proposal can't be adopted at `time`, whoever votes for it; None if it can."""
        if proposal.proposer not in self.electors(base, time):
            return f"its proposer {proposal.proposer} is not a member with a vote"
        withdrawn = self.withdrawn.get(proposal.proposal_id)
        if withdrawn is not None and self._known_before(withdrawn[0], base, time):
            return "it was withdrawn"
        if proposal.kind is ProposalKind.DISPUTE and not self._sees_claims:
            return None
        claim_id = proposal.claim_id
        disputed = None if claim_id is None else self.disputes.get(claim_id)
        return refusal(proposal, base, self.present(base, time), disputed)

    def _known_before(self, position: Position, base: Version, time: HlcTime) -> bool:
        """Whether another member acked the record before `time` (nobody else: it stands alone)."""
        others = self.electors(base, time).keys() - {position.centre}
        seen = self._seen[position]
        return not others or any(seen[name] < time for name in seen.keys() & others)

    def _not_carried(
        self,
        adoption: _Adoption,
        proposal: Proposal,
        base: Version,
        electors: Mapping[CentreName, Member],
    ) -> str | None:
        ballots, first = (
            self.votes.get(proposal.proposal_id, {}),
            self.ballots(proposal.proposal_id),
        )
        eligible = electors.keys() - without_vote(proposal)
        voters = set()
        for vote_id in adoption.record.votes:
            ballot = ballots.get(vote_id)
            if ballot is None or not ballot.in_favour:
                return f"{vote_id} is not a vote in favour"
            # Of a forker what the adopting centre saw counts: it knew but one branch.
            forked = FeedKey(vote_id.centre, vote_id.epoch) in self.convicted
            if first[vote_id.centre].vote_id != vote_id and not forked:
                return f"{vote_id} is not the first vote of {vote_id.centre}"
            if ballot.time >= adoption.time or hlc_ms(ballot.time) > proposal.deadline_ms:
                return f"{vote_id} came too late"
            if vote_id.centre in eligible:
                voters.add(vote_id.centre)
        needed = votes_needed(proposal, len(eligible), base.rules)
        if len(voters) < needed:
            return f"{len(voters)} of {needed} votes needed"
        return None

    def _unwitnessed(
        self,
        adopt_id: Position,
        proposal: Proposal,
        base: Version,
        electors: Mapping[CentreName, Member],
    ) -> str | None:
        before = hlc(base.cut_ms(self.adopts[adopt_id].record.effective_round))
        others = electors.keys() - {adopt_id.centre} - without_vote(proposal)
        seen = self._seen[adopt_id]
        if not others or any(seen[name] < before for name in seen.keys() & others):
            return None
        return UNWITNESSED
