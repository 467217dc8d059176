"""Real daemons for the benchmarks: their folders, their processes, and what those cost.

Every centre is made as an administrator makes it (`p2pfed init`, `p2pfed charter new`, `sign`) and
keeps the default rules. Whatever a federation began is ended, and its folder removed, when its
`with` block is left. What a process used is read from `/proc` (proc(5)).
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self, TypeVar

from p2pfed.cli.main import main
from p2pfed.errors import ControlError
from p2pfed.shell.answers import StatusView
from p2pfed.shell.client import Client
from scripts.benchmarks.relay import Relay

T = TypeVar("T")

_PORTS = range(17_000, 31_000)
"""Below the ports that Linux gives to outgoing connections, so that no dialler takes ours."""
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")
_LOOK_S = 0.05
"""Between two questions to a daemon that something is expected of."""


def progress(text: str) -> None:
    """Says what goes on, on standard error: the figures alone stand on standard output."""
    print(f"  [{time.strftime('%H:%M:%S')}] {text}", file=sys.stderr, flush=True)


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def cpu_s(pid: int) -> float:
    """CPU seconds that the process has used so far, all its threads, in steps of 10 ms."""
    after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(after_name[11]) + int(after_name[12])) * _TICK_S


def memory_mib(pid: int, what: str = "VmRSS") -> float:
    """Resident memory now (`VmRSS`) or at its highest (`VmHWM`)."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        name, _, value = line.partition(":")
        if name == what:
            return int(value.split()[0]) / 1024
    raise AssertionError(f"the kernel does not tell {what}")


def quantile(values: Iterable[float], part: float) -> float:
    """The value that `part` of all values do not exceed."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(part * len(ordered)))]


@dataclass(slots=True)
class Centre:
    """One centre: its folder and, while it runs, its daemon."""

    name: str
    folder: Path
    relay: Relay | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The daemon's process."""
        assert self.process is not None
        return self.process.pid

    @property
    def database(self) -> Path:
        """Its ledger."""
        return self.folder / "state" / "ledger.sqlite"

    def begin(self) -> None:
        """Starts the daemon and does not wait for anything."""
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "p2pfed", "daemon", "--config", self.folder / "centre.toml"],
                cwd="/",
                env={"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2])},
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )

    def end(self, number: int = signal.SIGTERM) -> None:
        """Ends the daemon."""
        if self.process is not None:
            self.process.send_signal(number)
            self.process.wait(60)
            self.process = None

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the control socket."""
        with Client(self.folder / "run" / "control.sock") as client:
            yield client

    def status(self) -> StatusView:
        """The daemon at a glance."""
        with self.client() as client:
            return client.status()

    def until(self, condition: Callable[[StatusView], T], what: str, deadline_s: float = 300) -> T:
        """Waits for a true answer; returns it.

        Raises:
            RuntimeError: it did not come, or the daemon ended.
        """
        give_up_s = time.monotonic() + deadline_s
        while time.monotonic() < give_up_s:
            with suppress(ControlError):
                if found := condition(self.status()):
                    return found
            if self.process is not None and self.process.poll() is not None:
                break
            time.sleep(_LOOK_S)
        log = (self.folder / "daemon.log").read_text()[-2000:]
        raise RuntimeError(f"{what} did not come at {self.name}:\n{log}")


@dataclass(slots=True)
class Federation:
    """Centres that share a charter with the default rules; use it in a `with` block."""

    root: Path
    centres: dict[str, Centre] = field(default_factory=dict)

    @classmethod
    def found(cls, count: int, *, relayed: bool = False, rules: str = "") -> Self:
        """Makes the folders of `count` centres and the charter that all of them signed.

        With `relayed`, peers dial a `Relay` before each daemon instead of the daemon. `rules` are
        those that differ from the defaults, as TOML.
        """
        made = cls(Path(tempfile.mkdtemp(prefix="p2pfed-bench-")))
        for number in range(count):
            name = f"c{number:02}"
            folder, port = made.root / name, free_port()
            relay = Relay(port) if relayed else None
            _call(
                *("init", str(folder), "--name", name, "--listen", f"127.0.0.1:{port}"),
                *("--advertise", f"127.0.0.1:{relay.port if relay else port}"),
                *("--cores-per-node", "4096", "--memory-mib-per-node", "1048576"),
            )
            made.centres[name] = Centre(name, folder, relay)
        draft = str(made.root / "charter.cbor")
        cards = [str(c.folder / "card.json") for c in made]
        (made.root / "rules.toml").write_text(rules)
        _call("charter", "new", *cards, "--rules", str(made.root / "rules.toml"), "-o", draft)
        for centre in made:
            _call("charter", "sign", draft, "--config", str(centre.folder))
        for centre in made:
            shutil.copy(draft, centre.folder / "charter.cbor")
        return made

    def __iter__(self) -> Iterator[Centre]:
        return iter(self.centres.values())

    def __len__(self) -> int:
        return len(self.centres)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for centre in self:
            if centre.process is not None:
                centre.process.kill()
                centre.process.wait()
            if centre.relay is not None:
                centre.relay.close()
        shutil.rmtree(self.root, ignore_errors=True)

    def start(self) -> None:
        """Starts all daemons; returns when all are linked to all and may write."""
        for centre in self:
            centre.begin()
        others = len(self) - 1
        for centre in self:
            centre.until(
                lambda s: s["peers_linked"] == others and not s["recovering"], f"{others} links"
            )

    def until_equal(self) -> None:
        """Waits until every running daemon holds at least what the first holds now."""
        first, *others = [centre for centre in self if centre.process is not None]
        wanted = heights(first.status())
        for centre in others:
            centre.until(lambda s: covers(heights(s), wanted), "the blocks of all")


def heights(status: StatusView) -> dict[str, int]:
    """How far each centre's feed reaches."""
    return {head["centre"]: head["seq_num"] for head in status["frontier"]}


def covers(held: Mapping[str, int], wanted: Mapping[str, int]) -> bool:
    """True if `held` reaches at least as far in each feed."""
    return all(held.get(centre, -1) >= seq_num for centre, seq_num in wanted.items())


def _call(*arguments: str) -> None:
    """Runs a command of the program in this process."""
    devnull = Path(os.devnull)
    with devnull.open("w") as quiet:
        before, sys.stdout = sys.stdout, quiet
        try:
            code = main(arguments)
        finally:
            sys.stdout = before
    if code != 0:
        raise RuntimeError(f"p2pfed {' '.join(arguments)}: exit code {code}")
