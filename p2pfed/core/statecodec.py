"""The one serialisation of the folded state: what a snapshot holds and a checkpoint's hash is over.

Theory of operation. The state is a list of *sections*: one for each kind of register and each
writer, in ascending order, so that two centres that differ can name where. A section's body is one
deterministic CBOR array of its registers by id; the *state hash* is the SHA-256 over the encoded
list of `[kind, writer, SHA-256 of the body]`. Equal sets of blocks, settled at equal cuts, give
equal bytes: no node's history, order or memory is in it. So what is closed
(`p2pfed.core.closing`) is left out, whether the node still remembers it or not, and so is all that
follows from the rest (the queue, free capacity, what is committed), which loading computes again.

How each entry is written is a table of its fields here; a test holds it to the fields that the
classes have. docs/reference/checkpoints.md is the normative text.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import groupby
from typing import Any, Final, NamedTuple

from p2pfed.core.accounting import Usage
from p2pfed.core.books import Books
from p2pfed.core.codec import decode_unchecked, encode
from p2pfed.core.entries import SILENT, ClaimEntry, HostSide, JobEntry, OfferEntry
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId, Position
from p2pfed.core.lifecycle import JOINT, HomePhase, HostPhase
from p2pfed.core.posting import Witness
from p2pfed.core.recordcodec import decode_record, encode_record
from p2pfed.core.records import Inert
from p2pfed.core.registers import Registers
from p2pfed.core.state import State
from p2pfed.core.tables import Forgotten
from p2pfed.core.units import HlcTime
from p2pfed.errors import InputError

STATE_VERSION: Final = 1


class Section(NamedTuple):
    """The registers of one kind and writer: `body` is the CBOR array of them."""

    kind: str
    writer: str
    body: bytes

    @property
    def digest(self) -> bytes:
        """SHA-256 of the body."""
        return hashlib.sha256(self.body).digest()


def state_hash(sections: Iterable[Section]) -> bytes:
    """The SHA-256 over the encoded list of `[kind, writer, digest]` of all sections."""
    lines: list[CborItem] = [[part.kind, part.writer, part.digest] for part in sections]
    return hashlib.sha256(encode([STATE_VERSION, lines])).digest()


# How fields are written


def _same(value: Any) -> Any:
    return value


def _record(value: Any) -> CborItem:
    return None if value is None else encode_record(value)


def _to_record(item: Any) -> Any:
    if item is None:
        return None
    record = decode_record(item)
    if isinstance(record, Inert):
        raise InputError("state-form", f"a record in the state is not valid: {record.detail}")
    return record


def _position(value: Position | None) -> CborItem:
    return None if value is None else list(value)


def _to_position(item: Any) -> Any:
    return None if item is None else Position(*item)


def _phase(value: HomePhase | HostPhase) -> CborItem:
    return str(value.value)


def _side(value: HostSide) -> CborItem:
    return None if value is SILENT else _dump(value, SIDE_FIELDS)


def _to_side(item: Any) -> HostSide:
    return SILENT if item is None else HostSide(**_load(item, SIDE_FIELDS))


def _early(value: dict[CentreName, HostSide] | None) -> CborItem:
    return [[centre, _side(side)] for centre, side in sorted((value or {}).items())]


def _to_early(item: Any) -> dict[CentreName, HostSide] | None:
    return {centre: _to_side(side) for centre, side in item} or None


def _settles(value: tuple[tuple[CentreName, HlcTime, int, int], ...]) -> CborItem:
    return [[*offer] for offer in value]


def _to_settles(item: Any) -> tuple[tuple[CentreName, HlcTime, int, int], ...]:
    return tuple((CentreName(c), HlcTime(time), core_s, gpu_s) for c, time, core_s, gpu_s in item)


_Field = tuple[str, Callable[[Any], CborItem], Callable[[Any], Any]]
_PLAIN: Final = (_same, _same)
_RECORD: Final = (_record, _to_record)
_POSITION: Final = (_position, _to_position)

OFFER_FIELDS: Final[tuple[_Field, ...]] = (
    ("offer_id", *_POSITION),
    ("terms", *_RECORD),
    ("opened", *_PLAIN),
    ("nodes", *_PLAIN),
    ("walltime_max_s", *_PLAIN),
    ("until_ms", *_PLAIN),
    ("closed", *_PLAIN),
    ("closed_ms", *_PLAIN),
)
JOB_FIELDS: Final[tuple[_Field, ...]] = (
    ("job_id", *_POSITION),
    ("job", *_RECORD),
    ("posted", *_PLAIN),
    ("cancelled", *_PLAIN),
    ("cancel_time", *_PLAIN),
    ("held", *_PLAIN),
    ("done", *_PLAIN),
)
SIDE_FIELDS: Final[tuple[_Field, ...]] = (
    ("phase", _phase, HostPhase),
    ("accepted_ms", *_PLAIN),
    ("accept_until_ms", *_PLAIN),
    ("close_reason", *_PLAIN),
    ("native_name", *_PLAIN),
    ("changed_ms", *_PLAIN),
    ("started_ms", *_PLAIN),
    ("end", *_RECORD),
    ("ended", *_PLAIN),
)
CLAIM_FIELDS: Final[tuple[_Field, ...]] = (
    ("claim_id", *_POSITION),
    ("claim", *_RECORD),
    ("claimed", *_PLAIN),
    ("phase", _phase, HomePhase),
    ("host_side", _side, _to_side),
    ("changed_ms", *_PLAIN),
    ("release_reason", *_PLAIN),
    ("lease_until_ms", *_PLAIN),
    ("handover", *_POSITION),
    ("handover_ms", *_PLAIN),
    ("settlement", *_RECORD),
    ("settled", *_PLAIN),
    ("dispute", *_RECORD),
    ("disputed", *_PLAIN),
    ("settles", _settles, _to_settles),
    ("early", _early, _to_early),
)
"""What follows from the rest is not among them: a job's claims, a claim's joint state."""


def _dump(entry: object, fields: tuple[_Field, ...]) -> list[CborItem]:
    return [dump(getattr(entry, name)) for name, dump, _ in fields]


def _load(item: Any, fields: tuple[_Field, ...]) -> dict[str, Any]:
    return {name: load(part) for (name, _, load), part in zip(fields, item, strict=True)}


# The state


def dump_state(state: State) -> list[Section]:
    """All sections of a state at its cut; lets go of what is closed first."""
    state.forget()
    registers, books = state.registers, state.books()
    parts: list[Iterable[tuple[str, str, list[CborItem]]]] = [
        [("cut", "", [state.cut_ms])],
        (("fold", f.centre, [f.epoch, seq]) for f, seq in sorted(registers.folded.items())),
        (("contact", c, [address]) for c, address in sorted(registers.contacts.items())),
        *_governance(state),
        _entries("offer", registers.offers, OFFER_FIELDS),
        _jobs(state, books),
        _claims(registers),
        *_books(books),
    ]
    found = [line for part in parts for line in part]
    # Sorting is stable: within a section the registers keep their order.
    found.sort(key=lambda line: line[:2])
    return [
        Section(kind, writer, encode([line[2] for line in group]))
        for (kind, writer), group in groupby(found, key=lambda line: line[:2])
    ]


def _entries(
    kind: str, table: Mapping[Any, Any], fields: tuple[_Field, ...]
) -> Iterator[tuple[str, str, list[CborItem]]]:
    for key in sorted(table):
        yield kind, key.centre, _dump(table[key], fields)


def _governance(state: State) -> Iterator[Iterator[tuple[str, str, list[CborItem]]]]:
    governance = state.governance
    yield (
        ("forked", feed.centre, [feed.epoch, time])
        for feed, time in sorted(governance.convicted.items())
    )
    yield (
        ("declared", feed.centre, [feed.epoch, time])
        for feed, time in sorted(governance.declared.items())
    )
    yield (
        ("decision", position.centre, [[*position], time, encode_record(record)])
        for position, said in sorted(governance.said.items())
        for time, record in sorted(said, key=lambda s: (s[0], encode(encode_record(s[1]))))
    )
    yield (
        ("witness", position.centre, [[*position], centre, time])
        for position, centre, time in governance.seen()
    )


def _claims(registers: Registers) -> Iterator[tuple[str, str, list[CborItem]]]:
    """All but what was said of claims that can't come any more."""
    for claim_id, entry in sorted(registers.claims.items()):
        folded = registers.folded.get(FeedKey(claim_id.centre, claim_id.epoch), -1)
        if entry.claim is not None or claim_id.seq_num > folded:
            yield "claim", claim_id.centre, _dump(entry, CLAIM_FIELDS)


