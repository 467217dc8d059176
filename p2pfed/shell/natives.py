"""The batch system's side of the daemon: submits, watches, cancels, and brings results home.

Each claim that has started here is one `_Attempt`. One task polls the executor for all of them at
once, from a worker thread, often while something is young and rarely while nothing happens; a
changed state becomes an event. An error that may pass is tried again; a batch system that can't be
asked changes nothing. When a job is over, what its user asked for is copied from the working folder
into a result (`p2pfed.shell.archive`), published durably, and only then is the end reported: the
result digest stands in the End record.

Nothing here decides anything. What may start, and until when, comes with the effect; whether it did
start is the executor's word.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple, TypeVar, assert_never

import trio

from p2pfed.core.ids import ClaimId
from p2pfed.core.records import Job, Outcome
from p2pfed.errors import ExecutorError, InputError, P2pfedError, StorageError
from p2pfed.execute.interface import Executor, NativeJob, NativeState, NativeStatus
from p2pfed.execute.observation import Observation
from p2pfed.node.effects import (
    CancelNative,
    ForgetClaim,
    ForgetPayload,
    ForgetResult,
    SubmitNative,
    WatchNative,
)
from p2pfed.node.events import (
    Event,
    NativeEnded,
    NativeNotFound,
    NativeQueued,
    NativeRefused,
    NativeRunning,
)
from p2pfed.shell.archive import FILES, collect_result, load_archive, restore_files
from p2pfed.shell.bulk_client import CHECKPOINT
from p2pfed.shell.manifest import RunSpec
from p2pfed.store.spool import Spool

log = logging.getLogger("p2pfed.natives")
T = TypeVar("T")

POLL_FAST_S: Final = 0.1
"""Between polls while a job is young or being cancelled."""
POLL_SLOW_S: Final = 2.0
"""Between polls at most, while jobs only run."""
RETRY_S: Final = 2.0
"""After an error that may pass."""
WORK: Final = "work"
RESULT_STAGING: Final = "result-"


class Place(NamedTuple):
    """The queue that a guest runs in, and how its GPUs are asked for; empty: the executor's own."""

    queue: str = ""
    gpu_gres: str = ""


@dataclass(slots=True)
class _Attempt:
    """One started claim and what is known of its native job."""

    claim_id: ClaimId
    job: Job
    native: NativeJob
    run: RunSpec
    submitted: bool
    state: NativeState | None = None
    cancel: bool = False
    cancel_told: bool = False
    rest_until: float = 0.0


