"""The door between the control API and the daemon: what can be asked, and what is answered.

The API (`p2pfed.shell.api`) turns HTTP into calls of a `Door`; the daemon implements it. Questions
are synchronous and answer from memory at once; what changes the ledger is awaited and returns only
when the change is durable. Answers are plain dicts that go out as JSON as they are. Their shapes
are the `TypedDict`s below, and docs/reference/openapi.json describes the same fields; a test holds
both together.

Times are integer milliseconds since 1970-01-01 UTC (`..._ms`), None where the moment has not come.
Durations say their unit. Ids of jobs, offers and claims are `str(Position)`; digests and block ids
are lower-case hex. A Door raises `P2pfedError`s; a `StateError` whose code ends in `-unknown` means
that the thing asked for does not exist (HTTP 404).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Protocol, TypedDict

import trio

from p2pfed.core.ids import JobId, OfferId
from p2pfed.core.records import Job, Offer

JobState = Literal[
    "queued",
    "claimed",
    "accepted",
    "leased",
    "started",
    "ended",
    "cancelling",
    "completed",
    "failed",
    "cancelled",
]
"""Where a job stands for its home. `ended`: it is over at the host and its result is on the way.
The last three are final. A claim that was closed, or whose host
was lost, puts its job back to `queued` (or to `failed` at the last attempt)."""

FINAL_JOB_STATES: tuple[JobState, ...] = ("completed", "failed", "cancelled")

AttemptState = Literal[
    "claimed", "accepted", "leased", "started", "ended", "closed", "released", "lost"
]

ResultState = Literal["none", "waiting", "ready", "failed"]
"""`none`: nothing has ended yet, or it left no result; `waiting`: being fetched; `ready`: on our
disk and verified; `failed`: can't be had any more."""

JobScope = Literal["own", "hosted", "all"]
"""`own`: jobs of this centre; `hosted`: jobs of others that this centre claimed capacity for."""


# What is asked


@dataclass(frozen=True, slots=True, kw_only=True)
class JobRequest:
    """What a user wants to run, checked and complete.

    Attributes:
        name: the user's name for it, kept at home (never in the ledger).
        script: the file name of the batch script among the staged files.
        arguments: passed to the script as they are.
        environment: extra variables for the script.
        stdout, stderr: two plain file names. `%j` in them stands for the job id, which is known
            only after submission; `%x` is already replaced.
        fetch: patterns (`fnmatch`) of the files to bring back besides stdout and stderr.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdout: str = "stdout.txt"
    stderr: str = "stderr.txt"
    fetch: tuple[str, ...] = ()
    resource_class: str = "cpu"
    nodes: int = 1
    cores_per_node: int = 1
    gpus_per_node: int = 0
    memory_mib_per_node: int = 1024
    walltime_s: int = 3600
    features: tuple[str, ...] = ()
    work_class: str = "normal"
    data_class: str = "open"
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()

    def job(self, *, payload_digest: bytes, payload_bytes: int) -> Job:
        """The public record of this request."""
        return Job(
            resource_class=self.resource_class,
            nodes=self.nodes,
            cores_per_node=self.cores_per_node,
            gpus_per_node=self.gpus_per_node,
            memory_mib_per_node=self.memory_mib_per_node,
            walltime_s=self.walltime_s,
            features=self.features,
            work_class=self.work_class,
            data_class=self.data_class,
            allow=self.allow,
            deny=self.deny,
            payload_digest=payload_digest,
            payload_bytes=payload_bytes,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A request and its files: the script and inputs stand in `folder` under their own names.

    The folder is a fresh one below `Door.staging`; who takes the submission owns it.
    """

    request: JobRequest
    folder: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRequest:
    """Open an offer: from the template of that name, or with the terms given.

    Exactly one of `template` and `terms` is set; `nodes` and `until_ms` then override a template.
    """

    template: str | None = None
    terms: Offer | None = None
    nodes: int | None = None
    until_ms: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JobQuery:
    """Which jobs to list: newest first, at most `limit`; empty `states` means all."""

    scope: JobScope = "own"
    states: tuple[JobState, ...] = ()
    limit: int = 1000


# What is answered


class HeadView(TypedDict):
    """The newest block of one feed."""

    centre: str
    epoch: int
    seq_num: int
    block_id: str


