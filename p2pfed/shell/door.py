"""The door between the control API and the daemon: what can be asked, and of whom.

The API (`p2pfed.shell.api`) turns HTTP into calls of a `Door`; the daemon implements it. Questions
are synchronous and answer from memory at once; what changes the ledger is awaited and returns only
when the change is durable. What is answered stands in `p2pfed.shell.answers`.

A Door raises `P2pfedError`s; a `StateError` whose code ends in `-unknown` means that the thing
asked for does not exist (HTTP 404).
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol

import trio

from p2pfed.core.disclosure import Disclosure
from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId, Position
from p2pfed.core.records import Job, Offer
from p2pfed.node.admission import Mode
from p2pfed.shell.answers import (
    BalanceView,
    ControlView,
    CountersView,
    DecisionView,
    Explanation,
    JobDetail,
    JobResult,
    JobState,
    JobView,
    MemberView,
    Notice,
    OfferView,
    PeerView,
    ReconcileView,
    RequestView,
    StatusView,
    TemplateView,
)
from p2pfed.shell.council_answers import DisputeView, ProposalView, VersionView, WhyView
from p2pfed.shell.manifest import SIGNAL_S
from p2pfed.shell.rekeying import RotationView

if TYPE_CHECKING:
    from p2pfed.shell.governing import ProposalRequest

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
        checkpoint, signal, signal_s: see `p2pfed.shell.manifest.RunSpec`.
    """

    name: str
    script: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdout: str = "stdout.txt"
    stderr: str = "stderr.txt"
    fetch: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    signal: int = 0
    signal_s: int = SIGNAL_S
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

    The folder is a fresh one below `Door.staging`; who takes the submission owns it. `sibling`
    names the local job that this one was made from, if it was; see `p2pfed.node.siblings`.
    `user` is the local account that it comes from; it never leaves this centre.
    """

    request: JobRequest
    folder: Path
    sibling: bytes = b""
    user: str = ""


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


class ControlDoor(Protocol):
    """What this centre's own people may order; all of it works with every peer away.

    `who` is the local account that orders, `reason` its words ("" if it gave none).
    """

    def state(self) -> ControlView:
        """The orders in force."""

    async def set_mode(self, mode: Mode, *, who: str, reason: str) -> ControlView:
        """Opens, pauses, drains or withdraws; returns when the order is durable."""

    async def block(
        self, centre: CentreName, *, blocked: bool, who: str, reason: str
    ) -> ControlView:
        """Takes no jobs of a centre any more, or takes them again.

        Raises:
            StateError: `centre-unknown`.
        """

    async def hold(self, job_id: JobId, *, held: bool, who: str, reason: str) -> None:
        """Keeps an own job from being placed, or lets it be placed again.

        Raises:
            StateError: `job-unknown`, `job-final`, `job-started`.
        """

    def requests(self) -> list[RequestView]:
        """The claims that wait for a person's word, by the end of their time."""

    async def answer(self, claim_id: ClaimId, *, approve: bool, who: str, reason: str) -> None:
        """Approves or denies a claim that waits.

        Raises:
            StateError: `request-unknown`.
        """

    async def reconcile(self, since_ms: int) -> ReconcileView:
        """Compares what the batch system accounted for guests with what the ledger says.

        Raises:
            StateError: `reconcile-local`: this executor keeps no accounting.
            ExecutorError: the batch system can't be asked, or keeps no records.
        """

    async def decisions(self, limit: int) -> list[DecisionView]:
        """The newest decisions, newest first."""

    async def reload(self, who: str) -> list[str]:
        """Reads `centre.toml` again; returns the changed keys that only a restart applies.

        Raises:
            InputError: `config-…`: something in it is wrong, and nothing was changed.
        """


