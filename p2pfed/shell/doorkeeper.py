"""The daemon's side of the door: answers from the node's memory, changes through the brain.

Questions read the live registers and the last round. What changes the ledger is an event with a
reply, and the reply comes when the block is on disk. Payloads are packed and published before their
job is posted, so that a posted job always has its payload.
"""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path

import trio

from p2pfed import __version__
from p2pfed.core.entries import ClaimEntry, JobEntry
from p2pfed.core.ids import ClaimId, JobId, OfferId, parse_position
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import Offer
from p2pfed.errors import InputError, StateError
from p2pfed.execute.interface import Capacity
from p2pfed.node.events import (
    CancelJob,
    CloseOffer,
    Event,
    FollowAgain,
    OpenOffer,
    RequestId,
    SubmitJob,
)
from p2pfed.shell import views
from p2pfed.shell.answers import (
    BalanceView,
    CountersView,
    Explanation,
    JobDetail,
    JobResult,
    JobView,
    MemberView,
    Notice,
    OfferView,
    PeerView,
    ResultFile,
    ResultState,
    StatusView,
    TemplateView,
)
from p2pfed.shell.archive import FILES, Sealed, load_archive, pack_payload
from p2pfed.shell.archivist import Archivist
from p2pfed.shell.brain import Brain, wall_ms
from p2pfed.shell.bulk_client import DISK_RESERVE_BYTES
from p2pfed.shell.capacity.follow import Follower
from p2pfed.shell.config import CentreConfig
from p2pfed.shell.door import JobQuery, OfferRequest, Submission
from p2pfed.shell.explaining import explanation
from p2pfed.shell.governing import Governing
from p2pfed.shell.localcontrol import LocalControl
from p2pfed.shell.localrows import JOB_PREFIX, LocalJob, dump_local_job, parse_local_job
from p2pfed.shell.manifest import SALT_BYTES, RunSpec
from p2pfed.shell.notices import Notices
from p2pfed.shell.owners import VARIABLE, Owner, Owners
from p2pfed.shell.privacy import Privacy
from p2pfed.shell.rekeying import Rekeying
from p2pfed.shell.sections import OfferTemplate
from p2pfed.store.database import Database
from p2pfed.store.files import disk_errors
from p2pfed.store.spool import Spool

LEDGER_PIECE_BYTES = 1 << 20
FOLLOW_ROUNDS = 5
"""Rounds that `open_offer` waits for an offer that follows the batch system."""