class StatusView(TypedDict):
    """This daemon at a glance.

    `round` and `view_digest` are those of the last round computed; `frontier` is everything held,
    ascending by centre and epoch. `clock_offset_ms` is the median offset to the peers, None while
    none is measured. `jobs` counts own live jobs by state, `hosted` guests' claims by state.
    `warnings` are sentences for a person.
    """

    centre: str
    version: str
    now_ms: int
    started_ms: int
    federation: str
    federation_id: str
    rules_version: int
    epoch: int
    seq_num: int | None
    round: int
    round_ms: int
    view_digest: str | None
    frontier: list[HeadView]
    members: int
    peers_linked: int
    clock_trusted: bool
    clock_offset_ms: int | None
    recovering: bool
    paused: bool
    blocks: int
    blocks_pending: int
    offers_open: int
    jobs: dict[str, int]
    hosted: dict[str, int]
    warnings: list[str]


class PeerView(TypedDict):
    """One other centre as this daemon is connected to it.

    `heard_ms` is the time of its newest block held, `lacks_blocks` how many blocks it has
    that we lack. `error` is the last reason why a connection ended or did not come about.
    """

    centre: str
    address: str | None
    linked: bool
    outbound: bool | None
    since_ms: int | None
    heard_ms: int | None
    seq_num: int | None
    lacks_blocks: int | None
    offset_ms: int | None
    round_trip_ms: int | None
    error: str | None


class MemberView(TypedDict):
    """A centre of the federation by the rules in force."""

    centre: str
    public_key: str
    credit_line: int
    state: Literal["member", "suspended", "left", "removed"]


class OfferView(TypedDict):
    """An offer, its terms, and what is free in it by the ledger as held now.

    `live`: open and its host heard recently, so that jobs can match it. `until_ms` 0: until
    closed. Empty `classes`, `data_classes`, `allow`: all. `per_centre_cores` 0: no cap.
    """

    offer_id: str
    host: str
    name: str
    open: bool
    live: bool
    opened_ms: int
    until_ms: int
    resource_class: str
    nodes: int
    cores_per_node: int
    gpus_per_node: int
    memory_mib_per_node: int
    walltime_max_s: int
    features: list[str]
    classes: list[str]
    data_classes: list[str]
    allow: list[str]
    deny: list[str]
    per_centre_cores: int
    min_balance: int
    may_ask: bool
    preemptible: bool
    notice_s: int
    free_nodes: int
    free_cores: int
    free_gpus: int
    claims: int


class JobView(TypedDict):
    """A job in one line.

    `name` and `script` are known only at home, else None. `host` and `claim_id` are those of the
    current or last attempt. `waited_ms` runs from `posted_ms` to the last start (or to now).
    `outcome` is the last End's, in lower case (`completed`, `failed`, `timeout`, `out-of-memory`,
    `cancelled`, `preempted`, `node-failure`, `not-started`, `not-found`). `reason` says why the
    last claim was closed or what the job waits for.
    """

    job_id: str
    home: str
    name: str | None
    script: str | None
    state: JobState
    final: bool
    host: str | None
    claim_id: str | None
    attempts: int
    resource_class: str
    nodes: int
    cores_per_node: int
    gpus_per_node: int
    memory_mib_per_node: int
    walltime_s: int
    work_class: str
    data_class: str
    features: list[str]
    allow: list[str]
    deny: list[str]
    posted_ms: int
    started_ms: int | None
    ended_ms: int | None
    waited_ms: int
    outcome: str | None
    exit_code: int | None
    signal: int | None
    core_s: int | None
    gpu_s: int | None
    memory_mib_max: int | None
    result: ResultState
    payload_digest: str
    payload_bytes: int
    reason: str | None


class AttemptView(TypedDict):
    """One claim of a job, with the moments of its life.

    `receipt`: the home countersigned the usage; `dispute`: it states less.
    """

    claim_id: str
    offer_id: str
    host: str
    attempt: int
    round: int
    state: AttemptState
    reason: str | None
    claimed_ms: int
    accepted_ms: int | None
    handed_over_ms: int | None
    lease_until_ms: int | None
    started_ms: int | None
    ended_ms: int | None
    outcome: str | None
    exit_code: int | None
    signal: int | None
    core_s: int | None
    gpu_s: int | None
    result_digest: str | None
    receipt: bool
    dispute: bool


class JobDetail(TypedDict):
    """A job and all its attempts, oldest first."""

    job: JobView
    attempts: list[AttemptView]


class ScoreView(TypedDict):
    """The score of a job in the last round: `total` is the sum of the other three, in points."""

    work_class: int
    urgency: int
    balance: int
    total: int


class CompetitorView(TypedDict):
    """A job that stood before the one explained."""

    job_id: str
    home: str
    total: int


