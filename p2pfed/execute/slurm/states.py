"""What Slurm's job states mean for a federation.

Two questions: is it over, and if so, whose doing was it? What the job did itself is final and
charged; what the host did (preemption, failures, an administrator's scancel) sends the job back to
its home's queue, uncharged. Source: squeue(1), JOB STATE CODES, of Slurm 22.05 to 24.05.
"""

from __future__ import annotations

from typing import Final

from p2pfed.core.records import Outcome

WAITING: Final = frozenset(
    {"PENDING", "CONFIGURING", "REQUEUED", "REQUEUE_FED", "REQUEUE_HOLD", "SPECIAL_EXIT",
     "RESV_DEL_HOLD", "POWER_UP_NODE"}
)  # fmt: skip
"""Not begun, or sent back to begin again."""

ACTIVE: Final = frozenset(
    {"RUNNING", "COMPLETING", "SUSPENDED", "STOPPED", "RESIZING", "SIGNALING", "STAGE_OUT",
     "UPDATE_DB", "EXPEDITING", "LAUNCH_FAILED", "RECONFIG_FAIL"}
)  # fmt: skip
"""Begun, with processes that may be alive."""

ENDED: Final = {
    "COMPLETED": Outcome.COMPLETED,
    "FAILED": Outcome.FAILED,
    "TIMEOUT": Outcome.TIMEOUT,
    "DEADLINE": Outcome.TIMEOUT,
    "OUT_OF_MEMORY": Outcome.OUT_OF_MEMORY,
    "NODE_FAIL": Outcome.NODE_FAILURE,
    "BOOT_FAIL": Outcome.NODE_FAILURE,
    "PREEMPTED": Outcome.PREEMPTED,
    "REVOKED": Outcome.PREEMPTED,
    "CANCELLED": Outcome.PREEMPTED,
}
"""Over, and the outcome if nothing else is known; CANCELLED by another than us is the host's."""

_SIGNAL_MAX: Final = 64


def outcome_of(
    state: str, *, began: bool, cancelled: bool, overdue: bool, preempted: bool
) -> Outcome:
    """How a job that is over has ended.

    Args:
        state: one of `ENDED`.
        began: its script was begun.
        cancelled: we were asked to end it.
        overdue: its own watch ended it at its walltime or the end of its lease.
        preempted: Slurm had told it to make room (PreemptTime), whatever it made of that.
    """
    outcome = ENDED[state]
    if cancelled and state in ("CANCELLED", "PREEMPTED"):
        return Outcome.CANCELLED
    if not began:
        return Outcome.NOT_STARTED
    if outcome in (Outcome.NODE_FAILURE, Outcome.OUT_OF_MEMORY):
        return outcome
    if overdue:
        return Outcome.TIMEOUT
    if preempted:
        return Outcome.PREEMPTED
    return outcome


def split_exit(text: str) -> tuple[int, int]:
    """Exit code and signal of Slurm's `code:signal`.

    Slurm adds numbers of its own above the signals (125: out of memory); they count as none.

    Raises:
        ValueError: it is no such pair.
    """
    code, _, number = text.partition(":")
    signal = int(number or 0)
    return int(code), signal if 0 < signal <= _SIGNAL_MAX else 0
