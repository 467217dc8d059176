"""Centres for tests: each writes its own feed, with a key that follows from its name."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import Block, seal_block
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Head, PublicKey
from p2pfed.core.keys import VerifyKeys, key_id, parse_public_key
from p2pfed.core.records import Contact, Record
from p2pfed.core.units import HlcTime, hlc

FEDERATION = FederationId(hashlib.sha256(b"a federation of tests").digest())
START_MS = 1_700_000_000_000


def private_key(name: str) -> Ed25519PrivateKey:
    """The key of the test centre `name`."""
    return Ed25519PrivateKey.from_private_bytes(hashlib.sha256(b"test " + name.encode()).digest())


def public_key(name: str) -> PublicKey:
    """The public key of the test centre `name`."""
    return parse_public_key(private_key(name).public_key().public_bytes_raw())


def keys_of(*names: str) -> VerifyKeys:
    """The keys of these test centres."""
    return VerifyKeys((CentreName(name), public_key(name)) for name in names)


class Writer:
    """A centre that appends blocks to its feed; a copy of it can fork the feed."""

    def __init__(self, name: str, epoch: int = 0, *, federation: FederationId = FEDERATION) -> None:
        self.name = CentreName(name)
        self.feed = FeedKey(self.name, epoch)
        self.head: Head | None = None
        self.time = hlc(START_MS)
        self._key_of = name
        self._federation = federation

    def branch(self) -> Writer:
        """A second writer of the same feed, from here on."""
        other = Writer(self.name, self.feed.epoch, federation=self._federation)
        other.head, other.time, other._key_of = self.head, self.time, self._key_of
        return other

    def sign_as(self, key_of: str) -> None:
        """From now on it signs with the key that follows from another name."""
        self._key_of = key_of

    def write(
        self,
        *acked: Block,
        records: Sequence[Record] = (),
        time: HlcTime | None = None,
        acks: dict[FeedKey, Head] | None = None,
    ) -> Block:
        """The next block; by default one tick later than all it names."""
        later = max([self.time, *(block.time for block in acked)]) + 1
        block = seal_block(
            federation=self._federation,
            signer=private_key(self._key_of),
            kid=key_id(public_key(self._key_of)),
            centre=self.name,
            epoch=self.feed.epoch,
            seq_num=0 if self.head is None else self.head.seq_num + 1,
            backlink=None if self.head is None else self.head.block_id,
            time=HlcTime(later) if time is None else time,
            acks={block.feed: block.head for block in acked} if acks is None else acks,
            records=records,
        )
        self.head, self.time = block.head, block.time
        return block


def some_id(text: str) -> BlockId:
    """A block id that no block has."""
    return BlockId(hashlib.sha256(text.encode()).digest())


CONTACT = Contact(address="alpha.example.org:7411")
