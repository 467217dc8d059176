"""Gossip: one node's conversations with all its peers.

Sessions speak with one peer each, the fetcher decides what to ask of whom, the targets whom to
contact; this module joins them to the node's events and effects. It holds no block and judges none:
received blocks are handed up as bytes, and the node tells back what it `admitted`, what a block
`lacks`, and whether a peer `misbehaved`.

What leaves on a link, and why each block crosses it at most once:

- a block of our own is pushed to every peer as soon as it exists (`own_block`);
- of others' blocks a peer is told the new heads, at once if it is not linked to their author, else
  with the next ping: the author's push has mostly been there long before, and the announcement is
  only the net below it;
- what a peer asks for is sent from the store (`SendStored`).

A peer that breaks the protocol costs itself its connection, and is left alone for a while. Time is
an argument; all peers are pinged together once in a heartbeat, and nothing else wakes an idle node.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Head
from p2pfed.core.rules import Rules
from p2pfed.core.waiting import BlockRef
from p2pfed.errors import InputError, P2pfedError
from p2pfed.node.effects import (
    CloseLink,
    Dial,
    Effect,
    Send,
    SendNamed,
    SendStored,
    StoredBlock,
)
from p2pfed.node.events import DialFailed, LinkBytes, LinkDown, LinkId, LinkUp
from p2pfed.node.peers import (
    CALM,
    SHUT_OUT,
    ClockOffset,
    GossipInput,
    Holdings,
    PeerLink,
    PeerStatus,
    unlinked,
    warning,
)
from p2pfed.protocol import limits
from p2pfed.protocol.backfill import BackfillingFetcher
from p2pfed.protocol.framing import frame_blocks
from p2pfed.protocol.messages import Heads
from p2pfed.protocol.session import (
    Answer,
    BlocksCame,
    BlocksWanted,
    FloorsHeard,
    HeadsHeard,
    LinkedHeard,
    NamedWanted,
    OffsetMeasured,
    PeerLeft,
    PeerNamed,
    Session,
    SessionEvent,
)
from p2pfed.protocol.targets import Chance, Targets, keep_new_link


class Gossip:
    """All conversations of one node.

    Args:
        me: our name.
        federation: both ends of a link must belong to it.
        members: where the other centres can be reached.
        rng: jitter and random choices; `random.Random` or alike. Nothing replicated depends on it.
        rules: one ping in `heartbeat_ms`, but not more often than once a second.
        active_peers: federations of up to this many centres form a full mesh.
    """

    def __init__(
        self,
        me: CentreName,
        federation: FederationId,
        members: Mapping[CentreName, str],
        rng: Chance,
        rules: Rules,
        *,
        active_peers: int = limits.ACTIVE_PEERS,
    ) -> None:
        self._me = me
        self._federation = federation
        self._instance = rng.getrandbits(64)
        self.ping_ms = max(limits.PING_MS_MIN, rules.heartbeat_ms)
        self.fetcher = BackfillingFetcher()
        self._floors: dict[FeedKey, int] = {}
        self._targets = Targets(me, rng, active_peers=active_peers)
        self._addresses: dict[CentreName, str] = {}
        self._links: dict[LinkId, PeerLink] = {}
        self._chosen: dict[CentreName, PeerLink] = {}
        self._heads: dict[FeedKey, Head] = {}
        self._own_heard: dict[FeedKey, Head] = {}
        self._answered: set[CentreName] = set()
        self._errors: dict[CentreName, str] = {}
        self._shut_out: set[CentreName] = set()
        self._next_ping_ms: int | None = None
        self.set_members(members, now_ms=0)

    # Membership

    def set_members(
        self, members: Mapping[CentreName, str], *, now_ms: int, former: Iterable[CentreName] = ()
    ) -> list[Effect]:
        """These are the other members now; links to anyone else are closed.

        Args:
            members: their addresses; our own name may be among them and is passed over.
            now_ms: the local time.
            former: centres that are no members but whose feeds still belong to the ledger.
        """
        self._addresses = {c: a for c, a in members.items() if c != self._me}
        self._targets.set_centres(self._addresses)
        self.fetcher.set_centres({self._me, *self._addresses, *former})
        effects: list[Effect] = []
        for link in list(self._links.values()):
            if link.centre not in self._addresses:
                effects += self._close(link, now_ms, SHUT_OUT, "you are no member any more")
        return effects + self._ask(now_ms)

    def tell_floors(self, floors: Mapping[FeedKey, int]) -> list[Effect]:
        """Of these feeds we lack the oldest blocks, and have them from these places on."""
        self._floors = dict(floors)
        ready = [link for link in self._links.values() if link.session.ready]
        return [Send(link=link.id, data=link.session.floors(floors)) for link in ready]

    def set_address(self, centre: CentreName, address: str) -> None:
        """Where a member can be reached from now on; a link that exists stays."""
        if centre in self._addresses:
            self._addresses[centre] = address

    def seek_everybody(self, wanted: bool) -> None:
        """Whether every member is contacted even in a large federation, until told otherwise."""
        self._targets.seek_everybody(wanted)

    # Links

    def link_up(self, event: LinkUp, now_ms: int, frontier: Mapping[FeedKey, Head]) -> list[Effect]:
        """A connection exists: says Hello and what we hold."""
        self._sync(frontier)
        session = Session(self._me, event.centre, self._federation, self._instance)
        link = PeerLink(event, session, now_ms)
        if event.centre not in self._addresses:
            return self._turn_away(link, SHUT_OUT, "you are no member any more")
        if self._targets.penalised(event.centre, now_ms):
            return self._turn_away(link, "link-penalty", "you broke the protocol a short time ago")
        if not event.outbound and not self._targets.accepts(len(self._links)):
            return self._turn_away(link, "link-busy", "enough centres are linked to us")
        self._links[event.link] = link
        self._targets.up(event.centre)
        if self._next_ping_ms is None:
            self._next_ping_ms = now_ms + self.ping_ms
        return [Send(link=link.id, data=session.open(self._heads, self._floors))]

    def link_down(self, event: LinkDown, now_ms: int) -> list[Effect]:
        """A connection is gone; what was asked of its peer is asked of others."""
        link = self._links.get(event.link)
        if link is None:
            return []
        self._errors.setdefault(link.centre, "the connection was lost")
        return self._forget(link, now_ms) + self._ask(now_ms)

    def dial_failed(self, event: DialFailed, now_ms: int) -> list[Effect]:
        """An attempt failed; the next one comes later."""
        self._errors[event.centre] = event.why
        self._targets.failed(event.centre, now_ms)
        return []

    def misbehaved(self, link_id: LinkId, error: P2pfedError, now_ms: int) -> list[Effect]:
        """What the peer sent breaks a rule: its connection ends, it is left alone for a while."""
        link = self._links.get(link_id)
        return self._penalise(link, error, now_ms) + self._ask(now_ms) if link else []

    def shut_down(self, now_ms: int) -> list[Effect]:
        """Says goodbye to everybody."""
        effects: list[Effect] = []
        for link in list(self._links.values()):
            effects += self._close(link, now_ms, "shutdown", "this daemon stops")
        return effects

    # What peers say

    def link_bytes(self, event: LinkBytes, now_ms: int, holdings: Holdings) -> GossipInput:
        """What a peer's bytes mean; never raises for strange ones."""
        link = self._links.get(event.link)
        if link is None:
            return GossipInput()
        effects: list[Effect] = []
        blocks: list[bytes] = []
        offsets: list[ClockOffset] = []
        try:
            for said in link.session.receive(event.data, now_ms):
                match said:
                    case BlocksCame(blocks=came):
                        sizes = ((ref, len(data)) for ref, data in came)
                        self.fetcher.came(link.id, sizes, now_ms)
                        blocks += [data for _, data in came]
                    case OffsetMeasured(offset_ms=offset_ms, rtt_ms=rtt_ms):
                        link.offset = ClockOffset(
                            peer=link.centre, offset_ms=offset_ms, round_trip_ms=rtt_ms
                        )
                        offsets.append(link.offset)
                    case _:
                        effects += self._said(link, said, now_ms, holdings)
                if link.id not in self._links:
                    break
        except InputError as error:
            effects += self._penalise(link, error, now_ms)
        effects += self._ask(now_ms)
        return GossipInput(effects=tuple(effects), blocks=tuple(blocks), offsets=tuple(offsets))

    def _said(
        self, link: PeerLink, said: SessionEvent, now_ms: int, holdings: Holdings
    ) -> list[Effect]:
        match said:
            case Answer(data=data):
                return [Send(link=link.id, data=data)]
            case PeerNamed(instance=instance, software=software):
                link.instance, link.software = instance, software
                return self._choose(link, now_ms)
            case HeadsHeard(heads=heads, first=first):
                effects = self._open(link, now_ms) if first else []
                self._hear(link, heads, holdings)
                return effects
            case BlocksWanted(ranges=ranges):
                served = link.session.serve(ranges, self._heads)
                return [
                    SendStored(link=link.id, feed=feed, from_seq=first, to_seq=last)
                    for feed, first, last in served
                ]
            case NamedWanted(refs=refs):
                return [
                    SendNamed(link=link.id, feed=ref.feed, seq_num=ref.seq_num, block_id=ref[2])
                    for ref in link.session.serve_named(refs, holdings.holds)
                ]
            case FloorsHeard(floors=floors):
                link.floors = floors
                self.fetcher.floors(link.id, floors)
                return []
            case LinkedHeard(centres=centres):
                link.linked = frozenset(centres)
                return self._announce(link)
            case PeerLeft(code=code, text=text):
                return self._peer_left(link, code, text, now_ms)
            case _:
                return []

    def _hear(self, link: PeerLink, heads: Heads, holdings: Holdings) -> None:
        for feed, head in heads:
            self.fetcher.heard(link.id, feed, head.seq_num)
            if feed.centre == self._me:
                known = self._own_heard.get(feed)
                if known is None or head.seq_num > known.seq_num:
                    self._own_heard[feed] = head
            held = self._heads.get(feed)
            if held is not None and head.seq_num <= held.seq_num:
                ours = holdings.block_id(feed, head.seq_num)
                if ours is not None and ours != head.block_id:
                    ref = BlockRef(feed, *head)
                    if not holdings.holds(ref):
                        self.fetcher.name(link.id, ref)

    def _choose(self, link: PeerLink, now_ms: int) -> list[Effect]:
        """Of two links to one centre, closes the one that both ends agree on."""
        other = self._chosen.get(link.centre)
        if other is None:
            self._chosen[link.centre] = link
            return []
        new_stays = keep_new_link(
            me=self._me,
            peer=link.centre,
            old_outbound=other.outbound,
            new_outbound=link.outbound,
            same_run=other.instance == link.instance,
        )
        loser = other if new_stays else link
        effects = self._close(loser, now_ms, "link-duplicate", "another link of ours stays")
        if new_stays:
            self._chosen[link.centre] = link
        return effects

    def _open(self, link: PeerLink, now_ms: int) -> list[Effect]:
        """Both frontiers are known."""
        self.fetcher.link_ready(link.id, link.centre, now_ms)
        self.fetcher.floors(link.id, link.floors)
        self._targets.proved(link.centre)
        self._answered.add(link.centre)
        self._shut_out.discard(link.centre)
        self._errors.pop(link.centre, None)
        return self._announce(link) + self._tell_linked()

    def _peer_left(self, link: PeerLink, code: str, text: str, now_ms: int) -> list[Effect]:
        effects = self._forget(link, now_ms)
        effects.append(CloseLink(link=link.id))
        if code in CALM:
            return effects
        self._errors[link.centre] = f"it says: {text} [{code}]"
        if code == SHUT_OUT:
            self._shut_out.add(link.centre)
            self._targets.rest(link.centre, now_ms)
        text = f"{link.centre} closed the connection: {text} [{code}]"
        return [*effects, warning("peer-left", text, link.centre, code)]

    # What the node did

    def own_block(self, block: StoredBlock, now_ms: int) -> list[Effect]:
        """A new block of our own exists: pushes it. What came back from peers is passed over."""
        held = self._heads.get(block.feed)
        if held is not None and held.seq_num >= block.seq_num:
            return []
        self._grow(block)
        effects: list[Effect] = []
        frames = b""
        for link in self._links.values():
            if not link.session.ready:
                link.dirty.add(block.feed)
            elif link.session.takes_push(block.feed):
                frames = frames or frame_blocks([block.data])
                link.session.note_push(block.feed, block.seq_num)
                effects.append(Send(link=link.id, data=frames))
            else:
                link.dirty.add(block.feed)
                effects += self._announce(link)
        return effects

    def admitted(
        self, blocks: Sequence[StoredBlock], now_ms: int, link: LinkId | None = None
    ) -> list[Effect]:
        """These joined the replica, in this order: tells peers that can't know, asks for more.

        Args:
            blocks: whoever wrote them; own ones only if they came back from peers.
            now_ms: the local time.
            link: over which they came, None if they had waited for their time.
        """
        del link  # its peer is known to have them since they came
        for block in blocks:
            self._grow(block)
        effects: list[Effect] = []
        for other in self._links.values():
            other.dirty.update(block.feed for block in blocks)
            effects += self._announce(other)
        return effects + self._ask(now_ms)

    def lacks(self, refs: Iterable[BlockRef], link: LinkId, now_ms: int) -> list[Effect]:
        """A block that came over `link` waits for these: its sender has them."""
        self.fetcher.lacks(refs, link)
        return self._ask(now_ms)

    def still_lacks(self, refs: Iterable[BlockRef], now_ms: int) -> list[Effect]:
        """Blocks wait for these and they have not come; told once in a while."""
        self.fetcher.name_again(refs)
        return self._ask(now_ms)

    def dropped(self, block_ids: Iterable[BlockId], now_ms: int) -> list[Effect]:
        """These waited and were dropped for want of room: they are fetched again."""
        self.fetcher.dropped(block_ids)
        return self._ask(now_ms)

    def forked(self, feed: FeedKey) -> None:
        """A fork of the feed is proven: only blocks of it that others name are fetched."""
        self.fetcher.forked(feed)

    # Time

    def tick(self, now_ms: int, holdings: Holdings) -> list[Effect]:
        """What is due: dialling, pings, late announcements, ranges that have not come."""
        effects: list[Effect] = [
            Dial(centre=centre, address=self._addresses[centre])
            for centre in self._targets.due(now_ms)
        ]
        for link in list(self._links.values()):
            if not link.session.ready and now_ms - link.since_ms >= limits.HELLO_TIMEOUT_MS:
                effects += self._give_up(link, now_ms, "protocol-hello-late", "it says nothing")
        for link_id in self.fetcher.expire(now_ms):
            link = self._links[LinkId(link_id)]
            effects += self._give_up(link, now_ms, "protocol-fetch-late", "blocks do not come")
        effects += self._ping_all(now_ms)
        dialled = [link.centre for link in self._chosen.values() if link.outbound]
        rotated = self._targets.rotate(dialled, now_ms)
        if rotated is not None:
            link = self._chosen[rotated]
            effects += self._close(link, now_ms, "link-rotated", "making room for another peer")
        return effects + self._ask(now_ms)

    def wake_ms(self) -> int | None:
        """When `tick` should be called at the latest; None if no time matters."""
        times = [self._targets.wake_ms(), self.fetcher.wake_ms()]
        if self._links:
            times.append(self._next_ping_ms)
        times += [
            link.since_ms + limits.HELLO_TIMEOUT_MS
            for link in self._links.values()
            if not link.session.ready
        ]
        return min((time for time in times if time is not None), default=None)

    def _ping_all(self, now_ms: int) -> list[Effect]:
        if not self._links:
            self._next_ping_ms = None
            return []
        due_ms = self._next_ping_ms
        if due_ms is not None and due_ms - self.ping_ms <= now_ms < due_ms:
            return []
        self._next_ping_ms = now_ms + self.ping_ms
        effects: list[Effect] = []
        for link in list(self._links.values()):
            if not link.session.ready:
                continue
            data = link.session.ping(now_ms)
            if link.session.pings_missed >= limits.PINGS_MISSED_MAX:
                effects += self._give_up(link, now_ms, "protocol-silent", "pings go unanswered")
                continue
            data = link.announcement(self._heads, everything=True) + data
            if data:
                effects.append(Send(link=link.id, data=data))
        return effects

    # What people and the node ask

    def linked(self) -> tuple[CentreName, ...]:
        """The centres with which frontiers have been exchanged and that are linked now, sorted."""
        return tuple(sorted(c for c, link in self._chosen.items() if link.session.ready))

    def answered(self) -> frozenset[CentreName]:
        """The centres that told their frontier since we started, still linked or not."""
        return frozenset(self._answered)

    def shut_out(self) -> tuple[CentreName, ...]:
        """The centres that last told us that we are no member any more, sorted."""
        return tuple(sorted(self._shut_out & self._addresses.keys()))

    def best_head(self, feed: FeedKey) -> Head | None:
        """The newest block of one of *our own* feeds that any peer said to hold."""
        return self._own_heard.get(feed)

    def lacking_blocks(self) -> int:
        """How many blocks peers have and we have not admitted."""
        return self.fetcher.lacking_blocks()

    def peer_status(self) -> tuple[PeerStatus, ...]:
        """Every other centre, by name."""
        found: list[PeerStatus] = []
        for centre, address in sorted(self._addresses.items()):
            link = self._chosen.get(centre) or next(
                (link for link in self._links.values() if link.centre == centre), None
            )
            status = unlinked(centre, address, self._targets)
            if link is not None:
                status = link.status(address, self.fetcher.lacking_from(link.id))
            found.append(replace(status, error=self._errors.get(centre, "")))
        return tuple(found)

    # Within

    def _sync(self, frontier: Mapping[FeedKey, Head]) -> None:
        """Takes what was admitted before the first link, or behind our back."""
        for feed, head in frontier.items():
            known = self._heads.get(feed)
            if known is None or head.seq_num > known.seq_num:
                self._heads[feed] = head
                for link in self._links.values():
                    link.dirty.add(feed)
        self.fetcher.hold({feed: head.seq_num for feed, head in frontier.items()})

    def _grow(self, block: StoredBlock) -> None:
        known = self._heads.get(block.feed)
        if known is None or block.seq_num > known.seq_num:
            self._heads[block.feed] = Head(block.seq_num, block.block_id)
        self.fetcher.admitted(block.feed, block.seq_num)

    def _ask(self, now_ms: int) -> list[Effect]:
        return [
            *(
                Send(link=LinkId(link_id), data=self._links[LinkId(link_id)].session.want(ranges))
                for link_id, ranges in self.fetcher.plan(now_ms)
            ),
            *(
                Send(link=LinkId(link_id), data=self._links[LinkId(link_id)].session.want_named(r))
                for link_id, r in self.fetcher.plan_named()
            ),
        ]

    def _announce(self, link: PeerLink) -> list[Effect]:
        data = link.announcement(self._heads)
        return [Send(link=link.id, data=data)] if data else []

    def _tell_linked(self) -> list[Effect]:
        centres = self.linked()
        return [
            Send(link=link.id, data=link.session.linked(centres))
            for link in self._chosen.values()
            if link.session.ready
        ]

    def _turn_away(self, link: PeerLink, code: str, text: str) -> list[Effect]:
        if link.outbound:  # the dial is answered, even though nothing comes of it
            self._targets.up(link.centre)
            self._targets.down(link.centre, link.since_ms)
        return [Send(link=link.id, data=link.session.bye(code, text)), CloseLink(link=link.id)]

    def _close(self, link: PeerLink, now_ms: int, code: str, text: str) -> list[Effect]:
        data = link.session.bye(code, text)
        return [Send(link=link.id, data=data), CloseLink(link=link.id), *self._forget(link, now_ms)]

    def _give_up(self, link: PeerLink, now_ms: int, code: str, why: str) -> list[Effect]:
        """The peer does not do its part, which may not be its fault: closes without a penalty."""
        error = InputError(code, f"{link.centre} is given up: {why}", where=link.centre)
        self._errors[link.centre] = str(error)
        return [
            Send(link=link.id, data=link.session.bye(code, error.what)),
            CloseLink(link=link.id, error=error),
            *self._forget(link, now_ms),
        ]

    def _penalise(self, link: PeerLink, error: P2pfedError, now_ms: int) -> list[Effect]:
        self._errors[link.centre] = str(error)
        data = link.session.bye(error.code, error.what)
        effects = self._forget(link, now_ms)
        self._targets.penalise(link.centre, now_ms)
        return [
            Send(link=link.id, data=data),
            CloseLink(link=link.id, error=error),
            warning("peer-broke-protocol", str(error), link.centre, error.code),
            *effects,
        ]

    def _forget(self, link: PeerLink, now_ms: int) -> list[Effect]:
        """The link takes no part any more; tells the others."""
        if self._links.pop(link.id, None) is None:
            return []
        was_ready = self._chosen.get(link.centre) is link
        if was_ready:
            del self._chosen[link.centre]
        self.fetcher.link_gone(link.id)
        if all(other.centre != link.centre for other in self._links.values()):
            self._targets.down(link.centre, now_ms)
        return self._tell_linked() if was_ready else []
