"""The course of a demonstration: found, start, offer, submit, follow, settle, compare.

Whatever ends it early (an error, Ctrl-C), the jobs that still run are cancelled and the daemons
stopped before it returns.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.errors import P2pfedError
from p2pfed.shell.answers import JobView
from p2pfed.shell.client import Client
from p2pfed.shell.demo.assembly import Assembly
from p2pfed.shell.demo.board import Board, Stage
from p2pfed.shell.demo.daemons import Daemon, Daemons
from p2pfed.shell.demo.feeds import JobFeeds
from p2pfed.shell.demo.founding import demo_folder, found_federation
from p2pfed.shell.demo.plan import WALLTIME_S, JobPlan, Plan, example_script
from p2pfed.shell.demo.report import DemoReport
from p2pfed.shell.demo.verdict import Verdict

TEMPLATE: Final = "default"
_JOBS_S: Final = 120
_JOB_S: Final = 15
"""All jobs together may take `_JOBS_S` and so much for each: far more than they need."""
_LOOK_S: Final = 0.25
_ASK_AGAIN_S: Final = 2.0
_CANCEL_S: Final = 10


def run_demo(
    plan: Plan, stage: Stage, *, keep: Path | None = None, governance: bool = False
) -> DemoReport:
    """Runs a demonstration and judges it.

    Args:
        plan: what to do.
        stage: who watches.
        keep: an empty or new folder for the centres, which then stay; None: a temporary one.
        governance: the members decide things meanwhile; the plan has five centres then.

    Raises:
        InputError: `demo-folder`, `demo-ports`, `demo-example`.
        StateError: `demo-daemon`, `demo-timeout`.
        StorageError: `disk-full`, `disk-error`.
    """
    script = example_script()
    began_s = time.monotonic()
    with demo_folder(keep, plan) as folder:
        stage.say(f"founding a federation of {len(plan.centres)} centres in {folder}")
        founded = found_federation(folder, plan)
        board = Board.of(plan)

        def restarted(name: CentreName) -> None:
            board.centres[name].restarts += 1
            stage.say(f"{name}: its daemon died and was started again")

        with Daemons(founded.sites, restarted) as daemons:
            story = _Story(plan, script, stage, board, daemons)
            try:
                story.open()
                story.submit()
                assembly = None
                if governance:
                    assembly = Assembly(founded, daemons, board, stage, folder, _open_offer)
                    assembly.while_jobs_run()
                late = story.follow()
                if assembly is not None:
                    assembly.when_jobs_are_over(tuple(board.jobs.values()))
                stage.say("all jobs are over; comparing what every centre knows")
                verdict = Verdict(plan, founded.federation, daemons, board, story.ids)
                report = verdict.judge(
                    late=late,
                    elapsed_ms=lambda: int((time.monotonic() - began_s) * 1000),
                    folder=None if keep is None else str(folder),
                    decisions=() if assembly is None else tuple(assembly.decisions),
                )
            finally:
                story.clear_away()
        return report


class _Story:
    """A demonstration under way; `ids` has each job's id by its name."""

    def __init__(
        self, plan: Plan, script: Path, stage: Stage, board: Board, daemons: Daemons
    ) -> None:
        self._plan = plan
        self._script = script
        self._stage = stage
        self._board = board
        self._daemons = daemons
        self._explained = False
        self._heard_s = time.monotonic()
        self._feeds = JobFeeds(daemons[home] for home in plan.homes)
        self.ids: dict[str, str] = {}

    def open(self) -> None:
        """Waits until every daemon is connected to every other; opens the offers."""
        others = len(self._plan.centres) - 1

        def ready(client: Client) -> bool:
            status = client.status()
            return not status["recovering"] and status["peers_linked"] == others

        for daemon in self._daemons.all:
            self._daemons.wait_until(daemon.name, ready, what="a link to every other centre")
        self._stage.say("every daemon is up and connected to every other")
        offering = [centre for centre in self._plan.centres if centre.offers]
        for centre in offering:
            self._daemons.ask(centre.name, _open_offer)
            self._board.centres[centre.name].offered_cores = centre.offered_cores
            shape = f"{centre.nodes} x {centre.cores_per_node} cores"
            self._stage.say(f"{centre.name} offers {shape}")
        self._stage.show(self._board)
        for home in self._plan.homes:
            self._daemons.wait_until(
                home,
                lambda client: len(client.offers()) == len(offering),
                what="the offers of the others",
            )

    def submit(self) -> None:
        """Posts all jobs, centre by centre."""
        for home in self._plan.homes:
            jobs = [job for job in self._plan.jobs if job.home == home]
            self._daemons.ask(home, partial(self._post, jobs))
            self._stage.say(f"{home} submitted {len(jobs)} jobs")

    def _post(self, jobs: Sequence[JobPlan], client: Client) -> None:
        """Posts jobs, except those that an earlier request whose answer was lost has posted."""
        posted = {view["name"]: view for view in client.jobs()}
        for job in jobs:
            view = posted.get(job.name) or self._post_one(job, client)
            self.ids[job.name] = view["job_id"]
            self._see(view)
            self._follow(wait_s=0)

    def _post_one(self, job: JobPlan, client: Client) -> JobView:
        request = {
            "name": job.name,
            "arguments": list(job.arguments),
            "cores_per_node": job.cores,
            "memory_mib_per_node": 64 * job.cores,
            "walltime_s": WALLTIME_S,
        }
        view, _ = client.submit(request, self._script, {})
        return view

    def follow(self) -> bool:
        """Shows what happens until all jobs are over; True if that took too long."""
        give_up_s = time.monotonic() + _JOBS_S + _JOB_S * len(self._plan.jobs)
        while self._board.done < self._board.jobs_total:
            if time.monotonic() >= give_up_s:
                return True
            self._daemons.supervise()
            self._follow(wait_s=_LOOK_S)
            if time.monotonic() - self._heard_s > _ASK_AGAIN_S:
                self._heard_s = time.monotonic()
                for home in self._plan.homes:
                    for view in self._daemons.ask(home, lambda client: client.jobs()):
                        self._see(view)
        return False

    def _follow(self, *, wait_s: float) -> None:
        """Takes in what the feeds bring."""
        for view in self._feeds.take(wait_s):
            self._heard_s = time.monotonic()
            self._see(view)
        self._stage.show(self._board)

    def _see(self, view: JobView) -> None:
        if not self._board.see(view):
            return
        at = f" at {view['host']}" if view["host"] is not None else ""
        code = f", exit code {view['exit_code']}" if view["final"] else ""
        again = view["state"] == "queued" and view["attempts"] > 0
        telling = again or view["final"] or view["state"] == "started"
        tell = self._stage.say if telling else self._stage.mention
        tell(f"{view['home']}: {view['name']} {view['state']}{at}{code}")
        if view["state"] == "completed" and not self._explained:
            self._explained = self._explain()

    def _explain(self) -> bool:
        """Asks, while the offers are full, why the last job in the queue has to wait."""
        waiting = [view for view in self._board.jobs.values() if view["state"] == "queued"]
        if not waiting:
            return False
        last = waiting[-1]
        told = self._daemons.ask(
            CentreName(last["home"]), lambda client: client.explain(last["job_id"])
        )
        if told["score"] is None:
            return False
        self._stage.say(f"{last['home']}: why {last['name']} waits: {told['summary']}")
        return True

    def clear_away(self) -> None:
        """Cancels what still runs, so that nothing outlives the demonstration."""
        self._feeds.stop()
        left = [view for view in self._board.jobs.values() if not view["final"]]
        for view in left:
            with suppress(P2pfedError), self._daemons[CentreName(view["home"])].client() as client:
                client.cancel(view["job_id"])
        give_up_s = time.monotonic() + _CANCEL_S
        while left and time.monotonic() < give_up_s and any(map(_is_host, self._daemons.all)):
            time.sleep(_LOOK_S)


def _is_host(daemon: Daemon) -> bool:
    """Whether a guest's job may still run there; a daemon that can't be asked counts as no."""
    with suppress(P2pfedError), daemon.client() as client:
        return bool(client.status()["hosted"])
    return False


def _open_offer(client: Client) -> None:
    if not any(offer["open"] for offer in client.offers(own=True)):
        client.open_offer(template=TEMPLATE)
