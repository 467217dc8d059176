"""A member, or a stranger, that speaks to a daemon byte by byte, whatever the protocol says.

It holds a centre's key and a plain TLS socket, no session and no node: it can say what no daemon
would.
"""

from __future__ import annotations

import hashlib
import socket
import ssl
import time
from collections.abc import Sequence
from contextlib import suppress
from types import TracebackType
from typing import Self

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed import __version__
from p2pfed.core import cose
from p2pfed.core.blocks import seal_block
from p2pfed.core.codec import encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import FederationId, FeedKey, Head, PublicKey, parse_centre_name
from p2pfed.core.keys import key_id, parse_public_key
from p2pfed.core.records import Record
from p2pfed.core.units import HlcTime, hlc
from p2pfed.protocol.framing import FrameReader, frame
from p2pfed.protocol.messages import (
    Blocks,
    Bye,
    FrontierMessage,
    Hello,
    Message,
    decode_message,
    encode_message,
)
from p2pfed.shell.connections import WELCOME
from p2pfed.shell.tls import LINK_PROTOCOL, Tls
from p2pfed.store.keyfile import load_key
from tests.e2e.federation import Centre

ANSWER_S = 30.0


class Rogue:
    """One connection of `centre`, whose own daemon must not run, to the daemon of `target`.

    Args:
        protocol: the ALPN name that it asks for.
        key: another key than the centre's.
    """

    def __init__(
        self,
        centre: Centre,
        target: Centre,
        *,
        key: Ed25519PrivateKey | None = None,
        protocol: str = LINK_PROTOCOL,
    ) -> None:
        assert not centre.running
        self.name = parse_centre_name(centre.name)
        self.key = load_key(centre.folder / "key.pem").private if key is None else key
        self.federation = centre.charter().federation_id
        tls = Tls(self.key, dict(centre.charter().keys()))
        plain = socket.create_connection(("127.0.0.1", target.port), timeout=ANSWER_S)
        context = tls.client(LINK_PROTOCOL)
        context.set_alpn_protocols([protocol])
        self.socket = context.wrap_socket(plain)
        self._reader = FrameReader()
        self._heard: list[Message] = []
        self._welcomed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.socket.close()

    # Saying

    def send(self, data: bytes) -> None:
        """Says these bytes; the other end may have hung up already."""
        with suppress(OSError):
            self.socket.sendall(data)

    def hang_up(self) -> None:
        """Sends no more, in the middle of whatever was said."""
        with suppress(OSError):
            self.socket.unwrap()

    def hello(
        self, *, version: int = 1, federation: FederationId | None = None, centre: str = ""
    ) -> None:
        """Introduces itself, truly where nothing else is given."""
        message = Hello(
            version=version,
            federation=federation or self.federation,
            centre=parse_centre_name(centre or self.name),
            software=__version__,
            instance=7,
        )
        self.send(encode_message(message))

    def open(self) -> Self:
        """Does what an honest peer does until blocks can be sent."""
        assert self.welcomed()
        self.hello()
        self.send(encode_message(FrontierMessage(())))
        self.until_said(FrontierMessage)
        return self

    def push(self, *blocks: bytes) -> None:
        """Sends blocks as their author does."""
        self.send(encode_message(Blocks(blocks)))

    # Hearing

    def welcomed(self) -> bool:
        """True if the daemon takes the connection; False if it hangs up."""
        if not self._welcomed:
            with suppress(OSError):
                self._welcomed = self.socket.recv(1) == WELCOME
        return self._welcomed

    def listen(self) -> bool:
        """Takes what comes next; False when the daemon has hung up."""
        try:
            data = self.socket.recv(1 << 16)
        except (ssl.SSLError, ConnectionError):
            data = b""
        self._heard += [decode_message(body) for body in self._reader.feed(data)]
        return bool(data)

    def until_said(self, kind: type[Message]) -> Message:
        """The first message of that kind."""
        while True:
            for message in self._heard:
                if isinstance(message, kind):
                    return message
            assert self.listen(), f"it hung up and said {self._heard}"

    def until_bye(self) -> str:
        """Listens until the daemon hangs up; the code of the Bye that it said, else empty."""
        while self.listen():
            pass
        return next((m.code for m in self._heard if isinstance(m, Bye)), "")

    def until_closed(self) -> None:
        """Waits until the daemon has hung up, whatever it says before."""
        with suppress(OSError):
            while self.socket.recv(1 << 16):
                pass

    # Blocks of its own making

    def block(
        self,
        records: Sequence[Record],
        *,
        at: HlcTime | None = None,
        after: Head | None = None,
        acks: dict[FeedKey, Head] | None = None,
    ) -> tuple[bytes, Head]:
        """A block as a daemon would write it; its bytes and its place."""
        made = seal_block(
            federation=self.federation,
            signer=self.key,
            kid=key_id(self._public),
            centre=self.name,
            epoch=0,
            seq_num=0 if after is None else after.seq_num + 1,
            backlink=None if after is None else after.block_id,
            time=now() if at is None else at,
            acks=acks or {},
            records=records,
        )
        return made.data, made.head

    def sign(self, header: bytes, records: bytes) -> bytes:
        """A block of any header and any records, with a valid signature."""
        message = cose.sign(self.key, self.federation, key_id(self._public), header)
        return b"\x82" + cose.byte_string(message) + cose.byte_string(records)

    @property
    def _public(self) -> PublicKey:
        return parse_public_key(self.key.public_key().public_bytes_raw())

    def header(self, records: bytes, **changed: CborItem) -> dict[int, CborItem]:
        """The header of a first block with these records; `changed` by the names of its fields."""
        fields: dict[str, CborItem] = {
            "version": 1,
            "centre": str(self.name),
            "epoch": 0,
            "seq_num": 0,
            "backlink": None,
            "time": now(),
            "acks": [],
            "digest": hashlib.sha256(records).digest(),
        }
        assert changed.keys() <= fields.keys()
        return dict(enumerate((fields | changed).values()))


def now() -> HlcTime:
    """The time of a block that is written now."""
    return hlc(time.time_ns() // 1_000_000)


def framed(item: CborItem) -> bytes:
    """A frame with an item of any form."""
    return frame(encode(item))
