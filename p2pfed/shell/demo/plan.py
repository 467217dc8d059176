"""What a demonstration consists of: centres of unequal capacity, one of them congested, and jobs.

The first centre is the congested one: it posts most of the jobs and offers nothing, as if its own
machine were full. The others offer different amounts; the last one also posts a job now and then,
so that capacity flows in more than one direction. Nothing here is left to chance.

Each job counts the primes of a range with the shipped example script. What it must print is found
here by another method (a sieve), so a wrong, truncated or swapped output can't pass.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import isqrt
from pathlib import Path
from typing import Final

from p2pfed.core.ids import CentreName
from p2pfed.core.rules import PPM, Rules
from p2pfed.errors import InputError

NAMES: Final = (
    "alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta",
    "iota", "kappa", "lambda", "mu", "nu", "xi", "omicron", "pi",
)  # fmt: skip
CENTRES_MAX: Final = len(NAMES)
JOBS_MAX: Final = 1000
_SHAPES: Final = ((1, 2), (2, 2), (1, 2), (3, 1), (1, 1))
"""Nodes and cores per node of the centres, again from the second one where they run out."""
_GUEST_EVERY: Final = 6
"""Every so many jobs one comes from the last centre instead of the first."""
_WIDE_EVERY: Final = 5
"""Every so many jobs one asks for two cores."""
_FIRST: Final = 100_000_000
_WIDTH: Final = 30_000
"""Numbers that a job looks at: about half a second of work for awk."""
MEMORY_MIB_PER_CORE: Final = 512
CREDIT_S: Final = 600
"""Seconds of its whole machine that a centre's credit line is worth: balances move visibly."""
WALLTIME_S: Final = 120

RULES: Final = Rules(
    round_ms=1_000,
    settle_ms=250,
    heartbeat_ms=1_000,
    offer_lease_ms=10_000,
    max_skew_ms=10_000,
    clock_error_ms=1_000,
    claim_wait_ms=10_000,
    accept_wait_ms=15_000,
    fetch_ms=20_000,
    queue_ms=10_000,
    kill_grace_ms=3_000,
    walltime_max_s=600,
    # A daemon that is killed again and again may cost a job several claims.
    max_attempts=20,
    # Nobody is in debt for longer than the demonstration lasts.
    min_balance=-PPM,
)
"""The default rules with short times: a round a second."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CentrePlan:
    """A centre and what it commands; one without `offers` keeps it all to itself."""

    name: CentreName
    nodes: int
    cores_per_node: int
    offers: bool

    @property
    def cores(self) -> int:
        """Cores in all."""
        return self.nodes * self.cores_per_node

    @property
    def offered_cores(self) -> int:
        """Cores that others may use."""
        return self.cores if self.offers else 0


@dataclass(frozen=True, slots=True, kw_only=True)
class JobPlan:
    """A job: who posts it under which name, what it is given, and what it must print."""

    home: CentreName
    name: str
    arguments: tuple[str, ...]
    cores: int
    expected: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """A whole demonstration; `jobs` in the order in which they are posted."""

    centres: tuple[CentrePlan, ...]
    jobs: tuple[JobPlan, ...]
    rules: Rules = RULES

    @property
    def homes(self) -> tuple[CentreName, ...]:
        """The centres that post jobs, in the order of the centres."""
        posting = {job.home for job in self.jobs}
        return tuple(centre.name for centre in self.centres if centre.name in posting)


def plan_demo(centres: int, jobs: int) -> Plan:
    """The plan for so many centres (2 to CENTRES_MAX) and jobs (1 to JOBS_MAX)."""
    made = []
    for index in range(centres):
        shape = _SHAPES[index] if index < len(_SHAPES) else _SHAPES[1 + (index - 1) % 4]
        made.append(
            CentrePlan(
                name=CentreName(NAMES[index]),
                nodes=shape[0],
                cores_per_node=shape[1],
                offers=index > 0,
            )
        )
    posted = tuple(_job(index, made) for index in range(jobs))
    return Plan(centres=tuple(made), jobs=posted)


def _job(index: int, centres: Sequence[CentrePlan]) -> JobPlan:
    # A centre's own offers never serve its own jobs, so the guest needs a third centre to go to.
    guest = len(centres) > 2 and index % _GUEST_EVERY == _GUEST_EVERY - 1
    wide = index % _WIDE_EVERY == _WIDE_EVERY - 1 and any(c.cores_per_node > 1 for c in centres[1:])
    first = _FIRST + index * _WIDTH
    last = first + _WIDTH - 1
    return JobPlan(
        home=centres[-1 if guest else 0].name,
        name=f"primes-{index + 1:02}",
        arguments=(str(first), str(last)),
        cores=2 if wide else 1,
        expected=f"{count_primes(first, last)} primes",
    )


def count_primes(first: int, last: int) -> int:
    """How many primes there are from `first` (at least 2) to `last`, by a segmented sieve."""
    sieve = bytearray([1]) * (last - first + 1)
    for prime in _primes_to(isqrt(last)):
        start = max(prime * prime, first + -first % prime) - first
        sieve[start::prime] = bytes(len(range(start, len(sieve), prime)))
    return sum(sieve)


@cache
def _primes_to(last: int) -> tuple[int, ...]:
    sieve = bytearray([1]) * (last + 1)
    for number in range(2, isqrt(last) + 1):
        if sieve[number]:
            sieve[number * number :: number] = bytes(len(range(number * number, last + 1, number)))
    return tuple(number for number in range(2, last + 1) if sieve[number])


def example_script() -> Path:
    """The shipped batch script: beside the package if installed, else in the source tree.

    Raises:
        InputError: `demo-example`.
    """
    package = Path(__file__).resolve().parents[2]
    for folder in (package / "examples", package.parent / "examples"):
        script = folder / "primes.sh"
        if script.is_file():
            return script
    raise InputError(
        "demo-example",
        "the example script primes.sh is not where p2pfed was installed",
        where=str(package / "examples"),
        remedy="install p2pfed again, or run the demo from its source tree",
    )
