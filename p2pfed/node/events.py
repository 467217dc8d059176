"""What can happen to a centre: the only inputs of a node.

The shell turns sockets, timers, the batch system and the control API into these values; a simulated
world makes them from a seed. Events carry checked values only (names, records), except `LinkBytes`,
whose bytes are a stranger's.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NewType

from p2pfed.core.ids import BlockId, CentreName, ClaimId, JobId, OfferId
from p2pfed.core.keys import Signer
from p2pfed.core.records import (
    Dispute,
    Job,
    Leave,
    Offer,
    Outcome,
    Propose,
    RotateKey,
    Settle,
    Vote,
    WithdrawProposal,
)
from p2pfed.node.admission import AdmissionPolicy, Mode

LinkId = NewType("LinkId", int)
"""One authenticated connection to a peer, unique while the daemon runs."""

RequestId = NewType("RequestId", int)
"""One call of the control API, unique while the daemon runs."""

TransferId = NewType("TransferId", int)
"""One bulk connection that a peer opened to us, unique while the daemon runs."""


# Peers


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkUp:
    """A connection whose other end proved to hold `centre`'s key."""

    link: LinkId
    centre: CentreName
    outbound: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkBytes:
    """The peer sent these bytes, of any length, in order."""

    link: LinkId
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkDown:
    """The connection is gone; nothing more will come from it."""

    link: LinkId


@dataclass(frozen=True, slots=True, kw_only=True)
class DialFailed:
    """A `Dial` effect did not lead to a connection."""

    centre: CentreName
    why: str


# Time


@dataclass(frozen=True, slots=True)
class Tick:
    """The time that `Node.wake_ms` named has come (or any time later)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockStepped:
    """Wall and monotonic clock drifted apart by `by_ms`: somebody set the clock."""

    by_ms: int


# Users and administrators


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitJob:
    """A user wants `job` to run; its payload is already durable under `job.payload_digest`.

    `local` is opaque to the node and is stored with the block, in one transaction. So is `sibling`,
    which names the local job that this one was made from: before such a job is handed over, the
    node has its sibling secured (`SecureSibling`).
    """

    request: RequestId
    job: Job
    local: bytes = b""
    sibling: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelJob:
    """A user wants a job of ours not to run (any more)."""

    request: RequestId
    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenOffer:
    """An administrator makes capacity available."""

    request: RequestId
    offer: Offer


@dataclass(frozen=True, slots=True, kw_only=True)
class ResizeOffer:
    """Own capacity is more or less than it was, or ends at another time."""

    request: RequestId
    offer_id: OfferId
    nodes: int
    walltime_max_s: int
    until_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseOffer:
    """Closes one own offer, or with None all of them.

    `stay_closed`: offers of these names are not opened by themselves until somebody says
    `FollowAgain`.
    """

    request: RequestId
    offer_id: OfferId | None
    reason: str = ""
    stay_closed: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowAgain:
    """Offers of this name may be opened by themselves again."""

    request: RequestId
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Govern:
    """An administrator speaks in the federation's decisions.

    With a proposal goes the proposer's own vote in favour.
    """

    request: RequestId
    record: Propose | Vote | WithdrawProposal | Leave | Dispute | Settle


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeKey:
    """An administrator has made a new key, already durable, for us to sign with from now on.

    `record` is what `p2pfed.core.keyring.write_rotation` made of it for our feed.
    """

    request: RequestId
    record: RotateKey
    signer: Signer


@dataclass(frozen=True, slots=True, kw_only=True)
class DeclareEpoch:
    """An administrator begins a new epoch of our feed without a vote.

    `epoch` is its number; None takes the lowest that was not used as far as we know.
    """

    request: RequestId
    reason: str
    epoch: int | None = None


# Payloads and results (bulk connections)


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadAsked:
    """A peer asks for the payload of a claim: the moment in which a Handover is written."""

    transfer: TransferId
    centre: CentreName
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class HandoverNamed:
    """The host names the block with the Handover, which it holds durably."""

    transfer: TransferId
    centre: CentreName
    claim_id: ClaimId
    block_id: BlockId


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultAsked:
    """The home of a claim asks for its result."""

    transfer: TransferId
    centre: CentreName
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadFetched:
    """We are host: the payload is complete, durable, and has the digest that the Job states."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class PayloadFailed:
    """We are host: the payload did not come. `final` if trying again can't help."""

    claim_id: ClaimId
    why: str
    final: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFetched:
    """We are home: the result is complete, durable, and has the digest that the End states."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class ResultFailed:
    """We are home: the result did not come. `final` if trying again can't help."""

    claim_id: ClaimId
    why: str
    final: bool


