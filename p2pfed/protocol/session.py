"""One peer's sync session: bytes in, events out, and never a socket.

Both ends speak first: Hello, then Frontier, without waiting for the other. Once both frontiers are
known, each end knows what the other lacks, and from then on

- the author of a block pushes it to every peer at once (`push`);
- of all other blocks a peer is told the new heads (`announce`), and asks for what it lacks
  (`want`), of one peer at a time (`p2pfed.protocol.fetch` decides of whom).

So a block crosses a link at most once: it is pushed once by its author, or asked for once by
whoever lacks it. A block that was neither asked for nor is its author's next one is a breach. The
session keeps what each end is known to have, bounds what a peer may cost, and judges the order of
messages by one table:

    state            admits                                   then
    expect-hello     Hello                                    expect-frontier
    expect-frontier  Floors                                   expect-frontier
                     Frontier                                 open
    open             Blocks, Have, Want, WantNamed, Linked,   open
                     Floors, Ping, Pong
    any of these     Bye                                      closed

Faults of the peer are `InputError`s and leave the session closed; faults of ours `StateError`s.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Final, assert_never

from p2pfed import __version__
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Head
from p2pfed.core.limits import FRAME_BYTES_MAX
from p2pfed.core.waiting import BlockRef, SeqRange
from p2pfed.errors import InputError, StateError
from p2pfed.protocol.framing import FrameReader, frame_blocks
from p2pfed.protocol.limits import (
    BYE_TEXT_BYTES_MAX,
    FEEDS_MAX,
    HELLO_BYTES_MAX,
    NAMED_BLOCKS_MAX,
    PING_BURST_MAX,
    PING_REFILL_MS,
    PUSH_LAG_BLOCKS_MAX,
    REPEATED_BLOCKS_MAX,
    STALE_HEADS_MAX,
    WANT_BLOCKS_MAX,
    WANT_NAMED_MAX,
    WANT_RANGES_MAX,
)
from p2pfed.protocol.messages import (
    Blocks,
    Bye,
    Floors,
    FrontierMessage,
    Have,
    Heads,
    Hello,
    Linked,
    Message,
    Ping,
    Pong,
    Want,
    WantNamed,
    claimed_ref,
    decode_message,
    encode_message,
    sorted_heads,
)
from p2pfed.protocol.spans import Spans


class State(Enum):
    """What is expected of the peer."""

    EXPECT_HELLO = "expect-hello"
    EXPECT_FRONTIER = "expect-frontier"
    OPEN = "open"
    CLOSED = "closed"


MOVES: Final[Mapping[State, Mapping[type[Message], State]]] = {
    State.EXPECT_HELLO: {Hello: State.EXPECT_FRONTIER, Bye: State.CLOSED},
    State.EXPECT_FRONTIER: {
        Floors: State.EXPECT_FRONTIER,
        FrontierMessage: State.OPEN,
        Bye: State.CLOSED,
    },
    State.OPEN: {
        Blocks: State.OPEN,
        Have: State.OPEN,
        Want: State.OPEN,
        WantNamed: State.OPEN,
        Linked: State.OPEN,
        Floors: State.OPEN,
        Ping: State.OPEN,
        Pong: State.OPEN,
        Bye: State.CLOSED,
    },
    State.CLOSED: {},
}


@dataclass(frozen=True, slots=True)
class PeerNamed:
    """The peer is who it should be; `instance` tells this run of its daemon from others."""

    instance: int
    software: str


@dataclass(frozen=True, slots=True)
class HeadsHeard:
    """The peer has these; `first` for the frontier that opens the session."""

    heads: Heads
    first: bool


@dataclass(frozen=True, slots=True)
class BlocksCame:
    """Blocks that were asked for or pushed by their author; not verified yet."""

    blocks: tuple[tuple[BlockRef, bytes], ...]


@dataclass(frozen=True, slots=True)
class BlocksWanted:
    """The peer asks for these; `serve` says which of them to send."""

    ranges: tuple[SeqRange, ...]


@dataclass(frozen=True, slots=True)
class NamedWanted:
    """The peer asks for exactly these; `serve_named` says which of them to send."""

    refs: tuple[BlockRef, ...]


@dataclass(frozen=True, slots=True)
class OffsetMeasured:
    """The peer's clock minus ours, and the round trip that bounds the error of that."""

    offset_ms: int
    rtt_ms: int


@dataclass(frozen=True, slots=True)
class LinkedHeard:
    """To whom the peer is linked."""

    centres: tuple[CentreName, ...]


@dataclass(frozen=True, slots=True)
class FloorsHeard:
    """The peer lacks the blocks of these feeds before these places."""

    floors: tuple[tuple[FeedKey, int], ...]


