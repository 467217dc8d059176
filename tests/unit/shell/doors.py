"""A door for tests of the control API: it answers from memory, and keeps what it was told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from queue import Queue
from threading import Thread

import trio

from p2pfed.core.disclosure import Disclosure
from p2pfed.core.ids import CentreName, ClaimId, FederationId, JobId, OfferId
from p2pfed.core.records import Offer
from p2pfed.errors import InputError, StateError
from p2pfed.node.admission import Mode
from p2pfed.shell.answers import (
    BalanceView,
    ControlView,
    CountersView,
    CounterView,
    DecisionView,
    Explanation,
    GapView,
    JobDetail,
    JobResult,
    JobView,
    MemberView,
    Notice,
    OfferView,
    PeerView,
    ReconcileView,
    RequestView,
    ResultFile,
    RetentionView,
    StatusView,
    TemplateView,
)
from p2pfed.shell.callers import Groups
from p2pfed.shell.calllog import CallLog
from p2pfed.shell.client import Client
from p2pfed.shell.control import EVERYBODY, serve_control_until
from p2pfed.shell.door import JobQuery, OfferRequest, Submission
from p2pfed.shell.notices import Notices
from p2pfed.shell.rekeying import RotationView
from tests.unit.shell.council_door import MemoryGovernance

NOW_MS = 1_790_000_000_000
DIGEST = "ab" * 32


def job_view(job_id: str = "alpha.4.0", **changes: object) -> JobView:
    view = JobView(
        job_id=job_id,
        home="alpha",
        name="count",
        script="job.sh",
        user="ann",
        pseudonym="0" * 32,
        state="queued",
        final=False,
        held=False,
        host=None,
        claim_id=None,
        attempts=0,
        resource_class="cpu",
        nodes=1,
        cores_per_node=1,
        gpus_per_node=0,
        memory_mib_per_node=1024,
        walltime_s=3600,
        work_class="normal",
        data_class="open",
        features=[],
        allow=[],
        deny=[],
        posted_ms=NOW_MS,
        started_ms=None,
        ended_ms=None,
        waited_ms=1500,
        outcome=None,
        exit_code=None,
        signal=None,
        core_s=None,
        gpu_s=None,
        memory_mib_max=None,
        result="none",
        payload_digest=DIGEST,
        payload_bytes=0,
        reason=None,
    )
    view.update(changes)  # type: ignore[typeddict-item]
    return view


def offer_view(terms: Offer, offer_id: str = "beta.2.0") -> OfferView:
    return OfferView(
        offer_id=offer_id,
        host="beta",
        name=terms.name,
        open=True,
        live=True,
        opened_ms=NOW_MS,
        until_ms=terms.until_ms,
        resource_class=terms.resource_class,
        nodes=terms.nodes,
        cores_per_node=terms.cores_per_node,
        gpus_per_node=terms.gpus_per_node,
        memory_mib_per_node=terms.memory_mib_per_node,
        walltime_max_s=terms.walltime_max_s,
        features=list(terms.features),
        classes=list(terms.classes),
        data_classes=list(terms.data_classes),
        allow=list(terms.allow),
        deny=list(terms.deny),
        per_centre_cores=terms.per_centre_cores,
        min_balance=terms.min_balance,
        may_ask=terms.may_ask,
        preemptible=terms.preemptible,
        notice_s=terms.notice_s,
        free_nodes=terms.nodes,
        free_cores=terms.nodes * terms.cores_per_node,
        free_gpus=0,
        claims=0,
    )


TERMS = Offer(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    memory_mib_per_node=4096,
    walltime_max_s=7200,
    name="night",
)


class MemoryControl:
    """Keeps every order that it got, with who gave it; knows the request beta.3.0."""

    def __init__(self) -> None:
        self.orders: list[tuple[object, ...]] = []
        self.mode = Mode.OPEN

    def state(self) -> ControlView:
        return ControlView(
            mode=self.mode.value,
            who="",
            reason="",
            since_ms=None,
            guests=0,
            policy_paused=False,
            blocked=[{"centre": "gamma", "who": "ann", "reason": "", "since_ms": NOW_MS}],
        )

    async def set_mode(self, mode: Mode, *, who: str, reason: str) -> ControlView:
        self.mode = mode
        self.orders.append((mode, who, reason))
        return self.state()

    async def block(
        self, centre: CentreName, *, blocked: bool, who: str, reason: str
    ) -> ControlView:
        self.orders.append((centre, blocked, who, reason))
        return self.state()

    async def hold(self, job_id: JobId, *, held: bool, who: str, reason: str) -> None:
        self.orders.append((str(job_id), held, who, reason))

    def requests(self) -> list[RequestView]:
        return [
            RequestView(
                claim_id="beta.3.0",
                job_id="beta.2.0",
                home="beta",
                rule="large",
                since_ms=NOW_MS,
                until_ms=NOW_MS + 60_000,
                resource_class="cpu",
                nodes=1,
                cores_per_node=4,
                gpus_per_node=0,
                memory_mib_per_node=1024,
                walltime_s=60,
                work_class="normal",
                data_class="open",
                features=[],
            )
        ]

    async def answer(self, claim_id: ClaimId, *, approve: bool, who: str, reason: str) -> None:
        if str(claim_id) != "beta.3.0":
            raise StateError("request-unknown", f"nobody waits about {claim_id}")
        self.orders.append((str(claim_id), approve, who, reason))

    async def reconcile(self, since_ms: int) -> ReconcileView:
        gap = GapView(
            kind="duplicate", claim_id="beta.3.0", native_name="p2pfed-x", native_id="7", text="!"
        )
        return ReconcileView(since_ms=since_ms, claims=1, native_jobs=2, gaps=[gap])

    async def decisions(self, limit: int) -> list[DecisionView]:
        row = DecisionView(at_ms=NOW_MS, who="ann", action="pause", subject="", why="")
        return [row][:limit]

    async def reload(self, who: str) -> list[str]:
        self.orders.append(("reload", who))
        return ["listen"]


class MemoryRekeying:
    """Rotates to one key, and begins the epoch that it is asked for, or the second."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    async def rotate(self) -> RotationView:
        self.said.append(("rotate", ""))
        return RotationView(record="alpha.9.0", public_key="ab" * 32, fingerprint="cd" * 32)

    async def declare_epoch(self, reason: str, epoch: int | None) -> int:
        self.said.append(("declare", reason))
        return epoch or 2


