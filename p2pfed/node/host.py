"""The host's side of a claim: we are asked last, and we alone say what runs here.

Everything a host does follows from the live registers: `review` looks at one claim and does what is
due, so it may be called at any time, any number of times, and a restart needs no memory of its own.
Design section 6 is the law here:

- accept only what our own accepts to date leave room for; with an equal view it must be our own
  match, with another view it must do no harm; then our private policy speaks;
- an accept ends at `accept_until`, and a Close is final;
- start only with the payload and the lease in hand, and only if the job is surely over, by our
  clock, ε before the lease is;
- Start is durable before anything is submitted; End is written when the batch system shows the end.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import Final

from p2pfed.core.entries import ClaimEntry, JobEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId
from p2pfed.core.lifecycle import (
    ClaimState,
    HostPhase,
    accept_until,
    begin_before,
    kill_at,
    lease_until,
)
from p2pfed.core.records import Accept, Claim, Close, End, Job, Outcome, Record, Start
from p2pfed.core.rules import Rules
from p2pfed.errors import StateError
from p2pfed.node.admission import DEFAULT, AdmissionPolicy, Decision, Mode
from p2pfed.node.control import Control, Order
from p2pfed.node.court import Court
from p2pfed.node.deadlines import Deadlines
from p2pfed.node.effects import (
    WARNING,
    AnswerTransfer,
    CancelNative,
    Checkpoint,
    FetchPayload,
    ForgetClaim,
    NameHandover,
    SendResult,
    SubmitNative,
    WatchNative,
)
from p2pfed.node.events import (
    AnswerRequest,
    NativeEnded,
    NativeNotFound,
    NativeRefused,
    PayloadFailed,
    PayloadFetched,
    ResultAsked,
)
from p2pfed.node.ledger import Ledger
from p2pfed.node.rounds import Rounds
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn

RETRY_MS: Final = 1_000
"""How soon to look again at what only waits for a clock to be right."""


def native_name(claim_id: ClaimId, federation: bytes) -> str:
    """The batch system's name for an attempt: tells the claim, and is unique without looking.

    At most 64 characters, as a word of a record; the tag is of the whole id and of the federation,
    since claims of two federations of one centre may have the same id.
    """
    tag = hashlib.sha256(federation + str(claim_id).encode()).hexdigest()[:8]
    return f"p2pfed-{claim_id}"[: 64 - 1 - len(tag)] + f"-{tag}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """A claim that waits for a person's word: by which rule, since when, until when."""

    rule: str
    since_ms: int
    until_ms: int


