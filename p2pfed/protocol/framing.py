"""Frames: how messages are told apart in a stream of bytes.

A frame is its body's length as four bytes, big-endian, then the body: one CBOR map. The length is
judged as soon as its four bytes are there, so that a huge frame is refused before any of it is
buffered; a frame may arrive in pieces of any size, and several in one piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from p2pfed.core.codec import encode
from p2pfed.core.limits import BLOCKS_PER_FRAME_BYTES, FRAME_BYTES_MAX
from p2pfed.errors import InputError, StateError

_LENGTH_BYTES: Final = 4
BLOCKS_TYPE: Final = 3
"""The message type of Blocks; it stands here because blocks are framed without a message object."""


class FrameReader:
    """The received bytes that are not yet a whole frame.

    Attributes:
        limit: the largest body accepted, in bytes.
    """

    def __init__(self, limit: int = FRAME_BYTES_MAX) -> None:
        self.limit = limit
        self._buffer = bytearray()

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The bodies of the frames that `data` completes, in order.

        `limit` is read anew for each frame, so a consumer may raise it between two of them. The
        iterator must be run to its end before the next call.

        Raises:
            InputError: `protocol-frame-empty`, `protocol-frame-too-long`.
        """
        self._buffer += data
        while len(self._buffer) >= _LENGTH_BYTES:
            size = int.from_bytes(self._buffer[:_LENGTH_BYTES], "big")
            if size == 0:
                raise InputError("protocol-frame-empty", "a frame has no body")
            if size > self.limit:
                raise InputError(
                    "protocol-frame-too-long",
                    f"a frame announces {size} bytes, at most {self.limit} are accepted here",
                )
            end = _LENGTH_BYTES + size
            if len(self._buffer) < end:
                return
            body = bytes(self._buffer[_LENGTH_BYTES:end])
            del self._buffer[:end]
            yield body

    @property
    def buffered_bytes(self) -> int:
        """How much of an unfinished frame is held."""
        return len(self._buffer)


def frame(body: bytes) -> bytes:
    """One frame with this body.

    Raises:
        StateError: `protocol-frame`: the body is empty or longer than any peer accepts (our bug).
    """
    if not 0 < len(body) <= FRAME_BYTES_MAX:
        raise StateError("protocol-frame", f"a frame body of {len(body)} bytes can't be sent")
    return len(body).to_bytes(_LENGTH_BYTES, "big") + body


def frame_blocks(blocks: Iterable[bytes]) -> bytes:
    """The frames that carry these blocks, in order; empty if there are none.

    Blocks are batched up to BLOCKS_PER_FRAME_BYTES a frame; a larger one travels alone.
    """
    frames: list[bytes] = []
    batch: list[bytes] = []
    size = 0
    for block in blocks:
        if batch and size + len(block) > BLOCKS_PER_FRAME_BYTES:
            frames.append(frame(encode({0: BLOCKS_TYPE, 1: list(batch)})))
            batch, size = [], 0
        batch.append(block)
        size += len(block)
    if batch:
        frames.append(frame(encode({0: BLOCKS_TYPE, 1: list(batch)})))
    return b"".join(frames)
