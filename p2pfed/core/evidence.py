"""The evidence about one claim, as a file that anybody can check without a daemon.

A bundle is an ordinary ledger file whose blocks are only those that speak of the job: its posting,
its claims, what the host and the home said of them, settlements and decisions, and every block with
a record of governance, so that keys and decisions can be followed. The blocks are complete and as
they were signed. What is left out shows: blocks name their predecessors by id.

`read_evidence` verifies every signature with the keys that the charter names, or that a card in a
proposal before it names, and puts both sides' measures beside each other. It proves who said what;
that nothing else was said, only the whole ledger proves.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from p2pfed.core.blocks import Block, decode_block, decode_stored
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.core.fields import wire_fields
from p2pfed.core.governance import GOVERNANCE_RECORDS
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.ledgerfile import (
    Entry,
    Reader,
    Trailer,
    read_ledger,
    write_ledger,
)
from p2pfed.core.proposals import check_form
from p2pfed.core.records import (
    Claim,
    Dispute,
    End,
    Inert,
    Job,
    Propose,
    Receipt,
    Record,
    Settle,
)
from p2pfed.core.units import hlc_ms
from p2pfed.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class Statement:
    """A record about the job: who said it, when, where it stands, and what it says."""

    position: Position
    time_ms: int
    record: Record

    def says(self) -> dict[str, str | int]:
        """The record's fields by name; bytes in hexadecimal, positions as people write them."""
        found: dict[str, str | int] = {}
        for field in wire_fields(type(self.record)):
            value = getattr(self.record, field.name)
            if value != field.default:
                text = value.hex() if isinstance(value, bytes) else str(value)
                found[field.name] = value if isinstance(value, int) else text
        return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """A bundle whose signatures are all good.

    Attributes:
        federation: the id, hexadecimal.
        statements: about the job, in the order of the file.
        blocks: how many signed blocks it holds.
    """

    federation: str
    job_id: Position
    statements: tuple[Statement, ...]
    blocks: int

    def said(self, *kinds: type[Record]) -> list[Statement]:
        """The statements of these kinds."""
        return [s for s in self.statements if isinstance(s.record, kinds)]

    def measures(self) -> list[tuple[Position, CentreName, str, int, int]]:
        """(claim, who, how, core_s, gpu_s) of every measure that either side has stated."""
        found = []
        for statement in self.said(End, Receipt, Dispute, Settle):
            record = statement.record
            assert isinstance(record, End | Receipt | Dispute | Settle)
            how = type(record).__name__.lower()
            claim_id = record.claim_id
            who = statement.position.centre
            found.append((claim_id, who, how, record.core_s, record.gpu_s))
        return found


def about(job_id: Position, block: Block, claims: set[Position]) -> list[Statement]:
    """What a block says of the job; its claims are added to `claims` as they come."""
    found = []
    for position, record in zip(block.positions(), block.records, strict=True):
        if isinstance(record, Inert):
            continue
        named = {position} if isinstance(record, Job) else _named(record)
        if isinstance(record, Claim) and record.job_id == job_id:
            claims.add(position)
        if job_id in named or named & claims:
            found.append(Statement(position=position, time_ms=hlc_ms(block.time), record=record))
    return found


def _named(record: Record) -> set[Position]:
    """The jobs and claims that a record names."""
    named = {getattr(record, name, None) for name in ("job_id", "claim_id")}
    return {position for position in named if position is not None} | set(
        getattr(record, "claims", ())
    )


def bundle(job_id: Position, ledger: Reader) -> Iterator[bytes]:
    """The bytes of a bundle, from a ledger of our own that was verified before.

    Raises:
        InputError: as `read_ledger`.
    """
    entries = read_ledger(ledger)
    charter = next(entries)
    assert isinstance(charter, Entry)
    return write_ledger(charter.data, _selected(job_id, entries))


def _selected(job_id: Position, entries: Iterable[Entry | Trailer]) -> Iterator[Block]:
    claims: set[Position] = set()
    for entry in entries:
        if isinstance(entry, Trailer):
            continue
        block = decode_stored(entry.data)
        governs = any(isinstance(record, GOVERNANCE_RECORDS) for record in block.records)
        if about(job_id, block, claims) or governs:
            yield block


def read_evidence(reader: Reader, job_id: Position) -> Evidence:
    """Verifies a bundle.

    Raises:
        InputError: `evidence-empty`: it says nothing of the job; or as `read_ledger`,
            `decode_charter` and `decode_block`: something in it is not as it was signed.
    """
    entries = (e for e in read_ledger(reader) if isinstance(e, Entry))
    charter: Charter = decode_charter(next(entries).data, where="charter")
    keys, claims, statements, blocks = charter.keys(), set[Position](), list[Statement](), 0
    for entry in entries:
        block = decode_block(entry.data, charter.federation_id, keys)
        blocks += 1
        statements += about(job_id, block, claims)
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Propose):
                try:
                    card = check_form(position, block.time, record).card
                except InputError:
                    continue
                if card is not None:
                    keys = keys.with_key(card.name, card.public_key)
    if not statements:
        raise InputError("evidence-empty", f"it says nothing of job {job_id}", where="evidence")
    return Evidence(
        federation=charter.federation_id.hex(),
        job_id=job_id,
        statements=tuple(statements),
        blocks=blocks,
    )