def _jobs(state: State, books: Books) -> Iterator[tuple[str, str, list[CborItem]]]:
    for job_id, entry in sorted(state.registers.jobs.items()):
        counts_as = books.classes.get(job_id)
        witness = books.witnesses.get(job_id)
        seen: CborItem = None if witness is None else [*witness]
        yield "job", job_id.centre, [*_dump(entry, JOB_FIELDS), counts_as, seen]


def _books(books: Books) -> Iterator[Iterator[tuple[str, str, list[CborItem]]]]:
    yield (("heard", centre, [time]) for centre, time in sorted(books.heard.items()))
    yield (("idle-rest", key[0], [key[1], rest]) for key, rest in sorted(books.rests.items()))
    yield (
        ("posted", feed.centre, [feed.epoch, day, total, [[*pair] for pair in by_class]])
        for feed, day, total, by_class in books.posted
    )
    yield (("amount", cell[0], [*cell[1:]]) for cell in books.cells)
    yield (
        ("usage", claim_id.centre, [[*claim_id], [*usage]])
        for claim_id, usage in sorted(books.usages.items())
    )


def load_state(sections: Iterable[Section], state: State) -> None:
    """Fills a fresh state; what follows from the registers is computed again.

    Raises:
        InputError: `state-form`: the sections are not a state of this version.
    """
    lines: dict[str, list[tuple[CentreName, Any]]] = {}
    for section in sections:
        body: Any = decode_unchecked(section.body, where="state")
        lines.setdefault(section.kind, []).extend(
            (CentreName(section.writer), line) for line in body
        )
    try:
        _fill(state, lines)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise InputError("state-form", f"this is not a state of version 1: {error!r}") from error


