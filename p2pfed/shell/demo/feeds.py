"""The live feeds of several daemons as one stream of news about jobs.

One thread for each daemon reads its feed and puts what it says into one queue. A feed that breaks
off, because its daemon was killed, is opened again, and begins with a list of all jobs: nothing
that happened in between is missed.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Iterable, Iterator
from typing import Final

from p2pfed.errors import ControlError
from p2pfed.shell.answers import JobView
from p2pfed.shell.demo.daemons import Daemon

_RETRY_S: Final = 0.2


class JobFeeds:
    """News of the own jobs of the given daemons."""

    def __init__(self, daemons: Iterable[Daemon]) -> None:
        """Starts reading; the threads end with their daemons, or with the program."""
        self._news: queue.SimpleQueue[JobView] = queue.SimpleQueue()
        self._stopping = False
        for daemon in daemons:
            threading.Thread(target=self._follow, args=(daemon,), daemon=True).start()

    def take(self, wait_s: float) -> Iterator[JobView]:
        """What is new; returns after `wait_s` seconds at the latest if nothing is."""
        try:
            if wait_s:
                yield self._news.get(timeout=wait_s)
            while True:
                yield self._news.get_nowait()
        except queue.Empty:
            return

    def stop(self) -> None:
        """Opens no feed again."""
        self._stopping = True

    def _follow(self, daemon: Daemon) -> None:
        while not self._stopping:
            try:
                with daemon.client() as client, client.watch() as notices:
                    with daemon.client() as beside:
                        for view in beside.jobs():
                            self._news.put(view)
                    for notice in notices:
                        view_or_none = notice["job"]
                        if view_or_none is not None and view_or_none["home"] == daemon.name:
                            self._news.put(view_or_none)
            except ControlError:
                pass
            time.sleep(_RETRY_S)
