"""What each of Slurm's states means for a federation."""

from __future__ import annotations

import pytest

from p2pfed.core.records import Outcome
from p2pfed.execute.slurm.states import ACTIVE, ENDED, WAITING, outcome_of


def judge(state: str, **facts: bool) -> Outcome:
    known = {"began": True, "cancelled": False, "overdue": False, "preempted": False}
    return outcome_of(state, **{**known, **facts})


@pytest.mark.parametrize(
    ("state", "outcome"),
    [
        ("COMPLETED", Outcome.COMPLETED),
        ("FAILED", Outcome.FAILED),
        ("TIMEOUT", Outcome.TIMEOUT),
        ("DEADLINE", Outcome.TIMEOUT),
        ("OUT_OF_MEMORY", Outcome.OUT_OF_MEMORY),
        ("NODE_FAIL", Outcome.NODE_FAILURE),
        ("BOOT_FAIL", Outcome.NODE_FAILURE),
        ("PREEMPTED", Outcome.PREEMPTED),
        ("REVOKED", Outcome.PREEMPTED),
        ("CANCELLED", Outcome.PREEMPTED),
    ],
)
def test_the_outcome_of_a_state(state: str, outcome: Outcome) -> None:
    assert judge(state) is outcome
    assert judge(state, began=False) is Outcome.NOT_STARTED


def test_the_states_are_told_apart() -> None:
    assert not WAITING & ACTIVE
    assert not (WAITING | ACTIVE) & ENDED.keys()


def test_a_job_that_we_cancelled_is_cancelled_even_before_it_began() -> None:
    assert judge("CANCELLED", cancelled=True) is Outcome.CANCELLED
    assert judge("CANCELLED", cancelled=True, began=False) is Outcome.CANCELLED


def test_a_cancel_that_came_too_late_changes_nothing() -> None:
    assert judge("COMPLETED", cancelled=True) is Outcome.COMPLETED
    assert judge("FAILED", cancelled=True) is Outcome.FAILED


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED"])
def test_what_its_watch_ended_is_a_timeout_whatever_the_script_made_of_it(state: str) -> None:
    assert judge(state, overdue=True) is Outcome.TIMEOUT


@pytest.mark.parametrize("state", ["COMPLETED", "FAILED", "CANCELLED", "TIMEOUT"])
def test_a_job_that_was_told_to_make_room_is_preempted_whatever_it_made_of_that(state: str) -> None:
    assert judge(state, preempted=True) is Outcome.PREEMPTED
