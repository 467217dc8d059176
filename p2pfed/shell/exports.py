"""Local jobs that go out to the federation, and come back as if they had run here.

A loop looks at the queue every `interval`. What may go out (`p2pfed.shell.exporting`) is posted as
a job that has a sibling; the row that links both is stored in one transaction with the Job, so no
crash posts a local job twice. From then on:

- `SecureSibling` (a host asks for the payload): the local job is held and looked at, and looked at
  again `SAVED_S` later, since slurmctld writes its state a few seconds after it changed it, and one
  that is killed before forgets the hold. Only then is the node told that it is held. A job that has
  begun here meanwhile is no more to be had: the node takes its claim back.
- `FreeSibling`: our hold is lifted, and no other's.
- The local job begins, or its user cancels it: the copy is cancelled.
- The copy is over: its output is written where its user asked, as that user, then the local job is
  finished. If no host could run it, the local job is freed, to run here.

Every step can be repeated. What could not be done now is tried again at the next look.
"""

from __future__ import annotations

import logging
import pwd
import secrets
import shutil
from pathlib import Path
from typing import Final, Protocol

import trio

from p2pfed.core.ids import ClaimId, JobId
from p2pfed.core.lifecycle import HomePhase
from p2pfed.core.limits import ARCHIVE_MEMBERS_MAX, PAYLOAD_BYTES_MAX
from p2pfed.core.records import FINAL_OUTCOMES
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.execute.accounts import find_account
from p2pfed.execute.courier import Parcel, collect, deliver
from p2pfed.execute.slurm.localjobs import HELD, MARK, LocalQueue, LocalRow
from p2pfed.node.effects import FreeSibling, SecureSibling
from p2pfed.node.events import CancelJob, SiblingDone, SiblingSecured
from p2pfed.shell.answers import JobDetail, JobResult, JobView
from p2pfed.shell.brain import Brain, wall_ms
from p2pfed.shell.directives import parse_wishes
from p2pfed.shell.door import Submission
from p2pfed.shell.exporting import (
    SCRIPT,
    Sibling,
    check_task,
    comment_of,
    end_of,
    kept_by,
    parse_sibling,
    request_of,
    user_may_go,
    waits_for_nodes,
    waits_long,
)
from p2pfed.shell.sections import ExportConfig

log = logging.getLogger("p2pfed.export")

SAVED_S: Final = 6.0
"""After this time slurmctld has saved what it was told (SAVE_MAX_WAIT is 5 s)."""
_FINAL_WORDS: Final = frozenset(o.name.lower().replace("_", "-") for o in FINAL_OUTCOMES)


_Key = tuple[str, int]
"""What tells a local job from all others: its id, which Slurm may use again, and its time."""


def _key(job: LocalRow | Sibling) -> _Key:
    return job.job_id, job.submit_s


class Keeper(Protocol):
    """What is needed of the door."""

    def staging(self) -> Path:
        """A folder for incoming files."""

    async def submit(self, submission: Submission) -> JobView:
        """Posts a job."""

    def job(self, job_id: JobId) -> JobDetail:
        """One job."""

    def result(self, job_id: JobId) -> JobResult:
        """Where a result lies."""


