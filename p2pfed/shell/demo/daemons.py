"""The daemons of a demonstration: real processes, started again when one dies.

A daemon may be killed at any moment, by whoever watches. The demonstration notices, starts it again
on the same folder and counts that; what it was asking the daemon at that moment it asks again. A
request that changes something is therefore written so that doing it twice does it once: it first
looks whether it was done.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Final, Self, TypeVar

from p2pfed.core.ids import CentreName
from p2pfed.errors import ControlError, StateError
from p2pfed.shell.client import Client
from p2pfed.shell.demo.founding import Site

T = TypeVar("T")

ANSWER_S: Final = 60
"""How long a daemon may take until it answers, however often it was killed meanwhile."""
_FAILED_STARTS_MAX: Final = 5
_STOP_S: Final = 10
_RETRY_S: Final = 0.1
_LOG_LINES: Final = 5


class Daemon:
    """One centre's daemon."""

    def __init__(self, site: Site) -> None:
        """Nothing is started yet."""
        self.site = site
        self.restarts = 0
        self._process: subprocess.Popen[bytes] | None = None
        self._failed_starts = 0

    @property
    def name(self) -> CentreName:
        """The centre's name."""
        return self.site.plan.name

    def start(self) -> None:
        """Starts the process, in a session of its own: Ctrl-C is for the demonstration alone."""
        with self.site.log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "p2pfed", "daemon", "--config", str(self.site.config.path)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=self.site.config.folder,
                start_new_session=True,
            )

    def client(self) -> Client:
        """A client of its control API."""
        return Client(self.site.config.control.socket)

    def supervise(self) -> bool:
        """Starts it again if it has died; True if it did.

        Raises:
            StateError: `demo-daemon`: it dies whenever it is started.
        """
        if self._process is None or self._process.poll() is None:
            return False
        if self._answers():
            # Somebody was faster and has started it by hand.
            return False
        self._failed_starts += 1
        if self._failed_starts > _FAILED_STARTS_MAX:
            raise self._failure(f"the daemon of {self.name} ends whenever it is started")
        self.restarts += 1
        self.start()
        return True

    def answered(self) -> None:
        """It was reached: earlier ends were not its own fault."""
        self._failed_starts = 0

    def _answers(self) -> bool:
        try:
            with self.client():
                return True
        except ControlError:
            return False

    def terminate(self) -> None:
        """Asks it to end."""
        if self._process is not None and self._process.poll() is None:
            self._process.terminate()

    def wait(self, deadline_s: float) -> None:
        """Waits for its end; after the deadline (of the monotonic clock) it is killed."""
        if self._process is None:
            return
        try:
            self._process.wait(max(0.0, deadline_s - time.monotonic()))
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def failure(self) -> StateError:
        """The error for a daemon that can't be reached."""
        return self._failure(f"the daemon of {self.name} did not answer for {ANSWER_S} s")

    def _failure(self, what: str) -> StateError:
        try:
            lines = self.site.log.read_text(errors="replace").splitlines()[-_LOG_LINES:]
        except OSError:
            lines = []
        said = "; ".join(line.strip() for line in lines) or "nothing"
        return StateError(
            "demo-daemon",
            f"{what}; the last it said: {said}",
            where=str(self.site.log),
            remedy="keep the folder with --keep to look at it",
        )


class Daemons:
    """All daemons; in a `with` block, at whose end they are stopped.

    Attributes:
        restarted: called with the name of each daemon that was started again.
    """

    def __init__(self, sites: Sequence[Site], restarted: Callable[[CentreName], None]) -> None:
        """Nothing is started before the block is entered."""
        self.all = tuple(Daemon(site) for site in sites)
        self.restarted = restarted
        self._by_name = {daemon.name: daemon for daemon in self.all}

    def __enter__(self) -> Self:
        """Starts every daemon."""
        try:
            for daemon in self.all:
                daemon.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Stops every daemon."""
        self.stop()

    def __getitem__(self, name: CentreName) -> Daemon:
        """The daemon of that centre."""
        return self._by_name[name]

    def add(self, site: Site) -> None:
        """Starts the daemon of one more centre."""
        daemon = Daemon(site)
        daemon.start()
        self.all = (*self.all, daemon)
        self._by_name[daemon.name] = daemon

    def pause(self, name: CentreName) -> None:
        """Ends a daemon; it is not supervised until `resume`."""
        daemon = self[name]
        self.all = tuple(other for other in self.all if other is not daemon)
        daemon.terminate()
        daemon.wait(time.monotonic() + _STOP_S)

    def resume(self, name: CentreName) -> None:
        """Starts a paused daemon again."""
        daemon = self[name]
        daemon.start()
        self.all = (*self.all, daemon)

    def retire(self, name: CentreName) -> None:
        """Ends a daemon for good."""
        self.pause(name)

    def supervise(self) -> None:
        """Starts again whatever has died.

        Raises:
            StateError: `demo-daemon`.
        """
        for daemon in self.all:
            if daemon.supervise():
                self.restarted(daemon.name)

    def ask(self, name: CentreName, question: Callable[[Client], T]) -> T:
        """What the daemon answers; asked again if it goes away meanwhile, or may not write yet.

        Raises:
            StateError: `demo-daemon`: it could not be reached.
            P2pfedError: as the daemon says.
        """
        daemon = self[name]
        give_up_s = time.monotonic() + ANSWER_S
        while True:
            try:
                with daemon.client() as client:
                    answer = question(client)
            except (ControlError, StateError) as error:
                if isinstance(error, StateError) and error.code != "recovering":
                    raise
                if time.monotonic() >= give_up_s:
                    raise daemon.failure() from error
                self.supervise()
                time.sleep(_RETRY_S)
            else:
                daemon.answered()
                return answer

    def wait_until(
        self, name: CentreName, condition: Callable[[Client], bool], *, what: str
    ) -> None:
        """Asks the daemon until the condition holds, and starts others that die meanwhile again.

        Raises:
            StateError: `demo-daemon`, or `demo-timeout` after ANSWER_S seconds.
        """
        give_up_s = time.monotonic() + ANSWER_S
        while not self.ask(name, condition):
            self.supervise()
            if time.monotonic() >= give_up_s:
                raise StateError("demo-timeout", f"{name}: {what} did not come in {ANSWER_S} s")
            time.sleep(_RETRY_S)

    def stop(self) -> None:
        """Ends every daemon."""
        for daemon in self.all:
            daemon.terminate()
        deadline_s = time.monotonic() + _STOP_S
        for daemon in self.all:
            daemon.wait(deadline_s)
