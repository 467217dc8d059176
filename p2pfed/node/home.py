"""The home's side of a claim: we alone say where our job is, and what its usage counts.

As on the host's side, `review` looks at one claim and does what is due. Design section 6 is the law
here:

- a claim that nobody accepted by `claim_until`, or nobody came for by `accept_until`, is released;
- Handover is written when the host asks for the payload, never before, and the first byte leaves
  only after the host, holding that block durably, names its id;
- until the lease ends the job goes nowhere else; Lost is written only after that, by our clock;
- an End is countersigned, or disputed when it states more than can have been consumed.
"""

from __future__ import annotations

from collections import deque

from p2pfed.core.closing import may_be_done
from p2pfed.core.entries import ClaimEntry, JobEntry
from p2pfed.core.ids import CentreName, ClaimId, JobId
from p2pfed.core.lifecycle import (
    ClaimState,
    HomePhase,
    HostPhase,
    accept_until,
    lease_until,
    may_declare_lost,
    may_hand_over,
)
from p2pfed.core.records import (
    FINAL_OUTCOMES,
    Cancel,
    Claim,
    Dispute,
    Done,
    End,
    Handover,
    Hold,
    Job,
    Lost,
    Outcome,
    Receipt,
    Release,
    Unhold,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import hlc_ms
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.node.deadlines import Deadlines
from p2pfed.node.effects import (
    WARNING,
    AnswerTransfer,
    FetchResult,
    ForgetPayload,
    ForgetResult,
    Reply,
    SendCheckpoint,
    SendPayload,
)
from p2pfed.node.events import (
    CancelJob,
    HandoverNamed,
    PayloadAsked,
    ResultAsked,
    ResultFailed,
    ResultFetched,
    SiblingSecured,
    SubmitJob,
)
from p2pfed.node.host import RETRY_MS, Host
from p2pfed.node.ledger import Ledger
from p2pfed.node.shelf import unsendable
from p2pfed.node.siblings import Siblings
from p2pfed.node.standing import require_member
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn

NO_RESULT = bytes(32)


class Home:
    """What we do with our own jobs and claims."""

    def __init__(self, ledger: Ledger, host: Host, deadlines: Deadlines, trust: Trust) -> None:
        self._ledger = ledger
        self._host = host
        self._deadlines = deadlines
        self._trust = trust
        self._fetching: set[ClaimId] = set()
        self._fetched: set[ClaimId] = set()
        self._hopeless: set[ClaimId] = set()
        self._forgotten: set[JobId] = set()
        self._undisputed: dict[JobId, None] = {}  # what waits for a dispute, the oldest first
        self._early: dict[ClaimId, list[PayloadAsked]] = {}
        self._posted: deque[int] = deque()  # when, of our jobs that no cut has passed
        self.siblings = Siblings(ledger)

    @property
    def _rules(self) -> Rules:
        return self._ledger.rules

    # Users

    def submit(self, event: SubmitJob, turn: Turn) -> None:
        """Posts a job; the reply leaves when the job is durable."""
        try:
            refusal = unsendable(event.job)
            if refusal is not None:
                raise refusal
            require_member(self._ledger, turn.now_ms)
            self._check(event.job)
        except P2pfedError as error:
            turn.do(Reply(request=event.request, error=error))
            return
        position = self._ledger.write(event.job, turn.now_ms)
        self._posted.append(turn.now_ms)
        self._ledger.keep(f"job/{position}", event.local)
        if event.sibling:
            self.siblings.add(JobId(position), event.sibling)
        turn.do(Reply(request=event.request, result=str(position)))

    def _check(self, job: Job) -> None:
        """Refuses at once what no centre could ever run.

        Raises:
            InputError: `job-class-unknown`, `job-resource-class-unknown`, `job-walltime`.
            StateError: `job-queue-full`.
        """
        rules = self._rules
        if rules.work_class(job.work_class) is None:
            names = ", ".join(c.name for c in rules.classes)
            raise InputError(
                "job-class-unknown",
                f"the federation has no class {job.work_class!r}",
                remedy=f"use one of {names}",
            )
        if rules.resource_class(job.resource_class) is None:
            names = ", ".join(c.name for c in rules.resource_classes)
            raise InputError(
                "job-resource-class-unknown",
                f"the federation has no resource class {job.resource_class!r}",
                remedy=f"use one of {names}",
            )
        if job.walltime_s > rules.walltime_max_s:
            raise InputError(
                "job-walltime",
                f"the job asks for {job.walltime_s} s, the federation allows "
                f"{rules.walltime_max_s} s",
                remedy="ask for a shorter time",
            )
        if self._waiting() >= rules.live_jobs_max:
            raise StateError(
                "job-queue-full",
                f"{rules.live_jobs_max} jobs of this centre wait already",
                remedy="submit again when some of them have started",
            )

    def _waiting(self) -> int:
        """Our jobs that wait: those at the last cut, and those that were posted since."""
        cut_ms = self._ledger.view.cut_ms
        while self._posted and self._posted[0] <= cut_ms:
            self._posted.popleft()
        return self._ledger.view.state.queue.count(self._ledger.me.name) + len(self._posted)

    def cancel(self, event: CancelJob, turn: Turn) -> None:
        """Cancels a job of ours, wherever it is."""
        entry = self._ledger.live.jobs.get(event.job_id)
        if entry is None or event.job_id.centre != self._ledger.me.name:
            error: P2pfedError = StateError(
                "job-unknown", f"no job {event.job_id} of this centre", remedy="see: p2pfed jobs"
            )
            turn.do(Reply(request=event.request, error=error))
            return
        verdict = self._ledger.live.judge(entry)
        if verdict.state.final:
            error = StateError("job-final", f"job {event.job_id} is {verdict.state.value} already")
            turn.do(Reply(request=event.request, error=error))
            return
        if not entry.cancelled:
            self._ledger.write(Cancel(job_id=event.job_id), turn.now_ms)
        turn.do(Reply(request=event.request, result=str(event.job_id)))

    def hold(self, job_id: JobId, *, held: bool, now_ms: int) -> None:
        """Keeps a job of ours out of the matching, or lets it in again; again is fine.

        Raises:
            StateError: `job-unknown`; `job-final`; `job-started`: a host has it.
        """
        entry = self._ledger.live.jobs.get(job_id)
        if entry is None or job_id.centre != self._ledger.me.name:
            raise StateError(
                "job-unknown", f"no job {job_id} of this centre", remedy="see: p2pfed jobs"
            )
        verdict = self._ledger.live.judge(entry)
        if verdict.state.final:
            raise StateError("job-final", f"job {job_id} is {verdict.state.value} already")
        live = None if verdict.live is None else self._ledger.live.claims[verdict.live]
        if held and live is not None and live.phase is not HomePhase.CLAIMED:
            raise StateError(
                "job-started",
                f"a host has job {job_id} already",
                remedy=f"cancel it: p2pfed cancel {job_id}",
            )
        if entry.held != held:
            record = Hold(job_id=job_id) if held else Unhold(job_id=job_id)
            self._ledger.write(record, now_ms)

    # Looking at a claim

    def is_ours(self, entry: ClaimEntry) -> bool:
        """True if the claim is one of ours."""
        return entry.claim is not None and entry.home == self._ledger.me.name

    def review(self, entry: ClaimEntry, turn: Turn) -> None:
        """Does what is due for a claim of ours."""
        job = self._ledger.live.job_of(entry.claim_id)
        if entry.claim is None or job is None:
            return
        if entry.state is not ClaimState.CLAIMED:
            for asked in self._early.pop(entry.claim_id, ()):
                self.payload_asked(asked, turn)
        match entry.state:
            case ClaimState.CLAIMED:
                self._keep_or_release(entry, job, entry.claim.claim_until_ms, turn)
            case ClaimState.ACCEPTED:
                self._keep_or_release(entry, job, self._accept_until(entry, entry.claim), turn)
            case ClaimState.LEASED | ClaimState.STARTED:
                self._keep_or_lose(entry, turn)
            case ClaimState.ENDED:
                self._settle(entry, job.job, turn)
            case ClaimState.LOST:
                if entry.settlement is None and entry.host_side.end is not None:
                    self._countersign(entry, job.job, entry.host_side.end, turn)
            case ClaimState.CLOSED | ClaimState.RELEASED:
                pass
        final = self._ledger.live.judge(job).state.final
        self.siblings.review(entry, job.job_id, final=final, turn=turn)
        self.review_job(job, turn)

    def _accept_until(self, entry: ClaimEntry, claim: Claim) -> int:
        """Until when we keep a job for its host; one that names a later time can't hold it."""
        agreed_ms = accept_until(claim.claim_until_ms, self._rules)
        return min(entry.host_side.accept_until_ms, agreed_ms)

    def _is_former(self, entry: ClaimEntry, turn: Turn) -> bool:
        """Whether the claim is of a former epoch, of which we may have forgotten something.

        Then nothing is said of it until all that we may have promised is over.
        """
        former = entry.claim_id.epoch != self._ledger.me.epoch
        if former and self._trust.careful(turn.now_ms):
            self._deadlines.at(self._trust.careful_until_ms, entry.claim_id)
            return True
        return False

    def _keep_or_release(self, entry: ClaimEntry, job: JobEntry, until_ms: int, turn: Turn) -> None:
        if self._is_former(entry, turn):
            return
        if job.cancelled:
            reason = "cancelled"
        elif job.held:
            reason = "held"
        elif turn.now_ms >= until_ms:
            reason = "expired"
        else:
            self._deadlines.at(until_ms, entry.claim_id)
            return
        self._ledger.write(Release(claim_id=entry.claim_id, reason=reason), turn.now_ms)

    def _keep_or_lose(self, entry: ClaimEntry, turn: Turn) -> None:
        if self._is_former(entry, turn):
            return
        if not may_declare_lost(turn.now_ms, entry.lease_until_ms):
            self._deadlines.at(entry.lease_until_ms, entry.claim_id)
        elif not self._trust.clock(turn.now_ms):
            self._deadlines.at(turn.now_ms + RETRY_MS, entry.claim_id)
        else:
            self._ledger.write(Lost(claim_id=entry.claim_id), turn.now_ms)

    # Handover

    def payload_asked(self, event: PayloadAsked, turn: Turn) -> None:
        """The host of a claim asks for the payload: now, and only now, the lease begins."""
        entry = self._ledger.live.claims.get(event.claim_id)
        refusal = self._handover_refusal(entry, event.centre, turn.now_ms)
        if refusal is not None or entry is None:
            retry = refusal is not None and refusal.code == "transfer-clock"
            turn.do(AnswerTransfer(transfer=event.transfer, error=refusal, retry=retry))
            return
        if entry.state is ClaimState.CLAIMED:
            # The asking connection was faster than the block with the Accept.
            self._early.setdefault(event.claim_id, []).append(event)
            return
        job = self._ledger.live.job_of(event.claim_id)
        if entry.phase is HomePhase.CLAIMED and job is not None:
            if not self.siblings.may_hand_over(job.job_id, event, turn):
                return
            until_ms = lease_until(turn.now_ms, job.job.walltime_s, self._rules)
            self._ledger.write(
                Handover(claim_id=event.claim_id, lease_until_ms=until_ms), turn.now_ms
            )
        position = entry.handover
        assert position is not None
        turn.do_sealed(
            lambda: AnswerTransfer(
                transfer=event.transfer, block_id=self._ledger.block_id_at(position)
            )
        )

    def _handover_refusal(
        self, entry: ClaimEntry | None, centre: CentreName, now_ms: int
    ) -> StateError | None:
        if (
            entry is None
            or not self.is_ours(entry)
            or entry.claim is None
            or entry.claim.offer_id.centre != centre
        ):
            return StateError("transfer-claim-unknown", f"{centre} holds no such claim of ours")
        job = self._ledger.live.job_of(entry.claim_id)
        if job is None or job.cancelled:
            return StateError(
                "transfer-cancelled", f"the job of claim {entry.claim_id} is cancelled"
            )
        if entry.phase is HomePhase.CLAIMED and entry.claim_id.epoch != self._ledger.me.epoch:
            return StateError(
                "transfer-former-epoch",
                f"claim {entry.claim_id} is of a former epoch: nothing of it is handed over",
            )
        if entry.state in (ClaimState.LEASED, ClaimState.CLAIMED):
            return None
        if entry.host_side.phase is not HostPhase.ACCEPTED or entry.phase is not HomePhase.CLAIMED:
            return StateError(
                "transfer-not-accepted", f"claim {entry.claim_id} is {entry.state.value}"
            )
        if not may_hand_over(now_ms, self._accept_until(entry, entry.claim), self._rules):
            return StateError("transfer-late", f"the accept of claim {entry.claim_id} is over")
        if not self._trust.clock(now_ms):
            return StateError(
                "transfer-clock", "our clock differs from our peers'; ask again later"
            )
        return None

    def sibling_secured(self, event: SiblingSecured, turn: Turn) -> None:
        """The local sibling of a job is held, so it may be handed over; or it is not."""
        waiting = self.siblings.secured(event.claim_id, held=event.held)
        entry = self._ledger.live.claims.get(event.claim_id)
        job = self._ledger.live.job_of(event.claim_id)
        if event.held:
            for asked in waiting:
                self.payload_asked(asked, turn)
            if entry is not None:  # it may be over by now, and its sibling held for nothing
                self._ledger.touched.append(event.claim_id)
            return
        error = StateError(
            "transfer-sibling",
            "the job may have started at its home",
            remedy="ask again later" if event.again else "",
        )
        for asked in waiting:
            turn.do(AnswerTransfer(transfer=asked.transfer, error=error, retry=event.again))
        if event.again or entry is None or job is None or entry.phase is not HomePhase.CLAIMED:
            return
        if not entry.over:
            release = Release(claim_id=event.claim_id, reason="started-at-home")
            self._ledger.write(release, turn.now_ms)
        if not job.cancelled:
            self._ledger.write(Cancel(job_id=job.job_id), turn.now_ms)

    def handover_named(self, event: HandoverNamed, turn: Turn) -> None:
        """The host shows that it knows its lease: the payload may leave."""
        entry = self._ledger.live.claims.get(event.claim_id)
        job = self._ledger.live.job_of(event.claim_id)
        known = (
            entry is not None
            and entry.handover is not None
            and entry.claim is not None
            and entry.claim.offer_id.centre == event.centre
            and self._ledger.block_id_at(entry.handover) == event.block_id
        )
        if not known or entry is None or job is None or entry.state is not ClaimState.LEASED:
            error = StateError(
                "transfer-handover", f"that block does not hand claim {event.claim_id} over"
            )
            turn.do(AnswerTransfer(transfer=event.transfer, error=error))
            return
        turn.do(
            SendPayload(
                transfer=event.transfer,
                job_id=job.job_id,
                payload_digest=job.job.payload_digest,
            )
        )

    def checkpoint_asked(self, event: ResultAsked, turn: Turn) -> None:
        """The host of a job's claim in force asks for what an earlier attempt of it saved."""
        live = self._ledger.live
        earlier, job = live.claims.get(event.claim_id), live.job_of(event.claim_id)
        verdict = None if job is None else live.judge(job)
        current = None if verdict is None or verdict.live is None else live.claims[verdict.live]
        allowed = (
            earlier is not None
            and earlier.host_side.end is not None
            and earlier.host_side.end.outcome == Outcome.PREEMPTED
            and current is not None
            and current.claim is not None
            and current.claim.offer_id.centre == event.centre
            and current.state in (ClaimState.LEASED, ClaimState.STARTED)
        )
        if not allowed:
            error = StateError(
                "transfer-no-result", f"there is no result of claim {event.claim_id} for you"
            )
            turn.do(AnswerTransfer(transfer=event.transfer, error=error))
            return
        turn.do(SendCheckpoint(transfer=event.transfer, claim_id=event.claim_id))

    # Results and receipts

    def _settle(self, entry: ClaimEntry, job: Job, turn: Turn) -> None:
        end = entry.host_side.end
        if end is None or entry.claim is None or entry.settlement is not None:
            return
        # A job waits for the result that ends it; for what it saved on its way only so long that
        # doing it again would be the better way.
        final = end.outcome in FINAL_OUTCOMES
        patience_ms = self._rules.receipt_deadline_ms // 2 if final else self._rules.fetch_ms
        give_up_ms = hlc_ms(entry.host_side.ended) + patience_ms
        wanted = (
            end.result_digest != NO_RESULT
            and (final or end.outcome == Outcome.PREEMPTED)
            and entry.claim_id not in self._fetched
        )
        if not wanted or entry.claim_id in self._hopeless or turn.now_ms >= give_up_ms:
            self._countersign(entry, job, end, turn)
            return
        self._deadlines.at(give_up_ms, entry.claim_id)
        if entry.claim_id not in self._fetching:
            self._fetching.add(entry.claim_id)
            host = entry.claim.offer_id.centre
            turn.do(
                FetchResult(
                    claim_id=entry.claim_id,
                    host=host,
                    address=self._host.address(host),
                    job_id=JobId(entry.claim.job_id),
                    result_digest=end.result_digest,
                    result_bytes=end.result_bytes,
                )
            )

    def _countersign(self, entry: ClaimEntry, job: Job, end: End, turn: Turn) -> None:
        """Agrees with what the host states, unless it is more than can have been consumed."""
        held_ms = hlc_ms(entry.host_side.ended) - entry.handover_ms + self._rules.clock_error_ms
        held_s = min(-(-max(0, held_ms) // 1000), job.walltime_s)
        cores, gpus = job.nodes * job.cores_per_node, job.nodes * job.gpus_per_node
        core_s, gpu_s = min(end.core_s, cores * held_s), min(end.gpu_s, gpus * held_s)
        settlement: Receipt | Dispute
        if (core_s, gpu_s) == (end.core_s, end.gpu_s):
            settlement = Receipt(claim_id=entry.claim_id, core_s=core_s, gpu_s=gpu_s)
        else:
            settlement = Dispute(
                claim_id=entry.claim_id,
                core_s=core_s,
                gpu_s=gpu_s,
                reason="more than its lease can have held",
            )
        self._ledger.write(settlement, turn.now_ms)
        if entry.claim_id in self._fetched:
            self._forget_earlier(entry, turn)
        self._fetched.discard(entry.claim_id)
        self._hopeless.discard(entry.claim_id)

    def _forget_earlier(self, entry: ClaimEntry, turn: Turn) -> None:
        """What earlier attempts saved is of no use once a later one's result is here."""
        live, job = self._ledger.live, self._ledger.live.job_of(entry.claim_id)
        claims = () if job is None else job.claims
        for claim_id in claims[: claims.index(entry.claim_id)] if claims else ():
            end = live.claims[claim_id].host_side.end
            if end is not None and end.result_digest != NO_RESULT:
                turn.do(ForgetResult(claim_id=claim_id))

    def result_fetched(self, event: ResultFetched, turn: Turn) -> None:
        """The result is complete and durable here."""
        self._fetching.discard(event.claim_id)
        self._fetched.add(event.claim_id)
        self._ledger.touched.append(event.claim_id)

    def result_failed(self, event: ResultFailed, turn: Turn) -> None:
        """The result did not come; what can't come any more does not hold the receipt up."""
        self._fetching.discard(event.claim_id)
        turn.note(WARNING, "result-failed", f"result of {event.claim_id}: {event.why}")
        if event.final:
            self._hopeless.add(event.claim_id)
            self._ledger.touched.append(event.claim_id)
        else:
            self._deadlines.at(turn.now_ms + RETRY_MS, event.claim_id)

    def review_job(self, job: JobEntry, turn: Turn) -> None:
        """Lets the payload of a job of ours go once nothing can need it, and says the last word."""
        live = self._ledger.live
        if job.done or not live.judge(job).state.final:
            return
        if job.job_id not in self._forgotten and all(live.claims[c].over for c in job.claims):
            self._forgotten.add(job.job_id)
            turn.do(ForgetPayload(job_id=job.job_id, payload_digest=job.job.payload_digest))
        if not may_be_done(job, live):
            return
        until_ms = self._objection_until_ms(job)
        if turn.now_ms >= until_ms:
            self._say_last_word(job.job_id, turn)
            return
        self._deadlines.at(until_ms, job.claims[-1])
        self._undisputed[job.job_id] = None
        while len(self._undisputed) > self._rules.objections_max:
            oldest = next(iter(self._undisputed))
            del self._undisputed[oldest]
            entry = live.jobs.get(oldest)
            if entry is not None and not entry.done and may_be_done(entry, live):
                self._say_last_word(oldest, turn)

    def _say_last_word(self, job_id: JobId, turn: Turn) -> None:
        self._ledger.write(Done(job_id=job_id), turn.now_ms)
        self._forgotten.discard(job_id)
        self._undisputed.pop(job_id, None)

    def _objection_until_ms(self, job: JobEntry) -> int:
        """Until when our people may still dispute what the job consumed: our last word waits."""
        claims = (self._ledger.live.claims[claim_id] for claim_id in job.claims)
        ran = [hlc_ms(entry.settled) for entry in claims if entry.settlement is not None]
        return max(ran) + self._rules.objection_ms if ran else 0