class Exports:
    """Performs the effects about siblings, and looks after the jobs that are out.

    Args:
        queue: the local Slurm queue.
        brain: runs the node.
        keeper: posts jobs and knows their results.
        policy: what may go out; `reload` replaces it.
    """

    def __init__(
        self, queue: LocalQueue, brain: Brain, keeper: Keeper, policy: ExportConfig
    ) -> None:
        self._queue = queue
        self._brain = brain
        self._node = brain.node
        self._keeper = keeper
        self._policy = policy
        self._todo: list[SecureSibling | FreeSibling] = []
        self._wake = trio.Event()
        self._securing: dict[JobId, tuple[ClaimId, float]] = {}
        self._free: set[JobId] = set()
        self._held: set[JobId] = set()
        self._comments: dict[JobId, str] = {}
        self._stays: set[_Key] = set()
        self._told: dict[_Key, str] = {}

    def reload(self, policy: ExportConfig) -> None:
        """Goes by a policy that was read again."""
        self._policy = policy
        self._stays.clear()
        self._told.clear()

    def perform(self, effect: object) -> None:
        """Takes an effect of the node; returns at once."""
        if isinstance(effect, SecureSibling | FreeSibling):
            self._todo.append(effect)
            self._wake.set()

    async def run(self) -> None:
        """Works until cancelled."""
        await self._brain.ready.wait()
        look_s = trio.current_time()
        while True:
            due = [at for _, at in self._securing.values()]
            with trio.move_on_at(min([look_s, *due])):
                await self._wake.wait()
            self._wake = trio.Event()
            while self._todo:
                await self._do(self._todo.pop(0))
            await self._confirm()
            if trio.current_time() >= look_s:
                look_s = trio.current_time() + self._policy.interval_s
                try:
                    await self._look()
                except P2pfedError as error:
                    log.warning("can't look at the local queue now: %s", error)

    def _sibling(self, job_id: JobId) -> Sibling | None:
        data = self._node.home.siblings.known.get(job_id)
        return None if data is None else parse_sibling(data)

    async def _row(self, sibling: Sibling) -> LocalRow | None:
        rows = await trio.to_thread.run_sync(self._queue.rows, (sibling.job_id,))
        row = rows.get(sibling.job_id)
        return row if row is not None and sibling.is_row(row) else None

    # Holding and freeing

    async def _do(self, effect: SecureSibling | FreeSibling) -> None:
        sibling = self._sibling(effect.job_id)
        if isinstance(effect, FreeSibling):
            self._securing.pop(effect.job_id, None)
            self._free.add(effect.job_id)
            try:
                await self._free_all()
            except P2pfedError as error:
                log.warning("can't free the local job of %s now: %s", effect.job_id, error)
            return
        self._free.discard(effect.job_id)
        try:
            held = sibling is not None and await self._hold(effect.job_id, sibling)
        except P2pfedError as error:
            log.warning("can't hold local job of %s: %s", effect.job_id, error)
            await self._answer(effect.claim_id, held=False, again=True)
            return
        if held:
            self._securing[effect.job_id] = effect.claim_id, trio.current_time() + SAVED_S
        else:
            await self._answer(effect.claim_id, held=False)

    async def _hold(self, job_id: JobId, sibling: Sibling) -> bool:
        """Holds the local job; True if it is held now."""
        row = await self._row(sibling)
        if row is None or not row.pending:
            return False
        comment = comment_of(self._keeper.job(job_id)["job"])
        self._held.add(job_id)
        self._comments[job_id] = comment + HELD
        await trio.to_thread.run_sync(self._queue.hold, sibling.job_id, comment)
        row = await self._row(sibling)
        return row is not None and row.held

    async def _confirm(self) -> None:
        """Tells the node of the holds that stood long enough."""
        for job_id, (claim_id, due_s) in list(self._securing.items()):
            if due_s > trio.current_time():
                continue
            del self._securing[job_id]
            sibling = self._sibling(job_id)
            try:
                row = None if sibling is None else await self._row(sibling)
            except P2pfedError as error:
                log.warning("can't look at the local job of %s: %s", job_id, error)
                await self._answer(claim_id, held=False, again=True)
                continue
            if row is not None and row.pending and not row.held:
                await self._answer(claim_id, held=False, again=True)
            else:
                await self._answer(claim_id, held=row is not None and row.held)

    async def _answer(self, claim_id: ClaimId, *, held: bool, again: bool = False) -> None:
        event = SiblingSecured(claim_id=claim_id, held=held, again=again)
        await self._brain.events.send(event)

    async def _free_all(self) -> None:
        for job_id in sorted(self._free):
            sibling = self._sibling(job_id)
            row = None if sibling is None else await self._row(sibling)
            if row is not None:
                comment = comment_of(self._keeper.job(job_id)["job"])
                await trio.to_thread.run_sync(self._queue.free, row, comment)
                self._comments[job_id] = comment
            self._held.discard(job_id)
            self._free.discard(job_id)

    # The look

    async def _look(self) -> None:
        await self._free_all()
        known = {job_id: self._sibling(job_id) for job_id in self._node.home.siblings.known}
        siblings = {job_id: sibling for job_id, sibling in known.items() if sibling is not None}
        ids = tuple(sorted({sibling.job_id for sibling in siblings.values()}))
        rows = await trio.to_thread.run_sync(self._queue.rows, ids)
        for job_id in sorted(siblings):
            sibling = siblings[job_id]
            row = rows.get(sibling.job_id)
            row = row if row is not None and sibling.is_row(row) else None
            try:
                await self._follow(job_id, sibling, row)
            except (P2pfedError, OSError) as error:
                log.warning("can't follow local job %s now: %s", sibling.job_id, error)
        if self._policy.partitions:
            await self._send_out({_key(s) for s in siblings.values()})

    async def _follow(self, job_id: JobId, sibling: Sibling, row: LocalRow | None) -> None:
        view = self._keeper.job(job_id)["job"]
        if view["final"]:
            if view["result"] != "waiting":
                await self._finish(job_id, sibling, row, view)
            return
        if row is None or not row.pending:
            if row is not None and row.active and self._handed(job_id):
                log.error("local job %s began although it was held: %s", row.job_id, job_id)
            await self._cancel(job_id)
            return
        handed = self._handed(job_id)
        if handed and not row.held:
            log.error("the hold of local job %s is gone; it is held again", row.job_id)
            await self._hold(job_id, sibling)
        comment = comment_of(view) + (HELD if handed or job_id in self._held else "")
        await self._say(job_id, sibling, comment)

    async def _say(self, job_id: JobId, sibling: Sibling, comment: str) -> None:
        if self._comments.get(job_id) != comment:
            await trio.to_thread.run_sync(self._queue.comment, sibling.job_id, comment)
            self._comments[job_id] = comment

    def _handed(self, job_id: JobId) -> bool:
        """True while a host has the copy."""
        live = self._node.ledger.live
        verdict = live.judge(live.jobs[job_id])
        bound = None if verdict.live is None else live.claims[verdict.live]
        return bound is not None and bound.phase is HomePhase.HANDED

    async def _cancel(self, job_id: JobId) -> None:
        if self._node.ledger.live.jobs[job_id].cancelled:
            return
        try:
            await self._brain.ask(lambda n: CancelJob(request=n, job_id=job_id))
        except StateError as error:
            if error.code != "job-final":
                raise

    # The end

    async def _finish(
        self, job_id: JobId, sibling: Sibling, row: LocalRow | None, view: JobView
    ) -> None:
        """Brings home what the copy left, ends the local job, and forgets the link."""
        ran = view["outcome"] in _FINAL_WORDS
        if row is not None and row.pending:
            if ran or view["state"] == "cancelled":
                await self._deliver_once(job_id, sibling, view)
                await trio.to_thread.run_sync(self._queue.finish, sibling.job_id)
            else:
                comment = f"stays here: no host could run it, as {job_id}"
                await trio.to_thread.run_sync(self._queue.free, row, comment)
                await trio.to_thread.run_sync(self._queue.comment, sibling.job_id, comment)
                self._stays.add(_key(sibling))
        elif ran and view["result"] == "ready" and (row is None or not row.active):
            await self._deliver(job_id, sibling)
        await self._brain.ask(lambda n: SiblingDone(request=n, job_id=job_id))
        self._comments.pop(job_id, None)
        self._held.discard(job_id)
        log.info("local job %s is done: %s", sibling.job_id, end_of(view))

    async def _deliver_once(self, job_id: JobId, sibling: Sibling, view: JobView) -> None:
        """The comment that tells the end is written after delivery, so that it is not repeated."""
        comment = end_of(view)
        details = await trio.to_thread.run_sync(self._queue.details, sibling.job_id)
        if details.comment == MARK + comment:
            return
        if view["result"] == "ready":
            await self._deliver(job_id, sibling)
        await trio.to_thread.run_sync(self._queue.comment, sibling.job_id, comment)

    async def _deliver(self, job_id: JobId, sibling: Sibling) -> None:
        result = self._keeper.result(job_id)
        parcels = parcels_of(result, sibling)
        account = find_account(sibling.user)
        await trio.to_thread.run_sync(deliver, account, parcels)

    # Going out

    async def _send_out(self, known: set[_Key]) -> None:
        rows = await trio.to_thread.run_sync(self._queue.waiting, self._policy.partitions)
        now_s = wall_ms() // 1000
        listed = {_key(row) for row in rows}
        self._stays &= listed
        self._told = {key: why for key, why in self._told.items() if key in listed}
        room = self._policy.most - len(known)
        for row in rows:
            if _key(row) in known | self._stays or not waits_long(row, self._policy, now_s):
                continue
            why = kept_by(row, self._policy)
            if why:
                await self._tell_kept(row, why)
            elif room > 0 and self._node.recovery.ready and waits_for_nodes(row):
                room -= 1
                await self._try_to_send(row)

    async def _try_to_send(self, row: LocalRow) -> None:
        try:
            await self._send(row)
        except InputError as error:
            self._stays.add(_key(row))
            log.info("local job %s stays here: %s", row.job_id, error)
            text = f"stays here: {error.what}"[:200]
            await trio.to_thread.run_sync(self._queue.comment, row.job_id, text)
        except (P2pfedError, OSError) as error:
            log.warning("can't send local job %s out now: %s", row.job_id, error)

    async def _tell_kept(self, row: LocalRow, why: str) -> None:
        """Tells once why a job stays, in the log and, unless its user wrote one, its comment."""
        if self._told.get(_key(row)) == why:
            return
        self._told[_key(row)] = why
        log.info("local job %s stays for now: %s", row.job_id, why)
        try:
            details = await trio.to_thread.run_sync(self._queue.details, row.job_id)
            if details.comment in ("", "(null)") or details.comment.startswith(MARK):
                text = f"stays for now: {why}"
                await trio.to_thread.run_sync(self._queue.comment, row.job_id, text)
        except P2pfedError as error:
            log.warning("can't tell that local job %s stays: %s", row.job_id, error)

    async def _send(self, row: LocalRow) -> None:
        details = await trio.to_thread.run_sync(self._queue.details, row.job_id)
        try:
            user = pwd.getpwuid(row.uid).pw_name
        except KeyError:
            raise InputError("export-user", f"no account has the number {row.uid}") from None
        if details.comment.startswith(f"{MARK}stays here") or not user_may_go(user, self._policy):
            self._stays.add(_key(row))
            return
        script = await trio.to_thread.run_sync(self._queue.script, row.job_id)
        wishes = parse_wishes(script)
        if wishes.local:
            raise InputError("export-local", "its user said #P2PFED --local")
        check_task(row, details, script)
        request = request_of(row, details, wishes, self._policy)
        folder = self._keeper.staging() / f"export-{secrets.token_hex(8)}"
        sibling = Sibling(
            job_id=row.job_id,
            submit_s=row.submit_s,
            user=user,
            folder=details.folder,
            stdout=details.stdout,
            stderr=details.stderr,
        )
        try:
            await trio.to_thread.run_sync(_stage, folder, script, sibling, wishes.inputs)
            submission = Submission(
                request=request, folder=folder, sibling=sibling.dump(), user=user
            )
            view = await self._keeper.submit(submission)
        except BaseException:
            shutil.rmtree(folder, ignore_errors=True)
            raise
        log.info("local job %s of %s is out as %s", row.job_id, user, view["job_id"])


