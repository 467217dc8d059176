"""What a federation's own ledger says of its past: the jobs that ran, and the capacity on offer.

Only what an experiment needs is taken: when each job was posted and how long it really ran, and how
each offer grew, shrank and closed. Jobs that never ran are counted and left out, since nobody knows
how long they would have run.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from statistics import median_low

from p2pfed.core.blocks import Block
from p2pfed.core.charter import Charter
from p2pfed.core.constitution import founders
from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, FeedKey, JobId, OfferId
from p2pfed.core.records import ForkProof, Job, Offer, OfferClose, OfferUpdate
from p2pfed.core.registers import Registers
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc_ms
from p2pfed.errors import InputError


@dataclass(frozen=True, slots=True, kw_only=True)
class PastJob:
    """A job that ran.

    Attributes:
        posted_ms: when its home posted it.
        waited_ms: from then to the start of its last run.
        ran_ms: how long that run took; at least 1.
    """

    job_id: JobId
    job: Job
    posted_ms: int
    waited_ms: int
    ran_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferChange:
    """An offer has this size and window from a moment on; `nodes` 0 once it is closed."""

    at_ms: int
    offer_id: OfferId
    terms: Offer
    nodes: int
    walltime_max_s: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """A federation's past.

    Attributes:
        jobs: those that ran, by (time of posting, id).
        left_out: how many never ran.
        changes: of all offers, by (time, id).
        handover_ms: from a claim to the start of its job, the median.
        credit_lines: points per centre that is or was a member.
        rules: what holds at its end.
    """

    jobs: tuple[PastJob, ...]
    left_out: int
    changes: tuple[OfferChange, ...]
    handover_ms: int
    credit_lines: dict[CentreName, int]
    rules: Rules


def read_history(charter: Charter, blocks: Iterable[Block]) -> History:
    """The past that admitted blocks tell, in an order in which each follows what it names."""
    governance = Governance(founders(charter), charter.rules)
    registers = Registers(_no_proof, charter.rules.max_attempts, governance)
    changes: list[OfferChange] = []
    last_ms = 0
    for block in blocks:
        registers.fold_block(block)
        now_ms = hlc_ms(block.time)
        last_ms = max(last_ms, now_ms)
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Offer | OfferUpdate | OfferClose):
                named = position if isinstance(record, Offer) else record.offer_id
                entry = registers.offers.get(OfferId(named))
                if entry is not None and entry.host == block.feed.centre:
                    changes.append(
                        OfferChange(
                            at_ms=now_ms,
                            offer_id=entry.offer_id,
                            terms=entry.terms,
                            nodes=0 if entry.closed else entry.nodes,
                            walltime_max_s=entry.walltime_max_s,
                            until_ms=entry.until_ms,
                        )
                    )
    jobs, handovers = _jobs(registers)
    version = governance.version_at(last_ms)
    return History(
        jobs=tuple(sorted(jobs, key=lambda job: (job.posted_ms, job.job_id))),
        left_out=len(registers.jobs) - len(jobs),
        changes=tuple(sorted(changes, key=lambda c: (c.at_ms, c.offer_id))),
        handover_ms=median_low(handovers) if handovers else 0,
        credit_lines=version.credit_lines,
        rules=version.rules,
    )


def _no_proof(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise InputError("fork-proof-ignored", "a replay of the past judges nobody")


def _jobs(registers: Registers) -> tuple[list[PastJob], list[int]]:
    """The jobs that ran, and how long each took from its claim to its start."""
    jobs, handovers = [], []
    for entry in registers.jobs.values():
        runs = [registers.claims[c] for c in entry.claims if registers.claims[c].host_side.end]
        end = runs[-1].host_side.end if runs else None
        if end is None or end.ended_ms <= 0 or end.started_ms <= 0:
            continue
        posted_ms = hlc_ms(entry.posted)
        handovers.append(max(0, end.started_ms - hlc_ms(runs[-1].claimed)))
        jobs.append(
            PastJob(
                job_id=entry.job_id,
                job=entry.job,
                posted_ms=posted_ms,
                waited_ms=max(0, end.started_ms - posted_ms),
                ran_ms=max(1, end.ended_ms - end.started_ms),
            )
        )
    return jobs, handovers
