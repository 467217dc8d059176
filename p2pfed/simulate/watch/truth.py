"""What really ran, by the batch systems alone: no ledger is asked.

Invariants 1 and 2: no native job begins while another of the same job may still run, none is
submitted twice, and what runs at a host at any moment fits what its administrator offered. A
partition changes nothing of that: the bound of what is allocated beyond capacity is nought, because
only its owner grants it.
"""

from __future__ import annotations

from itertools import pairwise

from p2pfed.core.ids import ClaimId
from p2pfed.node.effects import SubmitNative
from p2pfed.simulate.natives import Native, Run
from p2pfed.simulate.scene import Centre, Scene


class Truth:
    """Watches every batch system of a world."""

    def __init__(self, scene: Scene) -> None:
        self._scene = scene
        self._submitted: set[ClaimId] = set()

    def submitted(self, centre: Centre, effect: SubmitNative) -> None:
        """After a daemon has submitted a job."""
        if not centre.honest:
            return
        hold, claim_id = self._scene.hold, effect.claim_id
        hold(claim_id not in self._submitted, f"claim {claim_id} was submitted twice")
        self._submitted.add(claim_id)
        mine = [run for run in self.runs_of(effect) if run.claim_id == claim_id]
        if not mine:
            return
        self._fits(centre, mine[0].native)
        if not self._scene.centres[effect.job_id.centre].honest:
            return
        for other in self.runs_of(effect):
            over = other is mine[0] or other.native.ends_ms <= mine[0].native.begins_ms
            where = f"at {centre.name} while it may run at {other.host}"
            hold(over, f"{effect.job_id} begins {where}")

    def runs_of(self, effect: SubmitNative) -> list[Run]:
        """What was submitted of the job so far."""
        return self._scene.runs.get(effect.job_id, [])

    def _fits(self, centre: Centre, new: Native) -> None:
        """Whether there is room for a job at every moment at which it may run."""
        granted = [o for n, o in centre.granted.items() if isinstance(centre.replies.get(n), str)]
        cores = sum(offer.nodes * offer.cores_per_node for offer in granted)
        memory_mib = sum(offer.nodes * offer.memory_mib_per_node for offer in granted)
        natives = list(centre.disk.natives.values())
        moments = [new.begins_ms] + [n.begins_ms for n in natives if new.runs_at(n.begins_ms)]
        for moment_ms in moments:
            jobs = [n.job for n in natives if n.runs_at(moment_ms)]
            used = sum(job.nodes * job.cores_per_node for job in jobs)
            used_mib = sum(job.nodes * job.memory_mib_per_node for job in jobs)
            fits = used <= cores and used_mib <= memory_mib
            self._scene.hold(fits, f"{centre.name} runs {used} cores of {cores} that it offers")

    def at_the_end(self) -> None:
        """All that ran of each job ran one after another."""
        for job_id, runs in sorted(self._scene.runs.items()):
            honest = [run for run in runs if self._scene.centres[run.host].honest]
            if not self._scene.centres[job_id.centre].honest:
                continue
            claims = [run.claim_id for run in honest]
            self._scene.hold(len(set(claims)) == len(claims), f"{job_id} ran twice for one claim")
            ordered = sorted(honest, key=lambda run: (run.native.begins_ms, run.claim_id))
            for before, after in pairwise(ordered):
                over = before.native.ends_ms <= after.native.begins_ms
                self._scene.hold(over, f"{job_id} ran at {before.host} and {after.host} at a time")
