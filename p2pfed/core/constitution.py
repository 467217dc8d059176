"""Who is a member and which rules hold: the values that votes bring forth, one version at a time.

The charter is version 1. Each adopted proposal makes the next one, whatever its kind, so that all
decisions stand in one row and each was judged by what held just before it. A version holds from the
cut of its `start_round` on. Rounds are counted through: when a version changes `round_ms`, its
first round keeps its number and later ones follow at the new length.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pfed.core.charter import Charter
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, Position, PublicKey
from p2pfed.core.keys import KEY_BYTES
from p2pfed.core.rules import Rules

NO_KEY: Final = PublicKey(bytes(KEY_BYTES))
"""Stands for the key of a member that is known by name alone; it verifies nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """A centre as its admission states it.

    Attributes:
        public_key: the key that its epoch began with (it may have been rotated since).
        since_ms: when its membership took effect; of a founder, when the charter was drafted.
        adopt: the Adopt that made it a member or gave it this epoch; None for a founder's first.
        votes: the votes that carried it.
    """

    name: CentreName
    epoch: int = 0
    public_key: PublicKey = NO_KEY
    address: str = ""
    credit_line: int = 0
    since_ms: int = 0
    adopt: Position | None = None
    votes: tuple[Position, ...] = ()

    @property
    def feed(self) -> FeedKey:
        """The feed that it writes."""
        return FeedKey(self.name, self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the uninvolved decided of a disputed claim: the amounts that count, in its units."""

    claim_id: ClaimId
    host: CentreName
    core_s: int
    gpu_s: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Version:
    """What holds from a round on.

    Attributes:
        number: 1 for the charter, then one more for every adopted proposal.
        rules_version: the number of the version that last changed the rules; claims name it.
        members: by name, ascending.
        known: every centre that ever was a member, as it last was one.
        start_round: the first round that it holds in.
        start_ms: the cut of that round.
        origin: a (round, its cut in ms) from which rounds of `round_ms` count.
        proposal_id: the proposal that made it, with its `adopt` and `votes`; None for the charter.
        decision: what it decides of a dispute, if it does.
    """

    number: int = 1
    rules_version: int = 1
    rules: Rules = field(default_factory=Rules)
    members: Mapping[CentreName, Member]
    known: Mapping[CentreName, Member]
    start_round: int = 0
    start_ms: int = 0
    origin: tuple[int, int] = (0, 0)
    proposal_id: Position | None = None
    adopt: Position | None = None
    votes: tuple[Position, ...] = ()
    decision: Decision | None = None

    def cut_ms(self, round_number: int) -> int:
        """The cut of a round of this version."""
        first, first_ms = self.origin
        return first_ms + (round_number - first) * self.rules.round_ms

    def round_at(self, now_ms: int) -> int:
        """The newest round of this version whose cut is not after `now_ms`."""
        first, first_ms = self.origin
        return first + (now_ms - first_ms) // self.rules.round_ms

    @property
    def ample_rounds(self) -> int:
        """The notice, or as long as it takes everyone to hear of a decision, whichever is more."""
        return max(self.rules.notice_rounds, 2 * self.rules.heartbeat_ms // self.rules.round_ms + 2)

    def start_after(self, now_ms: int) -> int:
        """The round that a version built on this one and adopted now should start in."""
        return max(self.start_round, self.round_at(now_ms) + self.ample_rounds + 1)

    @property
    def credit_lines(self) -> dict[CentreName, int]:
        """Points per centre that is or was a member."""
        return {name: member.credit_line for name, member in self.known.items()}


def founding(members: Iterable[Member], rules: Rules) -> Version:
    """Version 1."""
    by_name = {member.name: member for member in sorted(members, key=lambda m: m.name)}
    return Version(rules=rules, members=by_name, known=by_name)


def founders(charter: Charter) -> tuple[Member, ...]:
    """The members that a charter names."""
    return tuple(
        Member(
            name=card.name,
            public_key=card.public_key,
            address=card.address,
            credit_line=card.credit_line,
            since_ms=charter.created_ms,
        )
        for card in charter.founders
    )
