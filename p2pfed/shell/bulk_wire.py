"""What is said on a bulk connection, one payload, result or checkpoint each.

    host to home:   AskPayload               home to host:   AskResult
    home to host:   HandedOver               host to home:   Contents
    host to home:   Named                    home to host:   Want
    home to host:   Contents                 host to home:   the chunks, bare, in order
    host to home:   Want                     home to host:   Done
    home to host:   the chunks, bare, in order
    host to home:   Done

    newcomer to member:  AskBearings
    member to newcomer:  BearingsCome, then the bytes, bare
    newcomer to member:  Done

Each message is a frame (`p2pfed.protocol.framing`) with one CBOR map, whose key 0 is the message's
number. `Refused` may stand in the place of any answer, and ends the connection. The chunks need no
frames: the manifest in Contents says how long each is and what its SHA-256 is. Want names the first
chunk that is wanted, counted over all files in the manifest's order, so that an interrupted
transfer goes on where it stopped. docs/reference/bulk-protocol.md has the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, TypeVar

import trio

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import POSITION, CborItem, byte_string, integer
from p2pfed.core.ids import BlockId, ClaimId
from p2pfed.core.limits import BEARINGS_BYTES_MAX, MANIFEST_BYTES_MAX
from p2pfed.errors import InputError, StateError
from p2pfed.protocol.framing import frame
from p2pfed.shell.connections import Stream

M = TypeVar("M")

MESSAGE_BYTES_MAX: Final = MANIFEST_BYTES_MAX + 64
ASK_BYTES_MAX: Final = 1024
"""Any message of those who ask; only the answers of those who give hold a manifest."""
STALL_S: Final = 60.0
"""A message or chunk that is under way arrives within this time, or the connection is given up."""
RECEIVE_BYTES: Final = 1 << 18

_DIGEST = byte_string("digest", 32, 32)
_MANIFEST = byte_string("manifest", 1, MANIFEST_BYTES_MAX)
_SIZE = integer("size", 1, BEARINGS_BYTES_MAX)
_CHUNK_INDEX = integer("chunk index", 0, 1 << 32)


@dataclass(frozen=True, slots=True)
class AskPayload:
    """The host asks the home for the payload of a claim."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True)
class AskResult:
    """The home asks the host for the result of a claim."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True)
class HandedOver:
    """The home has written the Handover in this block."""

    block_id: BlockId


@dataclass(frozen=True, slots=True)
class Named:
    """The host holds the block with the Handover durably: this one."""

    block_id: BlockId


@dataclass(frozen=True, slots=True)
class Contents:
    """The manifest, as the bytes whose SHA-256 is signed for."""

    manifest: bytes


@dataclass(frozen=True, slots=True)
class Want:
    """The first chunk that the asker lacks; the number of chunks if it lacks none."""

    from_chunk: int


@dataclass(frozen=True, slots=True)
class Done:
    """The asker holds everything durably."""


@dataclass(frozen=True, slots=True)
class AskBearings:
    """A member asks for the newest cosigned checkpoint, to begin with it."""


@dataclass(frozen=True, slots=True)
class BearingsCome:
    """So many bytes follow, and their SHA-256."""

    size: int
    digest: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """The other end will not go on; `final` if asking again can't help."""

    code: str
    text: str
    final: bool


Message = (
    AskPayload
    | AskResult
    | HandedOver
    | Named
    | Contents
    | Want
    | Done
    | Refused
    | AskBearings
    | BearingsCome
)


def encode_message(message: Message) -> bytes:
    """The frame of a message."""
    return frame(encode(_item(message)))


def _item(message: Message) -> CborItem:
    match message:
        case AskPayload(claim_id):
            return {0: 1, 1: POSITION.dump(claim_id)}
        case AskResult(claim_id):
            return {0: 2, 1: POSITION.dump(claim_id)}
        case HandedOver(block_id):
            return {0: 3, 1: block_id}
        case Named(block_id):
            return {0: 4, 1: block_id}
        case Contents(manifest):
            return {0: 5, 1: manifest}
        case Want(from_chunk):
            return {0: 6, 1: from_chunk}
        case Done():
            return {0: 7}
        case Refused(code, text, final):
            return {0: 8, 1: code, 2: text[:200], 3: final}
        case AskBearings():
            return {0: 9}
        case BearingsCome(size, digest):
            return {0: 10, 1: size, 2: digest}


def decode_message(body: bytes) -> Message:
    """The message in a frame's body.

    Raises:
        InputError: `cbor-...`, `bulk-message`.
    """
    item = decode(body, limit=MESSAGE_BYTES_MAX, where="bulk message")
    message = _parse(item) if type(item) is dict else None
    if message is None:
        raise InputError("bulk-message", "not a message of the bulk protocol")
    return message


