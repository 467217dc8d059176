"""Did everybody act as the lifecycle allows? Each record is held against the tables and the times.

The registers make a record that its side's machine has no move for inert; what is left to judge is
what the tables can't see: the times (design of the lifecycle: docs/explanation/lifecycle.md), what
an author must have known before it spoke, and the sums (capacity of an offer, usage of a claim,
leases of a job). It is judged right after its block was folded, from the registers.

Block times never lie before their author's clock, but may lie after it, dragged by other clocks by
up to the clock error that the rules allow. So what must not be earlier is compared strictly, what
must not be later with that error granted.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Final, cast

from p2pfed.core.audit.course import Handler
from p2pfed.core.audit.findings import Finding, Findings, Severity
from p2pfed.core.audit.knowledge import Knowledge
from p2pfed.core.blocks import Block
from p2pfed.core.entries import ClaimEntry, JobEntry, OfferEntry
from p2pfed.core.ids import ClaimId, JobId, OfferId, Position
from p2pfed.core.lifecycle import (
    HOLDS_CAPACITY,
    ClaimState,
    HomePhase,
    HostPhase,
    accept_until,
    begin_before,
    claim_until,
    lease_until,
)
from p2pfed.core.matching_fit import Amount, amount_of, capacity_of, covers
from p2pfed.core.records import (
    Accept,
    Claim,
    Close,
    Dispute,
    End,
    Handover,
    Lost,
    Receipt,
    Record,
    Release,
    Start,
)
from p2pfed.core.rules import Rules
from p2pfed.core.state import State

_NOTHING: Final = Amount(0, 0, 0, 0)


class Conduct:
    """Judges every record of a common state: `hear` a block, then its records by `handlers`.

    Args:
        state: the common state, which has folded each block before it is looked at.
        findings: where to name what is wrong.
        forked: the feeds that are known to have branches.
    """

    def __init__(
        self,
        state: State,
        findings: Findings,
        forked: Callable[[], Collection[tuple[str, int]]],
    ) -> None:
        self._state = state
        self._registers = state.registers
        self._findings = findings
        self._forked = forked
        # The same tables by another type, so that what a record names is looked up as it stands.
        self._claims = cast(dict[Position, ClaimEntry], state.registers.claims)
        self._jobs = cast(dict[Position, JobEntry], state.registers.jobs)
        self._knowledge = Knowledge()
        self._known: Mapping[tuple[str, int], int] = {}
        self._spoken: dict[tuple[ClaimId, str], Position] = {}
        self._held: dict[OfferId, _Held] = {}
        self.handlers: dict[type[Record], Handler] = {
            Claim: self._claim,
            Accept: self._accept,
            Close: self._free,
            Release: self._release,
            Handover: self._handover,
            Start: self._start,
            End: self._end,
            Lost: self._lost,
            Receipt: self._settlement,
            Dispute: self._settlement,
        }

    @property
    def _rules(self) -> Rules:
        return self._state.rules

    def hear(self, block: Block) -> None:
        """Takes note of what the author of a block that was just folded knew."""
        self._knowledge.note(block)
        self._known = self._knowledge.of(block.feed)

    def _name(self, code: str, position: Position, now_ms: int, text: str, job: JobId) -> None:
        self._findings.add(
            Finding(Severity.WARNING, code, str(position), text, position.centre, job, now_ms)
        )

    def _parts(self, claim_id: Position) -> tuple[ClaimEntry, Claim, JobEntry] | None:
        """The claim's entry, the claim, its job; None if the registers hold no such claim."""
        entry = self._claims.get(claim_id)
        if entry is None or entry.claim is None:
            return None
        job = self._jobs.get(entry.claim.job_id)
        return None if job is None else (entry, entry.claim, job)

    def _knew(self, spoken: Position | None) -> bool:
        """Whether the author of the block under judgement had the block of that record.

        Of a forked feed it may have had the other branch, which has no place here: let it pass.
        """
        if spoken is None:
            return False
        return self._known.get(spoken[:2], -1) >= spoken[2] or spoken[:2] in self._forked()

    # The home claims, hands over, gives up

    def _claim(self, claim: Claim, position: Position, now_ms: int) -> None:
        job = self._registers.jobs.get(JobId(claim.job_id))
        offer = self._registers.offers.get(OfferId(claim.offer_id))
        if job is None:
            return
        others = [self._registers.claims[c] for c in job.claims if c != position]
        bound = [entry.claim_id for entry in others if not entry.over]
        if bound:
            text = f"{job.job_id} is bound to claim {bound[0]}, which is not over"
            self._name("claim-job-bound", position, now_ms, text, job.job_id)
        if offer is None or not self._knew(claim.offer_id):
            text = f"{claim.offer_id} is not an offer that its home had acked"
            self._name("claim-offer-unknown", position, now_ms, text, job.job_id)
            return
        longest_ms = claim_until(now_ms, self._rules, may_ask=offer.terms.may_ask)
        if claim.claim_until_ms > longest_ms:
            text = f"it stands {claim.claim_until_ms - longest_ms} ms longer than the rules allow"
            self._name("claim-too-long", position, now_ms, text, job.job_id)

    def _release(self, record: Release, position: Position, now_ms: int) -> None:
        self._free(record, position, now_ms)

    def _handover(self, record: Handover, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            return
        entry, claim, job = parts
        claim_id = entry.claim_id
        if not self._knew(self._spoken.get((claim_id, "accept"))):
            text = f"its home had acked no accept of claim {claim_id}"
            self._name("handover-not-accepted", position, now_ms, text, job.job_id)
        else:
            agreed_ms = accept_until(claim.claim_until_ms, self._rules)
            if now_ms >= min(entry.host_side.accept_until_ms, agreed_ms):
                text = f"the accept of claim {claim_id} was over"
                self._name("handover-late", position, now_ms, text, job.job_id)
        agreed_ms = lease_until(now_ms, job.job.walltime_s, self._rules)
        if record.lease_until_ms > agreed_ms:
            text = f"the lease is {record.lease_until_ms - agreed_ms} ms longer than agreed"
            self._name("lease-too-long", position, now_ms, text, job.job_id)
        self._check_leases(entry, job, position, now_ms)

    def _check_leases(
        self, entry: ClaimEntry, job: JobEntry, position: Position, now_ms: int
    ) -> None:
        """A job has one lease at a time: until its end, its Close, or Lost after its time."""
        for claim_id in job.claims:
            other = self._registers.claims[claim_id]
            leased = other.phase in (HomePhase.HANDED, HomePhase.LOST)
            if other is entry or not leased or now_ms >= other.lease_until_ms:
                continue
            if other.host_side.phase not in (HostPhase.CLOSED, HostPhase.ENDED):
                text = f"{job.job_id} is leased under claim {claim_id} already"
                self._name("lease-double", position, now_ms, text, job.job_id)

    def _lost(self, record: Lost, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            return
        entry, _, job = parts
        if now_ms < entry.lease_until_ms:
            text = f"the lease had {entry.lease_until_ms - now_ms} ms to go"
            self._name("lost-early", position, now_ms, text, job.job_id)
        self._free(record, position, now_ms)

    # The host accepts, starts, ends

    def _accept(self, record: Accept, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            self._name_unknown(record.claim_id, position, now_ms)
            return
        entry, claim, job = parts
        self._spoken[entry.claim_id, "accept"] = position
        if not self._knew(entry.claim_id):
            self._name_unknown(record.claim_id, position, now_ms)
        if now_ms >= claim.claim_until_ms:
            text = f"claim {entry.claim_id} was over"
            self._name("accept-late", position, now_ms, text, job.job_id)
        agreed_ms = accept_until(claim.claim_until_ms, self._rules)
        if record.accept_until_ms > agreed_ms:
            text = f"it holds for {record.accept_until_ms - agreed_ms} ms longer than agreed"
            self._name("accept-too-long", position, now_ms, text, job.job_id)
        offer = self._registers.offers.get(OfferId(claim.offer_id))
        if offer is not None:
            self._check_capacity(entry, job, offer, position, now_ms)

    def _check_capacity(
        self, entry: ClaimEntry, job: JobEntry, offer: OfferEntry, position: Position, now_ms: int
    ) -> None:
        """What a host holds by its own word must fit what it offers at that time."""
        held = self._held.setdefault(offer.offer_id, _Held())
        before, need = held.total, amount_of(job.job)
        if entry.state in HOLDS_CAPACITY:
            held.add(entry.claim_id, need)
        total = capacity_of(offer.terms, offer.nodes)
        if offer.closed:
            text = f"offer {offer.offer_id} is closed"
            self._name("accept-offer-closed", position, now_ms, text, job.job_id)
        elif not covers(_less(total, before), need):
            text = (
                f"offer {offer.offer_id} has {total.cores} cores, {total.gpus} GPUs, "
                f"{total.memory_mib} MiB, of which {before.cores}, {before.gpus}, "
                f"{before.memory_mib} were held"
            )
            self._name("capacity-exceeded", position, now_ms, text, job.job_id)

    def _start(self, record: Start, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            self._name_unknown(record.claim_id, position, now_ms)
            return
        entry, _, job = parts
        if not self._knew(entry.handover):
            text = f"its host had acked no handover of claim {entry.claim_id}"
            self._name("start-without-lease", position, now_ms, text, job.job_id)
            return
        agreed_ms = lease_until(entry.handover_ms, job.job.walltime_s, self._rules)
        last_ms = begin_before(
            min(entry.lease_until_ms, agreed_ms), job.job.walltime_s, self._rules
        )
        if now_ms >= last_ms + self._rules.clock_error_ms:
            text = "the job could outlast its lease"
            self._name("start-late", position, now_ms, text, job.job_id)

    def _end(self, record: End, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            self._name_unknown(record.claim_id, position, now_ms)
            return
        entry, _, job = parts
        self._spoken[entry.claim_id, "end"] = position
        self._free(record, position, now_ms)
        nodes, walltime_s = job.job.nodes, job.job.walltime_s
        elapsed_s = -(-max(0, record.ended_ms - record.started_ms) // 1000)
        counted_s = min(elapsed_s, walltime_s)
        cores, gpus = nodes * job.job.cores_per_node, nodes * job.job.gpus_per_node
        if record.core_s > cores * counted_s or record.gpu_s > gpus * counted_s:
            text = (
                f"{record.core_s} core-seconds and {record.gpu_s} GPU-seconds are more than "
                f"{cores} cores and {gpus} GPUs give in {counted_s} s"
            )
            self._name("end-over-claim", position, now_ms, text, job.job_id)
        slack_ms = self._rules.clock_error_ms
        if record.ended_ms < record.started_ms or record.ended_ms > now_ms + slack_ms:
            text = "its times do not fit each other, or the block's"
            self._name("end-times", position, now_ms, text, job.job_id)
        elif entry.lease_until_ms and record.ended_ms > entry.lease_until_ms:
            text = f"the job ran {record.ended_ms - entry.lease_until_ms} ms beyond its lease"
            self._name("end-after-lease", position, now_ms, text, job.job_id)

    def _name_unknown(self, claim_id: Position, position: Position, now_ms: int) -> None:
        if claim_id[:2] in self._forked():
            return
        text = f"{claim_id} is not a claim that its author had acked"
        finding = Finding(
            Severity.WARNING, "claim-unknown", str(position), text, position.centre, None, now_ms
        )
        self._findings.add(finding)

    def _free(self, record: Close | Release | Lost | End, position: Position, now_ms: int) -> None:
        """A host that closed or ended, or a home that released, holds nothing any more."""
        parts = self._parts(record.claim_id)
        if parts is None:
            return
        entry, claim, _ = parts
        held = self._held.get(OfferId(claim.offer_id))
        running = entry.state is ClaimState.LOST and entry.host_side.phase is HostPhase.STARTED
        if held is not None and not running:
            held.drop(entry.claim_id)
        if entry.over:
            self._spoken.pop((entry.claim_id, "accept"), None)

    # The home settles

    def _settlement(self, record: Receipt | Dispute, position: Position, now_ms: int) -> None:
        parts = self._parts(record.claim_id)
        if parts is None:
            return
        entry, _, job = parts
        if isinstance(record, Dispute) and isinstance(entry.settlement, Receipt):
            return  # The receipt was judged; a dispute may follow it.
        end = entry.host_side.end
        ended = self._spoken.pop((entry.claim_id, "end"), None)
        self._spoken.pop((entry.claim_id, "accept"), None)
        if end is None or not self._knew(ended):
            text = f"its home had acked no end of claim {entry.claim_id}"
            self._name("settlement-early", position, now_ms, text, job.job_id)
            return
        stated, told = (end.core_s, end.gpu_s), (record.core_s, record.gpu_s)
        if isinstance(record, Receipt) and stated != told:
            text = f"it countersigns {told[0]} and {told[1]} s, the end states {stated[0]} and "
            self._name("receipt-differs", position, now_ms, f"{text}{stated[1]} s", job.job_id)
        if isinstance(record, Dispute) and told[0] > stated[0]:
            text = f"it states more core-seconds ({told[0]}) than the end ({stated[0]})"
            self._name("dispute-more", position, now_ms, text, job.job_id)


class _Held:
    """What claims hold of one offer, by its host's own word."""

    __slots__ = ("_claims", "total")

    def __init__(self) -> None:
        self._claims: dict[ClaimId, Amount] = {}
        self.total = _NOTHING

    def add(self, claim_id: ClaimId, amount: Amount) -> None:
        if claim_id not in self._claims:
            self._claims[claim_id] = amount
            self.total = Amount(*(a + b for a, b in zip(self.total, amount, strict=True)))

    def drop(self, claim_id: ClaimId) -> None:
        amount = self._claims.pop(claim_id, None)
        if amount is not None:
            self.total = _less(self.total, amount)


def _less(free: Amount, taken: Amount) -> Amount:
    return Amount(*(f - t for f, t in zip(free, taken, strict=True)))
