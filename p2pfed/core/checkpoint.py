"""Checkpoints: what each centre signs of the whole ledger up to a cut, and who agrees.

Theory of operation. Now and then, at a cut that all centres come to alike, each centre writes a
`Checkpoint`: for every feed how many blocks there are, the newest one's id and the Merkle root over
all ids (`p2pfed.core.merkle`), and the hash of the folded state (`p2pfed.core.statecodec`). Centres
that knew the same blocks sign the same bytes. A checkpoint on which a majority of the members
agree is *cosigned*: nobody can later show another history up to there without a majority having
signed both.

Equal blocks and different states are an alarm: one program computed wrongly. Each centre that sees
it writes `StateDigests`, a few bytes for each register, and everybody can name the first register
that differs. Different blocks are no alarm: a block was late somewhere, the next cut tells.

A centre's newest `KEPT` checkpoints are remembered; a later one at another cut replaces the oldest.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Final, NamedTuple

from p2pfed.core.codec import decode, encode
from p2pfed.core.ids import CENTRE_NAME, BlockId, CentreName, FeedKey, Position, PublicKey
from p2pfed.core.keys import parse_public_key
from p2pfed.core.limits import CHECKPOINT_TREES_BYTES_MAX, STATE_DIGESTS_BYTES_MAX
from p2pfed.core.merkle import HASH_BYTES
from p2pfed.core.records import Checkpoint, StateDigests
from p2pfed.core.rules import Rules
from p2pfed.core.statecodec import Section, register_digests, register_name
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError

KEPT: Final = 3
_SHORT_BYTES: Final = 4
"""Of a register's SHA-256 in `StateDigests`: enough to find where two states differ."""


class TreeHead(NamedTuple):
    """A feed up to a cut: its first `size` blocks and what the next one rests on.

    Attributes:
        block_id: of the last of them.
        root: the Merkle root over all their ids.
        time: the last one's hybrid time.
        key: the public key that signs the next block.
    """

    feed: FeedKey
    size: int
    block_id: BlockId
    root: bytes
    time: HlcTime
    key: PublicKey


def encode_trees(trees: Iterable[TreeHead]) -> bytes:
    """The field `trees` of a Checkpoint: by feed, ascending."""
    return encode([[*t.feed, *t[1:]] for t in sorted(trees)])


def decode_trees(data: bytes) -> tuple[TreeHead, ...]:
    """What `encode_trees` wrote.

    Raises:
        InputError: `checkpoint-trees`, or as `parse_public_key`.
    """
    found: list[TreeHead] = []
    item: Any = decode(data, limit=CHECKPOINT_TREES_BYTES_MAX, where="checkpoint")
    for line in item if isinstance(item, list) else [None]:
        match line:
            case [
                str(centre),
                int(epoch),
                int(size),
                bytes(block_id),
                bytes(root),
                int(time),
                bytes(key),
            ] if (
                CENTRE_NAME.match(centre)
                and len(block_id) == len(root) == HASH_BYTES
                and bool not in (type(epoch), type(size), type(time))
                and epoch >= 0
                and size > 0
                and 0 <= time < 1 << 64
            ):
                feed = FeedKey(CentreName(centre), epoch)
                public_key = parse_public_key(key)
                head = TreeHead(feed, size, BlockId(block_id), root, HlcTime(time), public_key)
                found.append(head)
            case _:
                raise InputError("checkpoint-trees", "this is not a list of feeds and roots")
    if [t.feed for t in found] != sorted({t.feed for t in found}):
        raise InputError("checkpoint-trees", "the feeds are not in ascending order")
    return tuple(found)


def is_checkpoint_cut(cut_ms: int, rules: Rules) -> bool:
    """True for the first round's cut at or after a multiple of `checkpoint_ms`."""
    return cut_ms % rules.checkpoint_ms < rules.round_ms


class Said(NamedTuple):
    """One centre's checkpoint: where it stands, and what it says."""

    position: Position
    cut_ms: int
    trees: bytes
    state_hash: bytes

    @property
    def statement(self) -> tuple[int, bytes, bytes]:
        """What others must say to agree."""
        return self.cut_ms, self.trees, self.state_hash


@dataclass(frozen=True, slots=True)
class Cosigned:
    """A checkpoint on which a majority agrees; `by` are the records that say so, by centre."""

    said: Said
    by: tuple[Position, ...]


@dataclass(frozen=True, slots=True)
class Disagreement:
    """Two centres that knew the same blocks computed different states.

    Attributes:
        register: the first register that differs; empty until both told their digests.
    """

    cut_ms: int
    centres: tuple[CentreName, CentreName]
    register: str = ""