# The batch system


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeQueued:
    """The batch system has the native job, which does not run yet."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRunning:
    """The native job runs since `started_ms` by the batch system's clock."""

    claim_id: ClaimId
    started_ms: int


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeEnded:
    """The native job is over and its result is durable in the spool.

    Amounts are what the batch system measured; the node bounds them by what was claimed.
    """

    claim_id: ClaimId
    outcome: Outcome
    exit_code: int = 0
    signal: int = 0
    started_ms: int
    ended_ms: int
    core_s: int
    gpu_s: int = 0
    memory_mib_max: int = 0
    result_digest: bytes = bytes(32)
    result_bytes: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeNotFound:
    """The batch system does not know the native job, and its start marker is now taken by us."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class NativeRefused:
    """The batch system refused the submission for good; nothing runs, nothing will."""

    claim_id: ClaimId
    why: str


# Local control


@dataclass(frozen=True, slots=True, kw_only=True)
class PolicyChanged:
    """The admission policy was read anew, by order of `who`; takes effect at once."""

    policy: AdmissionPolicy
    who: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StrayEnded:
    """The batch system ended, by our order, a job of the guests' account that no claim stands for.

    `native_id` and `name` are the batch system's.
    """

    native_id: str
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class SetMode:
    """An administrator pauses, drains, withdraws or resumes; taken also before we may write.

    `who` is the local account that said so, `reason` its words.
    """

    request: RequestId
    mode: Mode
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockCentre:
    """An administrator wants no jobs of `centre` here, or with `blocked` False wants them again."""

    request: RequestId
    centre: CentreName
    blocked: bool
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerRequest:
    """A person answers what the policy asked about a claim."""

    request: RequestId
    claim_id: ClaimId
    approve: bool
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class HoldJob:
    """A job of ours shall wait, or with `held` False wait no longer."""

    request: RequestId
    job_id: JobId
    held: bool
    who: str
    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingSecured:
    """The local job that a job of ours was made from is held, and will not start here.

    With `held` False it runs already or is gone: the job must not be handed over. With `again` it
    could not be told; whoever asks for the payload asks later.
    """

    claim_id: ClaimId
    held: bool
    again: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SiblingDone:
    """A job of ours is over and its sibling was finished: nothing links them any more."""

    request: RequestId
    job_id: JobId


Event = (
    LinkUp
    | LinkBytes
    | LinkDown
    | DialFailed
    | Tick
    | ClockStepped
    | SubmitJob
    | CancelJob
    | OpenOffer
    | ResizeOffer
    | CloseOffer
    | FollowAgain
    | Govern
    | ChangeKey
    | DeclareEpoch
    | PayloadAsked
    | HandoverNamed
    | ResultAsked
    | PayloadFetched
    | PayloadFailed
    | ResultFetched
    | ResultFailed
    | NativeQueued
    | NativeRunning
    | NativeEnded
    | NativeNotFound
    | NativeRefused
    | PolicyChanged
    | StrayEnded
    | SetMode
    | BlockCentre
    | AnswerRequest
    | HoldJob
    | SiblingSecured
    | SiblingDone
)
