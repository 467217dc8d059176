"""Signatures verified on all cores.

Workers get batches of a ledger's entries and answer which are valid; order stays. The audit then
decodes valid blocks again without verifying, which is the lesser part of the work: sending decoded
records between processes would cost as much.
"""

from __future__ import annotations

import multiprocessing
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from contextlib import ExitStack
from itertools import islice
from typing import Final

from p2pfed.core.audit.audit import Opened, Opener
from p2pfed.core.audit.intake import open_entry
from p2pfed.core.blocks import Block, decode_stored
from p2pfed.core.ids import FederationId
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry
from p2pfed.errors import InputError

_BATCH: Final = 64
_AHEAD: Final = 4
"""Batches for each worker that are under way at a time."""

_Verdict = tuple[str, str] | None


def opener_for(jobs: int, stack: ExitStack) -> Opener | None:
    """Verifies with that many processes (0: one for each core); None for one."""
    count = jobs or os.cpu_count() or 1
    if count == 1:
        return None
    context = multiprocessing.get_context("forkserver")
    pool = stack.enter_context(ProcessPoolExecutor(count, mp_context=context))

    def opened(
        entries: Iterable[Entry], federation: FederationId, keys: Callable[[], VerifyKeys]
    ) -> Iterator[Opened]:
        under_way: deque[tuple[tuple[Entry, ...], Future[list[_Verdict]]]] = deque()
        left = iter(entries)
        while batch := tuple(islice(left, _BATCH)):
            data = [entry.data for entry in batch]
            under_way.append((batch, pool.submit(_verify, data, federation, [*keys()])))
            if len(under_way) >= count * _AHEAD:
                yield from _finished(*under_way.popleft())
        while under_way:
            yield from _finished(*under_way.popleft())

    return opened


def _finished(batch: tuple[Entry, ...], future: Future[list[_Verdict]]) -> Iterator[Opened]:
    for entry, verdict in zip(batch, future.result(), strict=True):
        yield entry, decode_stored(entry.data) if verdict is None else InputError(*verdict)


def _verify(
    batch: list[bytes], federation: FederationId, pairs: list[tuple[str, bytes]]
) -> list[_Verdict]:
    """What is wrong with each block, None for nothing; runs in a worker."""
    keys = VerifyKeys(pairs)  # type: ignore[arg-type]  # as they came from one
    opened = [open_entry(Entry(0, 0, data), federation, keys) for data in batch]
    return [None if isinstance(found, Block) else (found.code, found.what) for found in opened]
