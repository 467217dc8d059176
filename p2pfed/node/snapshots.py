"""Snapshots: the folded state of one node at a cut, so that a start folds only what came after.

A snapshot serves the state at the cut alone (docs/adr/0009): the live registers begin as a fork of
it, as after any start. It holds the state's sections, the frontier that was folded, and what only
this node knows: which heads its own feed has acked, and the closed jobs that it keeps for whoever
asks. It is never needed: a node that can't use it folds its blocks from the first. It is used only
if everything about it is certain:

- the format, the program's version and the federation are the same, and the checksum is right;
- the store holds exactly the blocks of its frontier, at their places;
- no feed has branches: what counts of them may change, and is judged from all their blocks.

    magic    `p2pfed-snapshot 1` and a line feed
    digest   SHA-256 of the rest
    body     deterministic CBOR: [program, federation id, frontier, acked, sections, past,
             checkpoints]
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Any, Final

from p2pfed import __version__
from p2pfed.core.checkpoint import Said
from p2pfed.core.codec import decode_unchecked, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import (
    BlockId,
    CentreName,
    FederationId,
    FeedKey,
    Frontier,
    Head,
    Position,
    PublicKey,
)
from p2pfed.core.keyring import KeyFrom
from p2pfed.core.statecodec import Section, dump_forgotten, load_forgotten
from p2pfed.core.tables import Forgotten
from p2pfed.errors import InputError

MAGIC: Final = b"p2pfed-snapshot 1\n"
SNAPSHOT_EVERY: Final = 50_000
"""Blocks and records that a node admits between two snapshots: a second or two of folding."""
_DIGEST_BYTES: Final = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """A state at a cut, and what a node knows beside it.

    Attributes:
        frontier: the newest block of each feed that the state counts.
        acked: the heads that our own feed has acked up to there.
        keys: which key signs each feed, from which block on.
        sections: the state, as `p2pfed.core.statecodec` writes it.
        past: closed jobs of ours, and guests that we ran, the oldest first.
        said: the centres' newest checkpoints.
    """

    federation: FederationId
    frontier: Frontier
    acked: Frontier
    keys: tuple[KeyFrom, ...]
    sections: tuple[Section, ...]
    past: tuple[Forgotten, ...]
    said: tuple[Said, ...]


def encode_snapshot(snapshot: Snapshot) -> bytes:
    """The bytes of the snapshot file."""
    body = encode(
        [
            __version__,
            snapshot.federation,
            _heads(snapshot.frontier),
            _heads(snapshot.acked),
            [[*key.feed, key.seq_num, key.public_key] for key in snapshot.keys],
            [[*section] for section in snapshot.sections],
            [dump_forgotten(past) for past in snapshot.past],
            [[[*said.position], *said[1:]] for said in snapshot.said],
        ]
    )
    return MAGIC + hashlib.sha256(body).digest() + body


def decode_snapshot(data: bytes, federation: FederationId) -> Snapshot:
    """The snapshot in the bytes of a file, if it is whole and of this program and federation.

    Raises:
        InputError: `snapshot-unusable`.
    """
    start = len(MAGIC) + _DIGEST_BYTES
    body = data[start:]
    if not data.startswith(MAGIC) or hashlib.sha256(body).digest() != data[len(MAGIC) : start]:
        raise InputError("snapshot-unusable", "the snapshot is damaged, or of another format")
    item: Any = decode_unchecked(body, where="snapshot")
    if item[:2] != [__version__, federation]:
        raise InputError("snapshot-unusable", "another program or federation wrote the snapshot")
    try:
        _, _, frontier, acked, keys, sections, past, said = item
        return Snapshot(
            federation=federation,
            frontier=_frontier(frontier),
            acked=_frontier(acked),
            keys=tuple(
                KeyFrom(FeedKey(CentreName(centre), epoch), seq_num, PublicKey(key))
                for centre, epoch, seq_num, key in keys
            ),
            sections=tuple(Section(*section) for section in sections),
            past=tuple(map(load_forgotten, past)),
            said=tuple(Said(Position(*at), *rest) for at, *rest in said),
        )
    except (TypeError, ValueError) as error:
        raise InputError("snapshot-unusable", "the snapshot has another form") from error


def _heads(frontier: Frontier) -> CborItem:
    return [[*feed, *head] for feed, head in sorted(frontier.items())]


def _frontier(items: Any) -> Frontier:
    return {
        FeedKey(CentreName(centre), epoch): Head(seq_num, BlockId(block_id))
        for centre, epoch, seq_num, block_id in items
    }
