"""`kill -9` of any daemon at any moment: no job is lost, none runs twice, nobody forks.

The moments are seeded, and counted in what the federation does (blocks, steps of a job), not in
seconds. Every job appends a line to a file outside its folder, at its beginning and at its end; the
file is the witness that no daemon wrote.
"""

from __future__ import annotations

import random
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from p2pfed.core.blocks import decode_block
from p2pfed.core.ledgerfile import Entry, read_ledger
from p2pfed.core.records import ForkProof
from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from tests.e2e.federation import LOOK_S, Centre, Federation, Shared
from tests.waiting import wait_until

NAMES = ("alpha", "beta", "gamma")
WITNESS = """#!/bin/bash
echo "begin $P2PFED_JOB_ID $1 $$" >> "$2"
sleep "$3"
echo "end $P2PFED_JOB_ID $1 $$" >> "$2"
echo "$1"
"""


class Witness:
    """The file that the jobs themselves write."""

    def __init__(self, federation: Federation, *, walltime_s: int = 8) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="witness-", dir=federation.root), "lines")
        self.walltime_s = walltime_s
        self.tags: dict[str, str] = {}

    def submit(self, centre: Centre, seconds: float = 0.3, **request: object) -> str:
        """Posts a job of `centre` that lasts for so long; returns its id."""
        tag = f"tag{len(self.tags)}"
        arguments = (tag, str(self.path), str(seconds))
        job_id = centre.submit(WITNESS, *arguments, walltime_s=self.walltime_s, **request)
        self.tags[job_id] = tag
        return job_id

    def lines(self, job_id: str, word: str) -> int:
        """How often the job began or ended."""
        text = self.path.read_text() if self.path.exists() else ""
        tag = self.tags[job_id]
        return sum(line.split()[0] == word and tag in line.split() for line in text.splitlines())

    def overlaps(self, job_id: str) -> bool:
        """Whether an attempt of the job went on when another had begun."""
        words = [line.split() for line in self.path.read_text().splitlines()]
        mine = [(w[0], w[3]) for w in words if self.tags[job_id] in w]
        running: set[str] = set()
        for number, (word, process) in enumerate(mine):
            ends_later = {p for word, p in mine[number:] if word == "end"}
            if word == "begin" and running & ends_later - {process}:
                return True
            (running.add if word == "begin" else running.discard)(process)
        return False

    def begun(self) -> int:
        """How many jobs have begun in all."""
        return sum(self.lines(job_id, "begin") for job_id in self.tags)


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    made = Shared(lambda: Federation.found(*NAMES, cores=2, opened=NAMES))
    yield made
    made.close()


@pytest.fixture
def federation(shared: Shared) -> Iterator[Federation]:
    with shared.lend() as made:
        made.until_offers(3)
        yield made


def blocks_of(client: Client) -> int:
    return client.status()["blocks"]


def until_more_blocks(federation: Federation, count: int) -> None:
    """Waits until somebody who lives has `count` blocks more than now."""
    witness = next(centre for centre in federation if centre.running)
    before = witness.until(blocks_of, "blocks")
    witness.until(lambda client: blocks_of(client) >= before + count, f"{count} blocks")


def check_ran_once(home: Centre, job_ids: list[str], witness: Witness) -> None:
    """Each job completed, and ran once unless the ledger shows that its host lost an attempt."""
    views = home.until_over(job_ids, deadline_s=90)
    for job_id in job_ids:
        detail = home.job(job_id)
        story = [(a["host"], a["state"], a["outcome"], a["reason"]) for a in detail["attempts"]]
        assert views[job_id]["state"] == "completed", (job_id, story)
        assert home.output(job_id).strip() == witness.tags[job_id]
        lost = [a for a in detail["attempts"] if a["outcome"] == "node-failure"]
        lost += [a for a in detail["attempts"] if a["state"] == "lost"]
        begun = witness.lines(job_id, "begin")
        assert 1 <= begun <= 1 + len(lost), (job_id, story)
        # A host that was away for the whole lease may have run its attempt to the end all the same,
        # but never beside another: its home gives the job away only when the lease is over.
        assert 1 <= witness.lines(job_id, "end") <= 1 + len(lost), (job_id, story)
        assert not witness.overlaps(job_id), (job_id, story)