@dataclass(frozen=True, slots=True)
class Answer:
    """Send these bytes back."""

    data: bytes


@dataclass(frozen=True, slots=True)
class PeerLeft:
    """The peer closes the connection and says why."""

    code: str
    text: str


SessionEvent = (
    PeerNamed
    | HeadsHeard
    | BlocksCame
    | BlocksWanted
    | NamedWanted
    | OffsetMeasured
    | LinkedHeard
    | FloorsHeard
    | Answer
    | PeerLeft
)


class Session:
    """The conversation with one peer over one connection.

    Args:
        me: our name.
        peer: the name that the connection's certificate proved.
        federation: both must belong to it.
        instance: 0..2^64-1, the same for all sessions of this run of the daemon.
    """

    def __init__(
        self, me: CentreName, peer: CentreName, federation: FederationId, instance: int = 0
    ) -> None:
        self.peer = peer
        self.state = State.EXPECT_HELLO
        self._me = me
        self._federation = federation
        self._instance = instance
        self._opened = False
        self._reader = FrameReader(HELLO_BYTES_MAX)
        self._told: dict[FeedKey, int] = {}
        self._heard: dict[FeedKey, int] = {}
        self._sent: dict[FeedKey, Spans] = {}
        self._asked: set[tuple[FeedKey, int]] = set()
        self._asked_named: set[BlockId] = set()
        self._served_named: set[BlockId] = set()
        self._repeated = 0
        self._stale = 0
        self._offered_to = -1
        self._taken_to = -1
        self._ping_sent_ms: int | None = None
        self._pings_missed = 0
        self._ping_credit = PING_BURST_MAX
        self._ping_credit_ms = 0

    # What the peer is known to have

    def listens(self) -> bool:
        """Whether anything may still come."""
        return self.state is not State.CLOSED

    @property
    def ready(self) -> bool:
        """Whether both frontiers have been exchanged."""
        return self._opened and self.state is State.OPEN

    def peer_has(self, feed: FeedKey) -> int:
        """The `seq_num` up to which the peer has the feed or is being sent it; -1 for none."""
        sent = self._sent.get(feed)
        return max(self._heard.get(feed, -1), sent.high if sent else -1)

    def takes_push(self, feed: FeedKey) -> bool:
        """Whether a new block of ours is pushed rather than announced.

        A peer that is far behind would have to hold pushed blocks back and could run out of room,
        so it is only told of them until it has asked for most of what it lacks.
        """
        had = max(self._taken_to, self._heard.get(feed, -1))
        return self.ready and self._offered_to - had <= PUSH_LAG_BLOCKS_MAX

    # Speaking

    def open(
        self, frontier: Mapping[FeedKey, Head], floors: Mapping[FeedKey, int] | None = None
    ) -> bytes:
        """Our Hello and Frontier; between them what we lack of old blocks, if we do."""
        if self._opened:
            raise StateError("protocol-opened", "a session is opened once")
        self._opened = True
        self._told = {feed: head.seq_num for feed, head in frontier.items()}
        self._offered_to = max(
            (s for f, s in self._told.items() if f.centre == self._me), default=-1
        )
        hello = Hello(
            federation=self._federation,
            centre=self._me,
            software=f"p2pfed/{__version__}",
            instance=self._instance,
        )
        told = self.floors(floors) if floors else b""
        heads = FrontierMessage(sorted_heads(frontier))
        return encode_message(hello) + told + encode_message(heads)

    def note_push(self, feed: FeedKey, seq_num: int) -> None:
        """A new block of ours is sent now, framed by `frame_blocks` (once for all peers)."""
        self._told[feed] = max(seq_num, self._told.get(feed, -1))
        self._sent_to(feed, seq_num, seq_num)

    def push(self, feed: FeedKey, seq_num: int, data: bytes) -> bytes:
        """A new block of ours; `takes_push` must be true."""
        self.note_push(feed, seq_num)
        return frame_blocks([data])

    def announce(self, heads: Iterable[tuple[FeedKey, Head]]) -> bytes:
        """Those of the heads that the peer neither has nor was told of; empty if none is left."""
        news: list[tuple[FeedKey, Head]] = []
        for feed, head in heads:
            if head.seq_num > max(self.peer_has(feed), self._told.get(feed, -1)):
                self._told[feed] = head.seq_num
                if feed.centre == self._me:
                    self._offered_to = max(self._offered_to, head.seq_num)
                news.append((feed, head))
        return encode_message(Have(sorted_heads(news))) if news else b""

    def want(self, ranges: Iterable[SeqRange]) -> bytes:
        """Asks for these blocks, none of which was asked for and is still to come."""
        frames: list[bytes] = []
        batch: list[SeqRange] = []
        blocks = 0
        for wanted in sorted(ranges):
            size = wanted.to_seq - wanted.from_seq + 1
            if batch and (len(batch) == WANT_RANGES_MAX or blocks + size > WANT_BLOCKS_MAX):
                frames.append(encode_message(Want(tuple(batch))))
                batch, blocks = [], 0
            batch.append(wanted)
            blocks += size
            self._asked.update((wanted.feed, s) for s in range(wanted.from_seq, wanted.to_seq + 1))
        if batch:
            frames.append(encode_message(Want(tuple(batch))))
        return b"".join(frames)

    def want_named(self, refs: Iterable[BlockRef]) -> bytes:
        """Asks for exactly these blocks."""
        wanted = sorted(refs)
        self._asked_named.update(ref.block_id for ref in wanted)
        return b"".join(
            encode_message(WantNamed(tuple(wanted[at : at + WANT_NAMED_MAX])))
            for at in range(0, len(wanted), WANT_NAMED_MAX)
        )

    def serve_named(
        self, refs: Iterable[BlockRef], holds: Callable[[BlockRef], bool]
    ) -> tuple[BlockRef, ...]:
        """Those of the wanted blocks that we hold and now send; each is sent once.

        Raises:
            InputError: `protocol-want-repeated`, as `serve`.
        """
        served: list[BlockRef] = []
        for ref in refs:
            if ref.block_id not in self._served_named and holds(ref):
                self._served_named.add(ref.block_id)
                served.append(ref)
            else:
                self._repeated += 1
        if self._repeated > REPEATED_BLOCKS_MAX or len(self._served_named) > NAMED_BLOCKS_MAX:
            raise self._repeats()
        return tuple(served)

    def _repeats(self) -> InputError:
        self.state = State.CLOSED
        return InputError(
            "protocol-want-repeated",
            "the peer asks again and again for blocks that it was sent or can't be sent",
            where=self.peer,
        )

    def serve(
        self, ranges: Iterable[SeqRange], heads: Mapping[FeedKey, Head]
    ) -> tuple[SeqRange, ...]:
        """The part of wanted ranges that we hold and now send.

        Args:
            ranges: as the peer asked.
            heads: what we hold.

        Raises:
            InputError: `protocol-want-repeated`: the peer asks too often for what it was sent, or
                for what we never claimed to hold.
        """
        served: list[SeqRange] = []
        for wanted in ranges:
            feed = wanted.feed
            last = min(wanted.to_seq, heads[feed].seq_num if feed in heads else -1)
            fresh = self._sent_to(feed, wanted.from_seq, last) if last >= wanted.from_seq else 0
            self._repeated += wanted.to_seq - wanted.from_seq + 1 - fresh
            if self._repeated > REPEATED_BLOCKS_MAX:
                raise self._repeats()
            if last >= wanted.from_seq:
                served.append(SeqRange(feed, wanted.from_seq, last))
            if feed.centre == self._me:
                self._taken_to = max(self._taken_to, wanted.to_seq)
        return tuple(served)

    def linked(self, centres: Iterable[CentreName]) -> bytes:
        """Tells the peer to whom we are linked."""
        return encode_message(Linked(tuple(sorted(centres))))

    def floors(self, floors: Mapping[FeedKey, int]) -> bytes:
        """Tells the peer from which place on we have which feeds."""
        return encode_message(Floors(tuple(sorted(floors.items()))))

    def ping(self, now_ms: int) -> bytes:
        """A ping, unless the one before is unanswered: that one then counts as missed."""
        if self._ping_sent_ms is not None:
            self._pings_missed += 1
            return b""
        self._ping_sent_ms = now_ms
        return encode_message(Ping(now_ms))

    @property
    def pings_missed(self) -> int:
        """How many times in a row a ping was due while one was unanswered."""
        return self._pings_missed

    def bye(self, code: str, text: str) -> bytes:
        """Our last message."""
        self.state = State.CLOSED
        printable = "".join(c if c.isprintable() else "?" for c in text)
        short = printable.encode()[:BYE_TEXT_BYTES_MAX].decode(errors="ignore")
        return encode_message(Bye(code, short))

    # Listening

    def receive(self, data: bytes, now_ms: int) -> list[SessionEvent]:
        """What the peer's next bytes, cut anywhere, mean.

        Once the session is closed nothing means anything any more.

        Raises:
            InputError: the peer broke the protocol; its messages in `data` before the offending
                one are not reported.
        """
        events: list[SessionEvent] = []
        if not self.listens():
            return events
        try:
            for body in self._reader.feed(data):
                events.extend(self._advance(decode_message(body), now_ms))
                if not self.listens():
                    break
        except InputError as error:
            self.state = State.CLOSED
            error.where = error.where or self.peer
            raise
        return events

    def _advance(self, message: Message, now_ms: int) -> Iterator[SessionEvent]:
        after = MOVES[self.state].get(type(message))
        if after is None:
            raise InputError(
                "protocol-order",
                f"the peer sent {type(message).__name__} in state {self.state.value}",
            )
        match message:
            case Hello():
                yield self._check_hello(message)
            case FrontierMessage(heads=heads):
                self._hear(heads)
                yield HeadsHeard(heads, first=True)
            case Have(heads=heads):
                self._hear(heads)
                yield HeadsHeard(heads, first=False)
            case Blocks(blocks=blocks):
                yield BlocksCame(tuple((self._take(data), data) for data in blocks))
            case Want(ranges=ranges):
                yield BlocksWanted(ranges)
            case WantNamed(refs=refs):
                yield NamedWanted(refs)
            case Linked(centres=centres):
                yield LinkedHeard(centres)
            case Floors(floors=floors):
                yield FloorsHeard(floors)
            case Ping(sent_ms=sent_ms):
                self._spend_ping(now_ms)
                yield Answer(encode_message(Pong(sent_ms, now_ms, now_ms)))
            case Pong():
                yield from self._measure(message, now_ms)
            case Bye(code=code, text=text):
                yield PeerLeft(code, text)
            case _:
                assert_never(message)
        self.state = after

    def _check_hello(self, hello: Hello) -> PeerNamed:
        if hello.federation != self._federation:
            raise InputError(
                "protocol-federation",
                f"the peer belongs to federation {hello.federation.hex()[:16]}, not to ours",
                remedy="compare the charter files of both centres",
            )
        if hello.centre != self.peer:
            raise InputError(
                "protocol-centre", f"the peer's key is {self.peer}'s, but it says {hello.centre}"
            )
        self._reader.limit = FRAME_BYTES_MAX
        return PeerNamed(hello.instance, hello.software)

    def _hear(self, heads: Heads) -> None:
        for feed, head in heads:
            if head.seq_num > self._heard.get(feed, -1):
                self._heard[feed] = head.seq_num
            else:
                self._stale += 1
        if self._stale > STALE_HEADS_MAX:
            raise InputError("protocol-have-stale", "the peer keeps saying what it said before")
        if len(self._heard) > FEEDS_MAX:
            raise InputError("protocol-feeds", f"the peer names more than {FEEDS_MAX} feeds")

    def _take(self, data: bytes) -> BlockRef:
        ref = claimed_ref(data)
        place = (ref.feed, ref.seq_num)
        heard = self._heard.get(ref.feed, -1)
        if ref.block_id in self._asked_named:
            self._asked_named.discard(ref.block_id)
            return ref
        if place in self._asked:
            self._asked.discard(place)
        elif ref.feed.centre != self.peer or ref.seq_num <= heard:
            raise InputError(
                "protocol-block-unasked",
                f"the peer sent block {ref.seq_num} of {ref.feed}, which was not asked for",
            )
        if ref.seq_num > heard:
            self._hear(((ref.feed, Head(ref.seq_num, ref.block_id)),))
        return ref

    def _spend_ping(self, now_ms: int) -> None:
        earned = (now_ms - self._ping_credit_ms) // PING_REFILL_MS
        if earned < 0:
            self._ping_credit_ms = now_ms  # our clock was set back: count from here
        elif earned:
            self._ping_credit = min(PING_BURST_MAX, self._ping_credit + earned)
            self._ping_credit_ms += earned * PING_REFILL_MS
        if not self._ping_credit:
            raise InputError("protocol-ping-flood", "the peer pings more often than twice a second")
        self._ping_credit -= 1

    def _measure(self, pong: Pong, now_ms: int) -> Iterator[OffsetMeasured]:
        if pong.sent_ms != self._ping_sent_ms:
            raise InputError("protocol-pong", "the peer answers a ping that was not sent")
        self._ping_sent_ms = None
        self._pings_missed = 0
        rtt_ms = now_ms - pong.sent_ms - (pong.replied_ms - pong.received_ms)
        if rtt_ms >= 0:  # else one of the clocks was set meanwhile
            offset = (pong.received_ms - pong.sent_ms + pong.replied_ms - now_ms) // 2
            yield OffsetMeasured(offset, rtt_ms)

    def _sent_to(self, feed: FeedKey, first: int, last: int) -> int:
        """Notes blocks as sent and returns how many of them are so for the first time."""
        spans = self._sent.get(feed)
        if spans is None:
            spans = self._sent[feed] = Spans()
        return spans.add(first, last)
