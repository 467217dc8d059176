"""What the daemon does for and against the memory of its users: disclose one job, forget a user.

Only the daemon's own account and root may ask for either; a user may have its own jobs disclosed.
What is forgotten is what this centre alone knew: the user's key, and the names in the local rows of
its jobs. What was signed and shared holds no names and stays as it is, hashes and all.
"""

from __future__ import annotations

import os
import pwd
from collections.abc import Callable
from dataclasses import replace
from typing import Final

import trio

from p2pfed.core.blocks import decode_stored
from p2pfed.core.disclosure import Disclosure
from p2pfed.core.ids import FeedKey, JobId
from p2pfed.core.records import NO_OWNER, Job
from p2pfed.errors import StateError
from p2pfed.node.node import Node
from p2pfed.shell.localrows import JOB_PREFIX, LocalJob, dump_local_job
from p2pfed.shell.owners import Owners
from p2pfed.store.database import Database

_ROOT: Final = "root"


class Privacy:
    """Implements `p2pfed.shell.door.PrivacyDoor` for one daemon.

    Args:
        node: knows the live jobs.
        database: holds the blocks, and the local rows of jobs.
        owners: the users' keys.
        local: the local rows as they are in memory; changed here when a user is forgotten.
        account: the daemon's own account; by default that of this process.
    """

    def __init__(
        self,
        node: Node,
        database: Database,
        owners: Owners,
        local: dict[JobId, LocalJob],
        account: Callable[[], str] = lambda: pwd.getpwuid(os.geteuid()).pw_name,
    ) -> None:
        self._node = node
        self._database = database
        self._owners = owners
        self._local = local
        self._account = account

    async def disclose(self, job_id: JobId, *, who: str) -> Disclosure:
        """Who an own job is of, verifiably."""
        if job_id.centre != self._node.me.name:
            raise StateError(
                "job-not-own",
                f"job {job_id} is not of this centre",
                remedy=f"only {job_id.centre} can tell who it is of: ask there",
            )
        job = await trio.to_thread.run_sync(self._job, job_id)
        found = await trio.to_thread.run_sync(self._owners.disclose, job_id, job)
        self._check_may(who, own="" if found is None else found.user)
        if job.owner == NO_OWNER:
            raise StateError("owner-none", f"job {job_id} was posted for no user")
        if found is None:
            raise StateError(
                "owner-forgotten",
                f"the user of job {job_id} was forgotten here: nobody can tell who it was",
            )
        return found

    def _job(self, job_id: JobId) -> Job:
        entry = self._node.ledger.live.jobs.get(job_id)
        if entry is not None:
            return entry.job
        data = self._database.block(FeedKey(job_id.centre, job_id.epoch), job_id.seq_num)
        records = () if data is None else decode_stored(data).records
        record = records[job_id.record_index] if job_id.record_index < len(records) else None
        if not isinstance(record, Job):
            raise StateError(
                "job-unknown", f"there is no job {job_id}", remedy="see: p2pfed jobs --all"
            )
        return record

    async def forget(self, user: str, *, who: str) -> int:
        """Forgets a user for good; returns how many jobs' rows lost their names."""
        self._check_may(who)
        live = self._node.ledger.live
        rows = {job_id: job for job_id, job in self._local.items() if job.user == user}
        active = [j for j in rows if j in live.jobs and not live.judge(live.jobs[j]).state.final]
        if active:
            raise StateError(
                "owner-active",
                f"{len(active)} jobs of this user are not over, {min(active)} among them",
                remedy="wait for them, or cancel them: p2pfed cancel",
            )
        bare = {
            job_id: replace(job, user="", pseudonym="", name="", script="")
            for job_id, job in rows.items()
        }
        changed = [(f"{JOB_PREFIX}{job_id}", dump_local_job(job)) for job_id, job in bare.items()]
        await trio.to_thread.run_sync(self._database.local_erase, changed)
        self._local.update(bare)
        # Last, so that whatever stops this half-way, it can be asked for again.
        known = await trio.to_thread.run_sync(self._owners.forget, user)
        if not known and not rows:
            raise StateError("owner-unknown", "no job of that user was ever posted here")
        return len(rows)

    def _check_may(self, who: str, own: str = "") -> None:
        if who not in (self._account(), _ROOT) and not (own and who == own):
            raise StateError(
                "owner-denied",
                f"{who} may not ask who a job is of, nor have anybody forgotten",
                remedy=f"do it as {self._account()} or root",
            )
