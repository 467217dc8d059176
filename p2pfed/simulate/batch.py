"""Simulated batch systems: jobs that queue, run and end whether or not their daemon lives."""

from __future__ import annotations

import hashlib

from p2pfed.core.ids import ClaimId
from p2pfed.core.records import Outcome
from p2pfed.node.effects import CancelNative, ForgetClaim, ForgetPayload, SubmitNative, WatchNative
from p2pfed.node.events import NativeEnded, NativeNotFound, NativeRunning
from p2pfed.simulate.scene import Centre, Native, Run, Scene


class Batch:
    """The batch systems of all centres of a world."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene

    def perform(
        self,
        centre: Centre,
        effect: SubmitNative | WatchNative | CancelNative | ForgetClaim | ForgetPayload,
    ) -> None:
        """Does what a node wants of its batch system."""
        natives, now_ms = centre.disk.natives, self._scene.now_ms
        match effect:
            case ForgetPayload():
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
        assert effect.claim_id in centre.disk.payloads, "started without its payload"
        begins_ms = self._scene.now_ms + self._scene.rng.randint(0, 500)
        runs_ms = self._scene.rng.randint(200, effect.job.walltime_s * 1000)
        native = Native(effect.job, begins_ms, begins_ms + runs_ms)
        limit_ms = effect.kill_at_ms - centre.clock_offset_ms
        assert native.ends_ms <= limit_ms, "a native job would outlive its lease"
        centre.disk.natives[effect.native_name] = native
        run = Run(effect.claim_id, centre.name, native, limit_ms)
        self._scene.runs.setdefault(effect.job_id, []).append(run)

    def _watch(self, centre: Centre, claim_id: ClaimId, name: str) -> None:
        native, life = centre.disk.natives[name], centre.life

        def look() -> None:
            if centre.life != life:
                return
            if centre.disk.natives.get(name) is not native:
                self._scene.tell(centre.name, NativeNotFound(claim_id=claim_id))
                return
            if self._scene.now_ms < native.ends_ms:
                self._scene.at(native.ends_ms, look)
                return
            offset = centre.clock_offset_ms
            elapsed_s = -(-(native.ends_ms - native.begins_ms) // 1000)
            cores = native.job.nodes * native.job.cores_per_node
            self._scene.tell(
                centre.name,
                NativeEnded(
                    claim_id=claim_id,
                    outcome=native.outcome,
                    started_ms=native.begins_ms + offset,
                    ended_ms=native.ends_ms + offset,
                    core_s=max(0, elapsed_s) * cores,
                    result_digest=hashlib.sha256(name.encode()).digest(),
                    result_bytes=100,
                ),
            )

        native.look = look
        running = NativeRunning(claim_id=claim_id, started_ms=native.begins_ms)
        self._scene.later(centre, running)
        self._scene.at(native.ends_ms, look)