class Checkpoints:
    """The newest checkpoints of each centre, and what follows from them."""

    def __init__(self) -> None:
        self._said: dict[CentreName, list[Said]] = {}
        self._digests: dict[CentreName, StateDigests] = {}

    def fold(self, position: Position, record: Checkpoint | StateDigests) -> None:
        """Takes note of a record of these types; those of one feed come in its order."""
        if isinstance(record, StateDigests):
            self._digests[position.centre] = record
            return
        own = self._said.setdefault(position.centre, [])
        trees = hashlib.sha256(record.trees).digest()
        own[:] = [said for said in own if said.cut_ms != record.cut_ms][1 - KEPT :]
        own.append(Said(position, record.cut_ms, trees, record.state_hash))

    def said(self) -> list[Said]:
        """All that is remembered, by centre, the oldest first."""
        return [said for _, own in sorted(self._said.items()) for said in own]

    def restore(self, said: Iterable[Said]) -> None:
        """Takes back what `said` told."""
        for one in said:
            self._said.setdefault(one.position.centre, []).append(one)

    def of(self, centre: CentreName, cut_ms: int) -> Said | None:
        """What the centre says of that cut, if it is remembered."""
        return next((s for s in self._said.get(centre, ()) if s.cut_ms == cut_ms), None)

    def cosigned(self, members: Sequence[CentreName]) -> Cosigned | None:
        """The newest checkpoint on which more than half of the members agree."""
        agreed: dict[tuple[int, bytes, bytes], list[Said]] = {}
        for centre in sorted(members):
            for said in self._said.get(centre, ()):
                agreed.setdefault(said.statement, []).append(said)
        found = [group for group in agreed.values() if 2 * len(group) > len(members)]
        if not found:
            return None
        newest = max(found, key=lambda group: group[0].statement)
        return Cosigned(newest[0], tuple(said.position for said in newest))

    def disagreements(self) -> list[Disagreement]:
        """Who differs on the state of the same blocks; what can be named comes first."""
        groups: dict[tuple[int, bytes], list[tuple[CentreName, bytes]]] = {}
        for centre, own in sorted(self._said.items()):
            for said in own:
                key = said.cut_ms, said.trees
                groups.setdefault(key, []).append((centre, said.state_hash))
        found = []
        for (cut_ms, _), group in sorted(groups.items()):
            first, first_hash = group[0]
            other = next((c for c, state_hash in group if state_hash != first_hash), None)
            if other is not None:
                pair = first, other
                found.append(Disagreement(cut_ms, pair, self._difference(cut_ms, pair)))
        return sorted(found, key=lambda d: (not d.register, -d.cut_ms, d.centres))

    def digests_ms(self, centre: CentreName) -> int:
        """The cut of the state that the centre told the digests of, if that is remembered; or 0."""
        told = self._digests.get(centre)
        return told.cut_ms if told is not None and self.of(centre, told.cut_ms) else 0

    def _difference(self, cut_ms: int, pair: tuple[CentreName, CentreName]) -> str:
        told = [self._digests.get(centre) for centre in pair]
        if any(digests is None or digests.cut_ms != cut_ms for digests in told):
            return ""
        try:
            one, other = (_decode_digests(d.digests) for d in told if d is not None)
        except InputError as error:
            return f"unknown: {error.what}"
        return first_difference(one, other)


# Naming what differs


def section_digests(sections: Iterable[Section]) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    """Of each section the digest, and the first bytes of the digest of each register."""
    return {
        (part.kind, part.writer): (
            part.digest,
            b"".join(digest[:_SHORT_BYTES] for digest in register_digests(part)),
        )
        for part in sections
    }


def encode_digests(sections: Iterable[Section]) -> bytes:
    """The field `digests` of StateDigests: `[kind, writer, digest, first bytes of each register]`.

    The last is left empty where all together would not fit.
    """
    sections = list(sections)
    short = [b"".join(d[:_SHORT_BYTES] for d in register_digests(part)) for part in sections]
    room = STATE_DIGESTS_BYTES_MAX - 80 * len(sections)
    if sum(map(len, short)) > room:
        short = [b""] * len(sections)
    return encode(
        [
            [part.kind, part.writer, part.digest, of]
            for part, of in zip(sections, short, strict=True)
        ]
    )


def _decode_digests(data: bytes) -> dict[tuple[str, str], tuple[bytes, bytes]]:
    found: dict[tuple[str, str], tuple[bytes, bytes]] = {}
    item: Any = decode(data, limit=STATE_DIGESTS_BYTES_MAX, where="state digests")
    for line in item if isinstance(item, list) else [None]:
        match line:
            case [str(kind), str(writer), bytes(digest), bytes(short)]:
                found[kind, writer] = digest, short
            case _:
                raise InputError("checkpoint-digests", "these are not digests of registers")
    return found


def first_difference(
    one: Mapping[tuple[str, str], tuple[bytes, bytes]],
    other: Mapping[tuple[str, str], tuple[bytes, bytes]],
) -> str:
    """The first register on which two tellings differ: `claim beta, register 3`."""
    for key in sorted(one.keys() | other.keys()):
        kind_and_writer = " ".join(part for part in key if part)
        if key not in one or key not in other:
            return kind_and_writer
        (digest, short), (other_digest, other_short) = one[key], other[key]
        if digest == other_digest:
            continue
        pairs = zip_longest(_cut(short), _cut(other_short))
        index = next((n for n, (a, b) in enumerate(pairs) if a != b), None)
        return kind_and_writer if index is None else f"{kind_and_writer}, register {index}"
    return ""


def named_difference(difference: str, sections: Iterable[Section]) -> str:
    """The difference with the register's id in one's own state, where it has one."""
    head, _, index = difference.partition(", register ")
    for part in sections:
        if index and f"{part.kind} {part.writer}".strip() == head:
            return register_name(part, int(index))
    return difference


def _cut(short: bytes) -> list[bytes]:
    return [short[at : at + _SHORT_BYTES] for at in range(0, len(short), _SHORT_BYTES)]
