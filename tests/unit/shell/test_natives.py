"""The batch side of the daemon: every attempt is told of, and none holds up another."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import trio
import trio.testing

from p2pfed.core.ids import CentreName, ClaimId, JobId, Position
from p2pfed.core.records import Job, Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import Capacity, NativeJob, NativeState, NativeStatus
from p2pfed.execute.observation import Observation
from p2pfed.node.effects import CancelNative, SubmitNative
from p2pfed.node.events import Event, NativeEnded, NativeRefused, NativeRunning
from p2pfed.shell.archive import load_archive, pack_payload
from p2pfed.shell.manifest import RunSpec
from p2pfed.shell.natives import Natives
from p2pfed.store.spool import Spool

DEADLINE_S = 20
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=2,
    memory_mib_per_node=100,
    walltime_s=60,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)


class Scripted:
    """A batch system that says of each job what the test wrote down for it."""

    def __init__(self) -> None:
        self.refusals: dict[str, ExecutorError] = {}
        self.states: dict[str, list[NativeStatus]] = {}
        self.submitted: list[str] = []
        self.cancelled: list[str] = []
        self.away = 0
        self.done = trio.Event()

    def submit(self, job: NativeJob) -> None:
        if job.name in self.refusals:
            raise self.refusals[job.name]
        self.submitted.append(job.name)

    def poll(self, jobs: tuple[NativeJob, ...]) -> dict[str, NativeStatus]:
        found = {}
        for job in jobs:
            script = self.states.get(job.name, [])
            if script:
                found[job.name] = script.pop(0) if len(script) > 1 else script[0]
        return found

    def cancel(self, job: NativeJob) -> None:
        if self.away:
            self.away -= 1
            raise ExecutorError("batch-away", "it is away", transient=True)
        self.cancelled.append(job.name)
        trio.from_thread.run_sync(self.done.set)

    def evict(self, job: NativeJob, notice_s: int) -> None:
        self.submitted.remove(job.name)

    def observe(self) -> Observation:
        return Observation(nodes=())

    def expected_start_s(
        self, *, queue: str, nodes: int, cores_per_node: int, walltime_s: int
    ) -> int | None:
        return None

    def capacity(self) -> Capacity:
        return Capacity(nodes=1, cores_per_node=4, gpus_per_node=0, memory_mib_per_node=1000)


def started(spool: Spool, number: int) -> SubmitNative:
    """An attempt whose payload is in the spool and whose Start is durable."""
    claim_id = ClaimId(Position(CentreName("alpha"), 0, number, 0))
    staged, source = spool.staging(f"p{number}"), spool.root / f"source{number}"
    source.mkdir()
    (source / "job.sh").write_text("#!/bin/sh\n")
    pack_payload(source, staged, RunSpec(script="job.sh"))
    spool.publish(staged, spool.claim(claim_id))
    return SubmitNative(
        claim_id=claim_id,
        native_name=f"job-{number}",
        job_id=JobId(Position(CentreName("alpha"), 0, number - 1, 0)),
        job=JOB,
        begin_before_ms=10**15,
        kill_at_ms=10**15,
    )


def ended(name: str, exit_code: int) -> list[NativeStatus]:
    """A job that is first seen running and then over, after three seconds."""
    return [
        NativeStatus(name=name, state=NativeState.RUNNING, started_ms=1_000),
        NativeStatus(
            name=name,
            state=NativeState.ENDED,
            started_ms=1_000,
            ended_ms=3_500,
            outcome=Outcome.FAILED if exit_code else Outcome.COMPLETED,
            exit_code=exit_code,
        ),
    ]


async def told(executor: Scripted, spool: Spool, effects: list[SubmitNative]) -> list[Event]:
    """What the node is told until an attempt has come to its end."""
    send, receive = trio.open_memory_channel[Event](100)
    natives = Natives(executor, spool, send)
    found: list[Event] = []
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(natives.run)
            for effect in effects:
                natives.perform(effect)
            async for event in receive:
                found.append(event)
                if isinstance(event, NativeEnded | NativeRefused):
                    break
            nursery.cancel_scope.cancel()
    return found


async def test_a_job_is_seen_to_run_and_its_end_brings_its_result(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    executor.states["job-7"] = ended("job-7", 3)
    effect = started(spool, 7)
    running, end = await told(executor, spool, [effect])
    assert running == NativeRunning(claim_id=effect.claim_id, started_ms=1_000)
    assert isinstance(end, NativeEnded)
    assert (end.outcome, end.exit_code) == (Outcome.FAILED, 3)
    assert end.core_s == 6, "two cores for two and a half seconds, rounded up"
    result = load_archive(spool.claim(effect.claim_id) / "result")
    assert result.digest == end.result_digest


async def test_an_attempt_that_must_wait_holds_up_no_other(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    executor.refusals["job-7"] = ExecutorError("batch-away", "it is away", transient=True)
    executor.states["job-9"] = ended("job-9", 0)
    events = await told(executor, spool, [started(spool, 7), started(spool, 9)])
    assert executor.submitted == ["job-9"]
    assert isinstance(events[-1], NativeEnded)
    assert events[-1].outcome is Outcome.COMPLETED


async def test_what_the_batch_system_refuses_for_good_is_told_at_once(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    executor.refusals["job-7"] = ExecutorError("batch-refused", "no such partition")
    (refused,) = await told(executor, spool, [started(spool, 7)])
    assert isinstance(refused, NativeRefused)
    assert "no such partition" in refused.why


async def test_without_its_folder_an_attempt_is_given_up(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    effect = started(spool, 7)
    shutil.rmtree(spool.claim(effect.claim_id))
    (refused,) = await told(executor, spool, [effect])
    assert isinstance(refused, NativeRefused)
    assert not executor.submitted


async def test_a_cancel_that_could_not_be_told_is_told_again(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    executor.away = 2
    executor.states["job-7"] = ended("job-7", 0)[:1]
    effect = started(spool, 7)
    cancel = CancelNative(claim_id=effect.claim_id, native_name="job-7")
    await until_cancelled(executor, spool, [effect, cancel])
    assert executor.cancelled == ["job-7"]


async def test_a_cancel_outlives_a_folder_that_can_not_be_read_yet(tmp_path: Path) -> None:
    spool, executor = Spool(tmp_path), Scripted()
    executor.states["job-7"] = ended("job-7", 0)[:1]
    effect = started(spool, 7)
    work = spool.claim(effect.claim_id) / "files"
    work.rename(tmp_path / "aside")  # its rename to the working folder fails until it is back

    def mend() -> None:
        (tmp_path / "aside").rename(work)

    cancel = CancelNative(claim_id=effect.claim_id, native_name="job-7")
    await until_cancelled(executor, spool, [effect, cancel], mend)
    assert executor.cancelled == ["job-7"]


async def until_cancelled(
    executor: Scripted,
    spool: Spool,
    effects: list[SubmitNative | CancelNative],
    mend: Callable[[], None] = lambda: None,
) -> None:
    """Performs the effects, mends what is broken after the first try, and awaits the cancel."""
    send, _ = trio.open_memory_channel[Event](100)
    natives = Natives(executor, spool, send)
    for effect in effects:
        natives.perform(effect)
    with trio.fail_after(DEADLINE_S):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(natives.run)
            await trio.testing.wait_all_tasks_blocked(0.05)
            mend()
            await executor.done.wait()
            nursery.cancel_scope.cancel()
