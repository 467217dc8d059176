"""What the daemon answers over the control API: the shapes of its answers.

Answers are plain dicts that go out as JSON as they are. docs/reference/openapi.json describes the
same fields; a test holds both together.

Times are integer milliseconds since 1970-01-01 UTC (`..._ms`), None where the moment has not come.
Durations say their unit. Ids of jobs, offers and claims are `str(Position)`; digests and block ids
are lower-case hex.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypedDict

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

StandingName = Literal["newcomer", "member", "suspended", "left", "removed"]
"""`newcomer`: no decision made it a member yet; `suspended`: its fork is proven."""

ControlMode = Literal["open", "paused", "draining", "withdrawn"]

ResultState = Literal["none", "waiting", "ready", "failed"]
"""`none`: nothing has ended yet, or it left no result; `waiting`: being fetched; `ready`: on our
disk and verified; `failed`: can't be had any more."""


class HeadView(TypedDict):
    """The newest block of one feed."""

    centre: str
    epoch: int
    seq_num: int
    block_id: str


class DisclosureView(TypedDict):
    """Who a job is of: `opening` (hex) proves it against the Job record in the ledger."""

    federation_id: str
    job_id: str
    user: str
    opening: str


class RetentionView(TypedDict):
    """Where the ledger's blocks are, and how old they become in the database; sizes in bytes.

    `archive`: blocks older than `keep_s` move to the segments in `folder` once a majority of the
    members cosigned them.
    """

    archive: bool
    keep_s: int
    folder: str
    segments: int
    archived_blocks: int
    archive_bytes: int
    database_bytes: int


class StatusView(TypedDict):
    """This daemon at a glance.

    `round` and `view_digest` are those of the last round computed; `frontier` is everything held,
    ascending by centre and epoch. `clock_offset_ms` is the median offset to the peers, None while
    none is measured. `jobs` counts own live jobs by state, `hosted` guests' claims by state.
    `control` is the mode that this centre's people ordered; `paused`: for this or another reason it
    takes no new guests. `cosigned_ms` is the cut of the newest checkpoint that a majority of the
    members signed, None while there is none. `members` counts the centres that are members now;
    `standing` tells whether this one is among them. `templates` are those of `centre.toml`.
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
    standing: StandingName
    control: ControlMode
    paused: bool
    blocks: int
    blocks_pending: int
    offers_open: int
    jobs: dict[str, int]
    hosted: dict[str, int]
    cosigned_ms: int | None
    retention: RetentionView
    templates: list[TemplateView]
    warnings: list[str]


class TemplateView(TypedDict):
    """An offer template of `centre.toml`, and what is offered from it now.

    `nodes` are those of its open offers, guests included. `why` tells why there are none, None if
    there are some.
    """

    name: str
    follow: bool
    nodes: int
    why: str | None


class BlockView(TypedDict):
    """A centre whose jobs this one does not take, by whose order, and why."""

    centre: str
    who: str
    reason: str
    since_ms: int


class ControlView(TypedDict):
    """What this centre's own people ordered.

    `mode`: `open`; `paused` (no new guests), `draining` (no new guests, offers closed), `withdrawn`
    (no guests at all). `who`, `reason` and `since_ms` tell of the last such order, since_ms None
    if there was none. `guests` counts native jobs of guests that are not known to be over.
    `policy_paused`: centre.toml says `paused = true`.
    """

    mode: ControlMode
    who: str
    reason: str
    since_ms: int | None
    guests: int
    policy_paused: bool
    blocked: list[BlockView]


class RequestView(TypedDict):
    """A guest's job that waits for a person's word; without one until `until_ms` it is declined.

    `rule` is the rule of the admission policy that asks.
    """

    claim_id: str
    job_id: str
    home: str
    rule: str
    since_ms: int
    until_ms: int
    resource_class: str
    nodes: int
    cores_per_node: int
    gpus_per_node: int
    memory_mib_per_node: int
    walltime_s: int
    work_class: str
    data_class: str
    features: list[str]


class DecisionView(TypedDict):
    """A decision of this centre alone: who decided what about whom, and why.

    `who` is a local account, or `policy`; `why` is a person's reason, or the name of a rule.
    """

    at_ms: int
    who: str
    action: str
    subject: str
    why: str


class GapView(TypedDict):
    """One difference between the ledger and the batch system's accounting.

    `kind`: `native-missing` (the ledger has a run that was not accounted), `ledger-missing` (a job
    of the guests' account that no claim names), `duplicate` (an attempt that began again),
    `end-missing`, `alive-after-end`, `outcome-differs`, `cores-differ`, `usage-differs`.
    """

    kind: str
    claim_id: str | None
    native_name: str
    native_id: str | None
    text: str


class ReconcileView(TypedDict):
    """How the ledger and the batch system's accounting agree about the guests since a time."""

    since_ms: int
    claims: int
    native_jobs: int
    gaps: list[GapView]


class PeerView(TypedDict):
    """One other centre as this daemon is connected to it.

    `heard_ms` is the time of its newest block held, `lacks_blocks` how many blocks it has
    that we lack. `error` is the last reason why a connection ended or did not come about;
    `next_dial_ms` is when we try again, None if nothing is due.
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
    next_dial_ms: int | None
    error: str | None


class MemberView(TypedDict):
    """A centre that is or was a member, at the last cut.

    `since_ms` is when its membership began; `adopt` and `votes` are the records that made it one or
    gave it its epoch, None and empty for a founder.
    """

    centre: str
    public_key: str
    address: str
    epoch: int
    credit_line: int
    state: StandingName
    since_ms: int
    adopt: str | None
    votes: list[str]


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

    `name`, `script`, `user` and `pseudonym` (what its payload says in the user's place) are known
    only at home, else None. `host` and `claim_id` are those of the
    current or last attempt. `waited_ms` runs from `posted_ms` to the last start (or to now).
    `outcome` is the last End's, in lower case (`completed`, `failed`, `timeout`, `out-of-memory`,
    `cancelled`, `preempted`, `node-failure`, `not-started`, `not-found`). `reason` says why the
    last claim was closed or what the job waits for. `held`: its home keeps it from being placed.
    """

    job_id: str
    home: str
    name: str | None
    script: str | None
    user: str | None
    pseudonym: str | None
    state: JobState
    final: bool
    held: bool
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


class CounterView(TypedDict):
    """What a centre delivered to others and consumed at others of a resource class on a day.

    `day` counts from 1970-01-01 UTC; the amounts are in the unit of the class.
    """

    centre: str
    resource_class: str
    day: int
    contributed: int
    consumed: int


class CountersView(TypedDict):
    """Every counter at the cut of the newest round, which an audit of the ledger must come to.

    `view_digest` is of the blocks that they follow from; None before the first round.
    """

    centre: str
    federation_id: str
    cut_ms: int
    view_digest: str | None
    counters: list[CounterView]


class BalanceView(TypedDict):
    """A centre's account today; points are decayed, amounts are not.

    `balance` is (contribution - usage) / (contribution + usage + credit line), in millionths.
    `usage` includes `committed`: what is claimed or running now. `satisfaction_ppm` is what its
    jobs consumed of what they asked for (consumed, waiting or running), `fairness_ppm` what they
    consumed for what it delivered to others; None where there is nothing to divide by.
    `debt_free_days` is when contribution has caught up with usage at the rate of the last seven
    days: 0 without a debt, None if not at this rate.
    """

    centre: str
    balance: int
    contribution: int
    usage: int
    committed: int
    credit_line: int
    satisfaction_ppm: int | None
    fairness_ppm: int | None
    debt_free_days: int | None
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
