"""Blocks: the signed appends that a feed consists of.

A block is an array of two byte strings, `[cose, records]`. `cose` is a COSE_Sign1 message (RFC 9052
section 4.2) with Ed25519, whose payload is the header and whose external additional data is the
federation id, so that a block of one federation is worthless in another. The header binds the
records by their SHA-256; so a fork can be proven with two headers, and headers can outlive records.
The block id is the SHA-256 of the header: of what was signed, without the signature.

The outer form leaves no choice (`p2pfed.core.cose`): `decode_block` cuts the parts out of the
received bytes, verifies the signature over them as they came, and only then decodes what a member
has signed. Nothing is encoded again to verify. A block's validity depends on its bytes and on the
keys alone; what depends on other blocks (chain, order of times, acks) is `p2pfed.core.replica`'s to
judge.

A record that is malformed is inert and leaves its block valid. A header that is malformed makes the
block invalid, for every node alike.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NamedTuple, NoReturn, cast

from p2pfed.core import cose
from p2pfed.core.codec import decode, decode_unchecked, encode, encodes_to
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CENTRE_NAME, BlockId, CentreName, FederationId, FeedKey, Head, Position
from p2pfed.core.keys import Signer, VerifyKeys
from p2pfed.core.limits import (
    ACKS_PER_BLOCK_MAX,
    BLOCK_BYTES_MAX,
    EPOCH_MAX,
    HEADER_BYTES_MAX,
    RECORDS_BYTES_MAX,
    RECORDS_PER_BLOCK_MAX,
    SEQ_NUM_MAX,
)
from p2pfed.core.recordcodec import decode_columns, decode_record, encode_record
from p2pfed.core.records import (
    ForkProof,
    Inert,
    Record,
)
from p2pfed.core.units import HLC_MAX, HlcTime
from p2pfed.errors import InputError, StateError

FORMAT_VERSION: Final = 1

_ARRAY_OF_2: Final = b"\x82"
_ARRAY_OF_6: Final = b"\x86"
_KEYS: Final = tuple(range(8))


class Ack(NamedTuple):
    """A head of another feed that the author of a block had admitted."""

    feed: FeedKey
    head: Head


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockHeader:
    """What a centre signs: its block's place in its feed, time, acks and the records' digest.

    Attributes:
        backlink: id of the block before; None exactly for `seq_num` 0.
        acks: heads of other feeds that changed since the author's last block, by feed.
        block_id: SHA-256 of the signed bytes.
        cose: the whole signed message as it was received, which proves a fork.
        kid: id of the key that signed it.
    """

    centre: CentreName
    epoch: int
    seq_num: int
    backlink: BlockId | None
    time: HlcTime
    acks: tuple[Ack, ...]
    records_digest: bytes
    block_id: BlockId
    cose: bytes
    kid: bytes

    @property
    def feed(self) -> FeedKey:
        """The chain that the block belongs to."""
        return FeedKey(self.centre, self.epoch)

    @property
    def head(self) -> Head:
        """What a frontier says when this is its feed's newest block."""
        return Head(self.seq_num, self.block_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Block:
    """A block whose signature and form are verified.

    Attributes:
        records: in the author's order; malformed ones are `Inert` at their place.
        data: the bytes as received, which are what is stored and forwarded.
    """

    header: BlockHeader
    records: tuple[Record | Inert, ...]
    data: bytes

    @property
    def block_id(self) -> BlockId:
        """SHA-256 of the header."""
        return self.header.block_id

    @property
    def feed(self) -> FeedKey:
        """The chain that the block belongs to."""
        return FeedKey(self.header.centre, self.header.epoch)

    @property
    def seq_num(self) -> int:
        """The block's place in its feed, from 0."""
        return self.header.seq_num

    @property
    def head(self) -> Head:
        """What a frontier says when this is its feed's newest block."""
        return Head(self.header.seq_num, self.header.block_id)

    @property
    def time(self) -> HlcTime:
        """The author's hybrid time."""
        return self.header.time

    def positions(self) -> Iterator[Position]:
        """The ids of the records, in their order."""
        header = self.header
        return Position.run(header.centre, header.epoch, header.seq_num, len(self.records))

    def position(self, index: int) -> Position:
        """The id of the record at `index`."""
        header = self.header
        return Position(header.centre, header.epoch, header.seq_num, index)


def seal_block(
    *,
    federation: FederationId,
    signer: Signer,
    kid: bytes,
    centre: CentreName,
    epoch: int,
    seq_num: int,
    backlink: BlockId | None,
    time: HlcTime,
    acks: Mapping[FeedKey, Head],
    records: Sequence[Record],
) -> Block:
    """A new signed block of these records, in this order.

    Args:
        federation: the only federation that the block will be valid in.
        signer: signs with the key that `kid` names.
        kid: `key_id` of the public key.
        centre: the author.
        epoch: the author's epoch.
        seq_num: one more than that of the block before, 0 for the first of the epoch.
        backlink: id of the block before, None for the first of the epoch.
        time: later than the block before and than every ack (`clock.next_time`).
        acks: heads to acknowledge; what does not fit HEADER_BYTES_MAX must wait for a later block.
        records: at most RECORDS_PER_BLOCK_MAX.

    Raises:
        StateError: `block-seal`: the block would be invalid, or a record inert, for its receivers.
    """
    record_bytes = encode([encode_record(record) for record in records])
    header = encode(
        {
            0: FORMAT_VERSION,
            1: centre,
            2: epoch,
            3: seq_num,
            4: backlink,
            5: time,
            6: [[*feed, *head] for feed, head in sorted(acks.items())],
            7: hashlib.sha256(record_bytes).digest(),
        }
    )
    message = cose.sign(signer, federation, kid, header)
    data = _ARRAY_OF_2 + cose.byte_string(message) + cose.byte_string(record_bytes)
    try:
        split_block(data)
        sealed = Block(
            header=_parse_header(header, message, kid),
            records=_parse_records(record_bytes),
            data=data,
        )
    except InputError as error:
        raise StateError("block-seal", f"this block would be refused: {error.what}") from error
    for index, record in enumerate(sealed.records):
        if isinstance(record, Inert):
            raise StateError("block-seal", f"record {index} would be inert: {record.detail}")
    return sealed


def decode_block(data: bytes, federation: FederationId, keys: VerifyKeys) -> Block:
    """The block that a stranger's bytes hold, if one of the federation's centres signed it.

    Raises:
        InputError: `block-size`, `block-form`, `cose-form`, `block-key-unknown`, `block-signature`,
            `block-version`, `block-header`, `block-centre`, `block-backlink`, `block-acks`,
            `block-ack-own`, `block-records-digest`, `block-records-count`, `block-records-form`,
            or a `cbor-...` code when header or records are not in deterministic form.
    """
    message, record_bytes = split_block(data)
    header = decode_header(message, federation, keys)
    if hashlib.sha256(record_bytes).digest() != header.records_digest:
        _refuse("block-records-digest", "the records are not those that the header was signed for")
    return Block(header=header, records=_parse_records(record_bytes), data=data)


def decode_stored(data: bytes) -> Block:
    """The block in bytes that `decode_block` accepted before and that were kept since.

    Neither signature nor digests are checked again, nor that the records are in their one
    encoding; only for one's own disk, where a checksum guards the bytes.

    Raises:
        InputError: as `decode_block`, but for what is not checked.
    """
    message, record_bytes = split_block(data)
    kid, payload, _ = cose.cut(message)
    records = _parse_columns(record_bytes, trusted=True) or _parse_one_by_one(record_bytes)
    return Block(header=_parse_header(payload, message, kid), records=records, data=data)


def decode_header(message: bytes, federation: FederationId, keys: VerifyKeys) -> BlockHeader:
    """The header that a COSE_Sign1 message carries, if one of the centres signed it.

    Raises:
        InputError: as `decode_block`, except the codes about records.
    """
    if len(message) > HEADER_BYTES_MAX:
        _refuse("block-size", f"a signed header of {len(message)} bytes, over {HEADER_BYTES_MAX}")
    kid, payload, signature = cose.cut(message)
    owner = keys.owner(kid)
    if owner is None:
        _refuse("block-key-unknown", f"no centre of the federation has the key {kid.hex()}")
    if not keys.verify(kid, signature, cose.to_be_signed(federation, kid, payload)):
        _refuse("block-signature", f"the signature is not by {owner} in this federation")
    header = _parse_header(payload, message, kid)
    if not keys.owns(kid, header.centre):
        _refuse("block-centre", f"a block of {header.centre} is signed with the key of {owner}")
    return header


def fork_proof(first: bytes, second: bytes) -> ForkProof:
    """The record that proves a fork by two signed headers (`BlockHeader.cose`), in one form."""
    return ForkProof(first=min(first, second), second=max(first, second))


def check_fork_proof(
    proof: ForkProof, federation: FederationId, keys: VerifyKeys
) -> tuple[FeedKey, int]:
    """The feed and `seq_num` where its author signed two different blocks.

    Raises:
        InputError: `fork-proof-order`, `fork-proof-place` (two places of a feed, or two feeds),
            `fork-proof-same` (one header signed twice proves nothing), or as `decode_header`.
    """
    if not proof.first < proof.second:
        _refuse("fork-proof-order", "the lesser header does not come first")
    first = decode_header(proof.first, federation, keys)
    second = decode_header(proof.second, federation, keys)
    if (first.feed, first.seq_num) != (second.feed, second.seq_num):
        _refuse("fork-proof-place", "the two headers do not stand at one place of one feed")
    if first.block_id == second.block_id:
        _refuse("fork-proof-same", "the two headers are the same block")
    return first.feed, first.seq_num


def split_block(data: bytes) -> tuple[bytes, bytes]:
    """The signed header (`cose`) and the encoded records of a block's bytes, nothing verified.

    Raises:
        InputError: `block-size`, `block-form` or `cose-form`.
    """
    if len(data) > BLOCK_BYTES_MAX:
        _refuse("block-size", f"a block of {len(data)} bytes, over {BLOCK_BYTES_MAX}")
    if not data.startswith(_ARRAY_OF_2):
        _refuse("block-form", "a block is an array of two byte strings")
    header_start, header_end = cose.read_byte_string(data, 1)
    records_start, records_end = cose.read_byte_string(data, header_end)
    if records_end != len(data):
        _refuse("block-form", "there are bytes after the block")
    if header_end - header_start > HEADER_BYTES_MAX:
        _refuse("block-size", f"a signed header of more than {HEADER_BYTES_MAX} bytes")
    if records_end - records_start > RECORDS_BYTES_MAX:
        _refuse("block-size", f"records of more than {RECORDS_BYTES_MAX} bytes")
    return data[header_start:header_end], data[records_start:records_end]


def peek_block_id(data: bytes) -> BlockId:
    """The id that a block of these bytes has, nothing verified: only to recognise duplicates.

    Raises:
        InputError: as `split_block`.
    """
    _, payload, _ = cose.cut(split_block(data)[0])
    return BlockId(hashlib.sha256(payload).digest())


def peek_time(data: bytes) -> HlcTime:
    """The time that a block of these bytes states, nothing verified: only to put it in order.

    Raises:
        InputError: as `split_block`, `block-header`, or as `codec.decode_unchecked`.
    """
    _, payload, _ = cose.cut(split_block(data)[0])
    item = decode_unchecked(payload, where="block header")
    time = item.get(5) if type(item) is dict else None
    if type(time) is not int or not 0 <= time <= HLC_MAX:
        _refuse("block-header", "a field of the block header has a wrong type or range")
    return HlcTime(time)


def peek_header(data: bytes) -> BlockHeader:
    """What a block of these bytes says of itself, its signature not verified: never to rely on.

    Raises:
        InputError: as `split_block`, or as `decode_header`, except what is about keys.
    """
    message, _ = split_block(data)
    kid, payload, _ = cose.cut(message)
    return _parse_header(payload, message, kid)


def _refuse(code: str, what: str) -> NoReturn:
    raise InputError(code, what)


# Header and records


def _parse_header(payload: bytes, message: bytes, kid: bytes) -> BlockHeader:
    item = decode_unchecked(payload, where="block header")
    if type(item) is dict and tuple(item) == _KEYS and encodes_to(item, payload):
        with suppress(InputError):
            # Every value is checked there, so only the types of the keys are left.
            if set(map(type, item)) == {int}:
                return _read_header(item, payload, message, kid)
    # Something is wrong: the codec has the first word on what.
    item = decode(payload, limit=HEADER_BYTES_MAX, where="block header")
    return _read_header(item, payload, message, kid)


def _read_header(item: CborItem, payload: bytes, message: bytes, kid: bytes) -> BlockHeader:
    version = item.get(0) if type(item) is dict else None
    if type(item) is not dict or type(version) is not int or version != FORMAT_VERSION:
        _refuse("block-version", f"the block's format version is not {FORMAT_VERSION}")
    if tuple(item) != _KEYS:
        _refuse("block-header", "a block header has exactly the keys 0 to 7")
    match item:
        case {
            1: str(centre),
            2: int(epoch),
            3: int(seq_num),
            4: bytes() | None as backlink,
            5: int(time),
            6: list(ack_items),
            7: bytes(digest),
        } if (
            CENTRE_NAME.match(centre)
            and _in_range(epoch, EPOCH_MAX)
            and _in_range(seq_num, SEQ_NUM_MAX)
            and _in_range(time, HLC_MAX)
            and len(digest) == 32
        ):
            feed = FeedKey(CentreName(centre), epoch)
        case _:
            _refuse("block-header", "a field of the block header has a wrong type or range")
    if (backlink is None) != (seq_num == 0) or (backlink is not None and len(backlink) != 32):
        _refuse("block-backlink", "a backlink is 32 bytes, and null only in a feed's first block")
    return BlockHeader(
        centre=feed.centre,
        epoch=epoch,
        seq_num=seq_num,
        backlink=None if backlink is None else BlockId(backlink),
        time=HlcTime(time),
        acks=_parse_acks(ack_items, feed),
        records_digest=digest,
        block_id=BlockId(hashlib.sha256(payload).digest()),
        cose=message,
        kid=kid,
    )


def _in_range(value: int, high: int) -> bool:
    # `True` is an int to Python, not on the wire.
    return type(value) is int and 0 <= value <= high


def _parse_acks(items: list[CborItem], author: FeedKey) -> tuple[Ack, ...]:
    if len(items) > ACKS_PER_BLOCK_MAX:
        _refuse("block-acks", f"{len(items)} acks, over {ACKS_PER_BLOCK_MAX}")
    acks: list[Ack] = []
    for item in items:
        match item:
            case [str(centre), int(epoch), int(seq_num), bytes(block_id)] if (
                CENTRE_NAME.match(centre)
                and _in_range(epoch, EPOCH_MAX)
                and _in_range(seq_num, SEQ_NUM_MAX)
                and len(block_id) == 32
            ):
                feed = FeedKey(CentreName(centre), epoch)
                acks.append(Ack(feed, Head(seq_num, BlockId(block_id))))
            case _:
                _refuse("block-acks", "an ack is not [centre, epoch, seq_num, block id]")
    if any(not a.feed < b.feed for a, b in pairwise(acks)):
        _refuse("block-acks", "the acks are not in ascending order of their feeds")
    if any(ack.feed == author for ack in acks):
        _refuse("block-ack-own", "a block acks its own feed")
    return tuple(acks)


def _parse_records(data: bytes) -> tuple[Record | Inert, ...]:
    return _parse_columns(data) or _parse_one_by_one(data)


def _parse_columns(data: bytes, *, trusted: bool = False) -> tuple[Record, ...] | None:
    """The records if they are many and all valid; else None, whatever is the matter."""
    if data[:1] < _ARRAY_OF_6:
        return None
    try:
        items = decode_unchecked(data)
    except InputError:
        return None
    if type(items) is not list or len(items) > RECORDS_PER_BLOCK_MAX:
        return None
    if set(map(type, items)) != {dict}:
        return None
    maps = cast(list[dict[int, CborItem]], items)
    records = decode_columns(maps, keys_checked=trusted)
    if records is None or not (trusted or encodes_to(items, data)):
        return None
    return tuple(records)


def _parse_one_by_one(data: bytes) -> tuple[Record | Inert, ...]:
    items = decode(data, limit=RECORDS_BYTES_MAX, where="records")
    if type(items) is not list:
        _refuse("block-records-form", "the records are not an array")
    if len(items) > RECORDS_PER_BLOCK_MAX:
        _refuse("block-records-count", f"{len(items)} records, over {RECORDS_PER_BLOCK_MAX}")
    if not set(map(type, items)) <= {dict}:
        _refuse("block-records-form", "a record is not a map")
    return tuple(map(decode_record, items))  # type: ignore[arg-type]  # checked on the line above
