"""Does the batch system's accounting agree with the ledger? Values in, findings out.

For each guest that the ledger says was started here, the batch system must have accounted exactly
one attempt that began, ended as the End record says, for as long. For each job of the guests'
account, the ledger must have a claim. Whatever differs is named; nothing is put right by itself.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

from p2pfed.core.blocks import decode_stored
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.records import Claim, End, Job, Outcome, Start
from p2pfed.core.units import hlc_ms
from p2pfed.execute.interface import NativeRun
from p2pfed.shell.answers import GapView

LATE_S: Final = 60
"""So long the daemon may take to write End after a native job ended."""
CLOCKS_S: Final = 3
"""By so much the two elapsed times may differ: both are cut to seconds, by different clocks."""
_NEVER_RAN: Final = frozenset({Outcome.NOT_STARTED, Outcome.NOT_FOUND})
_ASKED_TO_END: Final = frozenset({Outcome.TIMEOUT, Outcome.PREEMPTED, Outcome.CANCELLED})
"""A script that was asked to end may do so with exit code 0, and Slurm then calls it completed."""


@dataclass(slots=True, kw_only=True)
class Hosted:
    """A claim that we started, as our ledger has it."""

    claim_id: ClaimId
    native_name: str
    started_ms: int
    cores: int = 0
    walltime_s: int = 0
    end: End | None = None


def hosted_claims(blocks: Iterable[bytes], me: CentreName, since_ms: int) -> list[Hosted]:
    """The claims that `me` started since a time, by the stored blocks of a ledger, in order."""
    jobs: dict[Position, Job] = {}
    claims: dict[Position, Claim] = {}
    found: dict[Position, Hosted] = {}
    for data in blocks:
        block = decode_stored(data)
        ours = block.feed.centre == me
        for position, record in zip(block.positions(), block.records, strict=True):
            if isinstance(record, Job):
                jobs[position] = record
            elif isinstance(record, Claim) and record.offer_id.centre == me:
                claims[position] = record
            elif isinstance(record, Start) and ours and hlc_ms(block.time) >= since_ms:
                hosted = Hosted(
                    claim_id=ClaimId(record.claim_id),
                    native_name=record.native_name,
                    started_ms=hlc_ms(block.time),
                )
                found.setdefault(record.claim_id, hosted)
            elif isinstance(record, End) and ours and record.claim_id in found:
                found[record.claim_id].end = found[record.claim_id].end or record
    for claim_id, hosted in found.items():
        claim = claims.get(claim_id)
        job = None if claim is None else jobs.get(claim.job_id)
        if job is not None:
            hosted.cores, hosted.walltime_s = job.nodes * job.cores_per_node, job.walltime_s
    return [found[claim_id] for claim_id in sorted(found)]


def compare(hosted: Sequence[Hosted], runs: Sequence[NativeRun], now_s: int) -> list[GapView]:
    """Every gap and duplicate between the two, in the order of the claims, then of the jobs."""
    by_name: dict[str, list[NativeRun]] = {}
    for run in runs:
        by_name.setdefault(run.name, []).append(run)
    gaps: list[GapView] = []
    for claim in hosted:
        gaps += _compare_one(claim, by_name.pop(claim.native_name, []), now_s)
    for name in sorted(by_name):
        for run in by_name[name]:
            if run.started_s:
                text = f"job {name!r} ran as {run.state}, and no claim of ours has that name"
                gaps.append(_gap("ledger-missing", None, run, text))
    return gaps


def _compare_one(claim: Hosted, runs: list[NativeRun], now_s: int) -> list[GapView]:
    began = [run for run in runs if run.started_s]
    end = claim.end
    if not began:
        if end is None or Outcome(end.outcome) in _NEVER_RAN or end.core_s == 0:
            return []
        said = Outcome(end.outcome).name.lower()
        text = f"the ledger says {said} after {end.core_s} core-seconds, no job of it is accounted"
        return [_gap("native-missing", claim, None, text)]
    gaps = [
        _gap("duplicate", claim, run, f"began again at {run.started_s}, as {run.state}")
        for run in began[1:]
    ]
    run = began[0]
    if end is None:
        if run.over and now_s - run.ended_s > LATE_S:
            text = f"{run.state} since {now_s - run.ended_s} s, and the ledger has no End"
            gaps.append(_gap("end-missing", claim, run, text))
        return gaps
    if not run.over:
        return [*gaps, _gap("alive-after-end", claim, run, f"still {run.state} after its End")]
    return gaps + _compare_ends(claim, end, run)


def _compare_ends(claim: Hosted, end: End, run: NativeRun) -> list[GapView]:
    gaps = []
    outcome = Outcome(end.outcome)
    ran_well = run.outcome is Outcome.COMPLETED
    if ran_well != (outcome is Outcome.COMPLETED) and not (ran_well and outcome in _ASKED_TO_END):
        text = f"the ledger says {outcome.name.lower()}, Slurm {run.state}"
        gaps.append(_gap("outcome-differs", claim, run, text))
    if outcome in _NEVER_RAN:
        return gaps
    if claim.cores and run.cores != claim.cores:
        text = f"{claim.cores} cores were claimed, {run.cores} allocated"
        gaps.append(_gap("cores-differ", claim, run, text))
    elapsed_s = min(run.ended_s - run.started_s, claim.walltime_s or run.ended_s - run.started_s)
    stated_s = end.core_s // claim.cores if claim.cores else elapsed_s
    if abs(stated_s - elapsed_s) > CLOCKS_S:
        text = f"the ledger counts {stated_s} s a core, accounting {elapsed_s} s"
        gaps.append(_gap("usage-differs", claim, run, text))
    return gaps


def _gap(kind: str, claim: Hosted | None, run: NativeRun | None, text: str) -> GapView:
    return GapView(
        kind=kind,
        claim_id=None if claim is None else str(claim.claim_id),
        native_name=claim.native_name if claim is not None else run.name if run else "",
        native_id=None if run is None else run.job_id,
        text=text,
    )
