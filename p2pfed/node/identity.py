"""Who this centre is, and what the federation was founded on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from p2pfed.core.constitution import Member
from p2pfed.core.ids import CentreName, FederationId, FeedKey
from p2pfed.core.keys import Signer, VerifyKeys
from p2pfed.core.rules import Rules


@dataclass(frozen=True, slots=True, kw_only=True)
class Identity:
    """This centre: its name, its key as a value that signs, and the epoch it writes in."""

    name: CentreName
    signer: Signer
    kid: bytes
    address: str
    epoch: int = 0

    @property
    def feed(self) -> FeedKey:
        """The feed that we write."""
        return FeedKey(self.name, self.epoch)


@dataclass(frozen=True, slots=True, kw_only=True)
class Federation:
    """The members, their keys, addresses and credit lines, and the rules, all from the charter.

    Addresses of `pinned` centres were set by our own administrator: what those centres announce
    does not replace them.
    """

    id: FederationId
    keys: VerifyKeys
    rules: Rules
    rules_version: int
    credit_lines: Mapping[CentreName, int]
    addresses: Mapping[CentreName, str]
    pinned: frozenset[CentreName] = frozenset()
    members: tuple[Member, ...] = ()

    def founders(self) -> tuple[Member, ...]:
        """The founders, as the charter names them."""
        return self.members or tuple(
            Member(
                name=centre,
                public_key=key,
                address=self.addresses.get(centre, ""),
                credit_line=self.credit_lines.get(centre, 0),
            )
            for centre, key in self.keys
        )
