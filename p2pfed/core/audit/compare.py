"""Two exports, taken at different times or places: does one extend the other?

Blocks are the same everywhere, so two exports must agree on every place that both hold. Where they
don't, both signed headers are shown: they prove that the author wrote two histories, and anybody
can check them with any COSE library. Where one only holds more, it is newer there.

Only what both sides prove counts: a block with a bad signature is named by the audit of its own
file, and contradicts nothing.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from p2pfed.core.audit.findings import FINDINGS_PER_CODE_MAX, Findings
from p2pfed.core.audit.intake import feed_name, open_entry
from p2pfed.core.audit.source import LedgerSource
from p2pfed.core.authority import Authority
from p2pfed.core.blocks import BlockHeader, decode_header, peek_header
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.core.ids import FeedKey
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry, Trailer
from p2pfed.errors import InputError

_ID_BYTES: Final = 32


@dataclass(slots=True)
class _Feed:
    """Ids and offsets of the blocks of a feed in one export, by `seq_num`; some may be missing."""

    ids: bytearray = field(default_factory=bytearray)
    offsets: array[int] = field(default_factory=lambda: array("Q"))

    def __len__(self) -> int:
        return len(self.offsets)

    def put(self, header: BlockHeader, offset: int) -> None:
        """Keeps the first block that stands at its place."""
        if header.seq_num == len(self.offsets):
            self.ids += header.block_id
            self.offsets.append(offset)

    def block_id(self, seq_num: int) -> bytes:
        return bytes(self.ids[seq_num * _ID_BYTES : (seq_num + 1) * _ID_BYTES])


class _Export:
    """What one export says of itself: nothing is verified until two differ."""

    def __init__(self, source: LedgerSource) -> None:
        self.source = source
        self.charter: Charter | None = None
        self._keys: VerifyKeys | None = None
        self.feeds: dict[FeedKey, _Feed] = {}
        for entry in _readable(source):
            if self.charter is None:
                self.charter = decode_charter(entry.data)
                continue
            try:
                header = peek_header(entry.data)
            except InputError:
                continue
            self.feeds.setdefault(header.feed, _Feed()).put(header, entry.offset)

    def header(self, feed: FeedKey, seq_num: int) -> BlockHeader | None:
        """The verified header at a place, None if it is not validly signed."""
        assert self.charter is not None
        data = self.source.fetch(self.feeds[feed].offsets[seq_num])
        try:
            message = peek_header(data).cose
            return decode_header(message, self.charter.federation_id, self.keys(self.charter))
        except InputError:
            return None

    def keys(self, charter: Charter) -> VerifyKeys:
        """Every key of a centre, those that decisions and rotations in this export brought too.

        Costs one pass over the export, the first time.
        """
        if self._keys is None:
            authority = Authority(charter)
            for entry in islice(_readable(self.source), 1, None):
                block = open_entry(entry, charter.federation_id, authority.keys)
                if not isinstance(block, InputError):
                    authority.take(block)
            self._keys = authority.keys
        return self._keys


def _readable(source: LedgerSource) -> Iterator[Entry]:
    """The entries up to where it can be read; why it ends there, its own audit says."""
    try:
        for entry in source.entries():
            if not isinstance(entry, Trailer):
                yield entry
    except InputError:
        return


def compare_ledgers(one: LedgerSource, other: LedgerSource, findings: Findings) -> None:
    """Adds what two exports say of each other; neither is audited here.

    Findings are `exports-contradict`, `exports-federations` and `export-behind`.
    """
    try:
        first, second = _Export(one), _Export(other)
    except InputError as error:
        findings.error(error.code, "charter", error.what)
        return
    if first.charter is None or second.charter is None:
        return
    ids = first.charter.federation_id, second.charter.federation_id
    if ids[0] != ids[1]:
        text = f"{one.name} is of {ids[0].hex()}, {other.name} of {ids[1].hex()}"
        findings.error("exports-federations", "", text)
        return
    for feed in sorted(first.feeds.keys() | second.feeds.keys()):
        _compare_feed(first, second, feed, findings)


def _compare_feed(first: _Export, second: _Export, feed: FeedKey, findings: Findings) -> None:
    one, other = first.feeds.get(feed, _Feed()), second.feeds.get(feed, _Feed())
    common = min(len(one), len(other))
    if one.ids[: common * _ID_BYTES] != other.ids[: common * _ID_BYTES]:
        shown = 0
        for seq_num in range(common):
            if one.block_id(seq_num) != other.block_id(seq_num):
                shown += _contradiction(first, second, feed, seq_num, findings)
                if shown >= FINDINGS_PER_CODE_MAX:
                    break
        return
    if len(one) != len(other):
        behind, ahead = (first, second) if len(one) < len(other) else (second, first)
        count = abs(len(one) - len(other))
        text = f"{behind.source.name} lacks the newest {count} blocks that {ahead.source.name} has"
        findings.notice("export-behind", feed_name(feed), text, feed.centre)


def _contradiction(
    first: _Export, second: _Export, feed: FeedKey, seq_num: int, findings: Findings
) -> bool:
    one, other = first.header(feed, seq_num), second.header(feed, seq_num)
    if one is None or other is None:
        return False
    text = (
        f"{first.source.name} holds {one.block_id.hex()}, signed {one.cose.hex()}; "
        f"{second.source.name} holds {other.block_id.hex()}, signed {other.cose.hex()}"
    )
    findings.error("exports-contradict", f"{feed_name(feed)}.{seq_num}", text, feed.centre)
    return True
