"""What a node wants done: the only outputs of `Node.handle`.

Effects of one call are performed in order, and those of an earlier call before those of a later
one. The order carries the durability rule: `StoreBlocks` stands before every `Send`, `Reply` or
`SubmitNative` that rests on it, so a performer that syncs each `StoreBlocks` before it goes on
(several in a row may share one commit) lets nothing out that a crash could take back.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from p2pfed.core.checkpoint import TreeHead
from p2pfed.core.ids import BlockId, CentreName, ClaimId, FeedKey, Head, JobId, PublicKey
from p2pfed.core.records import Job
from p2pfed.errors import P2pfedError
from p2pfed.node.events import LinkId, RequestId, TransferId

DEBUG: Final = 10
INFO: Final = 20
WARNING: Final = 30
ERROR: Final = 40
"""Levels of a `Note`: the numbers of Python's logging, which pure code does not import."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredBlock:
    """A block as it is kept: where it stands, its id, time and received bytes."""

    feed: FeedKey
    seq_num: int
    block_id: BlockId
    time: int
    data: bytes
    side: bool = False
    """Stands beside its feed, on a branch that came second here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoreBlocks:
    """Write these blocks and local rows in one synced transaction, in this order.

    `own_head` is set when a block of our own is among them: after the commit, and before anything
    later is performed, it is written to the high-water file and synced.
    `local` rows are (key, value), kept beside the ledger and never replicated.
    `history` says that the blocks lie under the checkpoint that the node began with: in the order
    of admission they stand before all that are stored without it.
    """

    blocks: tuple[StoredBlock, ...]
    own_head: tuple[FeedKey, Head] | None = None
    local: tuple[tuple[str, bytes], ...] = ()
    history: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class KeepSnapshot:
    """Keep these bytes for the next start, in place of any before; losing them loses time only."""

    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointCosigned:
    """A majority of the members signed what we signed: what lies under it may be archived.

    `trees` says of each feed how many blocks that are, and the newest one's id. `bearings` are what
    a newcomer needs to begin with it (`p2pfed.core.bearings`), in place of any before.
    """

    cut_ms: int
    state_hash: bytes
    trees: tuple[TreeHead, ...]
    bearings: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class HistoryConfirmed:
    """All blocks under the checkpoint that we began with are stored, and agree with it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Send:
    """Send these bytes to the peer."""

    link: LinkId
    data: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SendStored:
    """Send the stored blocks `from_seq` to `to_seq` (both included) of a feed, framed as blocks.

    Read from disk when the link can take them: however much a peer lacks, little is in memory.
    Later `Send`s on the link follow after these.
    """

    link: LinkId
    feed: FeedKey
    from_seq: int
    to_seq: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SendNamed:
    """Send exactly this stored block, on whichever branch it stands; as `SendStored`."""

    link: LinkId
    feed: FeedKey
    seq_num: int
    block_id: BlockId


@dataclass(frozen=True, slots=True, kw_only=True)
class CloseLink:
    """Send what is pending, then close. `error` says what the peer did wrong, if it did."""

    link: LinkId
    error: P2pfedError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Dial:
    """Try once to connect to the centre; answered by `LinkUp` or `DialFailed`."""

    centre: CentreName
    address: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustKeys:
    """From the next connection on, these other centres are recognised by these keys, no others."""

    keys: tuple[tuple[CentreName, PublicKey], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """The answer to a call of the control API: an id as text, or the error."""

    request: RequestId
    result: str = ""
    error: P2pfedError | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """What an attempt that was cut short saved: its home has it, as the result of that claim."""

    claim_id: ClaimId
    digest: bytes
    size: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchPayload:
    """We are host: open a bulk connection to `home` and ask for the claim's payload.

    The fetch then waits for `NameHandover`; what an earlier attempt saved is fetched after it.
    Idempotent: a fetch that is under way goes on. Ends in `PayloadFetched` or `PayloadFailed`.
    """

    claim_id: ClaimId
    home: CentreName
    address: str
    job_id: JobId
    payload_digest: bytes
    payload_bytes: int
    checkpoint: Checkpoint | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NameHandover:
    """We are host and hold the Handover durably: name its block on the waiting fetch."""

    claim_id: ClaimId
    block_id: BlockId


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerTransfer:
    """Tell the peer that its `PayloadAsked` led to a Handover in `block_id`, or why it did not.

    `retry` tells it that asking again later may help; without it, an error is final.
    """

    transfer: TransferId
    block_id: BlockId | None = None
    error: P2pfedError | None = None
    retry: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class SendPayload:
    """We are home: the lease is known to the host, stream the payload of the job."""

    transfer: TransferId
    job_id: JobId
    payload_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class SendResult:
    """We are host: stream the result of the claim to its home."""

    transfer: TransferId
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class SendCheckpoint:
    """We are home: stream what this earlier attempt saved to the host of the next."""

    transfer: TransferId
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class FetchResult:
    """We are home: open a bulk connection to `host` and fetch the result of the claim.

    Idempotent. Ends in `ResultFetched` or `ResultFailed`.
    """

    claim_id: ClaimId
    host: CentreName
    address: str
    job_id: JobId
    result_digest: bytes
    result_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SubmitNative:
    """Start is durable: submit the job under this name, once, whatever happened before.

    No process may live at `kill_at_ms` (host's clock); none may begin after `begin_before_ms`.
    `offer` is the name of the offer that it came by.
    """

    claim_id: ClaimId
    native_name: str
    job_id: JobId
    job: Job
    begin_before_ms: int
    kill_at_ms: int
    offer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchNative:
    """After a restart: find the native job of this name and report on it, or `NativeNotFound`."""

    claim_id: ClaimId
    native_name: str
    job_id: JobId
    job: Job
    kill_at_ms: int
    offer: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelNative:
    """Kill the native job and its whole tree; its end is reported as usual."""

    claim_id: ClaimId
    native_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetClaim:
    """Everything kept for this claim in the host's spool may be removed."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetPayload:
    """No attempt of this job will be needed any more: its payload may be removed."""

    job_id: JobId
    payload_digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ForgetResult:
    """We are home: what this attempt saved is here no more of use, a later one's is."""

    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class SecureSibling:
    """We are home: hold the local job that this job was made from, and see that it is held.

    Answered by `SiblingSecured`. Performed strictly in order with `FreeSibling`.
    """

    job_id: JobId
    claim_id: ClaimId


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeSibling:
    """We are home: no host has the job now, its sibling may start here. Idempotent."""

    job_id: JobId


@dataclass(frozen=True, slots=True, kw_only=True)
class Note:
    """Something a person may want to know; the shell logs it. `level` is one of those above."""

    level: int
    code: str
    text: str
    fields: tuple[tuple[str, str], ...] = field(default=())


Effect = (
    StoreBlocks
    | KeepSnapshot
    | CheckpointCosigned
    | HistoryConfirmed
    | Send
    | SendNamed
    | SendStored
    | TrustKeys
    | CloseLink
    | Dial
    | Reply
    | FetchPayload
    | NameHandover
    | AnswerTransfer
    | SendPayload
    | SendResult
    | SendCheckpoint
    | FetchResult
    | SubmitNative
    | WatchNative
    | CancelNative
    | ForgetClaim
    | ForgetPayload
    | ForgetResult
    | SecureSibling
    | FreeSibling
    | Note
)
