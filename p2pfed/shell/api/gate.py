"""What stands before every handler: who may call it, how many at a time, and the log of calls.

A call that may change something is any but GET and HEAD. Who calls is not what a caller says but
what the kernel says of the other end of the socket; `p2pfed.shell.control` puts it into the
request's scope.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from starlette.requests import Request

from p2pfed.errors import StateError
from p2pfed.shell.brain import wall_ms
from p2pfed.shell.callers import Caller
from p2pfed.shell.calllog import CallLog

CALLER: Final = "p2pfed.caller"
"""Key of the ASGI scope under which the `Caller` stands."""
UPLOADS_MAX: Final = 64
"""Jobs that may be on their way in at a time; orders and questions are not among them."""
_LOOKS: Final = ("GET", "HEAD")
_SUBMIT: Final = ("POST", "/v1/jobs")


def caller_of(request: Request) -> Caller:
    """Who calls; nobody in particular, who may change nothing, if the socket did not say."""
    found = request.scope.get(CALLER)
    return found if isinstance(found, Caller) else Caller()


def who_of(request: Request) -> str:
    """The local account that calls."""
    return caller_of(request).name


class Gate:
    """Lets calls through to one door."""

    def __init__(self, calls: CallLog) -> None:
        self._calls = calls
        self._uploads = 0

    @contextmanager
    def admitted(self, request: Request) -> Iterator[None]:
        """Lets a call in, and counts the jobs that are on their way.

        Raises:
            StateError: `control-read-only`; `control-busy`: nothing was read or posted.
        """
        if request.method not in _LOOKS:
            caller_of(request).require_change()
        if (request.method, request.url.path) != _SUBMIT:
            yield
            return
        if self._uploads >= UPLOADS_MAX:
            raise StateError(
                "control-busy",
                f"{self._uploads} jobs are on their way in already",
                remedy="submit again in a moment, and fewer at a time",
            )
        self._uploads += 1
        try:
            yield
        finally:
            self._uploads -= 1

    def note(self, request: Request, outcome: str) -> None:
        """Writes down what a call came to, if it may have changed something."""
        if request.method not in _LOOKS:
            caller, path = caller_of(request), request.url.path
            self._calls.write(wall_ms(), caller, request.method, path, outcome)
