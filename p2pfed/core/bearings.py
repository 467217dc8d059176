"""Bearings: everything that a centre needs to go on from a cosigned checkpoint without the history.

Theory of operation. Bearings hold the folded state at the checkpoint's cut, the blocks in which a
majority of the members signed the checkpoint, those that show who the members were and with which
keys (`p2pfed.core.authority`), and for each feed the peaks of its Merkle tree. Whoever has the
charter checks all of it: the keys and members follow from the charter and the blocks about them,
the checkpoint from the majority, the state from the hash in the checkpoint, the peaks from the
roots. What can't be checked yet is whether the state follows from the blocks under the checkpoint;
for that, a majority of the members is trusted until the history has come
(docs/adr/0023-a-centre-can-start-from-a-cosigned-checkpoint.md).

    magic   `p2pfed-bearings 1` and a line feed
    body    deterministic CBOR: [federation id, [blocks about members and keys], [blocks with the
            checkpoint], [[centre, epoch, [peaks]]], [[kind, writer, body]]]
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from p2pfed.core.authority import authority_from
from p2pfed.core.blocks import check_fork_proof
from p2pfed.core.charter import Charter
from p2pfed.core.checkpoint import Said, TreeHead, decode_trees
from p2pfed.core.codec import decode, encode
from p2pfed.core.constitution import founders
from p2pfed.core.cosigned import check_signed
from p2pfed.core.ids import CENTRE_NAME, CentreName, FederationId, FeedKey
from p2pfed.core.limits import BEARINGS_BYTES_MAX
from p2pfed.core.merkle import HASH_BYTES, Range
from p2pfed.core.records import Checkpoint
from p2pfed.core.state import State
from p2pfed.core.statecodec import Section, load_state, state_hash
from p2pfed.errors import InputError

MAGIC: Final = b"p2pfed-bearings 1\n"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bearings:
    """A state that a majority signed, and what the blocks after it rest on.

    Attributes:
        cut_ms, state_hash: of the checkpoint.
        trees: what it says of each feed, by feed.
        peaks: of each feed's Merkle tree over the blocks under the checkpoint.
        sections: the state at the cut.
        said: the checkpoint, as each signer wrote it.
        signers: the members that signed it, ascending.
    """

    cut_ms: int
    state_hash: bytes
    trees: tuple[TreeHead, ...]
    peaks: Mapping[FeedKey, tuple[bytes, ...]]
    sections: tuple[Section, ...]
    said: tuple[Said, ...]
    signers: tuple[CentreName, ...]


def encode_bearings(
    federation: FederationId,
    telling: Sequence[bytes],
    signed: Sequence[bytes],
    peaks: Mapping[FeedKey, Sequence[bytes]],
    sections: Iterable[Section],
) -> bytes:
    """The bytes of bearings; `telling` in causal order, see the module."""
    return MAGIC + encode(
        [
            federation,
            [*telling],
            [*signed],
            [[*feed, [*of]] for feed, of in sorted(peaks.items())],
            [[*section] for section in sections],
        ]
    )


def check_bearings(data: bytes, charter: Charter) -> Bearings:
    """The bearings in these bytes, as far as the charter alone can show that they are right.

    Raises:
        InputError: `bearings-form`, `bearings-federation`, `bearings-state` (not the state that was
            signed), `bearings-peaks`, `bearings-members` (the state has other members than the
            blocks show), or as `authority_from`, `check_signed`, `decode_trees` and `load_state`.
    """
    federation, telling, signed, peaks, sections = _parse(data)
    if federation != charter.federation_id:
        raise InputError("bearings-federation", "the checkpoint is of another federation")
    authority = authority_from(charter, telling)
    checkpoint, signers = check_signed(signed, authority)
    if state_hash(sections) != checkpoint.state_hash:
        raise InputError("bearings-state", "the state is not the one that the members signed")
    trees = decode_trees(checkpoint.trees)
    for tree in trees:
        of = peaks.get(tree.feed, ())
        if len(of) != tree.size.bit_count() or Range(tree.size, of).root() != tree.root:
            raise InputError("bearings-peaks", f"the hashes of {tree.feed.centre} miss its root")
    members = authority.members_at(checkpoint.cut_ms)
    if _members(charter, sections, checkpoint.cut_ms) != {f.feed for f in members.values()}:
        raise InputError("bearings-members", "the state has other members than the blocks show")
    said = []
    for block in map(authority.open, signed):
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Checkpoint) and record == checkpoint:
                digest = hashlib.sha256(record.trees).digest()
                said.append(Said(position, record.cut_ms, digest, record.state_hash))
    return Bearings(
        cut_ms=checkpoint.cut_ms,
        state_hash=checkpoint.state_hash,
        trees=trees,
        peaks=peaks,
        sections=sections,
        said=tuple(said),
        signers=signers,
    )


def _members(charter: Charter, sections: Iterable[Section], cut_ms: int) -> set[FeedKey]:
    """The feeds of the members at the cut, by the state."""
    keys = charter.keys()
    state = State(
        charter.rules,
        {card.name: card.credit_line for card in charter.founders},
        lambda proof: check_fork_proof(proof, charter.federation_id, keys),
        founders(charter),
    )
    load_state(sections, state)
    return {member.feed for member in state.governance.members_at(cut_ms).values()}


_Parts = tuple[
    bytes, list[bytes], list[bytes], dict[FeedKey, tuple[bytes, ...]], tuple[Section, ...]
]


def _parse(data: bytes) -> _Parts:
    if not data.startswith(MAGIC):
        raise InputError("bearings-form", "these are not the bearings of a checkpoint")
    item: Any = decode(data[len(MAGIC) :], limit=BEARINGS_BYTES_MAX, where="bearings")
    match item:
        case [bytes(federation), list(telling), list(signed), list(peaks), list(sections)] if (
            all(type(block) is bytes for block in (*telling, *signed))
            and all(map(_is_peaks, peaks))
            and all(map(_is_section, sections))
        ):
            return (
                federation,
                telling,
                signed,
                {FeedKey(CentreName(c), epoch): tuple(of) for c, epoch, of in peaks},
                tuple(Section(*section) for section in sections),
            )
        case _:
            raise InputError("bearings-form", "these bearings have another form")


def _is_peaks(item: Any) -> bool:
    match item:
        case [str(centre), int(epoch), list(of)]:
            hashes = all(type(one) is bytes and len(one) == HASH_BYTES for one in of)
            return bool(CENTRE_NAME.match(centre)) and epoch >= 0 and hashes
    return False


def _is_section(item: Any) -> bool:
    return type(item) is list and [type(part) for part in item] == [str, str, bytes]
