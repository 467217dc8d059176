"""The matching state at a cut: registers, and what is kept ready so that a round costs little.

Theory of operation. `State` folds blocks and keeps, beside the plain registers, four things that
follow from them: the queue (who waits), the capacity that claims hold on each offer, what each home
has committed, and the accounts. Each is brought up to date from the registers of just the job,
claim or offer that a record touched. All of them are functions of the set of folded blocks and the
cut, never of the order of folding: a register has one writer and is read whole, a count replaces
what the same claim counted before, and what depends on time alone (a receipt's deadline, a job
without a witness) is settled when the cut passes it.

Folding only notes which jobs and claims were touched. They are looked at when somebody asks for
what follows from them: once a round, or once an audit, however many records touched them.

So two nodes that folded the same blocks up to the same cut hold the same state (invariant 4), and
the cost of a fold is that of its records (design section 11).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from heapq import heappop, heappush
from typing import cast

from p2pfed.core.accounting import Accounts, Standing
from p2pfed.core.blocks import Ack, Block
from p2pfed.core.books import Books
from p2pfed.core.charges import Charges
from p2pfed.core.closing import OFFER_KEPT_MS, is_closed
from p2pfed.core.constitution import Member
from p2pfed.core.governance import Governance
from p2pfed.core.ids import (
    CentreName,
    ClaimId,
    FeedKey,
    JobId,
    OfferId,
    Position,
)
from p2pfed.core.lifecycle import JobState
from p2pfed.core.matching import MatchInput
from p2pfed.core.matching_fit import OfferState, Running
from p2pfed.core.posting import Shares, Witnesses
from p2pfed.core.queue import Queue, QueuedJob
from p2pfed.core.records import (
    CLAIM_RECORDS,
    Cancel,
    Done,
    ForkProof,
    Hold,
    Inert,
    Job,
    Offer,
    OfferClose,
    OfferUpdate,
    Record,
    Unhold,
)
from p2pfed.core.registers import Registers
from p2pfed.core.rules import Rules, WorkClass
from p2pfed.core.seen import offer_state, running_of, shape_of
from p2pfed.core.tables import Forgotten
from p2pfed.core.units import HlcTime, day_of, hlc_ms


class State:
    """Everything that a round's matching, the accounts and the audit read.

    Args:
        rules: the charter's rules.
        credit_lines: the founders and their credit lines, in points.
        check_proof: as for `Registers`.
        members: the founders with their keys, where the keys are known.
    """

    def __init__(
        self,
        rules: Rules,
        credit_lines: Mapping[CentreName, int],
        check_proof: Callable[[ForkProof], tuple[FeedKey, int]],
        members: Iterable[Member] | None = None,
    ) -> None:
        self.rules = rules
        self.members = tuple(sorted(credit_lines))
        if members is None:
            members = (Member(name=c, credit_line=line) for c, line in credit_lines.items())
        self.governance = Governance(members, rules)
        self.registers = Registers(check_proof, rules.max_attempts, self.governance)
        self.version = self._posting_version = self.governance.versions()[0]
        self._lived_by: tuple[Position | None, ...] = (None,)
        self.stale = False
        self._classes = {work_class.name: work_class for work_class in rules.classes}
        self._queue = Queue(rules.urgency_points_per_hour)
        self._accounts = Accounts(rules, dict(credit_lines))
        self.charges = Charges(self.governance, self._accounts, rules)
        self.heard: dict[CentreName, HlcTime] = {}
        self.forked: frozenset[FeedKey] = frozenset()
        self.inert_count = 0
        self._witnesses = Witnesses(rules.heartbeat_ms)
        self._shares = Shares(rules, dict(credit_lines))
        self._class_of: dict[JobId, str] = {}
        self._touched_jobs: dict[JobId, None] = {}
        self._touched_claims: dict[ClaimId, None] = {}
        self._open: dict[CentreName, set[OfferId]] = {}
        self._offered_rest: dict[tuple[CentreName, str], int] = {}
        self._held: dict[OfferId, dict[ClaimId, Running]] = {}
        self._offers: dict[OfferId, OfferState] = {}
        self._stale_offers: set[OfferId] = set()
        self._closing: list[tuple[int, OfferId]] = []
        self._closed: dict[JobId, None] = {}
        self._cut_ms = 0

    # Folding

    def fold(self, block: Block, acks: Iterable[Ack] | None = None) -> list[tuple[Position, str]]:
        """Folds one block; its backlink and acks must have been folded before.

        Args:
            block: whatever is in it counts.
            acks: what the block witnesses, if not all that it acks.

        Returns:
            The positions of inert records, and why each counts for nothing.
        """
        if not self.registers.counts(block):
            epoch = block.feed.epoch
            inert = [(position, f"epoch {epoch} is not in force") for position in block.positions()]
            self.inert_count += len(inert)
            return inert
        centre, now_ms = block.feed.centre, hlc_ms(block.time)
        rules = self._posted_under(now_ms)
        self._count_offered(centre, now_ms, rules)
        self.heard[centre] = max(block.time, self.heard.get(centre, HlcTime(0)))
        for feed, head in block.header.acks if acks is None else acks:
            for acked in self._witnesses.ack(feed, head.seq_num, now_ms):
                self._touched_jobs.update(dict.fromkeys(acked))
        inert = []
        jobs: list[JobId] = []
        folded = self.registers.fold_block(block)
        if CLAIM_RECORDS.issuperset(map(type, block.records)) and str not in map(type, folded):
            self._touched_claims.update(dict.fromkeys(cast(list[ClaimId], folded)))
            return []
        for index, (record, touched) in enumerate(zip(block.records, folded, strict=True)):
            if isinstance(touched, str):
                inert.append((block.position(index), touched))
            elif type(record) in CLAIM_RECORDS:
                self._touched_claims[ClaimId(touched)] = None
            else:
                self._touch(record, touched, block.feed, now_ms, jobs)
        if jobs:
            self._witnesses.post(block.feed, block.header.seq_num, now_ms, tuple(jobs))
        self.inert_count += len(inert)
        return inert

    def fold_bound(
        self, block: Block, items: Iterable[tuple[Position, HlcTime, Record | Inert]]
    ) -> None:
        """Folds statements that bind their author although their block does not count."""
        self.registers.governance.witness(block)
        for position, time, record in items:
            touched = self.registers.fold(position, time, record)
            if isinstance(touched, str):
                self.inert_count += 1
            elif type(record) in CLAIM_RECORDS:
                self._touched_claims[ClaimId(touched)] = None

    def settle(self, cut_ms: int) -> None:
        """Lets everything happen that time alone brings about up to `cut_ms` (never earlier)."""
        self._turn_to(cut_ms)
        self._cut_ms = self.charges.cut_ms = cut_ms
        for overdue in self._witnesses.overdue(cut_ms):
            self._touched_jobs.update(dict.fromkeys(overdue))
        self._catch_up()
        while self.charges.due and self.charges.due[0][0] <= cut_ms:
            _, claim_id = heappop(self.charges.due)
            self._refresh_claim(claim_id)
        self._catch_up()

    # Versions

    def _turn_to(self, cut_ms: int) -> None:
        """Lets the version and the members of the cut hold, from what is folded."""
        chain = [v for v in self.governance.versions() if v.start_ms <= cut_ms]
        lived_by = tuple(v.adopt for v in chain if v.start_ms <= self._cut_ms)
        self.stale = self.stale or lived_by != self._lived_by
        self._lived_by = tuple(v.adopt for v in chain)
        before, self.version = self.version, chain[-1]
        self.members = tuple(self.governance.members_at(cut_ms))
        if self.version == before:
            return
        for name, line in self.version.credit_lines.items():
            self._accounts.set_credit_line(name, line)
        for version in chain:
            if version.decision is not None and version.decision.claim_id in self.registers.claims:
                self._touched_claims[version.decision.claim_id] = None
        if self.version.rules != before.rules:
            self._set_rules(self.version.rules)

    def _set_rules(self, rules: Rules) -> None:
        """Judges by other rules all that is judged at the cut; costs one pass over everything."""
        self.rules = rules
        self.registers.max_attempts = rules.max_attempts
        self.charges.rules = rules
        self._classes = {work_class.name: work_class for work_class in rules.classes}
        self._queue.set_urgency(rules.urgency_points_per_hour)
        self._accounts.set_rules(rules)
        self._touched_claims.update(dict.fromkeys(self.registers.claims))
        self._touched_jobs.update(dict.fromkeys(self._class_of))
        self._stale_offers.update(self.registers.offers)

    def _posted_under(self, time_ms: int) -> Rules:
        """The rules that hold at a block's time: what adds up block by block is judged by them."""
        version = self.governance.version_at(time_ms)
        if version is not self._posting_version:
            self._posting_version = version
            self._witnesses.heartbeat_ms = version.rules.heartbeat_ms
            self._shares.judge_by(version.rules, version.credit_lines)
        return version.rules

    @property
    def cut_ms(self) -> int:
        """The wall time that the state was settled at."""
        return self._cut_ms

    def forget(self) -> tuple[list[Forgotten], list[OfferId]]:
        """Lets go of the jobs and offers that are closed at the cut: what the state is, stays.

        Returns:
            What was let go of, jobs with their claims. `p2pfed.core.closing` tells when that is.
        """
        self._catch_up()
        jobs = [f for f in map(self.registers.forget_job, self._closed) if f is not None]
        self._closed.clear()
        for job, claims in jobs:
            for claim in claims:
                self._accounts.forget_usage(claim.claim_id)
            if self._class_of.pop(job.job_id, None) is not None:
                self._witnesses.forget(job.job_id)
        offers = []
        while self._closing and self._closing[0][0] <= self._cut_ms:
            offers.append(heappop(self._closing)[1])
            self.registers.forget_offer(offers[-1])
        return jobs, offers

    def books(self) -> Books:
        """What the state holds beside the registers and does not follow from them."""
        self._catch_up()
        return Books(
            heard=self.heard,
            rests=self._offered_rest,
            classes=self._class_of,
            witnesses={job_id: self._witnesses.witness(job_id) for job_id in self._class_of},
            posted=self._shares.posted(),
            cells=self._accounts.cells(),
            usages=self._accounts.usages,
        )

    def restore(self, cut_ms: int, books: Books) -> None:
        """Takes books back whose registers are restored already; this state was empty."""
        for entry in self.registers.claims.values():
            self.registers.note_dispute(entry)
        self._turn_to(cut_ms)
        self._cut_ms = self.charges.cut_ms = cut_ms
        self.heard.update(books.heard)
        self._offered_rest.update(books.rests)
        self._class_of.update(books.classes)
        self._witnesses.restore(
            sorted(books.witnesses.items()),
            lambda time_ms: self.governance.version_at(time_ms).rules.heartbeat_ms,
        )
        self._witnesses.heartbeat_ms = self._posting_version.rules.heartbeat_ms
        self._shares.restore(books.posted)
        self._accounts.restore(books.cells, books.usages)
        for offer_id in self.registers.offers:
            self._refresh_offer(offer_id)
        self._touched_claims.update(dict.fromkeys(self.registers.claims))
        self._touched_jobs.update(dict.fromkeys(self.registers.jobs))

    @property
    def queue(self) -> Queue:
        """The jobs that wait."""
        self._catch_up()
        return self._queue

    @property
    def accounts(self) -> Accounts:
        """What each centre contributed and used."""
        self._catch_up()
        return self._accounts

    def _catch_up(self) -> None:
        """Brings up to date what follows from the registers that were touched."""
        claims, self._touched_claims = self._touched_claims, {}
        for claim_id in claims:
            self._refresh_claim(claim_id)
        jobs, self._touched_jobs = self._touched_jobs, {}
        for job_id in jobs:
            self._refresh_job(job_id)

    def _touch(
        self,
        record: Record | Inert,
        touched: Position,
        feed: FeedKey,
        now_ms: int,
        jobs: list[JobId],
    ) -> None:
        if isinstance(record, Job):
            job_id = JobId(touched)
            work_class = self._shares.classify(feed, record, now_ms)
            if work_class is not None:
                self._class_of[job_id] = work_class.name
                self._touched_jobs[job_id] = None
                jobs.append(job_id)
        elif isinstance(record, Offer | OfferUpdate | OfferClose):
            self._refresh_offer(OfferId(touched))
        elif isinstance(record, Done):
            self._touched_jobs[JobId(touched)] = None
        elif isinstance(record, Cancel):
            # How an attempt counts that the host says was cancelled depends on it, too.
            claims = self.registers.jobs[JobId(touched)].claims
            self._touched_claims.update(dict.fromkeys(claims))
            self._touched_jobs[JobId(touched)] = None
        elif isinstance(record, Hold | Unhold):
            self._touched_jobs[JobId(touched)] = None

    def _refresh_job(self, job_id: JobId) -> None:
        entry = self.registers.jobs.get(job_id)
        if entry is None:
            return
        if entry.done and is_closed(entry, self.registers, self._cut_ms, self.charges.deadline_ms):
            self._closed[job_id] = None
        work_class = self._counted_class(job_id)
        if work_class is None:
            return
        verdict = self.registers.judge(entry)
        waits = verdict.state is JobState.QUEUED and not entry.held
        since_ms = self._witnesses.since_ms(job_id) if waits else None
        if since_ms is None:
            self._queue.drop(job_id)
            return
        self._queue.put(
            QueuedJob(
                job_id=job_id,
                shape=shape_of(job_id, entry.job, work_class.name, verdict, self.rules),
                class_points=work_class.points,
                waiting_since_ms=since_ms,
            )
        )

    def _counted_class(self, job_id: JobId) -> WorkClass | None:
        """The class that a job counts as; the lowest, if rules that came later have not its own."""
        name = self._class_of.get(job_id)
        return None if name is None else self._classes.get(name) or self.rules.classes[-1]

    def _refresh_offer(self, offer_id: OfferId) -> None:
        entry = self.registers.offers[offer_id]
        own = self._open.setdefault(entry.host, set())
        (own.discard if entry.closed else own.add)(offer_id)
        if entry.closed:
            heappush(self._closing, (entry.closed_ms + OFFER_KEPT_MS, offer_id))
        self._stale_offers.add(offer_id)

    def _refresh_claim(self, claim_id: ClaimId) -> None:
        entry = self.registers.claims.get(claim_id)
        job = self.registers.job_of(claim_id)
        if entry is None or entry.claim is None or job is None:
            return
        offer_id = OfferId(entry.claim.offer_id)
        held = self._held.get(offer_id)
        holds = self.charges.holds(entry)
        if holds:
            if held is None:
                held = self._held[offer_id] = {}
            held[claim_id] = running_of(entry, job.job, self.rules)
        elif held is not None:
            held.pop(claim_id, None)
        self._stale_offers.add(offer_id)
        self.charges.refresh(entry, entry.claim, job, holds=holds)
        self._touched_jobs[job.job_id] = None

    # Accounts

    def _count_offered(self, centre: CentreName, now_ms: int, rules: Rules) -> None:
        """Counts what the centre's open offers made available since its block before.

        A silent centre offers nothing: a gap counts for `offer_lease_ms` at most. The whole gap
        counts on the day of the later block. Whoever is no member offers nothing to anyone.
        """
        open_offers = sorted(self._open.get(centre, ()))
        if not open_offers or centre not in self.governance.members_at(now_ms):
            return
        before_ms = hlc_ms(self.heard.get(centre, HlcTime(0)))
        gap_ms = min(now_ms - before_ms, rules.offer_lease_ms)
        for offer_id in open_offers:
            entry = self.registers.offers[offer_id]
            resource = rules.resource_class(entry.terms.resource_class)
            until_ms = min(now_ms, entry.until_ms or now_ms)
            open_ms = until_ms - max(now_ms - gap_ms, hlc_ms(entry.opened))
            if resource is None or open_ms <= 0:
                continue
            terms = entry.terms
            units = entry.nodes * resource.amount(
                core_s=terms.cores_per_node, gpu_s=terms.gpus_per_node
            )
            key = centre, terms.resource_class
            amount_ms = units * open_ms + self._offered_rest.get(key, 0)
            self._offered_rest[key] = amount_ms % 1000
            self._accounts.add_offered(centre, resource.name, day_of(now_ms), amount_ms // 1000)

    # What a round reads

    def alive(self, cut_ms: int) -> frozenset[CentreName]:
        """The members that were heard shortly before the cut and are not suspended."""
        suspended = self.suspended
        return frozenset(
            centre
            for centre in self.members
            if centre not in suspended
            and cut_ms - hlc_ms(self.heard.get(centre, HlcTime(0))) < self.rules.offer_lease_ms
        )

    @property
    def suspended(self) -> set[CentreName]:
        """The centres whose feed in force is forked: by a proof, or as the blocks folded show."""
        forked = self.registers.convicted | self.forked
        return self.governance.suspended(sorted(forked), self._cut_ms)

    def committed(self, centre: CentreName) -> int:
        """Points of the claims that the centre has running or unsettled."""
        self._catch_up()
        return self.charges.committed(centre)

    def class_used(self, job_id: JobId) -> str | None:
        """The work class that a job counts as; None if the rules or the cut don't know it."""
        used = self._counted_class(job_id)
        return None if used is None else used.name

    def standing(self, centre: CentreName, cut_ms: int) -> Standing:
        """Contribution, usage and credit line of a centre at the cut, in points."""
        return self.accounts.standing(centre, day_of(cut_ms), self.committed(centre))

    def offers(self) -> Mapping[OfferId, OfferState]:
        """The open offers with their free capacity; the same mapping in every round."""
        self._catch_up()
        for offer_id in sorted(self._stale_offers):
            entry = self.registers.offers.get(offer_id)
            if entry is None or entry.closed:
                self._offers.pop(offer_id, None)
            else:
                self._offers[offer_id] = offer_state(entry, self._held.get(offer_id, {}))
        self._stale_offers.clear()
        return self._offers

    def match_input(self, round_number: int, cut_ms: int) -> MatchInput:
        """Everything that `match` may look at in this round."""
        return MatchInput(
            round=round_number,
            cut_ms=cut_ms,
            rules=self.rules,
            queue=self.queue,
            offers=self.offers(),
            standings={c: self.standing(c, cut_ms) for c in self.members},
            alive=self.alive(cut_ms),
        )
