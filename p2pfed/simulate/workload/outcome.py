"""What happened to each job in a world: columns, one entry per job of the workload."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from p2pfed.simulate.workload.workload import Workload


class BalanceSample(NamedTuple):
    """A centre's account at one time; points as in docs/explanation/accounting.md."""

    time_s: int
    centre: int
    contribution: int
    usage: int
    balance_ppm: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A replay's result.

    Attributes:
        world: `isolated`, `federated` or `ideal`.
        start_ms: per job, when it last started. All times are from the start of the replay.
        end_ms: per job, when it ended for good.
        wait_ms: per job, the time from submission to end in which it did no lasting work: waiting,
            transfers, and runs that were cut short and lost.
        where: per job, the centre that ran it (last).
        requeues: per job, how often it was cut short.
        wasted_s: per job, processor-seconds of runs that were lost.
        delayed_ms: per job, how long it stood first in its home's queue and would have started
            but for guests.
        balances: by time and centre; empty where there are no accounts.
        rounds: matchings that were computed; a round in which nothing had changed is not.
        claims: matched pairs that homes claimed.
        declined: claims that the host turned down, since things had changed meanwhile.
    """

    world: str
    workload: Workload
    start_ms: Sequence[int]
    end_ms: Sequence[int]
    wait_ms: Sequence[int]
    where: Sequence[int]
    requeues: Sequence[int] = ()
    wasted_s: Sequence[int] = ()
    delayed_ms: Sequence[int] = ()
    balances: Sequence[BalanceSample] = field(default=())
    rounds: int = 0
    claims: int = 0
    declined: int = 0
