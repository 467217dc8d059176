"""Values of gossip: what it asks, what it finds, and how it shows a peer to people."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Frontier, Head
from p2pfed.core.waiting import BlockRef
from p2pfed.node.effects import WARNING, Effect, Note
from p2pfed.node.events import LinkUp
from p2pfed.protocol.session import Session
from p2pfed.protocol.targets import Targets

CALM: Final = frozenset({"link-duplicate", "link-rotated", "link-busy", "shutdown"})
"""Codes of Bye that blame nobody."""
SHUT_OUT: Final = "not-a-member"
"""Code of Bye for a centre that is no member any more."""


class Holdings(Protocol):
    """What gossip asks of the replica."""

    def frontier(self) -> Frontier:
        """The newest admitted block of each feed."""
        ...

    def block_id(self, feed: FeedKey, seq_num: int) -> BlockId | None:
        """The id of an admitted block; None if it is not held."""
        ...

    def holds(self, ref: BlockRef) -> bool:
        """Whether exactly this block is admitted, on whichever branch."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockOffset:
    """A peer's clock minus ours; off by half of `round_trip_ms` at most."""

    peer: CentreName
    offset_ms: int
    round_trip_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GossipInput:
    """What a peer's bytes led to.

    Attributes:
        effects: to be performed.
        blocks: received blocks, not verified, in the order they came.
        offsets: clock offsets measured.
    """

    effects: tuple[Effect, ...] = ()
    blocks: tuple[bytes, ...] = ()
    offsets: tuple[ClockOffset, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerStatus:
    """One other centre, for people.

    Attributes:
        state: `linked`, `opening` (connected, frontiers not yet exchanged), `dialling`, `waiting`
            (for the next attempt) or `idle` (nothing is due).
        since_ms: when the link came up.
        offset_ms: the peer's clock minus ours, from the last ping; None before the first.
        lacking_blocks: blocks that the peer has and we have not admitted.
        next_dial_ms: when we try again, if we wait for that.
        failures: failed attempts in a row.
        error: why the last link or attempt ended; empty if nothing was wrong.
    """

    centre: CentreName
    address: str
    state: str
    outbound: bool = False
    since_ms: int | None = None
    software: str = ""
    round_trip_ms: int | None = None
    offset_ms: int | None = None
    lacking_blocks: int = 0
    next_dial_ms: int | None = None
    failures: int = 0
    error: str = ""


class PeerLink:
    """One connection and its session.

    Attributes:
        instance: of the peer's daemon; None before its Hello.
        linked: to whom the peer said it is linked.
        floors: the feeds of which the peer lacks the oldest blocks, and from where on it has them.
        dirty: feeds that grew since the peer was last told.
    """

    __slots__ = (
        "centre", "dirty", "floors", "id", "instance", "linked", "offset", "outbound", "session",
        "since_ms", "software",
    )  # fmt: skip

    def __init__(self, event: LinkUp, session: Session, now_ms: int) -> None:
        self.id = event.link
        self.centre = event.centre
        self.outbound = event.outbound
        self.session = session
        self.since_ms = now_ms
        self.instance: int | None = None
        self.software = ""
        self.linked: frozenset[CentreName] = frozenset()
        self.dirty: set[FeedKey] = set()
        self.floors: tuple[tuple[FeedKey, int], ...] = ()
        self.offset: ClockOffset | None = None

    def announcement(self, heads: Mapping[FeedKey, Head], *, everything: bool = False) -> bytes:
        """The Have that the peer needs now; what an author pushes to it can wait for the ping."""
        if not self.dirty or not self.session.ready:
            return b""
        if everything:
            due = self.dirty
        else:
            due = {f for f in self.dirty if f.centre not in self.linked and f.centre != self.centre}
        self.dirty = self.dirty - due
        return self.session.announce((feed, heads[feed]) for feed in sorted(due))

    def status(self, address: str, lacking_blocks: int) -> PeerStatus:
        """The peer as people see it."""
        offset = self.offset
        return PeerStatus(
            centre=self.centre,
            address=address,
            state="linked" if self.session.ready else "opening",
            outbound=self.outbound,
            since_ms=self.since_ms,
            software=self.software,
            round_trip_ms=offset.round_trip_ms if offset else None,
            offset_ms=offset.offset_ms if offset else None,
            lacking_blocks=lacking_blocks,
        )


def unlinked(centre: CentreName, address: str, targets: Targets) -> PeerStatus:
    """A peer to which there is no connection."""
    next_ms = targets.next_dial_ms(centre)
    state = "dialling" if next_ms is None else "waiting"
    if next_ms is not None and not targets.wants_more():
        state, next_ms = "idle", None
    return PeerStatus(
        centre=centre,
        address=address,
        state=state,
        next_dial_ms=next_ms,
        failures=targets.failures(centre),
    )


def warning(code: str, text: str, peer: CentreName, why: str) -> Note:
    """What an administrator may want to know about a peer; `why` is the error's code."""
    fields = (("peer", str(peer)), ("code", why))
    return Note(level=WARNING, code=code, text=text, fields=fields)
