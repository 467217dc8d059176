"""Waiting for what other processes do, without guessing how long it takes.

No test sleeps for a fixed time. `wait_until` looks at a condition again and again and returns as
soon as it holds; its deadline is far beyond what a busy machine needs, so that it fails only when
the thing will never happen.
"""

from __future__ import annotations

import select
import signal
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

DEADLINE_S = 60.0
_LOOK_S = 0.01


def heed_interrupts() -> None:
    """For a child before it begins: SIGINT does what it does at a terminal.

    Whoever runs the tests in the background may have had it ignored, which children inherit.
    """
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def wait_until(
    condition: Callable[[], T],
    what: str = "the condition",
    deadline_s: float = DEADLINE_S,
    *,
    look_s: float = _LOOK_S,
) -> T:
    """Returns the first true value that `condition` gives; fails, naming `what`, if none comes."""
    give_up_at_s = time.monotonic() + deadline_s
    while not (value := condition()):
        assert time.monotonic() < give_up_at_s, f"{what} did not come in {deadline_s:g} s"
        select.select([], [], [], look_s)
    return value