class GovernanceDoor(Protocol):
    """The members' decisions: what is known of them, and what this centre says in them.

    What is said returns when it is durable. `StateError`s name what stands in the way:
    `not-a-member`, `proposal-…`, `vote-…`, `dispute-…`.
    """

    def proposals(self) -> list[ProposalView]:
        """Every proposal, the newest first."""

    def proposal(self, proposal_id: Position) -> ProposalView:
        """One proposal."""

    def proposed_rules(self, proposal_id: Position) -> dict[str, object]:
        """The complete rules that a proposal carries, as people write them."""

    def rules(self) -> dict[str, object]:
        """The rules that hold in the newest round, as people write them."""

    def versions(self) -> list[VersionView]:
        """Every version of what holds, the charter first."""

    def why_member(self, name: CentreName) -> WhyView:
        """Whether a centre is a member, and by which records."""

    def why_rules(self) -> WhyView:
        """Which rules hold, and by which records."""

    def disputes(self) -> list[DisputeView]:
        """Every disputed claim, the newest first."""

    def invitation(self) -> dict[str, object]:
        """What a newcomer needs: `charter` (hex), `invited_by`, `contacts` (address by centre)."""

    async def propose(self, request: ProposalRequest) -> ProposalView:
        """Proposes, and votes in favour."""

    async def vote(self, proposal_id: Position, *, in_favour: bool, reason: str) -> ProposalView:
        """Votes, once and for all."""

    async def withdraw(self, proposal_id: Position) -> ProposalView:
        """Takes an own proposal back."""

    async def leave(self, reason: str) -> str:
        """Ends this centre's membership; returns the id of the record."""

    async def dispute(
        self, job_id: JobId, *, core_s: int | None, gpu_s: int | None, reason: str
    ) -> DisputeView:
        """Disputes the usage of the last run of an own job."""

    async def settle(self, claim_id: ClaimId, *, core_s: int, gpu_s: int) -> DisputeView:
        """Offers to settle a dispute; it is settled when both parties name the same amounts."""


class RekeyingDoor(Protocol):
    """Another key, another epoch; both return when they are durable."""

    async def rotate(self) -> RotationView:
        """Makes a key and goes over to it; `StateError` `recovering` while nothing is written."""

    async def declare_epoch(self, reason: str, epoch: int | None) -> int:
        """Begins a new epoch without a vote; `StateError` `epoch-...` says why it can't."""


class PrivacyDoor(Protocol):
    """Who a job is of, and forgetting it. `who` is the local account that asks.

    `StateError` `owner-denied` for those who may not.
    """

    async def disclose(self, job_id: JobId, *, who: str) -> Disclosure:
        """Who an own job is of, verifiably against the ledger.

        Raises:
            StateError: `job-not-own`, `job-unknown`, `owner-none`, `owner-forgotten`.
        """

    async def forget(self, user: str, *, who: str) -> int:
        """Destroys a user's key and the names of its jobs; returns how many jobs there were.

        Raises:
            StateError: `owner-active` (a job is not over), `owner-unknown`.
        """


class Door(Protocol):
    """What the daemon does for those who talk to it locally."""

    @property
    def rekeying(self) -> RekeyingDoor:
        """This centre's key and epoch."""

    @property
    def control(self) -> ControlDoor:
        """What administrators may order."""

    @property
    def governance(self) -> GovernanceDoor:
        """What the members decide."""

    @property
    def privacy(self) -> PrivacyDoor:
        """What this centre alone knows of its users."""

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

    def templates(self) -> list[TemplateView]:
        """The offer templates of `centre.toml`, and what is offered from each now."""

    def jobs(self, query: JobQuery) -> list[JobView]:
        """The newest jobs that the query asks for, newest first."""

    def job(self, job_id: JobId) -> JobDetail:
        """Raises StateError `job-unknown`."""

    def explain(self, job_id: JobId) -> Explanation:
        """Raises StateError `job-unknown`."""

    def counters(self) -> CountersView:
        """The raw counters behind the balances, at the cut of the newest round."""

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
