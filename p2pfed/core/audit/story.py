"""The story of one job: every record about it, by whomever, in order of time."""

from __future__ import annotations

from dataclasses import fields
from typing import Final

from p2pfed.core.audit.report import StoryLine
from p2pfed.core.blocks import Block
from p2pfed.core.ids import JobId, Position
from p2pfed.core.records import Inert, Record
from p2pfed.core.units import hlc_ms

_NAMES: Final = ("claim_id", "job_id")


class Story:
    """Collects the records about a job as the ledger passes."""

    def __init__(self, job_id: JobId) -> None:
        self._job_id = job_id
        self._about: set[Position] = {job_id}
        self.lines: list[StoryLine] = []

    def watch(self, block: Block, inert: list[tuple[Position, str]]) -> None:
        """Keeps what a block says about the job."""
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Inert):
                continue
            named = {getattr(record, name, None) for name in _NAMES}
            if position == self._job_id or self._about & named:
                self._about.add(position)
                why = dict(inert).get(position, "")
                kind, detail = type(record).__name__, describe(record)
                self.lines.append(StoryLine(hlc_ms(block.time), position, kind, detail, why))


def describe(record: Record) -> str:
    """The fields of a record that differ from their defaults, as `name=value`."""
    parts = []
    for field in fields(record):
        value = getattr(record, field.name)
        if value != field.default:
            shown = value.hex()[:16] if isinstance(value, bytes) else value
            if isinstance(value, tuple) and not isinstance(value, Position):
                shown = ",".join(map(str, value))
            parts.append(f"{field.name}={shown}")
    return " ".join(parts)
