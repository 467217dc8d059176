"""A federation of real daemons on this machine: own processes, real TCP, real TLS, real disks.

The folders lie in a short temporary folder, since a Unix socket's path has at most 107 bytes. The
rules are fast (half a second a round), so that a job needs a few seconds from posting to receipt.
When a federation is left, every process that it began is ended, jobs of guests included, and no
daemon may have logged a traceback.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from p2pfed.cli.main import main
from p2pfed.core.audit import Report, verify_ledger
from p2pfed.core.charter import Charter, decode_charter
from p2pfed.errors import ControlError
from p2pfed.shell.answers import JobDetail, JobView, StatusView
from p2pfed.shell.client import Client
from tests.waiting import wait_until

FAST_RULES: Mapping[str, int] = {
    "round_ms": 500,
    "settle_ms": 200,
    "heartbeat_ms": 500,
    "offer_lease_ms": 5_000,
    "clock_error_ms": 1_000,
    "claim_wait_ms": 5_000,
    "accept_wait_ms": 10_000,
    "fetch_ms": 10_000,
    "queue_ms": 5_000,
    "kill_grace_ms": 2_000,
    "walltime_max_s": 3_600,
}
LOOK_S = 0.05
"""Between two questions to a daemon while a test waits."""
STOP_S = 5.0
"""A daemon that is asked to stop is gone after this time."""
_PORTS = range(17_000, 31_000)
"""Below the ports that Linux gives to outgoing connections, so that no dialler takes ours."""


def free_port() -> int:
    """A port of the loopback interface that nobody listens on now."""
    for _ in range(200):
        port = random.choice(_PORTS)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("no free port")


def _environment(**extra: str) -> dict[str, str]:
    """Nothing of the caller's environment but where programs are, and this source tree."""
    return {"PATH": os.environ["PATH"], "PYTHONPATH": str(Path(__file__).parents[2]), **extra}


@dataclass(frozen=True, slots=True)
class Answer:
    """What one run of the program said."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """Standard output as JSON."""
        return json.loads(self.out)


def run_program(
    *arguments: str,
    folder: Path,
    code: int | None = 0,
    environment: Mapping[str, str] | None = None,
) -> Answer:
    """Runs `p2pfed` as a user does; `code` is the exit code that it must have, None: any."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "p2pfed", *arguments],
        cwd=folder,
        env=_environment(TMPDIR=str(folder), **(environment or {})),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr, done.stderr
    assert code is None or done.returncode == code, (arguments, done.returncode, done.stderr)
    return Answer(done.returncode, done.stdout, done.stderr)


