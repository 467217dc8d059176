"""What this centre's own people may order at any moment, with every peer away.

Orders go to the node as events and return when they are durable. Who gave one is the account at the
other end of the control socket, as the kernel says.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import cast

import trio

from p2pfed.core.ids import CentreName, ClaimId, JobId
from p2pfed.errors import StateError
from p2pfed.execute.interface import Executor, NativeRun
from p2pfed.node.admission import Mode
from p2pfed.node.control import DECISIONS
from p2pfed.node.events import AnswerRequest, BlockCentre, HoldJob, SetMode
from p2pfed.shell.answers import BlockView, ControlView, DecisionView, ReconcileView, RequestView
from p2pfed.shell.brain import Brain, wall_ms
from p2pfed.shell.reconciling import compare, hosted_claims
from p2pfed.store.database import Database


class LocalControl:
    """Implements `p2pfed.shell.door.ControlDoor` for one daemon.

    Args:
        brain: runs the node.
        database: holds the rows with the decisions, and the blocks.
        executor: the batch system.
        guests: how many native jobs of guests are not known to be over.
        reload: reads `centre.toml` again, by order of the account that it is given; returns the
            keys that only a restart applies.
        resumed: opens the offers that shall be open, when guests are wanted again.
    """

    def __init__(
        self,
        brain: Brain,
        database: Database,
        executor: Executor,
        *,
        guests: Callable[[], int],
        reload: Callable[[str], Awaitable[list[str]]],
        resumed: Callable[[], Awaitable[None]],
    ) -> None:
        self._brain = brain
        self._node = brain.node
        self._database = database
        self._executor = executor
        self._guests = guests
        self._reload = reload
        self._resumed = resumed

    def state(self) -> ControlView:
        """The orders in force."""
        control = self._node.control
        return ControlView(
            mode=control.mode.value,
            who=control.order.who,
            reason=control.order.reason,
            since_ms=control.order.at_ms or None,
            guests=self._guests(),
            policy_paused=self._node.host.policy.paused,
            blocked=[
                BlockView(centre=c, who=order.who, reason=order.reason, since_ms=order.at_ms)
                for c, order in sorted(control.blocked.items())
            ],
        )

    async def set_mode(self, mode: Mode, *, who: str, reason: str) -> ControlView:
        """Opens, pauses, drains or withdraws."""
        await self._brain.ask(lambda n: SetMode(request=n, mode=mode, who=who, reason=reason))
        if mode is Mode.OPEN and self._node.recovery.ready:
            await self._resumed()
        return self.state()

    async def block(
        self, centre: CentreName, *, blocked: bool, who: str, reason: str
    ) -> ControlView:
        """Takes no jobs of a centre any more, or takes them again."""
        await self._brain.ask(
            lambda n: BlockCentre(request=n, centre=centre, blocked=blocked, who=who, reason=reason)
        )
        return self.state()

    async def hold(self, job_id: JobId, *, held: bool, who: str, reason: str) -> None:
        """Keeps an own job from being placed, or lets it be placed again."""
        await self._brain.ask(
            lambda n: HoldJob(request=n, job_id=job_id, held=held, who=who, reason=reason)
        )

    def requests(self) -> list[RequestView]:
        """The claims that wait for a person's word, by the end of their time."""
        live = self._node.ledger.live
        found = []
        for claim_id, asked in self._node.host.asked.items():
            entry = live.job_of(claim_id)
            if entry is None:
                continue
            job = entry.job
            found.append(
                RequestView(
                    claim_id=str(claim_id),
                    job_id=str(entry.job_id),
                    home=claim_id.centre,
                    rule=asked.rule,
                    since_ms=asked.since_ms,
                    until_ms=asked.until_ms,
                    resource_class=job.resource_class,
                    nodes=job.nodes,
                    cores_per_node=job.cores_per_node,
                    gpus_per_node=job.gpus_per_node,
                    memory_mib_per_node=job.memory_mib_per_node,
                    walltime_s=job.walltime_s,
                    work_class=job.work_class,
                    data_class=job.data_class,
                    features=list(job.features),
                )
            )
        return sorted(found, key=lambda view: (view["until_ms"], view["claim_id"]))

    async def answer(self, claim_id: ClaimId, *, approve: bool, who: str, reason: str) -> None:
        """Approves or denies a claim that waits."""
        await self._brain.ask(
            lambda n: AnswerRequest(
                request=n, claim_id=claim_id, approve=approve, who=who, reason=reason
            )
        )

    async def reconcile(self, since_ms: int) -> ReconcileView:
        """Compares the batch system's accounting with the ledger; both as they are now."""
        history = getattr(self._executor, "history", None)
        if history is None:
            raise StateError(
                "reconcile-local",
                "this executor keeps no accounting to compare with",
                remedy="only Slurm's can be compared",
            )

        def work() -> ReconcileView:
            runs: list[NativeRun] = history(since_ms // 1000)
            rows = (row.data for row in self._database.blocks())
            hosted = hosted_claims(rows, self._node.me.name, since_ms)
            return ReconcileView(
                since_ms=since_ms,
                claims=len(hosted),
                native_jobs=sum(bool(run.started_s) for run in runs),
                gaps=compare(hosted, runs, wall_ms() // 1000),
            )

        return await trio.to_thread.run_sync(work)

    async def decisions(self, limit: int) -> list[DecisionView]:
        """The newest decisions, newest first."""
        rows = await trio.to_thread.run_sync(
            lambda: self._database.newest_local_items(DECISIONS, limit)
        )
        return [cast(DecisionView, json.loads(value)) for _, value in rows]

    async def reload(self, who: str) -> list[str]:
        """Reads the policy again; nothing changes if anything in it is wrong."""
        return await self._reload(who)
