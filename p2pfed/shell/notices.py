"""The live feed: one publisher, any number of watchers, none of which can slow the daemon.

Each watcher has a bounded channel. `publish` never waits: a watcher whose channel is full is cut
off (its channel is closed), and must ask again; it then knows that it missed something.
"""

from __future__ import annotations

from typing import Final

import trio

from p2pfed.shell.answers import Notice

NOTICES_PENDING_MAX: Final = 4096
"""Notices that a slow watcher may leave unread before it is cut off."""


class Notices:
    """A bus of notices."""

    def __init__(self) -> None:
        self._watchers: set[trio.MemorySendChannel[Notice]] = set()

    def __len__(self) -> int:
        """How many watch at this moment."""
        return len(self._watchers)

    def watch(self) -> trio.MemoryReceiveChannel[Notice]:
        """A channel that gets every notice published from now on."""
        send, receive = trio.open_memory_channel[Notice](NOTICES_PENDING_MAX)
        self._watchers.add(send)
        return receive

    def publish(self, notice: Notice) -> None:
        """Gives the notice to every watcher; returns at once."""
        for watcher in tuple(self._watchers):
            try:
                watcher.send_nowait(notice)
            except (trio.WouldBlock, trio.BrokenResourceError):
                self._drop(watcher)

    def close(self) -> None:
        """Ends every watcher's feed."""
        for watcher in tuple(self._watchers):
            self._drop(watcher)

    def _drop(self, watcher: trio.MemorySendChannel[Notice]) -> None:
        self._watchers.discard(watcher)
        watcher.close()