class MemoryPrivacy:
    """Says that alpha.4.0 is of ann, and forgets ann; keeps who asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, str]] = []

    async def disclose(self, job_id: JobId, *, who: str) -> Disclosure:
        self.asked.append((str(job_id), who))
        return Disclosure(FederationId(bytes(32)), job_id, "ann", bytes(32))

    async def forget(self, user: str, *, who: str) -> int:
        if user != "ann":
            raise StateError("owner-unknown", "no job of that user was ever posted here")
        self.asked.append((user, who))
        return 2


class MemoryDoor:
    """Knows the job alpha.4.0 and the offer beta.2.0.

    Attributes:
        submitted: what came, with the bytes of every file by its relative path.
        on_watch: called when somebody begins to watch.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = MemoryControl()
        self.governance = MemoryGovernance()
        self.rekeying = MemoryRekeying()
        self.privacy = MemoryPrivacy()
        self.notices = Notices()
        self.submitted: list[tuple[Submission, dict[str, bytes]]] = []
        self.opened: list[OfferRequest] = []
        self.closed: list[tuple[OfferId | None, str]] = []
        self.queries: list[JobQuery] = []
        self.view = job_view()
        self.on_watch: Callable[[], None] = lambda: None
        (folder / "staging").mkdir()
        (folder / "result").mkdir()

    def staging(self) -> Path:
        return self.folder / "staging"

    async def submit(self, submission: Submission) -> JobView:
        if submission.request.work_class == "none":
            raise InputError("job-class", "there is no work class 'none'")
        files = {
            str(path.relative_to(submission.folder)): path.read_bytes()
            for path in sorted(submission.folder.rglob("*"))
            if path.is_file()
        }
        self.submitted.append((submission, files))
        return job_view(name=submission.request.name)

    async def cancel(self, job_id: JobId) -> JobView:
        self.job(job_id)
        return job_view(state="cancelled", final=True)

    async def open_offer(self, request: OfferRequest) -> OfferView:
        self.opened.append(request)
        return offer_view(request.terms or TERMS)

    async def close_offers(self, offer_id: OfferId | None, reason: str) -> list[str]:
        if offer_id is not None and str(offer_id) != "beta.2.0":
            raise StateError("offer-unknown", f"there is no offer {offer_id}")
        self.closed.append((offer_id, reason))
        return ["beta.2.0"]

    def status(self) -> StatusView:
        return StatusView(
            centre="alpha",
            version="0.1.0",
            now_ms=NOW_MS,
            started_ms=NOW_MS - 60_000,
            federation="example",
            federation_id=DIGEST,
            rules_version=1,
            epoch=0,
            seq_num=7,
            round=179_000_000,
            round_ms=10_000,
            view_digest=DIGEST,
            frontier=[{"centre": "alpha", "epoch": 0, "seq_num": 7, "block_id": DIGEST}],
            members=2,
            peers_linked=1,
            clock_trusted=True,
            clock_offset_ms=-2,
            recovering=False,
            standing="member",
            control="open",
            paused=False,
            blocks=8,
            blocks_pending=0,
            offers_open=0,
            jobs={"queued": 1},
            hosted={},
            cosigned_ms=None,
            retention=RetentionView(
                archive=True,
                keep_s=2_592_000,
                folder="/srv/alpha/archive",
                segments=0,
                archived_blocks=0,
                archive_bytes=0,
                database_bytes=53_248,
            ),
            templates=self.templates(),
            warnings=["the disk is nearly full"],
        )

    def peers(self) -> list[PeerView]:
        return [
            PeerView(
                centre="beta",
                address="127.0.0.1:7001",
                linked=True,
                outbound=True,
                since_ms=NOW_MS - 5000,
                heard_ms=NOW_MS - 1000,
                seq_num=3,
                lacks_blocks=0,
                offset_ms=-2,
                round_trip_ms=1,
                next_dial_ms=None,
                error=None,
            )
        ]

    def counters(self) -> CountersView:
        row = CounterView(
            centre="beta", resource_class="cpu", day=20_000, contributed=7, consumed=0
        )
        return CountersView(
            centre="alpha", federation_id=DIGEST, cut_ms=NOW_MS, view_digest=None, counters=[row]
        )

    def members(self) -> list[MemberView]:
        return [
            MemberView(
                centre="alpha",
                public_key=DIGEST,
                address="alpha.example.org:7411",
                epoch=0,
                credit_line=1,
                state="member",
                since_ms=NOW_MS,
                adopt=None,
                votes=[],
            )
        ]

    def offers(self, *, own: bool) -> list[OfferView]:
        return [] if own else [offer_view(TERMS)]

    def templates(self) -> list[TemplateView]:
        return [TemplateView(name="night", follow=True, nodes=0, why="its windows are closed now")]

    def jobs(self, query: JobQuery) -> list[JobView]:
        self.queries.append(query)
        return [self.view]

    def job(self, job_id: JobId) -> JobDetail:
        if str(job_id) != "alpha.4.0":
            raise StateError("job-unknown", f"there is no job {job_id}", remedy="see p2pfed jobs")
        return {
            "job": self.view,
            "attempts": [
                {
                    "claim_id": "alpha.5.0",
                    "offer_id": "beta.2.0",
                    "host": "beta",
                    "attempt": 1,
                    "round": 179_000_000,
                    "state": "ended",
                    "reason": None,
                    "claimed_ms": NOW_MS,
                    "accepted_ms": NOW_MS,
                    "handed_over_ms": NOW_MS,
                    "lease_until_ms": NOW_MS + 1,
                    "started_ms": NOW_MS,
                    "ended_ms": NOW_MS,
                    "outcome": "completed",
                    "exit_code": 0,
                    "signal": 0,
                    "core_s": 3,
                    "gpu_s": 0,
                    "result_digest": DIGEST,
                    "receipt": True,
                    "dispute": False,
                }
            ],
        }

    def explain(self, job_id: JobId) -> Explanation:
        self.job(job_id)
        return {
            "job_id": str(job_id),
            "state": "queued",
            "round": 179_000_000,
            "summary": "no offer fits",
            "class_used": "normal",
            "score": {"work_class": 500, "urgency": 3, "balance": -20, "total": 483},
            "ahead": 1,
            "ahead_first": [{"job_id": "beta.3.0", "home": "beta", "total": 500}],
            "matched_offer_id": None,
            "reserved_offer_id": None,
            "reserved_from_ms": None,
            "offers": [
                {
                    "offer_id": "beta.2.0",
                    "host": "beta",
                    "name": "night",
                    "fits": False,
                    "free_now": True,
                    "reasons": ["asks 8 cores a node, the offer has 4"],
                }
            ],
        }

    def balance(self) -> list[BalanceView]:
        return [
            {
                "centre": "alpha",
                "balance": -250_000,
                "contribution": 0,
                "usage": 100,
                "committed": 10,
                "credit_line": 300,
                "satisfaction_ppm": 500_000,
                "fairness_ppm": None,
                "debt_free_days": 4,
                "amounts": [
                    {
                        "resource_class": "cpu",
                        "unit": "core",
                        "delivered": 0,
                        "offered": 0,
                        "consumed": 90,
                    }
                ],
            }
        ]

    def result(self, job_id: JobId) -> JobResult:
        self.job(job_id)
        folder = self.folder / "result"
        if self.view["result"] != "ready":
            raise StateError("result-not-ready", f"job {job_id} has no result yet")
        files = tuple(
            ResultFile(path=str(path.relative_to(folder)), size=path.stat().st_size)
            for path in sorted(folder.rglob("*"))
            if path.is_file()
        )
        return JobResult(folder=folder, stdout="stdout.txt", stderr="stderr.txt", files=files)

    async def ledger(self) -> AsyncIterator[bytes]:
        for piece in (b"p2pfed", b"-", b"ledger"):
            yield piece

    def watch(self) -> trio.MemoryReceiveChannel[Notice]:
        channel = self.notices.watch()
        self.on_watch()
        return channel


@contextmanager
def served(door: MemoryDoor, groups: Groups = EVERYBODY) -> Iterator[Client]:
    """A client of `door`, which is really served, by hypercorn on a Unix socket, in a thread."""
    path = door.folder / "control.sock"
    started: Queue[tuple[trio.lowlevel.TrioToken, trio.Event]] = Queue()

    async def main() -> None:
        stop = trio.Event()
        async with trio.open_nursery() as nursery:
            serve = partial(serve_control_until, door, stop, path=path, groups=groups)
            await nursery.start(partial(serve, calls=CallLog(door.folder / "calls.log")))
            started.put((trio.lowlevel.current_trio_token(), stop))
            await stop.wait()
            door.notices.close()

    thread = Thread(target=trio.run, args=(main,), daemon=True)
    thread.start()
    token, stop = started.get(timeout=30)
    try:
        with Client(path) as client:
            yield client
    finally:
        trio.from_thread.run_sync(stop.set, trio_token=token)
        thread.join()
