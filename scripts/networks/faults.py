"""What is done to networks, processes and disks: each begins, lasts while jobs come, and ends."""

from __future__ import annotations

import resource
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from scripts.networks.hub import Weather
from scripts.networks.stage import Stage, signal_daemon

Fault = Callable[[Stage], AbstractContextManager[Callable[[], None]]]
"""Entered when it begins, left when it ends; what it yields is called a few times a second."""


def _nothing() -> None:
    """Faults that go on by themselves."""


@contextmanager
def _weather(stage: Stage, weather: Weather) -> Iterator[Callable[[], None]]:
    stage.hub.weather = weather
    yield _nothing
    stage.hub.weather = Weather()


def loss(stage: Stage) -> AbstractContextManager[Callable[[], None]]:
    """20 of 100 pieces are lost."""
    return _weather(stage, Weather(loss=20))


def delay(stage: Stage) -> AbstractContextManager[Callable[[], None]]:
    """300 ms ± 100 in each direction."""
    return _weather(stage, Weather(delay_ms=300, jitter_ms=100))


@contextmanager
def slow(stage: Stage) -> Iterator[Callable[[], None]]:
    """1 Mbit/s for each centre, in each direction."""
    for space in stage.spaces.values():
        space.limit("1mbit")
    yield _nothing
    for space in stage.spaces.values():
        space.limit(None)


@contextmanager
def _cut(stage: Stage, together: Callable[[str, str], bool]) -> Iterator[Callable[[], None]]:
    stage.cut(together)
    yield _nothing
    stage.hub.cut = frozenset()


def halves(stage: Stage) -> AbstractContextManager[Callable[[], None]]:
    """Two parts that can't reach each other."""
    left = set(stage.names[: len(stage.names) // 2])
    return _cut(stage, lambda a, b: (a in left) == (b in left))


def bridge(stage: Stage) -> AbstractContextManager[Callable[[], None]]:
    """Two parts that reach each other only through one centre."""
    middle = len(stage.names) // 2
    left, between = set(stage.names[:middle]), stage.names[middle]
    return _cut(stage, lambda a, b: between in (a, b) or (a in left) == (b in left))


def one_way(stage: Stage) -> AbstractContextManager[Callable[[], None]]:
    """One centre hears everybody, and nobody hears it."""
    mute = stage.names[0]
    return _cut(stage, lambda a, _: a != mute)


@contextmanager
def silent(stage: Stage) -> Iterator[Callable[[], None]]:
    """Links that swallow everything and stay open: those of the beginning, and of the middle."""
    stage.hub.kill_silently()
    yield _nothing
    stage.hub.kill_silently()


@contextmanager
def stopped(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two daemons stand still (SIGSTOP) and go on."""
    victims = [stage.federation[name] for name in stage.names[:2]]
    stage.asleep = frozenset(victim.name for victim in victims)
    for victim in victims:
        signal_daemon(victim, signal.SIGSTOP)
    try:
        yield _nothing
    finally:
        for victim in victims:
            signal_daemon(victim, signal.SIGCONT)
        stage.asleep = frozenset()


@contextmanager
def killed(stage: Stage) -> Iterator[Callable[[], None]]:
    """`kill -9` of one daemon after the other, as fast as they start."""
    turn = 0

    def kill_next() -> None:
        nonlocal turn
        name = stage.names[turn % len(stage.names)]
        turn += 1
        stage.federation[name].kill()
        stage.begin(name)

    yield kill_next


@contextmanager
def files(stage: Stage) -> Iterator[Callable[[], None]]:
    """Two daemons may open no more files than they have open now."""
    victims = [stage.federation[name].process for name in stage.names[:2]]
    pids = [victim.pid for victim in victims if victim is not None]
    before = {pid: resource.prlimit(pid, resource.RLIMIT_NOFILE) for pid in pids}
    for pid in pids:
        used = max(int(entry.name) for entry in Path(f"/proc/{pid}/fd").iterdir())
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (used + 1, before[pid][1]))
    stage.hub.kill_silently()  # so that they must make new connections
    yield _nothing
    for pid, limits in before.items():
        resource.prlimit(pid, resource.RLIMIT_NOFILE, limits)


@contextmanager
def disk(stage: Stage) -> Iterator[Callable[[], None]]:
    """The disk of one centre, its ledger on it, is full."""
    centre = stage.federation[stage.names[1]]
    state = centre.folder / "state"
    centre.stop()
    kept = centre.folder / "state.kept"
    state.rename(kept)
    state.mkdir(mode=0o700)
    _run("mount", "-t", "tmpfs", "-o", "size=64m,mode=0700", "tmpfs", str(state))
    try:
        _run("cp", "-a", f"{kept}/.", str(state))
        stage.begin(centre.name)
        centre.wait_answering()
        centre.until_writing()
        filler = state / "filler"
        with filler.open("wb") as file, suppress(OSError):
            while True:
                file.write(bytes(4096))
                file.flush()
        yield _nothing
        filler.unlink()
        stage.check()
    finally:
        centre.kill()
        for path in kept.iterdir():
            path.unlink() if path.is_file() else None
        _run("cp", "-a", f"{state}/.", str(kept))
        _run("umount", str(state))
        state.rmdir()
        kept.rename(state)
        stage.begin(centre.name)


FAULTS: dict[str, Fault] = {
    "loss": loss,
    "delay": delay,
    "slow": slow,
    "halves": halves,
    "bridge": bridge,
    "one-way": one_way,
    "silent": silent,
    "stopped": stopped,
    "killed": killed,
    "files": files,
    "disk": disk,
}
PAUSE_S = 0.5


def last(stage: Stage, name: str, seconds: float, jobs: int) -> None:
    """Lets a fault last for so long, while every centre posts `jobs` jobs before and in it."""
    stage.submit(jobs)
    with FAULTS[name](stage) as again:
        over_s = time.monotonic() + seconds
        stage.submit(jobs)
        while time.monotonic() < over_s:
            again()
            time.sleep(PAUSE_S)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)