def _fill(state: State, lines: Mapping[str, list[tuple[CentreName, Any]]]) -> None:
    def of(kind: str) -> list[tuple[CentreName, Any]]:
        return lines.get(kind, [])

    registers = state.registers
    registers.folded.update({FeedKey(c, epoch): seq for c, (epoch, seq) in of("fold")})
    registers.contacts.update({centre: address for centre, (address,) in of("contact")})
    state.governance.convicted.update(
        {FeedKey(c, epoch): HlcTime(time) for c, (epoch, time) in of("forked")}
    )
    state.governance.declared.update(
        {FeedKey(c, epoch): HlcTime(time) for c, (epoch, time) in of("declared")}
    )
    state.governance.restore(
        ((Position(*at), HlcTime(t), _to_record(item)) for _, (at, t, item) in of("decision")),
        ((Position(*at), CentreName(c), HlcTime(t)) for _, (at, c, t) in of("witness")),
    )
    registers.restore(
        [OfferEntry(**_load(line, OFFER_FIELDS)) for _, line in of("offer")],
        [JobEntry(**_load(line[:-2], JOB_FIELDS)) for _, line in of("job")],
        [_claim(line) for _, line in of("claim")],
    )
    job_ids = [JobId(Position(*line[0])) for _, line in of("job")]
    counted = [(job_id, *line[-2:]) for job_id, (_, line) in zip(job_ids, of("job"), strict=True)]
    ((_, (cut_ms,)),) = of("cut")
    state.restore(
        cut_ms,
        Books(
            heard={centre: HlcTime(time) for centre, (time,) in of("heard")},
            rests={(centre, resource): rest for centre, (resource, rest) in of("idle-rest")},
            classes={job_id: name for job_id, name, _ in counted if name is not None},
            witnesses={job_id: Witness(*seen) for job_id, _, seen in counted if seen is not None},
            posted=[
                (FeedKey(centre, epoch), day, total, [(name, points) for name, points in by_class])
                for centre, (epoch, day, total, by_class) in of("posted")
            ],
            cells=[(centre, *cell) for centre, cell in of("amount")],
            usages={ClaimId(Position(*at)): Usage(*usage) for _, (at, usage) in of("usage")},
        ),
    )


def _claim(line: Any) -> ClaimEntry:
    entry = ClaimEntry(**_load(line, CLAIM_FIELDS))
    entry.state = JOINT[entry.phase, entry.host_side.phase]
    return entry


# Jobs that left the state


def dump_forgotten(past: Forgotten) -> CborItem:
    """A closed job with its claims, for whoever keeps it."""
    return [_dump(past.job, JOB_FIELDS), [_dump(entry, CLAIM_FIELDS) for entry in past.claims]]


def load_forgotten(item: Any) -> Forgotten:
    """What `dump_forgotten` wrote."""
    job = JobEntry(**_load(item[0], JOB_FIELDS))
    claims = tuple(map(_claim, item[1]))
    job.claims = tuple(entry.claim_id for entry in claims)
    return Forgotten(job, claims)


# Naming a register


def register_name(section: Section, index: int) -> str:
    """A register of a section for people: `claim beta.12.0`, `amount alpha #3`."""
    body: Any = decode_unchecked(section.body, where="state")
    line = body[index] if index < len(body) else None
    if isinstance(line, list) and line and isinstance(line[0], list) and len(line[0]) == 4:
        by = f" by {line[1]}" if section.kind == "witness" else ""
        return f"{section.kind} {Position(*line[0])}{by}"
    return f"{section.kind} {section.writer} #{index}".replace("  ", " ")


def register_digests(section: Section) -> list[bytes]:
    """The SHA-256 of each register of a section, in order."""
    body: Any = decode_unchecked(section.body, where="state")
    return [hashlib.sha256(encode(line)).digest() for line in body]