class Host:
    """What we do with the claims of others on our offers."""

    def __init__(
        self,
        ledger: Ledger,
        rounds: Rounds,
        deadlines: Deadlines,
        trust: Trust,
        policy: AdmissionPolicy,
        control: Control,
    ) -> None:
        self._ledger = ledger
        self._control = control
        self._court = Court(ledger, rounds, control)
        self._deadlines = deadlines
        self._trust = trust
        self.policy = policy
        self._fetching: set[ClaimId] = set()
        self._fetched: set[ClaimId] = set()
        self._named: set[ClaimId] = set()
        self._submitted: set[ClaimId] = set()
        self._cancelled: set[ClaimId] = set()
        self._vanished: set[ClaimId] = set()
        self.asked: dict[ClaimId, Asked] = {}
        self.addresses = dict(ledger.federation.addresses)

    @property
    def _rules(self) -> Rules:
        return self._ledger.rules

    # Looking at a claim

    def is_ours(self, entry: ClaimEntry) -> bool:
        """True if the claim is on an offer of ours."""
        return entry.claim is not None and entry.claim.offer_id.centre == self._ledger.me.name

    def review(self, entry: ClaimEntry, turn: Turn) -> None:
        """Does what is due for a claim on an offer of ours."""
        job = self._ledger.live.job_of(entry.claim_id)
        if entry.claim is None or job is None:
            return
        if entry.state is not ClaimState.CLAIMED:
            self.asked.pop(entry.claim_id, None)
            self._control.forget(entry.claim_id)
        withdrawn = self._control.mode is Mode.WITHDRAWN
        match entry.state:
            case ClaimState.CLAIMED:
                self._judge(entry, entry.claim, job, turn)
            case ClaimState.ACCEPTED | ClaimState.LEASED if withdrawn:
                self._close(entry, "withdrawn", turn)
            case ClaimState.ACCEPTED:
                self._await_lease(entry, job, turn)
            case ClaimState.LEASED:
                self._await_payload(entry, job, turn)
            case ClaimState.STARTED:
                self._run(entry, job, turn)
            case _:
                self._let_go(entry, turn)
        self._court.book(entry)

    def _write(self, record: Record, entry: ClaimEntry, turn: Turn) -> None:
        self._ledger.write(record, turn.now_ms)
        self._court.book(entry)

    def _close(self, entry: ClaimEntry, reason: str, turn: Turn) -> None:
        if self._trust.careful(turn.now_ms):
            # After a start without high-water file we may have started this claim already.
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
            return
        self._write(Close(claim_id=entry.claim_id, reason=reason), entry, turn)

    # Claimed: may it come?

    def _judge(self, entry: ClaimEntry, claim: Claim, job: JobEntry, turn: Turn) -> None:
        if self._trust.careful(turn.now_ms):
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
            return
        ruling = self._court.rule(entry, claim, job, self.policy, turn.now_ms)
        claim_id, rule = entry.claim_id, ruling.rule
        if ruling.close is not None:
            if ruling.close in ("policy", "unanswered"):
                self._control.log(turn, "decline", str(claim_id), who="policy", why=rule.name)
            self._close(entry, ruling.close, turn)
        elif ruling.look_again_ms is not None:
            self._deadlines.at(ruling.look_again_ms, claim_id)
            if ruling.ask and claim_id not in self.asked:
                self.asked[claim_id] = Asked(
                    rule=rule.name, since_ms=turn.now_ms, until_ms=ruling.look_again_ms
                )
                self._control.log(turn, "ask", str(claim_id), who="policy", why=rule.name)
        else:
            if rule.decision is Decision.ACCEPT and rule is not DEFAULT:
                self._control.log(turn, "accept", str(claim_id), who="policy", why=rule.name)
            self._accept(entry, claim, turn)

    def answer(self, event: AnswerRequest, turn: Turn) -> None:
        """A person answers what the policy asked about a claim.

        Raises:
            StateError: `request-unknown`: nothing is asked about it (any more).
        """
        entry = self._ledger.live.claims.get(event.claim_id)
        if entry is None or event.claim_id not in self.asked:
            raise StateError(
                "request-unknown",
                f"nobody waits for an answer about claim {event.claim_id}",
                remedy="see: p2pfed requests",
            )
        action = "approve" if event.approve else "deny"
        self._control.log(turn, action, str(event.claim_id), who=event.who, why=event.reason)
        if event.approve:
            order = Order(who=event.who, reason=event.reason, at_ms=turn.now_ms)
            self._control.approve(event.claim_id, order)
            self._ledger.touched.append(event.claim_id)
        else:
            self._close(entry, "denied", turn)

    def withdraw(self, turn: Turn) -> None:
        """Ends every guest at once, also while nothing may be written: that follows."""
        for claim_id in sorted(self._ledger.live.claims):
            entry = self._ledger.live.claims[claim_id]
            if self.is_ours(entry) and entry.host_side.phase is HostPhase.STARTED:
                if claim_id not in self._submitted:
                    self._watch(entry, turn)
                self._cancel(entry, turn)

    def _accept(self, entry: ClaimEntry, claim: Claim, turn: Turn) -> None:
        until_ms = accept_until(claim.claim_until_ms, self._rules)
        self._write(Accept(claim_id=entry.claim_id, accept_until_ms=until_ms), entry, turn)

    # Accepted: the payload is asked for, and with it the lease

    def _await_lease(self, entry: ClaimEntry, job: JobEntry, turn: Turn) -> None:
        until_ms = entry.host_side.accept_until_ms
        if self._trust.careful(turn.now_ms):
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
        elif job.cancelled:
            self._close(entry, "cancelled", turn)
        elif turn.now_ms >= until_ms:
            self._close(entry, "expired", turn)
        else:
            self._deadlines.at(until_ms, entry.claim_id)
            self._fetch(entry, job, turn)

    def _fetch(self, entry: ClaimEntry, posted: JobEntry, turn: Turn) -> None:
        if entry.claim_id in self._fetching or entry.claim is None:
            return
        self._fetching.add(entry.claim_id)
        job = posted.job
        turn.do(
            FetchPayload(
                claim_id=entry.claim_id,
                home=entry.home,
                address=self.address(entry.home),
                job_id=JobId(entry.claim.job_id),
                payload_digest=job.payload_digest,
                payload_bytes=job.payload_bytes,
                checkpoint=self._checkpoint(posted),
            )
        )

    def _checkpoint(self, job: JobEntry) -> Checkpoint | None:
        """What the last attempt that was preempted saved, if it did."""
        for claim_id in reversed(job.claims):
            entry = self._ledger.live.claims.get(claim_id)
            end = None if entry is None else entry.host_side.end
            if end is not None and end.outcome == Outcome.PREEMPTED and any(end.result_digest):
                return Checkpoint(
                    claim_id=claim_id, digest=end.result_digest, size=end.result_bytes
                )
        return None

    def address(self, centre: CentreName) -> str:
        """Where a centre listens: as our administrator says, as it announces, or by the charter."""
        known = self.addresses.get(centre, "")
        if centre in self._ledger.federation.pinned:
            return known
        return self._ledger.live.contacts.get(centre) or known

    # Leased: the payload comes, the job starts

    def _lease_until(self, entry: ClaimEntry, job: Job) -> int:
        """The end of our lease; a home that names a later one can't hold our capacity with it."""
        agreed_ms = lease_until(entry.handover_ms, job.walltime_s, self._rules)
        return min(entry.lease_until_ms, agreed_ms)

    def _await_payload(self, entry: ClaimEntry, job: JobEntry, turn: Turn) -> None:
        lease_until_ms = self._lease_until(entry, job.job)
        before_ms = begin_before(lease_until_ms, job.job.walltime_s, self._rules)
        if self._trust.careful(turn.now_ms):
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
        elif entry.host_side.phase is HostPhase.SILENT:
            self._close(entry, "unjustified", turn)
        elif job.cancelled:
            self._close(entry, "cancelled", turn)
        elif turn.now_ms >= before_ms:
            self._close(entry, "lease-short", turn)
        elif self._beyond_window(entry, job.job, turn.now_ms):
            self._close(entry, "window-over", turn)
        elif entry.claim_id not in self._fetched:
            self._deadlines.at(before_ms, entry.claim_id)
            self._fetch(entry, job, turn)
            self._name_handover(entry, turn)
        elif not self._trust.clock(turn.now_ms):
            self._deadlines.at(min(before_ms, turn.now_ms + RETRY_MS), entry.claim_id)
        else:
            name = native_name(entry.claim_id, self._ledger.federation.id)
            self._write(Start(claim_id=entry.claim_id, native_name=name), entry, turn)

    def _beyond_window(self, entry: ClaimEntry, job: Job, now_ms: int) -> bool:
        """True if the job, begun now, could outlast the window of its offer."""
        offer = self._ledger.live.offers.get(OfferId(entry.claim.offer_id)) if entry.claim else None
        until_ms = offer.until_ms if offer else 0
        run_ms = job.walltime_s * 1000 + self._rules.kill_grace_ms
        return bool(until_ms) and now_ms + run_ms > until_ms

    def _name_handover(self, entry: ClaimEntry, turn: Turn) -> None:
        block_id = None
        if entry.handover is not None and entry.claim_id not in self._named:
            block_id = self._ledger.block_id_at(entry.handover)
        if block_id is not None:
            self._named.add(entry.claim_id)
            turn.do(NameHandover(claim_id=entry.claim_id, block_id=block_id))

    def payload_fetched(self, event: PayloadFetched, turn: Turn) -> None:
        """The payload is complete and durable in our spool."""
        self._fetching.discard(event.claim_id)
        self._fetched.add(event.claim_id)
        self._ledger.touched.append(event.claim_id)

    def payload_failed(self, event: PayloadFailed, turn: Turn) -> None:
        """The payload did not come: give the claim back at once if it never will."""
        self._fetching.discard(event.claim_id)
        self._named.discard(event.claim_id)
        entry = self._ledger.live.claims.get(event.claim_id)
        if entry is None:
            return
        turn.note(WARNING, "payload-failed", f"payload of {event.claim_id}: {event.why}")
        if not event.final:
            self._deadlines.at(turn.now_ms + RETRY_MS, event.claim_id)
        elif entry.state in (ClaimState.ACCEPTED, ClaimState.LEASED):
            self._close(entry, "payload-failed", turn)

    # Started: the batch system has it

    def _run(self, entry: ClaimEntry, job: JobEntry, turn: Turn) -> None:
        name = entry.host_side.native_name
        lease_until_ms = self._lease_until(entry, job.job)
        if entry.claim_id not in self._submitted:
            self._submitted.add(entry.claim_id)
            turn.do(
                SubmitNative(
                    claim_id=entry.claim_id,
                    native_name=name,
                    job_id=job.job_id,
                    job=job.job,
                    begin_before_ms=begin_before(lease_until_ms, job.job.walltime_s, self._rules),
                    kill_at_ms=kill_at(lease_until_ms, self._rules),
                    offer=self._offer_name(entry),
                )
            )
        if entry.claim_id in self._vanished:
            self._end_vanished(entry, turn)
        elif job.cancelled or self._control.mode is Mode.WITHDRAWN:
            self._cancel(entry, turn)

    def _offer_name(self, entry: ClaimEntry) -> str:
        offer = self._ledger.live.offers.get(OfferId(entry.claim.offer_id)) if entry.claim else None
        return offer.terms.name if offer else ""

    def _end_vanished(self, entry: ClaimEntry, turn: Turn) -> None:
        if self._trust.careful(turn.now_ms):
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
        else:
            self._vanished.discard(entry.claim_id)
            self._end_without_run(entry.claim_id, Outcome.NOT_FOUND, turn)

    def _cancel(self, entry: ClaimEntry, turn: Turn) -> None:
        if entry.claim_id not in self._cancelled:
            self._cancelled.add(entry.claim_id)
            name = entry.host_side.native_name
            turn.do(CancelNative(claim_id=entry.claim_id, native_name=name))

    def resume(self, entry: ClaimEntry, turn: Turn) -> None:
        """After a restart: books what we hold, and finds the native job of a claim that we started.

        Never submits again: nobody knows how far the submission came.
        """
        self._court.book(entry)
        phase = entry.host_side.phase
        if phase is HostPhase.STARTED or (phase is HostPhase.ENDED and entry.settlement is None):
            self._submitted.add(entry.claim_id)
        if phase is HostPhase.STARTED:
            self._watch(entry, turn)

    def _watch(self, entry: ClaimEntry, turn: Turn) -> None:
        job = self._ledger.live.job_of(entry.claim_id)
        if job is not None:
            turn.do(
                WatchNative(
                    claim_id=entry.claim_id,
                    native_name=entry.host_side.native_name,
                    job_id=job.job_id,
                    job=job.job,
                    kill_at_ms=kill_at(self._lease_until(entry, job.job), self._rules),
                    offer=self._offer_name(entry),
                )
            )

    def native_ended(self, event: NativeEnded, turn: Turn) -> None:
        """The batch system shows the job terminal: End is written, bounded by what was claimed."""
        entry, job = self._started(event.claim_id)
        if entry is None or job is None:
            return
        elapsed_ms = max(0, event.ended_ms - event.started_ms)
        cores = job.job.nodes * job.job.cores_per_node
        gpus = job.job.nodes * job.job.gpus_per_node
        limit_s = min(-(-elapsed_ms // 1000), job.job.walltime_s)
        # What was cancelled without its home asking, we took back.
        taken_back = event.outcome is Outcome.CANCELLED and not job.cancelled
        self._write(
            End(
                claim_id=event.claim_id,
                outcome=int(Outcome.PREEMPTED if taken_back else event.outcome),
                exit_code=event.exit_code,
                signal=event.signal,
                started_ms=event.started_ms,
                ended_ms=max(event.started_ms, event.ended_ms),
                core_s=min(event.core_s, cores * limit_s),
                gpu_s=min(event.gpu_s, gpus * limit_s),
                memory_mib_max=event.memory_mib_max,
                # It was not told to save its state: what it left is no place to go on from.
                result_digest=bytes(32) if taken_back else event.result_digest,
                result_bytes=0 if taken_back else event.result_bytes,
            ),
            entry,
            turn,
        )

    def native_not_found(self, event: NativeNotFound, turn: Turn) -> None:
        """The batch system does not know the job, whose start marker is ours: it will never run."""
        self._vanished.add(event.claim_id)
        self._ledger.touched.append(event.claim_id)

    def native_refused(self, event: NativeRefused, turn: Turn) -> None:
        """The batch system refused the submission for good."""
        turn.note(WARNING, "native-refused", f"{event.claim_id}: {event.why}")
        self._end_without_run(event.claim_id, Outcome.NOT_STARTED, turn)

    def _end_without_run(self, claim_id: ClaimId, outcome: Outcome, turn: Turn) -> None:
        entry, _ = self._started(claim_id)
        if entry is not None:
            now_ms = turn.now_ms
            end = End(
                claim_id=claim_id,
                outcome=int(outcome),
                started_ms=now_ms,
                ended_ms=now_ms,
                core_s=0,
            )
            self._write(end, entry, turn)

    def _started(self, claim_id: ClaimId) -> tuple[ClaimEntry | None, JobEntry | None]:
        """The claim if our side of it is started and not ended, and its job."""
        entry = self._ledger.live.claims.get(claim_id)
        if entry is None or entry.host_side.phase is not HostPhase.STARTED:
            return None, None
        return entry, self._ledger.live.job_of(claim_id)

    # Over

    def result_asked(self, event: ResultAsked, turn: Turn) -> None:
        """The home of a claim, and nobody else, gets its result."""
        entry = self._ledger.live.claims.get(event.claim_id)
        ours = entry is not None and self.is_ours(entry) and entry.home == event.centre
        if not ours or entry is None or entry.host_side.end is None:
            error = StateError(
                "transfer-no-result", f"there is no result of claim {event.claim_id} for you"
            )
            turn.do(AnswerTransfer(transfer=event.transfer, error=error))
            return
        turn.do(SendResult(transfer=event.transfer, claim_id=event.claim_id))

    def _let_go(self, entry: ClaimEntry, turn: Turn) -> None:
        """Releases what a claim that is over still has here."""
        if entry.host_side.phase is HostPhase.STARTED:
            # The home declared it lost: by our clock the lease is over too, nothing may live on.
            self._cancel(entry, turn)
            if entry.claim_id in self._vanished:
                self._end_vanished(entry, turn)
            return
        ended = entry.host_side.phase is HostPhase.ENDED
        if ended and entry.settlement is None:
            return
        if entry.claim_id in self._fetching | self._fetched | self._submitted:
            self._fetching.discard(entry.claim_id)
            self._fetched.discard(entry.claim_id)
            self._submitted.discard(entry.claim_id)
            turn.do(ForgetClaim(claim_id=entry.claim_id))
        self._named.discard(entry.claim_id)
        self._cancelled.discard(entry.claim_id)
        self._vanished.discard(entry.claim_id)
