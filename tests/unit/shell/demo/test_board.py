"""The board counts what the homes say of their jobs."""

from __future__ import annotations

from typing import Any, cast

from p2pfed.core.ids import CentreName
from p2pfed.shell.answers import JobView
from p2pfed.shell.demo.board import Board
from p2pfed.shell.demo.plan import plan_demo


def view(state: str, *, job: str = "alpha.1.0", host: str | None = None, **more: Any) -> JobView:
    final = state in ("completed", "failed", "cancelled")
    fields = {
        "job_id": job,
        "home": "alpha",
        "state": state,
        "final": final,
        "host": host,
        "nodes": 1,
        "cores_per_node": 2,
        "result": "ready" if final else "none",
    }
    return cast(JobView, fields | more)


def test_a_job_holds_cores_from_acceptance_to_its_end() -> None:
    board = Board.of(plan_demo(3, 2))
    beta = board.centres[CentreName("beta")]
    assert board.see(view("queued"))
    assert (beta.busy_cores, board.states["queued"], board.done) == (0, 1, 0)
    assert board.see(view("accepted", host="beta"))
    assert (beta.busy_cores, board.states["matched"]) == (2, 1)
    assert board.see(view("started", host="beta"))
    assert not board.see(view("started", host="beta"))
    assert (beta.busy_cores, beta.hosted) == (2, 0)
    assert board.see(view("completed", host="beta"))
    assert (beta.busy_cores, beta.hosted, board.done) == (0, 1, 1)
    assert board.centres[CentreName("alpha")].posted == 1


def test_a_feed_that_runs_behind_takes_no_job_back_from_its_end() -> None:
    board = Board.of(plan_demo(3, 2))
    board.see(view("completed", host="beta"))
    assert not board.see(view("started", host="beta"))
    assert board.states["completed"] == 1


def test_a_job_is_not_over_before_its_result_is_here() -> None:
    board = Board.of(plan_demo(3, 2))
    board.see(view("completed", host="beta", result="waiting"))
    assert board.done == 0
    board.see(view("completed", host="beta"))
    assert board.done == 1


def test_a_state_of_no_happy_course_is_shown_too() -> None:
    board = Board.of(plan_demo(3, 2))
    board.see(view("failed", host="beta"))
    assert board.states["other"] == 1
