"""What a simulated disk says of itself at a start: the daemon's own table of restarts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfed.core.ids import BlockId, FeedKey, Head
from p2pfed.node.recovery import Memory
from p2pfed.store.highwater import NOTHING_YET, Mark, Restart, judge_restart

_MEMORY: Final = {
    Restart.START: Memory.SURE,
    Restart.RECOVER: Memory.BEHIND,
    Restart.ASK_ALL: Memory.UNSURE,
    Restart.NEW_EPOCH: Memory.BROKEN,
}

NO_BLOCK_YET: Final = Head(NOTHING_YET, BlockId(bytes(32)))
"""The mark of a centre that has written nothing."""


def judge_disk(
    me: FeedKey,
    head: Head | None,
    mark: Head | None,
    held: Callable[[FeedKey, int], BlockId | None],
) -> tuple[Memory, Head | None]:
    """What a daemon concludes from its disk before it writes anything.

    Args:
        me: its own feed.
        head: the newest block of that feed in the store.
        mark: what the high-water file says; None if there is none.
        held: the id of the store's block at a place.
    """
    verdict = judge_restart(
        None if mark is None else Mark(me, mark),
        None if head is None else Mark(me, head),
        held,
        Mark(me, NO_BLOCK_YET),
    )
    return _MEMORY[verdict], mark
