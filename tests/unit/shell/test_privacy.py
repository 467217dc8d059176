"""Who may ask who a job is of, and what forgetting refuses, does, and leaves."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import trio

from p2pfed.core.ids import JobId, Position
from p2pfed.core.records import Job
from p2pfed.errors import StateError
from p2pfed.node.events import CancelJob, RequestId
from p2pfed.shell.localrows import JOB_PREFIX, LocalJob, dump_local_job, parse_local_job
from p2pfed.shell.owners import Owners
from p2pfed.shell.privacy import Privacy
from p2pfed.store.database import Database
from tests.unit.node.benches import ALPHA, BETA, JOB, Bench


class Desk:
    """Alpha's node with two jobs: one of ann, one of nobody."""

    def __init__(self, folder: Path) -> None:
        self.bench = Bench()
        self.owners = Owners(folder / "owners", self.bench.federation.id, ALPHA)
        self.database = Database.open(folder / "db.sqlite", federation=self.bench.federation.id)
        self.local: dict[JobId, LocalJob] = {}
        self.hers, self.nobodys = self.post("ann"), self.post("")
        self.privacy = Privacy(
            self.bench.node, self.database, self.owners, self.local, lambda: "p2pfed"
        )

    def post(self, user: str) -> JobId:
        owner = self.owners.commit(self.owners.of(user), JOB.payload_digest) if user else bytes(32)
        record: Job = replace(JOB, owner=owner)
        job_id = self.bench.submit(record)
        row = LocalJob(
            name="study", script="study.sh", stdout="o", stderr="e", user=user, pseudonym=user * 9
        )
        self.local[job_id] = row
        self.database.local_put(f"{JOB_PREFIX}{job_id}", dump_local_job(row))
        return job_id

    def disclose(self, job_id: JobId, who: str) -> str:
        async def ask() -> str:
            return (await self.privacy.disclose(job_id, who=who)).user

        return trio.run(ask)

    def forget(self, user: str, who: str = "root") -> int:
        async def ask() -> int:
            return await self.privacy.forget(user, who=who)

        return trio.run(ask)

    def end(self, job_id: JobId) -> None:
        self.bench.do(CancelJob(request=RequestId(99), job_id=job_id))
        self.bench.wait(30_000)


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    made = Desk(tmp_path)
    yield made
    made.database.close()


def refused(work: object) -> str:
    with pytest.raises(StateError) as caught:
        work()  # type: ignore[operator]
    return caught.value.code


@pytest.mark.parametrize("who", ["p2pfed", "root", "ann"])
def test_the_daemons_account_root_and_the_user_may_have_a_job_disclosed(
    desk: Desk, who: str
) -> None:
    assert desk.disclose(desk.hers, who) == "ann"


def test_nobody_else_learns_anything_not_even_whether_the_job_has_a_user(desk: Desk) -> None:
    assert refused(lambda: desk.disclose(desk.hers, "bob")) == "owner-denied"
    assert refused(lambda: desk.disclose(desk.nobodys, "bob")) == "owner-denied"
    assert refused(lambda: desk.forget("ann", "ann")) == "owner-denied"


def test_what_can_not_be_disclosed_says_why(desk: Desk) -> None:
    assert refused(lambda: desk.disclose(desk.nobodys, "root")) == "owner-none"
    unknown = JobId(Position(ALPHA, 0, 77, 0))
    assert refused(lambda: desk.disclose(unknown, "root")) == "job-unknown"
    theirs = JobId(Position(BETA, 0, 1, 0))
    assert refused(lambda: desk.disclose(theirs, "root")) == "job-not-own"


def test_a_user_is_forgotten_only_when_all_jobs_are_over(desk: Desk) -> None:
    assert refused(lambda: desk.forget("ann")) == "owner-active"
    assert desk.disclose(desk.hers, "root") == "ann"
    desk.end(desk.hers)
    assert desk.forget("ann") == 1
    assert refused(lambda: desk.disclose(desk.hers, "root")) == "owner-forgotten"
    assert refused(lambda: desk.forget("ann")) == "owner-unknown"


def test_the_rows_lose_the_names_in_memory_and_on_disk(desk: Desk) -> None:
    desk.end(desk.hers)
    desk.forget("ann")
    bare = LocalJob(name="", script="", stdout="o", stderr="e")
    assert desk.local[desk.hers] == bare
    key = f"{JOB_PREFIX}{desk.hers}"
    assert parse_local_job(desk.database.local_get(key) or b"", key) == bare
    for path in desk.database.path.parent.glob("db.sqlite*"):
        assert b"ann" * 9 not in path.read_bytes(), path
