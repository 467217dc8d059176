"""Daemons in namespaces, the jobs that they run, and what must hold when a fault is over."""

from __future__ import annotations

import os
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout, suppress
from dataclasses import dataclass, field
from io import StringIO

from p2pfed.errors import P2pfedError
from scripts.networks.hub import PORT, Hub
from scripts.networks.spaces import Space
from tests.e2e.federation import Centre, Federation
from tests.e2e.witness import Witness, check_ran_once, fork_proofs

HEAL_S = 300.0
"""All jobs are over, and everybody agrees, so long after a fault at the latest."""
WALLTIME_S = 8
JOB_S = 0.5


@dataclass(slots=True)
class Stage:
    """A federation on the relays of a hub.

    Attributes:
        jobs: the jobs of each centre that were acknowledged since the last check.
        refused: submissions that were refused, by code.
        asleep: centres that can't answer now, so that whoever asks them would wait for nothing.
    """

    federation: Federation
    spaces: dict[str, Space]
    hub: Hub
    witness: Witness
    jobs: dict[str, list[str]] = field(default_factory=dict)
    refused: Counter[str] = field(default_factory=Counter)
    asleep: frozenset[str] = frozenset()

    @property
    def names(self) -> list[str]:
        """All centres."""
        return list(self.spaces)

    def begin(self, name: str) -> None:
        """Starts a centre's daemon in its namespace."""
        self.federation[name].begin(self.spaces[name].enter)

    def submit(self, each: int) -> None:
        """Every centre that is awake posts so many jobs; refusals are counted."""
        for _ in range(each):
            for name in (name for name in self.names if name not in self.asleep):
                try:
                    job_id = self.witness.submit(self.federation[name], JOB_S)
                except P2pfedError as error:
                    self.refused[error.code] += 1
                else:
                    self.jobs.setdefault(name, []).append(job_id)

    def cut(self, together: Callable[[str, str], bool]) -> None:
        """Cuts all ways but those between centres that are together."""
        pairs = ((a, b) for a in self.names for b in self.names if a != b)
        self.hub.cut = frozenset((a, b) for a, b in pairs if not together(a, b))

    def until_whole(self) -> float:
        """Waits until everybody is linked to everybody again and may write; how long that took."""
        began_s = time.monotonic()
        for name in self.names:
            self.federation[name].until(
                lambda client: (
                    client.status()["peers_linked"] == len(self.names) - 1
                    and not client.status()["recovering"]
                ),
                "links to all",
                HEAL_S,
            )
        return time.monotonic() - began_s

    def check(self) -> dict[str, int]:
        """What must hold after a fault; the counts of warnings that audits gave.

        Raises:
            AssertionError: a job was lost or ran twice, ledgers differ, an audit found an error, a
                centre forked itself, or a daemon failed inside.
        """
        warnings: Counter[str] = Counter()
        for name, job_ids in self.jobs.items():
            check_ran_once(self.federation[name], job_ids, self.witness, HEAL_S)
        self.jobs.clear()
        self.federation.until_settled()
        for centre in self.federation:
            report = centre.audit()
            assert report.ok, (centre.name, report.findings)
            assert all(feed.epoch == 0 for feed in report.frontier), centre.name
            assert not list(fork_proofs(centre)), centre.name
            assert "Traceback" not in centre.log, centre.log[-4000:]
            warnings.update(report.counts)
        assert self.federation.common_digest()
        return dict(warnings)


@contextmanager
def staged(count: int, seed: int) -> Iterator[Stage]:
    """`count` daemons that are linked to each other, with an offer each."""
    names = [f"c{number}" for number in range(1, count + 1)]
    spaces = {name: Space(number) for number, name in enumerate(names, start=1)}
    with ExitStack() as stack:
        for space in spaces.values():
            stack.enter_context(space)
        with redirect_stderr(StringIO()), redirect_stdout(StringIO()):
            made = Federation.found(*names, cores=4, opened=names)
        federation = stack.enter_context(made)
        for centre in federation:
            _settle_in(centre, spaces)
        hub = Hub(spaces, seed)
        stack.callback(hub.close)
        stage = Stage(federation, spaces, hub, Witness(federation, walltime_s=WALLTIME_S))
        for name in names:
            stage.begin(name)
        stage.until_whole()
        federation.until_offers(count)
        yield stage


def _settle_in(centre: Centre, spaces: dict[str, Space]) -> None:
    """Listens inside its namespace, and reaches each peer by the relay on its own side."""
    mine = spaces[centre.name]
    listen = f"{mine.inside}:{PORT + mine.number}"
    centre.edit_config(f'listen = "127.0.0.1:{centre.port}"', f'listen = "{listen}"')
    peers = ", ".join(
        f'{name} = "{mine.outside}:{PORT + space.number}"'
        for name, space in spaces.items()
        if name != centre.name
    )
    centre.edit_config("# peers = {}", f"peers = {{{peers}}}")


def signal_daemon(centre: Centre, number: int) -> None:
    """Sends a signal to a centre's daemon."""
    assert centre.process is not None
    with suppress(ProcessLookupError):
        os.kill(centre.process.pid, number)