@dataclass(slots=True)
class Centre:
    """One centre: its folder and, while it runs, its daemon."""

    name: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    starts: int = 0
    python: str = sys.executable
    environment: Mapping[str, str] = field(default_factory=dict)

    @property
    def config(self) -> Path:
        """Its `centre.toml`."""
        return self.folder / "centre.toml"

    @property
    def log(self) -> str:
        """All that its daemons wrote to standard error."""
        path = self.folder / "daemon.log"
        return path.read_text(errors="replace") if path.exists() else ""

    @property
    def running(self) -> bool:
        """True while the daemon's process lives."""
        return self.process is not None and self.process.poll() is None

    # The daemon

    def begin(self, preexec: Callable[[], None] | None = None) -> None:
        """Starts the daemon and does not wait for anything."""
        assert not self.running
        self.starts += 1
        with (self.folder / "daemon.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.python, "-W", "error", "-m", "p2pfed", "daemon", "--config", self.config],
                cwd="/",
                env=_environment(TMPDIR=str(self.folder), **self.environment),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=preexec,  # noqa: PLW1509 - limits of this process, set before it runs
            )

    def start(self) -> None:
        """Starts the daemon and waits until it answers."""
        self.begin()
        self.wait_answering()

    def wait_answering(self) -> None:
        """Waits until the daemon answers questions."""
        self.until(lambda _: True, "an answer")

    def fails_to_start(self) -> tuple[int, str]:
        """Starts a daemon that must give up by itself; its exit code and what it said."""
        said = len(self.log)
        self.begin()
        assert self.process is not None
        return self.process.wait(60), self.log[said:]

    def kill(self) -> None:
        """SIGKILL, as a crash does."""
        assert self.process is not None
        self.process.kill()
        self.process.wait(30)

    def stop(self) -> int:
        """SIGTERM; returns the exit code. Fails if the daemon does not end in time."""
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(STOP_S)

    # Asking

    @contextmanager
    def client(self) -> Iterator[Client]:
        """A connection to the daemon's control socket."""
        with Client(self.folder / "run" / "control.sock") as client:
            yield client

    def cli(self, *arguments: str, code: int | None = 0) -> Answer:
        """Runs a command of the program for this centre, in its work folder."""
        work = self.folder / "work"
        work.mkdir(exist_ok=True)
        return run_program(
            *arguments, folder=work, code=code, environment={"P2PFED_CONFIG": str(self.config)}
        )

    def status(self) -> StatusView:
        """The daemon at a glance."""
        with self.client() as client:
            return client.status()

    def job(self, job_id: str) -> JobDetail:
        """A job as this centre sees it."""
        with self.client() as client:
            return client.job(job_id)

    def jobs(self) -> dict[str, JobView]:
        """Its own jobs by id."""
        with self.client() as client:
            return {view["job_id"]: view for view in client.jobs()}

    def until(self, condition: Callable[[Client], Any], what: str, deadline_s: float = 60) -> Any:
        """Waits for a true answer; a daemon that is away meanwhile is asked again."""

        def look() -> Any:
            with suppress(ControlError), self.client() as client:
                return condition(client)
            process = self.process
            assert process is None or process.poll() in (None, -signal.SIGKILL), self.log[-2000:]
            return None

        return wait_until(look, f"{what} at {self.name}", deadline_s, look_s=LOOK_S)

    def until_linked(self, count: int) -> None:
        """Waits until it is connected to `count` others."""
        self.until(lambda c: c.status()["peers_linked"] >= count, f"{count} links")

    def until_writing(self) -> None:
        """Waits until it may write."""
        self.until(lambda c: not c.status()["recovering"], "the right to write")

    def until_state(self, job_id: str, *states: str, deadline_s: float = 60) -> JobView:
        """Waits until an own job is in one of the states."""

        def look(client: Client) -> JobView | None:
            view = client.job(job_id)["job"]
            return view if view["state"] in states else None

        found: JobView = self.until(look, f"job {job_id} {'/'.join(states)}", deadline_s)
        return found

    def until_over(self, job_ids: Iterable[str], deadline_s: float = 60) -> dict[str, JobView]:
        """Waits until own jobs are final and their results are here, or can't be had."""
        wanted = set(job_ids)

        def over(view: JobView) -> bool:
            return view["final"] and view["result"] != "waiting"

        def look(client: Client) -> dict[str, JobView] | None:
            views = {view["job_id"]: view for view in client.jobs() if view["job_id"] in wanted}
            return views if len(views) == len(wanted) and all(map(over, views.values())) else None

        found: dict[str, JobView] = self.until(look, "the end of its jobs", deadline_s)
        return found

    # Acting

    def submit(self, script: str, *arguments: str, **request: object) -> str:
        """Posts a job through the control API; returns its id."""
        path = self.folder / "job.sh"
        path.write_text(script)
        fields = {"memory_mib_per_node": 64, "walltime_s": 60, **request}
        fields["arguments"] = list(arguments)
        with self.client() as client:
            view, _ = client.submit(fields, path, {})
        return view["job_id"]

    def open_offer(self, template: str = "default") -> str:
        """Opens an offer by its template; returns its id."""
        with self.client() as client:
            return client.open_offer(template=template)["offer_id"]

    def output(self, job_id: str) -> str:
        """What an own job wrote to standard output."""
        with self.client() as client:
            return b"".join(client.output(job_id)).decode()

    def export(self) -> Path:
        """Its ledger, as a file."""
        path = self.folder / "export.ledger"
        with self.client() as client, path.open("wb") as file:
            for piece in client.ledger():
                file.write(piece)
        return path

    def audit(self) -> Report:
        """Its exported ledger, verified against the charter."""
        with self.export().open("rb") as file:
            return verify_ledger(file, expected=self.charter().federation_id)

    def charter(self) -> Charter:
        """The charter in its folder."""
        return decode_charter((self.folder / "charter.cbor").read_bytes())

    def edit_config(self, old: str, new: str) -> None:
        """Replaces one text in `centre.toml`, which must be there."""
        text = self.config.read_text()
        assert text.count(old) == 1, old
        self.config.write_text(text.replace(old, new))


