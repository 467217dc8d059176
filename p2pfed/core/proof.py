"""A proof that records about a job stand in the ledger, which the charter alone can check.

A proof file holds the blocks that name the job, for each the Merkle path from its id to the root of
its feed, the blocks in which a majority of the members signed that root in a checkpoint, and those
in which members were admitted and keys changed (`p2pfed.core.authority`). It is made from an
exported ledger, and checked with the charter alone.

    magic   `p2pfed-proof 1` and a line feed
    body    deterministic CBOR: {0: federation id, 1: job id, 2: [blocks with the checkpoint],
            3: [[block, [hashes]]], 4: [blocks about members and keys]}
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from p2pfed.core.authority import Authority, authority_from
from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.charter import Charter
from p2pfed.core.checkpoint import TreeHead, decode_trees
from p2pfed.core.codec import decode, encode
from p2pfed.core.cosigned import CutFinder, check_signed
from p2pfed.core.ids import CentreName, FeedKey, JobId, Position
from p2pfed.core.merkle import PROOF_HASHES_MAX, check_inclusion, inclusion_proof
from p2pfed.core.records import Claim, Inert, Record
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError

MAGIC: Final = b"p2pfed-proof 1\n"
PROOF_BYTES_MAX: Final = 64 << 20


class Proven(NamedTuple):
    """What a proof shows.

    Attributes:
        cut_ms: of the checkpoint.
        signers: the members that signed it, ascending.
        records: each record about the job, where it stands and the time of its block.
    """

    job_id: JobId
    cut_ms: int
    signers: tuple[CentreName, ...]
    records: tuple[tuple[Position, HlcTime, Record], ...]


class Prover:
    """Reads a ledger block by block, then makes the proof of one job."""

    def __init__(self, charter: Charter, job_id: JobId) -> None:
        self._charter = charter
        self._job_id = job_id
        self._ids: dict[FeedKey, list[bytes]] = {}
        self._named: set[Position] = {job_id}
        self._evidence: list[Block] = []
        self._finder = CutFinder(charter)

    def read(self, data: bytes) -> None:
        """Takes the next block of the ledger; of a forked feed, the branch that comes first."""
        block = decode_stored(data)
        ids = self._ids.setdefault(block.feed, [])
        if block.seq_num != len(ids):
            return
        ids.append(block.block_id)
        if _about(block, self._named):
            self._evidence.append(block)
        self._finder.read(block)

    def proof(self) -> bytes:
        """The proof file.

        Raises:
            InputError: `proof-job` (the ledger does not hold the job), `proof-no-checkpoint` (no
                cosigned checkpoint is later than it).
        """
        if not self._evidence:
            raise InputError(
                "proof-job",
                f"the ledger does not hold job {self._job_id}",
                remedy="see: p2pfed jobs --all",
            )
        cut = self._finder.newest()
        trees = {} if cut is None else cut.trees
        covered = [b for b in self._evidence if b.feed in trees and b.seq_num < trees[b.feed].size]
        if cut is None or not covered:
            raise InputError(
                "proof-no-checkpoint",
                "no checkpoint that a majority of the members signed is later than the job",
                remedy="checkpoints are written every hour: export the ledger again later",
            )
        body = {
            0: self._charter.federation_id,
            1: [*self._job_id],
            2: cut.signed,
            3: [[b.data, _path(self._ids[b.feed], b, trees[b.feed])] for b in covered],
            4: self._finder.telling(cut.newest),
        }
        return MAGIC + encode(body)  # type: ignore[arg-type]


def _path(ids: list[bytes], block: Block, tree: TreeHead) -> list[bytes]:
    return inclusion_proof(ids[: tree.size], block.seq_num)


def _about(block: Block, named: set[Position]) -> bool:
    """Whether a record of the block is the job, or names it or a claim on it; notes its claims."""
    found = False
    for position, record in zip(block.positions(), block.records, strict=True):
        if position in named:
            found = True
        elif isinstance(record, Claim) and record.job_id in named:
            named.add(position)
            found = True
        elif _names(record, named):
            found = True
    return found


def _names(record: Record | Inert, named: set[Position]) -> bool:
    ids: tuple[Any, Any] = getattr(record, "job_id", None), getattr(record, "claim_id", None)
    return ids[0] in named or ids[1] in named


def check_proof(data: bytes, charter: Charter) -> Proven:
    """What a proof file shows to somebody who trusts the charter, and nothing else.

    Raises:
        InputError: `proof-form`, `proof-federation`, `proof-authority`, `proof-cosigned`,
            `proof-inclusion`, or as `decode_block` and `Keyring.check`.
    """
    if not data.startswith(MAGIC):
        raise InputError("proof-form", "the file does not begin like a p2pfed proof")
    body: Any = decode(data[len(MAGIC) :], limit=PROOF_BYTES_MAX, where="proof")
    match body:
        case {
            0: bytes(federation),
            1: list(job),
            2: list(signed),
            3: list(proven),
            4: list(telling),
        } if (
            len(body) == 5
            and _is_position(job)
            and all(type(b) is bytes for b in (*signed, *telling))
        ):
            job_id = JobId(Position(*job))
        case _:
            raise InputError("proof-form", "the proof has another form")
    if federation != charter.federation_id:
        raise InputError("proof-federation", "the proof is of another federation than the charter")
    authority = authority_from(charter, telling)
    checkpoint, signers = check_signed(signed, authority)
    trees = {tree.feed: tree for tree in decode_trees(checkpoint.trees)}
    named: set[Position] = {job_id}
    found: list[tuple[Position, HlcTime, Record]] = []
    for item in proven:
        block = _check_block(item, trees, authority)
        if not _about(block, named):
            raise InputError("proof-form", "a block in the proof is not about the job")
        found += [
            (position, block.time, record)
            for position, record in zip(block.positions(), block.records, strict=True)
            if not isinstance(record, Inert) and (position in named or _names(record, named))
        ]
    return Proven(job_id, checkpoint.cut_ms, signers, tuple(found))


def _check_block(item: Any, trees: dict[FeedKey, TreeHead], authority: Authority) -> Block:
    match item:
        case [bytes(data), list(path)] if len(path) <= PROOF_HASHES_MAX and all(
            type(step) is bytes for step in path
        ):
            block = authority.open(data)
        case _:
            raise InputError("proof-form", "a block of the proof has another form")
    tree = trees.get(block.feed)
    if tree is None:
        raise InputError("proof-inclusion", f"the checkpoint holds no block of {block.feed.centre}")
    check_inclusion(block.block_id, block.seq_num, tree.size, path, tree.root)
    return block


def _is_position(item: list[Any]) -> bool:
    return [type(part) for part in item] == [str, int, int, int]