class FitView(TypedDict):
    """One visible offer, and why the job does not fit it (`reasons` empty: it fits).

    Reasons are sentences that name both figures ("asks 8 cores a node, the offer has 4").
    """

    offer_id: str
    host: str
    name: str
    fits: bool
    free_now: bool
    reasons: list[str]


class Explanation(TypedDict):
    """Why a job is where it is, by the last round computed here.

    `summary` is one sentence. `class_used` is the work class it counts in. `score` is None when
    the job did not take part. `ahead` counts the jobs before it, `ahead_first` names at most ten.
    `reserved_offer_id` and `reserved_from_ms` are set when capacity is kept for it.
    """

    job_id: str
    state: JobState
    round: int
    summary: str
    class_used: str
    score: ScoreView | None
    ahead: int
    ahead_first: list[CompetitorView]
    matched_offer_id: str | None
    reserved_offer_id: str | None
    reserved_from_ms: int | None
    offers: list[FitView]


class AmountView(TypedDict):
    """Raw amounts of one resource class since the federation began, in core- or GPU-seconds."""

    resource_class: str
    unit: str
    delivered: int
    offered: int
    consumed: int


class BalanceView(TypedDict):
    """A centre's account today; points are decayed, amounts are not.

    `balance` is (contribution - usage) / (contribution + usage + credit line), in millionths.
    `usage` includes `committed`: what is claimed or running now.
    """

    centre: str
    balance: int
    contribution: int
    usage: int
    committed: int
    credit_line: int
    amounts: list[AmountView]


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFile:
    """A file that a job brought home, by its path relative to the result folder."""

    path: str
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class JobResult:
    """A result on our disk: only the files listed are ever served."""

    folder: Path
    stdout: str
    stderr: str
    files: tuple[ResultFile, ...]


class Notice(TypedDict):
    """Something that happened, for the live feed.

    `kind` is `job` (a job of any centre changed its state: `job` is set), `offer`, `peer`, `round`
    or `note` (a note of the daemon: `level` as in Python's logging, 0 for the other kinds).
    `text` is one line for people.
    """

    kind: Literal["job", "offer", "peer", "round", "note"]
    at_ms: int
    level: int
    code: str
    text: str
    job: JobView | None


class Door(Protocol):
    """What the daemon does for those who talk to it locally."""

    def staging(self) -> Path:
        """An existing folder, private, on the file system of the spool, for incoming files.

        What is left in it by a crash may be removed at start.
        """

    async def submit(self, submission: Submission) -> JobView:
        """Packs the payload, posts the job, and returns when both are durable.

        Raises:
            InputError: the request can't be met by the rules (class unknown, walltime too long).
            StateError: the daemon takes no jobs now.
            StorageError: nothing was posted.
        """

    async def cancel(self, job_id: JobId) -> JobView:
        """Writes the Cancel (again is fine) and returns when it is durable.

        Raises:
            StateError: `job-unknown`, `job-not-own`, `job-final`.
        """

    async def open_offer(self, request: OfferRequest) -> OfferView:
        """Writes the Offer and returns when it is durable.

        Raises:
            InputError: `offer-template-unknown`, or the terms break a rule.
        """

    async def close_offers(self, offer_id: OfferId | None, reason: str) -> list[str]:
        """Closes one own offer, or with None all; returns the ids that it closed.

        Raises:
            StateError: `offer-unknown`.
        """

    def status(self) -> StatusView:
        """This daemon at a glance."""

    def peers(self) -> list[PeerView]:
        """Every other member, by name."""

    def members(self) -> list[MemberView]:
        """Every member, by name."""

    def offers(self, *, own: bool) -> list[OfferView]:
        """Open offers in the federation, or with `own` all of this centre, by id."""

    def jobs(self, query: JobQuery) -> list[JobView]:
        """The newest jobs that the query asks for, newest first."""

    def job(self, job_id: JobId) -> JobDetail:
        """Raises StateError `job-unknown`."""

    def explain(self, job_id: JobId) -> Explanation:
        """Raises StateError `job-unknown`."""

    def balance(self) -> list[BalanceView]:
        """Every member, by name."""

    def result(self, job_id: JobId) -> JobResult:
        """The result of an own job.

        Raises:
            StateError: `job-unknown`, `job-not-own`, `result-not-ready`.
        """

    def ledger(self) -> AsyncIterator[bytes]:
        """The export file, in pieces of at most a few MiB: a consistent snapshot of this moment."""

    def watch(self) -> trio.MemoryReceiveChannel[Notice]:
        """A new channel that gets every notice from now on.

        A watcher that does not keep up has its channel closed by the daemon; who watches closes
        the channel when done. `p2pfed.shell.notices.Notices` implements this.
        """