@dataclass(slots=True)
class Federation:
    """Centres that share a charter; use it in a `with` block.

    Attributes:
        root: holds all their folders.
        centres: by name.
        proven: a test showed at its end that all is well, so the next one may use it too.
    """

    root: Path
    centres: dict[str, Centre] = field(default_factory=dict)
    proven: bool = False

    @classmethod
    def found(
        cls,
        *names: str,
        cores: int = 4,
        rules: Mapping[str, int] | None = None,
        opened: Iterable[str] = (),
    ) -> Self:
        """Makes the centres' folders and a charter that all have signed.

        Args:
            names: the centres.
            cores: what each commands, on one node.
            rules: differences to `FAST_RULES`.
            opened: the centres whose default offer opens whenever their daemon starts.
        """
        root = Path(tempfile.mkdtemp(prefix="p2pfed-e2e-"))
        made = cls(root)
        for name in names:
            made.add(name, cores=cores)
        lines = [f"{key} = {value}" for key, value in {**FAST_RULES, **(rules or {})}.items()]
        (root / "rules.toml").write_text("\n".join(lines))
        cards = [str(root / name / "card.json") for name in names]
        draft = str(root / "charter.cbor")
        call("charter", "new", *cards, "--rules", str(root / "rules.toml"), "-o", draft)
        for name in names:
            call("charter", "sign", draft, "--config", str(root / name))
        for centre in made.centres.values():
            shutil.copy(draft, centre.folder / "charter.cbor")
        for name in opened:
            made[name].edit_config("\nopen = false", "\nopen = true")
        return made

    def add(self, name: str, *, cores: int) -> Centre:
        """Makes the folder of one more centre."""
        port = free_port()
        folder = self.root / name
        call(
            *("init", str(folder), "--name", name, "--listen", f"127.0.0.1:{port}"),
            *("--cores-per-node", str(cores), "--memory-mib-per-node", "4096"),
        )
        self.centres[name] = Centre(name, folder, port)
        return self.centres[name]

    def __getitem__(self, name: str) -> Centre:
        return self.centres[name]

    def __iter__(self) -> Iterator[Centre]:
        return iter(self.centres.values())

    def start(self, *names: str) -> None:
        """Starts the daemons (of all centres without names), waits until they may write."""
        chosen = [self.centres[name] for name in names or self.centres]
        for centre in chosen:
            centre.begin()
        for centre in chosen:
            centre.until_linked(len(chosen) - 1)
            centre.until_writing()

    def until_offers(self, count: int) -> None:
        """Waits until every running daemon sees `count` live offers."""
        for centre in self:
            if centre.running:
                centre.until(
                    lambda client: sum(o["live"] for o in client.offers()) >= count,
                    f"{count} offers",
                )

    def until_settled(self) -> None:
        """Waits until every ended claim of any centre is receipted and known to every daemon."""

        def settled(client: Client) -> bool:
            for view in client.jobs(scope="all"):
                attempts = client.job(view["job_id"])["attempts"]
                ended = [a for a in attempts if a["state"] == "ended"]
                if not view["final"] or not all(a["receipt"] or a["dispute"] for a in ended):
                    return False
            return True

        for centre in self:
            if centre.running:
                centre.until(settled, "receipts")

    def common_digest(self) -> str:
        """Waits until all daemons computed the same round; its view digest, the same everywhere."""
        seen: dict[str, dict[int, str]] = {centre.name: {} for centre in self}

        def look() -> str | None:
            for centre in self:
                with suppress(ControlError):
                    status = centre.status()
                    if status["view_digest"] is not None:
                        seen[centre.name][status["round"]] = status["view_digest"]
            rounds = set.intersection(*(set(found) for found in seen.values()))
            for number in sorted(rounds, reverse=True):
                digests = {found[number] for found in seen.values()}
                if len(digests) == 1:
                    return digests.pop()
            return None

        return wait_until(look, "a view that all share", look_s=LOOK_S) or ""

    # The end

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        for centre in self:
            if centre.running:
                centre.kill()
        for pid in self.processes():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        logs = {centre.name: centre.log for centre in self}
        if kind is not None:
            for name, log in logs.items():
                print(f"---- {name}\n{log[-6000:]}")
        shutil.rmtree(self.root, ignore_errors=True)
        if kind is None:
            for name, log in logs.items():
                assert "Traceback" not in log, f"{name}:\n{log[-6000:]}"

    def processes(self) -> list[int]:
        """Processes of this machine that work in our folders, other than the daemons."""
        daemons = {c.process.pid for c in self if c.process is not None}
        mark = os.fsencode(self.root)
        found = []
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in (os.getpid(), *daemons):
                continue
            with suppress(OSError):
                text = (entry / "cmdline").read_bytes() + (entry / "environ").read_bytes()
                if mark in text:
                    found.append(int(entry.name))
        return found


class Shared:
    """One federation for the tests of a module, made anew after a test that left it in doubt."""

    def __init__(self, made: Callable[[], Federation]) -> None:
        self._made = made
        self._federation: Federation | None = None

    @contextmanager
    def lend(self) -> Iterator[Federation]:
        """A federation whose daemons run and may write."""
        if self._federation is None:
            self._federation = self._made()
            self._federation.start()
        federation = self._federation
        federation.proven = False
        yield federation
        if not federation.proven or not all(centre.running for centre in federation):
            self.close()

    def close(self) -> None:
        """Ends the federation, if there is one, and shows its logs if it was left in doubt."""
        federation, self._federation = self._federation, None
        if federation is not None:
            federation.__exit__(None if federation.proven else AssertionError, None, None)


def call(*arguments: str) -> None:
    """Runs a command of the program in this process; it must succeed."""
    assert main(arguments) == 0, arguments


def read_toml(path: Path) -> dict[str, Any]:
    """A TOML file."""
    return tomllib.loads(path.read_text())