def _stage(folder: Path, script: bytes, sibling: Sibling, inputs: tuple[str, ...]) -> None:
    """Puts script and inputs into a new folder; runs in a worker thread."""
    folder.mkdir(mode=0o700)
    collect(
        find_account(sibling.user),
        sibling.folder,
        inputs,
        folder,
        files_max=ARCHIVE_MEMBERS_MAX - 1,
        bytes_max=PAYLOAD_BYTES_MAX - len(script),
    )
    try:
        with (folder / SCRIPT).open("xb") as file:
            file.write(script)
    except FileExistsError:
        raise InputError("export-input", f"an input is named {SCRIPT}, as the script is") from None


def parcels_of(result: JobResult, sibling: Sibling) -> list[Parcel]:
    """Where each file of a result goes.

    The streams go where Slurm would have put them, the rest to the folder of the submission.
    """
    found = []
    streams = {sibling.stdout: [result.stdout], sibling.stderr: [result.stderr]}
    if sibling.stdout == sibling.stderr:
        streams = {sibling.stdout: [result.stdout, result.stderr]}
    there = {file.path for file in result.files}
    for path, names in streams.items():
        parts = tuple(result.folder / name for name in names if name in there)
        if parts and path.startswith("/") and not path.startswith("/dev/"):
            found.append(Parcel(path=path, parts=parts))
    for file in result.files:
        if file.path not in (result.stdout, result.stderr, SCRIPT):
            source = result.folder / file.path
            executable = bool(source.stat().st_mode & 0o100)
            target = f"{sibling.folder}/{file.path}"
            found.append(Parcel(path=target, parts=(source,), executable=executable))
    return found