class Doorkeeper:
    """Implements `p2pfed.shell.door.Door` for one daemon.

    Args:
        brain: runs the node.
        config: the centre's configuration; `reload` replaces it.
        charter: its encoded bytes, for exports.
        federation: the federation's name.
        database, spool: what the daemon keeps on disk.
        capacity: what the batch system commands: offers may not promise more.
        notices: the live feed.
        control: what administrators may order.
        follower: opens offers by itself; made after this.
        rekeying: changes our key and epoch.
        archivist: knows where the blocks are.
    """

    def __init__(
        self,
        *,
        brain: Brain,
        config: CentreConfig,
        charter: bytes,
        federation: str,
        database: Database,
        spool: Spool,
        capacity: Capacity,
        notices: Notices,
        control: LocalControl,
        follower: Callable[[], Follower],
        rekeying: Rekeying,
        archivist: Archivist,
    ) -> None:
        self._follower = follower
        self.rekeying = rekeying
        self._archivist = archivist
        self.control = control
        self.governance = Governing(brain, charter)
        self._brain = brain
        self._node = brain.node
        self._config = config
        self._charter = charter
        self._federation = federation
        self._database = database
        self._spool = spool
        self._capacity = capacity
        self._notices = notices
        self._local: dict[JobId, LocalJob] = {}
        for key, value in database.local_items(JOB_PREFIX):
            job_id = JobId(parse_position(key.removeprefix(JOB_PREFIX)))
            self._local[job_id] = parse_local_job(value, key)
        self._files: dict[ClaimId, Sealed] = {}
        node = brain.node
        self._owners = Owners(config.state / "owners", node.federation.id, node.me.name)
        self.privacy = Privacy(node, database, self._owners, self._local)

    def reload(self, config: CentreConfig) -> None:
        """Uses the offer templates of a configuration that was read again."""
        self._config = config
        self._follower().look_soon()

    @property
    def config(self) -> CentreConfig:
        """The configuration as it was last read."""
        return self._config

    # Changing things

    def staging(self) -> Path:
        """A fresh folder is made below it for every upload; `submit` then owns that."""
        return self._spool.root / "staging"

    async def submit(self, submission: Submission) -> JobView:
        """Packs the payload, posts the job, returns when both are durable."""
        if not self._node.recovery.ready:
            raise self._node.recovery.refuse()
        await self._brain.ready.wait()  # else its payload could be taken for a leftover
        request = submission.request
        blocked = self._node.control.blocked
        request = replace(request, deny=tuple(sorted({*request.deny, *blocked})))
        user = submission.user
        owner: Owner | None = await trio.to_thread.run_sync(self._owners.of, user) if user else None
        pseudonym = "" if owner is None else owner.pseudonym
        own = dict(request.environment) | ({VARIABLE: pseudonym} if pseudonym else {})
        run = RunSpec(
            script=request.script,
            arguments=request.arguments,
            environment=tuple(sorted(own.items())),
            stdout=request.stdout,
            stderr=request.stderr,
            fetch=request.fetch,
            checkpoint=request.checkpoint,
            signal=request.signal,
            signal_s=request.signal_s,
        )
        sealed = await trio.to_thread.run_sync(self._publish, submission.folder, run)
        job = request.job(payload_digest=sealed.digest, payload_bytes=sealed.manifest.total_bytes)
        if owner is not None:
            job = replace(job, owner=self._owners.commit(owner, sealed.digest))
        local = LocalJob(
            name=request.name,
            script=request.script,
            stdout=request.stdout,
            stderr=request.stderr,
            user=user,
            pseudonym=pseudonym,
        )

        def event(number: RequestId) -> Event:
            return SubmitJob(
                request=number,
                job=job,
                local=dump_local_job(local),
                sibling=submission.sibling,
            )

        job_id = JobId(parse_position(await self._brain.ask(event)))
        self._local[job_id] = local
        return self._job_view(self._own_job(job_id))

    def _publish(self, folder: Path, run: RunSpec) -> Sealed:
        """Runs in a worker thread: the payload is durable when it returns."""
        staged = self._spool.staging(f"payload-{secrets.token_hex(8)}")
        with disk_errors(staged):
            try:
                sealed = pack_payload(folder, staged, run, salt=secrets.token_bytes(SALT_BYTES))
                self._spool.publish(staged, self._spool.payload(sealed.digest))
            except BaseException:
                self._spool.remove(staged)
                raise
        return sealed

    async def cancel(self, job_id: JobId) -> JobView:
        """Writes the Cancel, again is fine."""
        entry = self._own_job(job_id)
        await self._brain.ask(lambda number: CancelJob(request=number, job_id=job_id))
        return self._job_view(entry)

    async def open_offer(self, request: OfferRequest) -> OfferView:
        """Opens an offer from a template or from explicit terms.

        One of a template that follows the batch system is opened by that: it is told that it may.
        """
        following = self._config.following(_name_of(request))
        if following is not None:
            return await self._follow_again(following, request)
        offer = self.with_orders(self._offer_of(request))
        self._check_capacity(offer)
        offer_id = await self._brain.ask(lambda n: OpenOffer(request=n, offer=offer))
        self._follower().look_soon()
        entry = self._node.ledger.live.offers[OfferId(parse_position(offer_id))]
        return views.offer(self._node, entry, wall_ms())

    async def _follow_again(self, template: OfferTemplate, request: OfferRequest) -> OfferView:
        """Lets offers of a template be opened by themselves, and waits for the first of them."""
        if request.terms is not None or request.nodes is not None or request.until_ms:
            raise StateError(
                "offer-follows",
                f"the offer {template.name} follows the batch system, which gives it its size",
                remedy=f"p2pfed offer open {template.name}, or terms of another name",
            )
        await self._brain.ask(lambda n: FollowAgain(request=n, name=template.name))
        self._follower().look_soon()
        rounds_s = FOLLOW_ROUNDS * self._node.ledger.rules.round_ms / 1000
        with trio.move_on_after(rounds_s):
            entry = await self._follower().next_open(template)
            return views.offer(self._node, entry, wall_ms())
        raise StateError(
            "offer-nothing-idle",
            f"the offer {template.name} may open, but nothing is there for it now",
            remedy="it opens by itself as soon as there is; see p2pfed status",
        )

    def _offer_of(self, request: OfferRequest) -> Offer:
        if request.terms is not None:
            return request.terms
        try:
            template = self._config.template(request.template or "")
        except InputError as error:
            raise StateError(
                "template-unknown", error.what, where=error.where, remedy=error.remedy
            ) from error
        rules = self._node.ledger.rules
        offer = template.offer(min_balance=rules.min_balance, until_ms=request.until_ms or 0)
        if request.nodes is None:
            return offer
        return replace(offer, nodes=request.nodes)

    def with_orders(self, offer: Offer) -> Offer:
        """The offer, saying also what our policy and our people's orders make of it."""
        deny = {*offer.deny, *self._node.control.blocked}
        may_ask = offer.may_ask or self._node.host.policy.may_ask(offer)
        return replace(offer, may_ask=may_ask, deny=tuple(sorted(deny)))

    def _check_capacity(self, offer: Offer) -> None:
        """Refuses to promise hardware twice: all open offers together fit the machine."""
        live = self._node.ledger.live
        # Those that follow the batch system make room for what is opened by hand.
        mine = [
            offer
            for offer in live.offers.values()
            if offer.host == self._node.me.name
            and not offer.closed
            and self._config.following(offer.terms.name) is None
        ]
        has = self._capacity
        checks = (
            ("cores_per_node", has.nodes * has.cores_per_node, "cores"),
            ("gpus_per_node", has.nodes * has.gpus_per_node, "GPUs"),
            ("memory_mib_per_node", has.nodes * has.memory_mib_per_node, "MiB of memory"),
        )
        for name, total, unit in checks:
            promised = sum(o.nodes * getattr(o.terms, name) for o in mine)
            wanted = offer.nodes * getattr(offer, name)
            if promised + wanted > total:
                raise InputError(
                    "offer-exceeds-capacity",
                    f"the offer has {wanted} {unit}, but {promised} of the {total} that this "
                    "centre has are offered already",
                    remedy="offer less, or close an offer: p2pfed offer list",
                )

    async def close_offers(self, offer_id: OfferId | None, reason: str) -> list[str]:
        """Closes one own offer, or all."""
        following = [template for template in self._config.offers if template.follow]
        if offer_id is not None:
            entry = self._node.ledger.live.offers.get(offer_id)
            found = None if entry is None else self._config.following(entry.terms.name)
            following = [] if found is None else [found]
        names = tuple(template.name for template in following)
        closed = await self._brain.ask(
            lambda number: CloseOffer(
                request=number, offer_id=offer_id, reason=reason, stay_closed=names
            )
        )
        self._follower().look_soon()
        return closed.split()

    # Questions

    def status(self) -> StatusView:
        """This daemon at a glance."""
        node, now_ms = self._node, wall_ms()
        live, replica = node.ledger.live, node.ledger.replica
        head = node.ledger.head
        own = [job for job in live.jobs.values() if job.job_id.centre == node.me.name]
        digest = node.rounds.last_digest
        measured = node.trust.watch.samples()
        cosigned = node.cosigning.cosigned()
        return StatusView(
            centre=node.me.name,
            version=__version__,
            now_ms=now_ms,
            started_ms=self._brain.started_ms,
            federation=self._federation,
            federation_id=node.federation.id.hex(),
            rules_version=node.ledger.view.state.version.rules_version,
            epoch=node.me.epoch,
            seq_num=None if head is None else head.seq_num,
            round=node.rounds.last,
            round_ms=node.ledger.rules.round_ms,
            view_digest=None if digest is None else digest.hex(),
            frontier=views.heads(node),
            members=len(node.ledger.view.state.members),
            peers_linked=len(node.gossip.linked()),
            clock_trusted=node.trust.clock(now_ms),
            clock_offset_ms=node.trust.watch.offset_ms(now_ms) if measured else None,
            recovering=not node.recovery.ready,
            standing=views.standing_name(node, node.me.name),
            control=node.control.mode.value,
            paused=node.host.policy.paused or not node.control.open,
            blocks=sum(h.seq_num + 1 for h in replica.frontier().values()),
            blocks_pending=replica.waiting()[0],
            offers_open=sum(not o.closed and o.host == node.me.name for o in live.offers.values()),
            jobs=views.job_counts(node, own),
            hosted=views.hosted_counts(node),
            cosigned_ms=None if cosigned is None else cosigned.said.cut_ms,
            retention=self._archivist.view(),
            templates=self.templates(),
            warnings=self._warnings(now_ms),
        )

    def _warnings(self, now_ms: int) -> list[str]:
        node = self._node
        found = []
        if not node.recovery.ready:
            found.append(node.recovery.explain())
        if node.standing.explain():
            found.append(node.standing.explain())
        elif shut_out := node.gossip.shut_out():
            found.append(
                f"{', '.join(shut_out)} told us that this centre is no member any more: ask an "
                "administrator there"
            )
        if self._brain.storage_error is not None:
            found.append(str(self._brain.storage_error))
        if not node.trust.clock(now_ms):
            found.append("our clock differs from our peers': nothing is handed over or started")
        found += views.control_warnings(node)
        found += node.cosigning.warnings()
        found += node.past.warnings()
        found += self._follower().warnings
        if self._archivist.error is not None:
            found.append(f"blocks stay in the ledger: {self._archivist.error}")
        if self._spool.free_bytes() < DISK_RESERVE_BYTES:
            found.append(
                f"less than {DISK_RESERVE_BYTES >> 20} MiB are free for the spool: nothing is "
                "fetched, neither payloads nor results"
            )
        if node.trust.careful(now_ms):
            found.append("after a start without high-water file: no guests are taken for a while")
        found += [f"{centre} has forked its feed" for centre in sorted(node.ledger.live.suspended)]
        return found

    def peers(self) -> list[PeerView]:
        """Every other member, by name."""
        return views.peers(self._node)

    def members(self) -> list[MemberView]:
        """Every member, by name."""
        return views.members(self._node)

    def offers(self, *, own: bool) -> list[OfferView]:
        """Open offers of the federation, or all of this centre."""
        me = self._node.me.name
        entries = self._node.ledger.live.offers
        chosen = [e for e in entries.values() if (e.host == me if own else not e.closed)]
        chosen.sort(key=lambda e: e.offer_id)
        return [views.offer(self._node, entry, wall_ms()) for entry in chosen]

    def templates(self) -> list[TemplateView]:
        """The offer templates of `centre.toml`, and what is offered from each now."""
        return views.templates(self._node, self._config.offers, self._follower().why_nothing)

    def jobs(self, query: JobQuery) -> list[JobView]:
        """The newest jobs that the query asks for, newest first."""
        live, me = self._node.ledger.live, self._node.me.name
        if query.scope == "hosted":
            claims = (c.claim for c in live.claims.values() if c.claim is not None)
            hosted = {JobId(c.job_id) for c in claims if c.offer_id.centre == me}
            entries = [live.jobs[job_id] for job_id in hosted]
        else:
            every = query.scope == "all"
            entries = [e for e in live.jobs.values() if every or e.job_id.centre == me]
        if query.states:
            entries = [e for e in entries if live.judge(e).state.value in query.states]
        entries.sort(key=lambda e: (e.posted, e.job_id), reverse=True)
        return [self._job_view(entry) for entry in entries[: query.limit]]

    def job(self, job_id: JobId) -> JobDetail:
        """One job with all its attempts."""
        entry = self._known_job(job_id)
        attempts = [views.attempt(self._node, claim_id) for claim_id in entry.claims]
        return JobDetail(job=self._job_view(entry), attempts=[a for a in attempts if a is not None])

    def explain(self, job_id: JobId) -> Explanation:
        """Why the job is where it is."""
        return explanation(self._node, self._known_job(job_id))

    def balance(self) -> list[BalanceView]:
        """Every member, by name."""
        return views.balances(self._node)

    def counters(self) -> CountersView:
        """The raw counters behind the balances."""
        return views.counters(self._node)

    def result(self, job_id: JobId) -> JobResult:
        """Where an own job's result lies."""
        entry = self._own_job(job_id)
        live = self._node.ledger.live
        for claim_id in reversed(entry.claims):
            claim = live.claims[claim_id]
            if self._result_state(claim) == "ready":
                return self._result(entry, claim_id)
        raise StateError(
            "result-not-ready",
            f"job {job_id} has no result yet",
            remedy=f"see: p2pfed job {job_id}",
        )

    def _result(self, entry: JobEntry, claim_id: ClaimId) -> JobResult:
        folder = self._spool.result(claim_id)
        sealed = self._files.get(claim_id)
        if sealed is None:
            sealed = self._files[claim_id] = load_archive(folder)
        local = self._local.get(entry.job_id)
        names = ("stdout.txt", "stderr.txt") if local is None else (local.stdout, local.stderr)
        stdout, stderr = (name.replace("%j", str(entry.job_id)) for name in names)
        return JobResult(
            folder=folder / FILES,
            stdout=stdout,
            stderr=stderr,
            files=tuple(ResultFile(path=m.path, size=m.size) for m in sealed.manifest.members),
        )

    def _result_state(self, claim: ClaimEntry) -> ResultState:
        end = claim.host_side.end
        if end is None or not any(end.result_digest):
            return "none"
        if claim.home != self._node.me.name:
            return "none"
        if self._spool.result(claim.claim_id).is_dir():
            return "ready"
        return "waiting" if claim.settlement is None else "failed"

    def _known_job(self, job_id: JobId) -> JobEntry:
        entry = self._node.ledger.live.jobs.get(job_id)
        if entry is None:
            raise StateError(
                "job-unknown", f"there is no job {job_id}", remedy="see: p2pfed jobs --all"
            )
        return entry

    def _own_job(self, job_id: JobId) -> JobEntry:
        entry = self._known_job(job_id)
        if job_id.centre != self._node.me.name:
            raise StateError(
                "job-not-own",
                f"job {job_id} is not of this centre",
                remedy=f"ask at {job_id.centre}",
            )
        return entry

    def _job_view(self, entry: JobEntry) -> JobView:
        local = self._local.get(entry.job_id)
        return views.job(self._node, entry, wall_ms(), local, self._result_state)

    def job_view(self, job_id: JobId) -> JobView | None:
        """The view of a job for the live feed; None if it is not known."""
        entry = self._node.ledger.live.jobs.get(job_id)
        return None if entry is None else self._job_view(entry)

    # Streams

    async def ledger(self) -> AsyncIterator[bytes]:
        """The export file of this moment."""
        if not self._node.past.complete:
            raise StateError(
                "history-incomplete",
                f"{self._node.past.lacking_blocks} blocks under the checkpoint that this centre "
                "began with are still to come",
                remedy="wait until p2pfed status says no more of it, or export at another member",
            )
        count = await trio.to_thread.run_sync(self._database.last_admission)
        pieces = write_ledger(self._charter, self._database.blocks(up_to=count))

        def some() -> bytes:
            found, size = [], 0
            for piece in pieces:
                found.append(piece)
                size += len(piece)
                if size >= LEDGER_PIECE_BYTES:
                    break
            return b"".join(found)

        while piece := await trio.to_thread.run_sync(some):
            yield piece

    def watch(self) -> trio.MemoryReceiveChannel[Notice]:
        """A channel with every notice from now on."""
        return self._notices.watch()


def _name_of(request: OfferRequest) -> str:
    return request.template or (request.terms.name if request.terms is not None else "")