def _parse(item: dict[int, CborItem]) -> Message | None:
    number = item.get(0)
    value = item.get(1)
    if number in (1, 2) and (claim := POSITION.parse(value)) is not None:
        return AskPayload(ClaimId(claim)) if number == 1 else AskResult(ClaimId(claim))
    if number in (3, 4) and (digest := _DIGEST.parse(value)) is not None:
        return HandedOver(BlockId(digest)) if number == 3 else Named(BlockId(digest))
    if number == 5 and (manifest := _MANIFEST.parse(value)) is not None:
        return Contents(manifest)
    if number == 6 and (index := _CHUNK_INDEX.parse(value)) is not None:
        return Want(index)
    if number == 7:
        return Done()
    if number == 8:
        text, final = item.get(2), item.get(3)
        if type(value) is str and type(text) is str and type(final) is bool:
            return Refused(_printable(value), _printable(text), final)
    if number == 9:
        return AskBearings()
    if number == 10 and (size := _SIZE.parse(value)) is not None:
        digest = _DIGEST.parse(item.get(2))
        return None if digest is None else BearingsCome(size, digest)
    return None


def _printable(text: str) -> str:
    """A stranger's text, fit for a log line."""
    return "".join(c if c.isprintable() else "?" for c in text[:200])


class RefusedError(StateError):
    """The other end refused; `final` if it says that asking again can't help."""

    def __init__(self, refused: Refused) -> None:
        super().__init__("bulk-refused", f"{refused.text} ({refused.code})")
        self.final = refused.final


def expected(message: Message, kind: type[M]) -> M:
    """The message, if it is of the kind whose turn it is.

    Raises:
        RefusedError: it is `Refused` instead.
        InputError: `bulk-message`.
    """
    if isinstance(message, kind):
        return message
    if isinstance(message, Refused):
        raise RefusedError(message)
    raise InputError("bulk-message", f"{type(message).__name__} came instead of {kind.__name__}")


class Wire:
    """One bulk connection, read by whole messages and chunks."""

    def __init__(
        self,
        stream: Stream,
        *,
        stall_s: float = STALL_S,
        message_bytes_max: int = MESSAGE_BYTES_MAX,
    ) -> None:
        """`message_bytes_max` bounds what one message may make us hold."""
        self._stream = stream
        self._stall_s = stall_s
        self._message_bytes_max = message_bytes_max
        self._buffer = bytearray()

    async def send(self, message: Message) -> None:
        """Sends one message.

        Raises:
            trio.BrokenResourceError: the connection is lost, or stalled.
        """
        await self.send_bytes(encode_message(message))

    async def send_bytes(self, data: bytes) -> None:
        """Sends bare bytes; raises as `send`."""
        with _stalled(self._stall_s) as scope:
            await self._stream.send_all(data)
        _check(scope)

    async def receive(self, *, within_s: float | None = None) -> Message:
        """The next message.

        Args:
            within_s: how long it may take to come, if not `STALL_S`.

        Raises:
            InputError: `bulk-message`, `cbor-...`.
            trio.BrokenResourceError: the connection is lost, or nothing came in time.
        """
        with _stalled(within_s or self._stall_s) as scope:
            await self._fill(4)
        _check(scope)
        size = int.from_bytes(self._buffer[:4], "big")
        if not 0 < size <= self._message_bytes_max:
            raise InputError("bulk-message", f"a message announces {size} bytes")
        return decode_message((await self.receive_exactly(4 + size))[4:])

    async def receive_exactly(self, size: int) -> bytes:
        """The next `size` bytes; raises as `receive` for a lost connection."""
        with _stalled(self._stall_s) as scope:
            await self._fill(size)
        _check(scope)
        data = bytes(self._buffer[:size])
        del self._buffer[:size]
        return data

    async def until_lost(self) -> None:
        """Returns when the other end is gone, or says something before its turn."""
        try:
            self._buffer += await self._stream.receive_some(1)
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return

    async def _fill(self, size: int) -> None:
        while len(self._buffer) < size:
            data = await self._stream.receive_some(RECEIVE_BYTES)
            if not data:
                raise trio.BrokenResourceError("the other end closed the connection")
            self._buffer += data


def _stalled(seconds: float) -> trio.CancelScope:
    return trio.move_on_after(seconds)


def _check(scope: trio.CancelScope) -> None:
    if scope.cancelled_caught:
        raise trio.BrokenResourceError("nothing came in time")