class Natives:
    """Performs the node's batch effects on one executor.

    Args:
        executor: the batch system.
        spool: where claims and results lie.
        events: where what happens is told.
        place: where guests run who came by the offer of this name.
        guest_uid: the account that guests run as, if it is not the daemon's.
    """

    def __init__(
        self,
        executor: Executor,
        spool: Spool,
        events: trio.MemorySendChannel[Event],
        place: Callable[[str], Place] = lambda _: Place(),
        guest_uid: int | None = None,
    ) -> None:
        self._guest_uid = guest_uid
        self._place = place
        self._executor = executor
        self._spool = spool
        self._events = events
        self._attempts: dict[ClaimId, _Attempt] = {}
        self._work = trio.Event()
        self._todo: list[
            SubmitNative | WatchNative | CancelNative | ForgetClaim | ForgetPayload | ForgetResult
        ]
        self._todo = []
        self._later: list[tuple[float, SubmitNative | WatchNative]] = []
        self._cancel_later: set[ClaimId] = set()
        self._lock = trio.Lock()

    @property
    def alive(self) -> int:
        """Native jobs that are not known to be over."""
        coming = [e for e in self._todo if isinstance(e, SubmitNative | WatchNative)]
        coming += [effect for _, effect in self._later]
        return len({e.claim_id for e in coming} | self._attempts.keys())

    def perform(self, effect: object) -> None:
        """Takes an effect of the node; returns at once."""
        if isinstance(
            effect,
            SubmitNative | WatchNative | CancelNative | ForgetClaim | ForgetPayload | ForgetResult,
        ):
            self._todo.append(effect)
            self._work.set()

    async def run(self) -> None:
        """Works until cancelled."""
        wait_s = POLL_FAST_S
        while True:
            waiting = self._attempts or self._later
            with trio.move_on_after(wait_s if waiting else float("inf")):
                await self._work.wait()
            self._work = trio.Event()
            busy = bool(self._todo)
            self._wake_later()
            while self._todo:
                await self._do(self._todo.pop(0))
            changed = await self._poll()
            wait_s = POLL_FAST_S if busy or changed else min(POLL_SLOW_S, wait_s * 1.5)

    def _wake_later(self) -> None:
        """Takes up again what has rested long enough; each rests for itself."""
        now = trio.current_time()
        self._todo += [effect for until, effect in self._later if until <= now]
        self._later = [(until, effect) for until, effect in self._later if until > now]

    # The batch system, one call at a time

    async def _call(self, function: Callable[..., T], *arguments: object) -> T:
        async with self._lock:
            return await trio.to_thread.run_sync(function, *arguments)

    async def observe(self) -> Observation:
        """What the batch system has, does and waits for.

        Raises:
            ExecutorError: it can't be asked now.
        """
        return await self._call(self._executor.observe)

    async def expected_start_s(
        self, *, queue: str, nodes: int, cores_per_node: int, walltime_s: int
    ) -> int | None:
        """When a guest's job of this size would begin; see `Executor.expected_start_s`.

        Raises:
            ExecutorError: it can't be asked now.
        """

        def ask() -> int | None:
            return self._executor.expected_start_s(
                queue=queue, nodes=nodes, cores_per_node=cores_per_node, walltime_s=walltime_s
            )

        return await self._call(ask)

    async def evict(self, name: str, notice_s: int) -> bool:
        """Sends a guest away by its native name; True if it was told, or is gone already."""
        attempt = next((a for a in self._attempts.values() if a.native.name == name), None)
        if attempt is not None:
            try:
                await self._call(self._executor.evict, attempt.native, notice_s)
            except ExecutorError as error:
                log.warning("can't send %s away: %s", name, error)
                return False
        return True

    # Effects

    async def _do(
        self,
        effect: SubmitNative
        | WatchNative
        | CancelNative
        | ForgetClaim
        | ForgetPayload
        | ForgetResult,
    ) -> None:
        match effect:
            case SubmitNative() | WatchNative():
                await self._take(effect)
            case CancelNative():
                attempt = self._attempts.get(effect.claim_id)
                if attempt is not None:
                    attempt.cancel = True
                    await self._cancel(attempt)
                elif any(e.claim_id == effect.claim_id for _, e in self._later):
                    self._cancel_later.add(effect.claim_id)
            case ForgetClaim():
                self._attempts.pop(effect.claim_id, None)
                self._cancel_later.discard(effect.claim_id)
                await self._remove(self._spool.claim(effect.claim_id))
                await self._remove(self._spool.staging(RESULT_STAGING + str(effect.claim_id)))
            case ForgetPayload():
                await self._remove(self._spool.payload(effect.payload_digest))
            case ForgetResult():
                await self._remove(self._spool.result(effect.claim_id))
            case _:
                assert_never(effect)

    async def _remove(self, path: Path) -> None:
        try:
            await trio.to_thread.run_sync(self._spool.remove, path)
        except StorageError as error:
            log.warning("%s", error)

    async def _take(self, effect: SubmitNative | WatchNative) -> None:
        if effect.claim_id in self._attempts:
            return
        begin_before_ms = effect.begin_before_ms if isinstance(effect, SubmitNative) else 0
        try:
            native, run = await trio.to_thread.run_sync(self._prepare, effect, begin_before_ms)
        except InputError as error:
            await self._has_no_folder(effect, error)
            return
        except (P2pfedError, OSError) as error:
            # While the disk does not answer, nobody may say that the job does not run.
            log.warning("will look at %s again: %s", effect.native_name, error)
            self._later.append((trio.current_time() + RETRY_S, effect))
            return
        submitted = isinstance(effect, WatchNative)
        attempt = _Attempt(effect.claim_id, effect.job, native, run, submitted)
        self._attempts[effect.claim_id] = attempt
        if effect.claim_id in self._cancel_later:
            self._cancel_later.discard(effect.claim_id)
            attempt.cancel = True
            await self._cancel(attempt)

    async def _has_no_folder(self, effect: SubmitNative | WatchNative, error: InputError) -> None:
        """Without its folder an attempt can't have begun; of one from a former life less is sure.

        The node waits with what it does about a job that was not found until it may be sure.
        """
        event: Event = NativeNotFound(claim_id=effect.claim_id)
        if isinstance(effect, SubmitNative):
            why = f"its folder can't be used: {error}"
            event = NativeRefused(claim_id=effect.claim_id, why=why)
        else:
            log.warning("%s has no folder any more: %s", effect.native_name, error)
        await self._events.send(event)

    def _prepare(
        self, effect: SubmitNative | WatchNative, begin_before_ms: int
    ) -> tuple[NativeJob, RunSpec]:
        """What the executor is told; turns the payload's files into the working folder."""
        folder = self._spool.claim(effect.claim_id)
        run = load_archive(folder).manifest.run
        if run is None:
            raise InputError("archive-run", "the payload names nothing to run", where=str(folder))
        if not (folder / WORK).exists():
            if (folder / CHECKPOINT).exists():
                restore_files(folder / CHECKPOINT, folder)
            (folder / FILES).rename(folder / WORK)
        job, place = effect.job, self._place(effect.offer)
        stdout, stderr = run.for_job(effect.job_id)
        native = NativeJob(
            name=effect.native_name,
            folder=folder,
            script=run.script,
            arguments=run.arguments,
            environment=run.environment,
            stdout=stdout,
            stderr=stderr,
            nodes=job.nodes,
            cores_per_node=job.cores_per_node,
            gpus_per_node=job.gpus_per_node,
            memory_mib_per_node=job.memory_mib_per_node,
            walltime_s=job.walltime_s,
            begin_before_ms=begin_before_ms,
            kill_at_ms=effect.kill_at_ms,
            queue=place.queue,
            gpu_gres=place.gpu_gres,
            signal=run.signal,
            signal_s=run.signal_s,
        )
        return native, run

    async def _submit(self, attempt: _Attempt) -> None:
        try:
            await self._call(self._executor.submit, attempt.native)
        except ExecutorError as error:
            if error.transient:
                log.warning("will submit %s again: %s", attempt.native.name, error)
                attempt.rest_until = trio.current_time() + RETRY_S
                return
            del self._attempts[attempt.claim_id]
            await self._events.send(NativeRefused(claim_id=attempt.claim_id, why=str(error)))
            return
        attempt.submitted = True

    async def _cancel(self, attempt: _Attempt) -> None:
        try:
            await self._call(self._executor.cancel, attempt.native)
        except ExecutorError as error:
            log.warning("can't cancel %s: %s", attempt.native.name, error)
        else:
            attempt.cancel_told = True

    # Polling

    async def _poll(self) -> bool:
        """Asks for the state of all attempts; returns True if one changed."""
        awake = [a for a in self._attempts.values() if a.rest_until <= trio.current_time()]
        for attempt in [a for a in awake if a.cancel and not a.cancel_told]:
            await self._cancel(attempt)
        for attempt in [a for a in awake if not a.submitted]:
            await self._submit(attempt)
        watched = [a for a in awake if a.submitted]
        if not watched:
            return False
        jobs = tuple(attempt.native for attempt in watched)
        try:
            found = await self._call(self._executor.poll, jobs)
        except ExecutorError as error:
            log.warning("%s", error)
            return False
        changed = False
        for attempt in watched:
            status = found.get(attempt.native.name)
            if status is not None and status.state is not attempt.state:
                changed = True
                await self._report(attempt, status)
            elif attempt.cancel:
                changed = True
        return changed

    async def _report(self, attempt: _Attempt, status: NativeStatus) -> None:
        claim_id = attempt.claim_id
        match status.state:
            case NativeState.QUEUED:
                await self._events.send(NativeQueued(claim_id=claim_id))
            case NativeState.RUNNING:
                event = NativeRunning(claim_id=claim_id, started_ms=status.started_ms)
                await self._events.send(event)
            case NativeState.NOT_FOUND:
                del self._attempts[claim_id]
                await self._events.send(NativeNotFound(claim_id=claim_id))
                return
            case NativeState.ENDED:
                await self._ended(attempt, status)
                return
            case _:
                assert_never(status.state)
        attempt.state = status.state

    async def _ended(self, attempt: _Attempt, status: NativeStatus) -> None:
        """Collects the result, then reports the end; a disk that refuses is tried again."""
        digest, size = bytes(32), 0
        cut_short = status.outcome is Outcome.PREEMPTED
        if (attempt.native.folder / WORK).is_dir() and (attempt.run.checkpoint or not cut_short):
            try:
                wanted = attempt.run.checkpoint if cut_short else attempt.run.fetch
                digest, size = await trio.to_thread.run_sync(self._collect, attempt, wanted)
            except (P2pfedError, OSError) as error:
                log.error("can't collect the result of %s: %s", attempt.native.name, error)
                attempt.rest_until = trio.current_time() + RETRY_S
                return
        del self._attempts[attempt.claim_id]
        elapsed_s = -(-max(0, status.ended_ms - status.started_ms) // 1000)
        job = attempt.job
        await self._events.send(
            NativeEnded(
                claim_id=attempt.claim_id,
                outcome=status.outcome or Outcome.NODE_FAILURE,
                exit_code=status.exit_code,
                signal=status.signal,
                started_ms=status.started_ms,
                ended_ms=status.ended_ms,
                core_s=elapsed_s * job.nodes * job.cores_per_node,
                gpu_s=elapsed_s * job.nodes * job.gpus_per_node,
                memory_mib_max=status.memory_mib_max,
                result_digest=digest,
                result_bytes=size,
            )
        )

    def _collect(self, attempt: _Attempt, wanted: tuple[str, ...]) -> tuple[bytes, int]:
        """Makes the result of an ended attempt durable; returns its digest and size."""
        final = attempt.native.folder / "result"
        if not final.exists():
            staged = self._spool.staging(RESULT_STAGING + str(attempt.claim_id))
            collect_result(
                attempt.native.folder / WORK,
                staged,
                stdout=attempt.native.stdout,
                stderr=attempt.native.stderr,
                fetch=wanted,
                guest_uid=self._guest_uid,
            )
            self._spool.publish(staged, final)
        sealed = load_archive(final)
        return sealed.digest, sealed.manifest.total_bytes
