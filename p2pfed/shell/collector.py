"""Python's cycle collector where a ledger is read or lived on.

Both make values by the million that stay and hold no cycles. The collector goes over the young ones
every 700 allocations, and over all whenever they have grown by a quarter; that is a third of what
reading costs, and finds nothing.
"""

from __future__ import annotations

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

_ALLOCATIONS: Final = 50_000


@contextmanager
def rarely_collecting() -> Iterator[None]:
    """Collects once in 50 000 allocations meanwhile, so that true garbage stays bounded."""
    before = gc.get_threshold()
    gc.set_threshold(_ALLOCATIONS, *before[1:])
    try:
        yield
    finally:
        gc.set_threshold(*before)


def keep_all() -> None:
    """Spares the collector everything that exists now; it is still freed when nobody holds it."""
    gc.freeze()
