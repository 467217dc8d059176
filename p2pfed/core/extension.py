"""A proof that one cosigned checkpoint extends another: nothing was rewritten in between.

The file holds the blocks in which a majority of the members signed each of the two, and for every
feed of the older the consistency proof (RFC 9162, section 2.1.4) between its two roots. Whoever
kept the older checkpoint, or a proof that rests on it, need not read the ledger again to know that
the later one stands on it.

    magic   `p2pfed-extension 1` and a line feed
    body    deterministic CBOR: {0: federation id, 1: [blocks with the older checkpoint],
            2: [blocks with the later], 3: [[centre, epoch, [hashes]]] by feed,
            4: [blocks about members and keys]}
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from p2pfed.core.authority import authority_from
from p2pfed.core.blocks import decode_stored
from p2pfed.core.charter import Charter
from p2pfed.core.checkpoint import TreeHead, decode_trees
from p2pfed.core.codec import decode, encode
from p2pfed.core.cosigned import CutFinder, SignedCut, check_signed
from p2pfed.core.ids import CENTRE_NAME, CentreName, FeedKey
from p2pfed.core.merkle import PROOF_HASHES_MAX, check_consistency, consistency_proof
from p2pfed.core.proof import PROOF_BYTES_MAX
from p2pfed.errors import InputError

MAGIC: Final = b"p2pfed-extension 1\n"


class Extended(NamedTuple):
    """What such a proof shows.

    Attributes:
        cuts_ms: of the older and of the later checkpoint.
        signers: the members that signed each, ascending.
        sizes: for each feed of the later, how many blocks each of the two counts.
    """

    cuts_ms: tuple[int, int]
    signers: tuple[tuple[CentreName, ...], tuple[CentreName, ...]]
    sizes: dict[FeedKey, tuple[int, int]]


class ExtensionProver:
    """Reads a ledger block by block, then proves between two of its cosigned checkpoints."""

    def __init__(self, charter: Charter) -> None:
        self._charter = charter
        self._finder = CutFinder(charter)
        self._ids: dict[FeedKey, list[bytes]] = {}

    def read(self, data: bytes) -> None:
        """Takes the next block of the ledger; of a forked feed, the branch that comes first."""
        block = decode_stored(data)
        ids = self._ids.setdefault(block.feed, [])
        if block.seq_num == len(ids):
            ids.append(block.block_id)
            self._finder.read(block)

    def proof(self, older_ms: int | None = None, later_ms: int | None = None) -> bytes:
        """The proof file.

        Args:
            older_ms: the older checkpoint is the newest up to this time; None: the first of all.
            later_ms: the same of the later; None: the newest of all.

        Raises:
            InputError: `proof-no-checkpoint`: the ledger holds no two such checkpoints.
        """
        cuts = [*self._finder.cuts()]
        older = _newest(cuts, older_ms) if older_ms is not None else next(iter(cuts), None)
        later = _newest(cuts, later_ms)
        if older is None or later is None or older.checkpoint.cut_ms >= later.checkpoint.cut_ms:
            raise InputError(
                "proof-no-checkpoint",
                "the ledger holds no two checkpoints that a majority of the members signed, one "
                "after the other, at these times",
                remedy="checkpoints are written every hour: export the ledger again later",
            )
        body = {
            0: self._charter.federation_id,
            1: older.signed,
            2: later.signed,
            3: self._paths(older, later),
            4: self._finder.telling(max(older.newest, later.newest)),
        }
        return MAGIC + encode(body)  # type: ignore[arg-type]

    def _paths(self, older: SignedCut, later: SignedCut) -> list[list[object]]:
        grown = later.trees
        return [
            [*feed, consistency_proof(self._ids[feed][: grown[feed].size], tree.size)]
            for feed, tree in sorted(older.trees.items())
            if feed in grown and tree.size <= grown[feed].size <= len(self._ids.get(feed, ()))
        ]


def _newest(cuts: list[SignedCut], upto_ms: int | None) -> SignedCut | None:
    found = [cut for cut in cuts if upto_ms is None or cut.checkpoint.cut_ms <= upto_ms]
    return found[-1] if found else None


def check_extension(data: bytes, charter: Charter) -> Extended:
    """What the file shows to somebody who trusts the charter, and nothing else.

    Raises:
        InputError: `proof-form`, `proof-federation`, `proof-authority`, `proof-cosigned`,
            `proof-consistency`, or as `decode_block` and `Keyring.check`.
    """
    if not data.startswith(MAGIC):
        raise InputError("proof-form", "the file does not begin like such a proof of p2pfed")
    body: Any = decode(data[len(MAGIC) :], limit=PROOF_BYTES_MAX, where="proof")
    match body:
        case {0: bytes(federation), 1: list(first), 2: list(second), 3: list(lines), 4: list(told)}:
            pass
        case _:
            raise InputError("proof-form", "the proof has another form")
    if len(body) != 5 or not all(type(block) is bytes for block in (*first, *second, *told)):
        raise InputError("proof-form", "the proof has another form")
    if federation != charter.federation_id:
        raise InputError("proof-federation", "the proof is of another federation than the charter")
    authority = authority_from(charter, told)
    (older, older_by), (later, later_by) = (
        check_signed(signed, authority) for signed in (first, second)
    )
    if older.cut_ms >= later.cut_ms:
        raise InputError("proof-consistency", "the later checkpoint is not later")
    before, after = (
        {tree.feed: tree for tree in decode_trees(record.trees)} for record in (older, later)
    )
    _check_paths(_parse_paths(lines), before, after)
    sizes = {
        feed: (before[feed].size if feed in before else 0, tree.size)
        for feed, tree in sorted(after.items())
    }
    return Extended((older.cut_ms, later.cut_ms), (older_by, later_by), sizes)


def _parse_paths(lines: list[Any]) -> dict[FeedKey, list[bytes]]:
    found: dict[FeedKey, list[bytes]] = {}
    for line in lines:
        match line:
            case [str(centre), int(epoch), list(path)] if (
                CENTRE_NAME.match(centre)
                and type(epoch) is int
                and len(path) <= PROOF_HASHES_MAX
                and all(type(step) is bytes for step in path)
            ):
                found[FeedKey(CentreName(centre), epoch)] = path
            case _:
                raise InputError("proof-form", "a line of the proof has another form")
    return found


def _check_paths(
    paths: dict[FeedKey, list[bytes]],
    before: dict[FeedKey, TreeHead],
    after: dict[FeedKey, TreeHead],
) -> None:
    if paths.keys() - before.keys():
        raise InputError("proof-form", "the proof speaks of a feed that the older lacks")
    for feed, tree in before.items():
        grown = after.get(feed)
        if grown is None or feed not in paths:
            what = f"nothing shows what became of epoch {feed.epoch} of {feed.centre}"
            raise InputError("proof-consistency", what)
        check_consistency(tree.size, tree.root, grown.size, grown.root, paths[feed])
