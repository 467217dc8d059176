"""Simulated batch systems: jobs that queue, run and end whether or not their daemon lives.

They are what the rules of a site make of one: a job begins only while it can be over in time
(the wrapper sees to that), it is ended by its limit, and one that the batch system does not know
never begins, because the daemon took its start marker. They may queue for long, forget what waits,
lose a node, say that a job is over more than once, or measure nonsense. What they say is then not
what was; `Native` holds what was.
"""

from __future__ import annotations

import hashlib
from dataclasses import replace

from p2pfed.core.ids import ClaimId
from p2pfed.core.records import Outcome
from p2pfed.node.effects import (
    CancelNative,
    ForgetClaim,
    ForgetPayload,
    ForgetResult,
    SubmitNative,
    WatchNative,
)
from p2pfed.node.events import Event, NativeEnded, NativeNotFound, NativeQueued, NativeRunning
from p2pfed.simulate.natives import Native, Run
from p2pfed.simulate.scene import Centre, Scene


class Batch:
    """The batch systems of all centres of a world."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def perform(
        self,
        centre: Centre,
        effect: SubmitNative
        | WatchNative
        | CancelNative
        | ForgetClaim
        | ForgetPayload
        | ForgetResult,
    ) -> None:
        """Does what a node wants of its batch system."""
        natives, now_ms = centre.disk.natives, self._scene.now_ms
        match effect:
            case ForgetPayload() | ForgetResult():
                pass
            case ForgetClaim():
                centre.disk.payloads.discard(effect.claim_id)
            case SubmitNative():
                if effect.native_name not in natives:
                    self._submit(centre, effect)
                self._watch(centre, effect.claim_id, effect.native_name)
            case WatchNative():
                if effect.native_name in natives:
                    self._watch(centre, effect.claim_id, effect.native_name)
                else:
                    self._scene.later(centre, NativeNotFound(claim_id=effect.claim_id))
            case CancelNative():
                native = natives.get(effect.native_name)
                if native is not None and native.ends_ms > now_ms:
                    native.ends_ms = now_ms + 10
                    native.begins_ms = min(native.begins_ms, native.ends_ms)
                    native.outcome = Outcome.CANCELLED
                    self._scene.at(native.ends_ms, native.look)

    def forget(self, centre: Centre, name: str) -> None:
        """Loses a job that has not begun: the daemon finds out when it asks."""
        native = centre.disk.natives.pop(name)
        for runs in self._scene.runs.values():
            runs[:] = [run for run in runs if run.native is not native]
        self._scene.soon(native.look)

    def fail(self, centre: Centre, name: str) -> None:
        """Ends a running job at once, by no doing of its own."""
        native = centre.disk.natives[name]
        native.ends_ms, native.outcome = self._scene.now_ms, Outcome.NODE_FAILURE
        self._scene.at(native.ends_ms, native.look)

    def _submit(self, centre: Centre, effect: SubmitNative) -> None:
        scene = self._scene
        assert effect.claim_id in centre.disk.payloads, "started without its payload"
        begins_ms = scene.now_ms + scene.rng.randint(*scene.faults.queue_ms)
        ends_ms = begins_ms + scene.rng.randint(200, effect.job.walltime_s * 1000)
        native = Native(effect.job, begins_ms, ends_ms)
        offset_ms = scene.offset_ms(centre)
        limit_ms = effect.kill_at_ms - offset_ms
        centre.disk.natives[effect.native_name] = native
        if begins_ms + offset_ms > effect.begin_before_ms:
            # The wrapper looks at the clock, and goes.
            native.ends_ms, native.outcome = begins_ms, Outcome.NOT_STARTED
            return
        if ends_ms > limit_ms:
            native.ends_ms, native.outcome = limit_ms, Outcome.TIMEOUT
        run = Run(effect.claim_id, centre.name, native, limit_ms)
        scene.runs.setdefault(effect.job_id, []).append(run)

    def _watch(self, centre: Centre, claim_id: ClaimId, name: str) -> None:
        native, life = centre.disk.natives[name], centre.life
        scene = self._scene

        def look() -> None:
            if centre.life != life:
                return
            if centre.disk.natives.get(name) is not native:
                scene.tell(centre.name, NativeNotFound(claim_id=claim_id))
            elif scene.now_ms < native.ends_ms:
                scene.at(native.ends_ms, look)
            else:
                for event in self._report(centre, claim_id, name, native):
                    scene.tell(centre.name, event)

        native.look = look
        waits = native.begins_ms > scene.now_ms
        running = NativeRunning(claim_id=claim_id, started_ms=native.begins_ms)
        scene.later(centre, NativeQueued(claim_id=claim_id) if waits else running)
        scene.at(native.ends_ms, look)

    def _report(
        self, centre: Centre, claim_id: ClaimId, name: str, native: Native
    ) -> tuple[Event, ...]:
        """What a batch system says of a job that is over; not always once, nor the truth."""
        offset_ms = self._scene.offset_ms(centre)
        elapsed_s = -(-(native.ends_ms - native.begins_ms) // 1000)
        ended = NativeEnded(
            claim_id=claim_id,
            outcome=native.outcome,
            started_ms=native.begins_ms + offset_ms,
            ended_ms=native.ends_ms + offset_ms,
            core_s=max(0, elapsed_s) * native.job.nodes * native.job.cores_per_node,
            result_digest=hashlib.sha256(name.encode()).digest(),
            result_bytes=100,
        )
        if not self._scene.happens(self._scene.faults.lie_per_mille):
            return (ended,)
        lie = self._scene.rng.randrange(4)
        self._scene.log(centre.name, "lie", lie, claim_id)
        if lie == 0:
            return ended, replace(ended, outcome=Outcome.FAILED, exit_code=9)
        if lie == 1:
            return ended, NativeNotFound(claim_id=claim_id)
        native.lied_about = True
        if lie == 2:
            return (replace(ended, core_s=ended.core_s * 1_000 + 7),)
        return (replace(ended, started_ms=ended.ended_ms, ended_ms=ended.started_ms - 5_000),)
