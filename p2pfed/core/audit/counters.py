"""Do the counters that a daemon reports follow from the ledger?

A daemon keeps what each centre delivered and consumed as PN-counters: one pair of amounts by
centre, resource class and day. It reports them at the cut of its newest round, with the view digest
of what it had folded (`p2pfed balance --counters --json`). An audit of any export that holds the
same blocks comes to the same numbers at that cut, or one of the two computes wrongly.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Final

from p2pfed.core.accounting import Counter, CounterKey, Counters
from p2pfed.core.audit.findings import Findings
from p2pfed.core.audit.report import AuditReport
from p2pfed.core.ids import CENTRE_NAME, CentreName
from p2pfed.errors import InputError

_NONE: Final = Counter(0, 0)


@dataclass(frozen=True, slots=True)
class StatedCounters:
    """What a daemon reports.

    Attributes:
        source: the file's name.
        centre: whose daemon it is.
        federation_id: in hex.
        cut_ms: the time that the counters are of.
        view_digest: of the blocks that they follow from, in hex; None if none was told.
    """

    source: str
    centre: str
    federation_id: str
    cut_ms: int
    view_digest: str | None
    counters: Counters


def parse_counters(data: bytes, source: str) -> StatedCounters:
    """A file with a daemon's answer.

    Raises:
        InputError: `counters-form`.
    """
    try:
        item: Any = json.loads(data)
    except (ValueError, RecursionError):
        item = None
    match item:
        case {
            "centre": str(centre),
            "federation_id": str(federation_id),
            "cut_ms": int(cut_ms),
            "view_digest": str() | None as digest,
            "counters": list(lines),
        } if type(cut_ms) is int and 0 <= cut_ms < 1 << 48:
            found = dict(_line(line, source) for line in lines)
            return StatedCounters(source, centre, federation_id, cut_ms, digest, found)
        case _:
            raise _refused(source)


def _line(item: Any, source: str) -> tuple[CounterKey, Counter]:
    match item:
        case {
            "centre": str(centre),
            "resource_class": str(resource_class),
            "day": int(day),
            "contributed": int(contributed),
            "consumed": int(consumed),
        } if CENTRE_NAME.match(centre) and bool not in map(type, (day, contributed, consumed)):
            key = CounterKey(CentreName(centre), resource_class, day)
            return key, Counter(contributed, consumed)
        case _:
            raise _refused(source)


def _refused(source: str) -> InputError:
    return InputError(
        "counters-form",
        "this is not what a daemon reports of its counters",
        where=source,
        remedy="p2pfed balance --counters --json writes it",
    )


def compare_counters(stated: StatedCounters, report: AuditReport, findings: Findings) -> None:
    """Adds what differs between a daemon's counters and those that the ledger gives at their cut.

    Findings are `counters-differ`, one for each counter, or `counters-view` where the ledger holds
    other blocks up to the cut, so that nothing follows from a difference.
    """
    ledger, where = report.ledger, f"{stated.centre} in {stated.source}"
    if ledger.federation is None or ledger.federation.hex() != stated.federation_id:
        text = "the counters are of another federation than the ledger"
        findings.notice("counters-view", where, text)
        return
    digest = None if ledger.cut_digest is None else ledger.cut_digest.hex()
    if ledger.at_ms != stated.cut_ms or stated.view_digest not in (None, digest):
        text = f"{report.source} holds other blocks up to {stated.cut_ms} than the daemon had"
        findings.notice("counters-view", where, text)
        return
    for key in sorted(stated.counters.keys() | report.counters.keys()):
        said, is_so = stated.counters.get(key, _NONE), report.counters.get(key, _NONE)
        if said != is_so:
            text = (
                f"{key.resource_class} of {key.writer} on day {key.day}: the daemon says "
                f"{said.contributed} contributed and {said.consumed} consumed, the ledger gives "
                f"{is_so.contributed} and {is_so.consumed}"
            )
            findings.warning("counters-differ", where, text, CentreName(stated.centre))
