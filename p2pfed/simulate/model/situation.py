"""What a whole modelled federation is at one moment, and what is examined."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from p2pfed.core.ids import BlockId, CentreName, ClaimId
from p2pfed.core.records import Job, Offer
from p2pfed.core.rules import Rules
from p2pfed.node.events import TransferId

STEP_MS = 1_000
"""The grain of time: every clock moves by whole seconds."""
START_MS = 1_000_000

RULES = Rules(
    objection_ms=0,
    round_ms=3_600_000,
    heartbeat_ms=3_600_000,
    offer_lease_ms=86_400_000,
    max_skew_ms=86_400_000,
    clock_error_ms=STEP_MS,
    claim_wait_ms=2 * STEP_MS,
    approval_wait_ms=2 * STEP_MS,
    accept_wait_ms=2 * STEP_MS,
    fetch_ms=STEP_MS // 2,
    queue_ms=STEP_MS // 2,
    kill_grace_ms=0,
    walltime_max_s=1,
    max_attempts=2,
)
"""The shortest times at which every rule still has room to be broken."""

OFFER = Offer(
    resource_class="cpu", nodes=1, cores_per_node=1, memory_mib_per_node=1, walltime_max_s=1
)
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=1,
    memory_mib_per_node=1,
    walltime_s=1,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=1,
)


class Way(Enum):
    """How far a host's fetch of a payload has come."""

    ASKED = "the question travels"
    WAITS = "the home has heard the question"
    NAMED = "the host's word that it knows the lease travels"
    COMES = "the payload travels"
    BROKEN = "the connection broke"
    REFUSED = "the home refused"


class Fetch(NamedTuple):
    """A bulk connection from a host to a home."""

    claim_id: ClaimId
    host: int
    way: Way
    named: BlockId | None = None


class Phase(Enum):
    """What a native job is, in truth."""

    SENT = "submitted"
    RUNS = "running"
    OVER = "over"
    BARRED = "barred"


class Native(NamedTuple):
    """A job in a batch system; `runs` counts how often its script began."""

    claim_id: ClaimId
    host: int
    phase: Phase
    begin_before_ms: int = 0
    kill_at_ms: int = 0
    runs: int = 0


class Faults(NamedTuple):
    """How often each may still happen."""

    crashes: int = 0
    deaths: int = 0
    restores: int = 0
    marks_lost: int = 0
    clock_steps: int = 0
    cancels: int = 0


NO_FAULTS: Final = Faults()


class Situation(NamedTuple):
    """All that decides what can happen next. `centres` are numbers of `Centres.locals`."""

    step: int
    centres: tuple[int, ...]
    offsets_ms: tuple[int, ...]
    dead: tuple[bool, ...]
    faults: Faults
    fetches: tuple[Fetch, ...] = ()
    natives: tuple[Native, ...] = ()


def fetch_of(now: Situation, claim_id: ClaimId) -> Fetch | None:
    """The host's connection for a claim, if there is one."""
    return next((f for f in now.fetches if f.claim_id == claim_id), None)


def transfer_id(claim_id: ClaimId) -> TransferId:
    """The number by which the home knows the connection."""
    return TransferId(int.from_bytes(str(claim_id).encode(), "big"))


def fetch_by(now: Situation, transfer: TransferId) -> Fetch | None:
    """The connection of that number, if it is still there."""
    return next((f for f in now.fetches if transfer_id(f.claim_id) == transfer), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Environment:
    """What the wrapper, the batch system and the disk do; a mutation leaves one out."""

    marker: bool = True
    """A native job begins only if it creates its start marker."""
    not_found_bars: bool = True
    """The daemon takes the start marker before it believes that a job is not there."""
    begin_before: bool = True
    """The wrapper begins only while the whole walltime fits into the lease."""
    enforced_end: bool = True
    """The batch system ends the job, whether or not the daemon runs."""
    synced: bool = True
    """What was stored is still there after a crash."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """What is examined.

    Attributes:
        homes: how many centres have a job each; they come first.
        hosts: how many offer room for one job each.
        attempts: how many claims each home may write.
        steps: how long it may go on.
        offsets_ms: how far each centre's clock is ahead.
        faults: how often each fault may happen.
        one_by_one: blocks arrive one at a time, in any interleaving; else a centre that hears
            another learns all that it knows.
    """

    homes: int = 1
    hosts: int = 1
    attempts: int = 1
    steps: int = 8
    offsets_ms: tuple[int, ...] = ()
    faults: Faults = NO_FAULTS
    one_by_one: bool = False
    environment: Environment = field(default_factory=Environment)
    rules: Rules = RULES

    @property
    def names(self) -> tuple[CentreName, ...]:
        """The centres: homes, then hosts."""
        homes = [CentreName(f"home{i}") for i in range(self.homes)]
        return (*homes, *(CentreName(f"host{i}") for i in range(self.hosts)))