def check_ledgers(federation: Federation) -> None:
    """Every ledger verifies, nobody forked, and all agree in a view."""
    federation.until_settled()
    for centre in federation:
        report = centre.audit()
        assert report.ok and not report.findings, (centre.name, report.findings)
        assert {(feed.centre, feed.epoch) for feed in report.frontier} == {(n, 0) for n in NAMES}
        assert not list(fork_proofs(centre))
        centre.until(lambda client: not client.status()["warnings"], "no warnings")
    assert federation.common_digest()
    federation.proven = True


def fork_proofs(centre: Centre) -> Iterator[ForkProof]:
    charter = centre.charter()
    with centre.export().open("rb") as file:
        for entry in read_ledger(file):
            if isinstance(entry, Entry) and entry.number > 0:
                block = decode_block(entry.data, charter.federation_id, charter.keys())
                yield from (r for r in block.records if isinstance(r, ForkProof))


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_daemons_are_killed_at_random_while_jobs_run(federation: Federation, seed: int) -> None:
    rng = random.Random(seed)
    witness = Witness(federation)
    jobs: dict[str, list[str]] = {name: [] for name in NAMES}
    for _ in range(6):
        for name in ("alpha", "beta"):
            jobs[name].append(witness.submit(federation[name], rng.choice((0.1, 0.5, 2.0))))
    for _ in range(6):
        until_more_blocks(federation, rng.randint(1, 10))
        victim = federation[rng.choice(NAMES)]
        victim.kill()
        if rng.random() < 0.5:
            until_more_blocks(federation, rng.randint(1, 6))
        victim.begin()
        if rng.random() < 0.3:  # killed again while it starts
            until_more_blocks(federation, rng.randint(1, 3))
            victim.kill()
            victim.begin()
    for name, job_ids in jobs.items():
        if job_ids:
            check_ran_once(federation[name], job_ids, witness)
    check_ledgers(federation)


STEPS = ("claimed", "leased", "started", "ended")


@pytest.mark.parametrize("victim", ["home", "host"])
def test_a_daemon_is_killed_at_each_step_of_a_job(federation: Federation, victim: str) -> None:
    alpha = federation["alpha"]
    witness = Witness(federation)
    job_ids = []
    for step in STEPS:
        job_id = witness.submit(alpha)
        job_ids.append(job_id)
        kill_at(alpha if victim == "home" else None, federation, job_id, step)
        check_ran_once(alpha, [job_id], witness)
    check_ledgers(federation)


def kill_at(chosen: Centre | None, federation: Federation, job_id: str, step: str) -> None:
    """Kills the home, or whoever hosts the job, once the job has come to the step; restarts it."""
    alpha = federation["alpha"]
    at_least = (*STEPS[STEPS.index(step) :], "completed")
    view = alpha.until_state(job_id, *at_least)
    target = chosen or federation[view["host"] or "beta"]
    target.kill()
    target.start()


def test_everybody_is_killed_at_once_and_comes_back(federation: Federation) -> None:
    witness = Witness(federation)
    alpha = federation["alpha"]
    job_ids = [witness.submit(alpha, 1.5) for _ in range(4)]
    wait_until(lambda: witness.begun() >= 2, "jobs that run", look_s=LOOK_S)
    for centre in federation:
        centre.kill()
    federation.start()
    check_ran_once(alpha, job_ids, witness)
    check_ledgers(federation)


def test_what_a_user_saw_as_accepted_survives_a_kill_in_the_next_instant(
    federation: Federation,
) -> None:
    witness = Witness(federation)
    alpha = federation["alpha"]
    kept = []
    for _ in range(3):
        kept.append(witness.submit(alpha))
        alpha.kill()
        with pytest.raises(ControlError, match="no daemon answers"), alpha.client():
            pass
        alpha.start()
        with suppress(ControlError):
            assert set(kept) <= alpha.jobs().keys()
        alpha.until_writing()
    check_ran_once(alpha, kept, witness)
    check_ledgers(federation)
