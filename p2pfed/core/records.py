"""The records: every statement a centre can sign, with its wire number.

A record on the wire is a CBOR map. Key 0 holds the record's type; the other keys are the field
numbers that stand below. A record says only what its author knows: what needs both sides of a job
is computed from the records of both (`p2pfed.core.state`). A record of an unknown type, or with a
field out of range, is *inert*: its block is still valid, the record counts for nothing, and the
audit names it. docs/reference/wire-format.md is the normative text, and a test holds both together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Final, dataclass_transform

from p2pfed.core.fields import (
    BOOL,
    POSITION,
    integer,
    wire,
)
from p2pfed.core.ids import Position
from p2pfed.core.keys import KEY_BYTES, SIGNATURE_BYTES
from p2pfed.core.kinds import (
    ADDRESS,
    AMOUNT,
    BALANCE,
    CENTRES,
    CLAIMS,
    COUNT,
    DIGEST,
    DIGESTS,
    EPOCH,
    HEADER,
    LINE,
    PUBLIC_KEY,
    RULES,
    SIGNATURE,
    SUBJECT,
    TREES,
    U16,
    U32,
    U48,
    VOTES,
    WORD,
    WORDS,
)


class Outcome(IntEnum):
    """How a native job ended. docs/adr/0006 tells why 1 to 5 are final and 6 to 9 are not."""

    COMPLETED = 1
    FAILED = 2  # non-zero exit code, or ended by a signal of its own making
    TIMEOUT = 3  # reached its walltime
    OUT_OF_MEMORY = 4
    CANCELLED = 5  # the home asked
    PREEMPTED = 6  # the host took its nodes back
    NODE_FAILURE = 7
    NOT_STARTED = 8  # could not begin in time, or the batch system refused it
    NOT_FOUND = 9  # the batch system does not know it any more


FINAL_OUTCOMES: Final = frozenset(
    {
        Outcome.COMPLETED,
        Outcome.FAILED,
        Outcome.TIMEOUT,
        Outcome.OUT_OF_MEMORY,
        Outcome.CANCELLED,
    }
)
"""Outcomes after which a job does not run again; the others are the host's doing."""

CHARGED_OUTCOMES: Final = FINAL_OUTCOMES
"""Outcomes whose usage is charged: what the host itself cut short is not."""

OUTCOME = integer("outcome", min(Outcome), max(Outcome))

NO_OWNER: Final = bytes(32)
"""The `owner` of a job that states no user."""


class ProposalKind(IntEnum):
    """What a proposal wants. docs/reference/governance.md says what each needs and brings about."""

    ADMIT = 1  # a centre that never was a member
    REMOVE = 2
    READMIT = 3  # a centre that left or was removed, with a new epoch
    REPLACE_KEY = 4  # of a member that lost its key
    RULES = 5
    DISPUTE = 6
    NEW_EPOCH = 7  # of a member that forked or lost its data: raises the suspension


PROPOSAL_KIND = integer("proposal-kind", min(ProposalKind), max(ProposalKind))


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(wire,))
def _record(cls: type[Any]) -> type[Any]:
    made = dataclass(frozen=True, slots=True, kw_only=True)(cls)
    made.__deepcopy__ = lambda self, memo: self  # it never changes
    return made


@_record
class Contact:
    """The author listens for peers at `address` (host:port)."""

    address: str = wire(1, ADDRESS)


@_record
class Offer:
    """Capacity that the author makes available from this block on, under these conditions.

    Totals are `nodes` times the per-node shape. `until_ms` 0 means until closed. Empty lists of
    classes and centres mean "all"; `per_centre_cores` 0 means no cap. A job's end, counted from
    its claim, may not pass `until_ms`.
    """

    resource_class: str = wire(1, WORD)
    nodes: int = wire(2, COUNT)
    cores_per_node: int = wire(3, COUNT)
    gpus_per_node: int = wire(4, U16, default=0)
    memory_mib_per_node: int = wire(5, U32)
    walltime_max_s: int = wire(6, U32)
    until_ms: int = wire(7, U48, default=0)
    features: tuple[str, ...] = wire(8, WORDS, default=())
    classes: tuple[str, ...] = wire(9, WORDS, default=())
    data_classes: tuple[str, ...] = wire(10, WORDS, default=())
    allow: tuple[str, ...] = wire(11, CENTRES, default=())
    deny: tuple[str, ...] = wire(12, CENTRES, default=())
    per_centre_cores: int = wire(13, U32, default=0)
    min_balance: int = wire(14, BALANCE, default=-1_000_000)
    may_ask: bool = wire(15, BOOL, default=False)
    preemptible: bool = wire(16, BOOL, default=False)
    notice_s: int = wire(17, U32, default=0)
    name: str = wire(18, WORD, default="default")


@_record
class OfferUpdate:
    """The author's offer now has this size and window; its other terms stay."""

    offer_id: Position = wire(1, POSITION)
    nodes: int = wire(2, U32)
    walltime_max_s: int = wire(3, U32)
    until_ms: int = wire(4, U48, default=0)


@_record
class OfferClose:
    """The author's offer takes no new claims; what was accepted goes on."""

    offer_id: Position = wire(1, POSITION)
    reason: str = wire(2, LINE, default="")


@_record
class Job:
    """A job of the author waits: what it needs, and the digest of what is to run.

    `payload_digest` is the SHA-256 of the payload manifest, which only home and host ever see.
    `owner` commits to the job's user, without telling who that is (`p2pfed.core.disclosure`).
    """

    resource_class: str = wire(1, WORD)
    nodes: int = wire(2, COUNT)
    cores_per_node: int = wire(3, COUNT)
    gpus_per_node: int = wire(4, U16, default=0)
    memory_mib_per_node: int = wire(5, U32)
    walltime_s: int = wire(6, COUNT)
    features: tuple[str, ...] = wire(7, WORDS, default=())
    work_class: str = wire(8, WORD)
    data_class: str = wire(9, WORD, default="open")
    allow: tuple[str, ...] = wire(10, CENTRES, default=())
    deny: tuple[str, ...] = wire(11, CENTRES, default=())
    payload_digest: bytes = wire(12, DIGEST)
    payload_bytes: int = wire(13, U48)
    owner: bytes = wire(14, DIGEST, default=NO_OWNER)


@_record
class Cancel:
    """The author's job shall not run (any more)."""

    job_id: Position = wire(1, POSITION)


@_record
class Claim:
    """The author takes the match of its job and the offer, as it computed it in `round`.

    The offer's position holds the host's epoch, this record's own position the home's.
    """

    job_id: Position = wire(1, POSITION)
    offer_id: Position = wire(2, POSITION)
    attempt: int = wire(3, U16)
    round: int = wire(4, U48)
    rules_version: int = wire(5, U32)
    view_digest: bytes = wire(6, DIGEST)
    claim_until_ms: int = wire(7, U48)


@_record
class Release:
    """The author (home) gives its claim up; valid only while it has handed nothing over."""

    claim_id: Position = wire(1, POSITION)
    reason: str = wire(2, WORD)


@_record
class Accept:
    """The author (host) will run the claim if its payload is handed over in time."""

    claim_id: Position = wire(1, POSITION)
    accept_until_ms: int = wire(2, U48)


@_record
class Close:
    """The author (host) will not start the claim: final, whatever arrives later."""

    claim_id: Position = wire(1, POSITION)
    reason: str = wire(2, WORD)


@_record
class Handover:
    """The author (home) gives the payload to the host and the job to nobody else until then."""

    claim_id: Position = wire(1, POSITION)
    lease_until_ms: int = wire(2, U48)


@_record
class Start:
    """The author (host) is about to submit the native job of this name."""

    claim_id: Position = wire(1, POSITION)
    native_name: str = wire(2, WORD)


@_record
class End:
    """The native job is over; this is what it consumed and where its result stands.

    `core_s` and `gpu_s` are allocated resources times elapsed time, rounded up. `result_digest` is
    the SHA-256 of the result manifest, all zeros when there is none.
    """

    claim_id: Position = wire(1, POSITION)
    outcome: int = wire(2, OUTCOME)
    exit_code: int = wire(3, U32, default=0)
    signal: int = wire(4, U16, default=0)
    started_ms: int = wire(5, U48)
    ended_ms: int = wire(6, U48)
    core_s: int = wire(7, AMOUNT)
    gpu_s: int = wire(8, AMOUNT, default=0)
    memory_mib_max: int = wire(9, U32, default=0)
    result_digest: bytes = wire(10, DIGEST, default=bytes(32))
    result_bytes: int = wire(11, U48, default=0)


@_record
class Receipt:
    """The author (home) countersigns the usage that the host's End states."""

    claim_id: Position = wire(1, POSITION)
    core_s: int = wire(2, AMOUNT)
    gpu_s: int = wire(3, AMOUNT, default=0)


@_record
class Dispute:
    """The author (home) measured less than the host's End states."""

    claim_id: Position = wire(1, POSITION)
    core_s: int = wire(2, AMOUNT)
    gpu_s: int = wire(3, AMOUNT, default=0)
    reason: str = wire(4, LINE)


@_record
class Lost:
    """The author (home) waits no longer: the lease is over and the host has not said End."""

    claim_id: Position = wire(1, POSITION)


@_record
class Checkpoint:
    """The whole ledger up to the cut, as the author knew it when the round came.

    `trees` is deterministic CBOR: for each feed, ascending, `[centre, epoch, number of blocks, id
    of the newest, Merkle root over all ids]`. `state_hash` is over the folded state at the cut.
    """

    cut_ms: int = wire(1, U48)
    trees: bytes = wire(2, TREES)
    state_hash: bytes = wire(3, DIGEST)


@_record
class StateDigests:
    """The author's state at a cut in short, because others' checkpoints differ from its own.

    `digests` is deterministic CBOR: for each section of the state `[kind, writer, SHA-256, the
    first 4 bytes of the SHA-256 of each register]`; the last is empty where all would not fit.
    """

    cut_ms: int = wire(1, U48)
    digests: bytes = wire(2, DIGESTS)


@_record
class Done:
    """The author (home) says no more about its job: it is over, and so are all claims on it.

    What the author writes about the job or its claims after this is inert. A centre may therefore
    forget the job once nothing that their hosts may still write could matter.
    """

    job_id: Position = wire(1, POSITION)


@_record
class ForkProof:
    """Two different signed headers of one centre, epoch and `seq_num` (COSE_Sign1 each).

    The lesser message, as bytes, comes first, so that a proof has one form.
    """

    first: bytes = wire(1, HEADER)
    second: bytes = wire(2, HEADER)


@_record
class Propose:
    """The author proposes a decision to the members; which fields it needs depends on its kind.

    ADMIT, READMIT and REPLACE_KEY carry the subject's card (key, address, credit line) with the
    card's own signature, which shows that the subject holds the key. RULES carries the complete
    encoded rules. DISPUTE names one claim, its host as subject, and the amounts that shall count.
    """

    kind: int = wire(1, PROPOSAL_KIND)
    deadline_ms: int = wire(2, U48)
    reason: str = wire(3, LINE, default="")
    subject: str = wire(4, SUBJECT, default="")
    epoch: int = wire(5, EPOCH, default=0)
    public_key: bytes = wire(6, PUBLIC_KEY, default=bytes(KEY_BYTES))
    address: str = wire(7, LINE, default="")
    credit_line: int = wire(8, AMOUNT, default=0)
    card_signature: bytes = wire(9, SIGNATURE, default=bytes(SIGNATURE_BYTES))
    rules: bytes = wire(10, RULES, default=b"")
    claims: tuple[Position, ...] = wire(11, CLAIMS, default=())
    core_s: int = wire(12, AMOUNT, default=0)
    gpu_s: int = wire(13, AMOUNT, default=0)


@_record
class Vote:
    """The author is for or against a proposal. Its first vote on a proposal is its vote."""

    proposal_id: Position = wire(1, POSITION)
    in_favour: bool = wire(2, BOOL)
    reason: str = wire(3, LINE, default="")


@_record
class WithdrawProposal:
    """The author's proposal shall not be adopted any more."""

    proposal_id: Position = wire(1, POSITION)


@_record
class Adopt:
    """The author has seen enough votes: the proposal becomes a version from `effective_round` on.

    `base_version` is the version that it builds on, `votes` are the votes in favour that carry it.
    """

    proposal_id: Position = wire(1, POSITION)
    base_version: int = wire(2, U32)
    effective_round: int = wire(3, U48)
    votes: tuple[Position, ...] = wire(4, VOTES)


@_record
class Leave:
    """The author is no member from this block on. What it owes and has running stays its own."""

    reason: str = wire(1, LINE, default="")


@_record
class RotateKey:
    """The author signs with this key from its next block on; `signature` is by the new key.

    The block itself is signed with the old one, so both agree.
    """

    public_key: bytes = wire(1, PUBLIC_KEY)
    signature: bytes = wire(2, SIGNATURE)


@_record
class NewEpoch:
    """The author, one of at most two members, begins a new epoch without a vote.

    It stands first in the first block of that epoch, and only there.
    """

    reason: str = wire(1, LINE, default="")


@_record
class Settle:
    """The author, home or host of a disputed claim, would settle it at these amounts."""

    claim_id: Position = wire(1, POSITION)
    core_s: int = wire(2, AMOUNT)
    gpu_s: int = wire(3, AMOUNT, default=0)


@_record
class Hold:
    """The author's job takes no part in the matching for now; it keeps its place and its time.

    It does not touch a claim that was handed over.
    """

    job_id: Position = wire(1, POSITION)


@_record
class Unhold:
    """The author's job takes part in the matching again."""

    job_id: Position = wire(1, POSITION)


Record = (
    Contact
    | Offer
    | OfferUpdate
    | OfferClose
    | Job
    | Cancel
    | Claim
    | Release
    | Accept
    | Close
    | Handover
    | Start
    | End
    | Receipt
    | Dispute
    | Lost
    | ForkProof
    | Propose
    | Vote
    | WithdrawProposal
    | Adopt
    | Leave
    | RotateKey
    | Settle
    | NewEpoch
    | Hold
    | Unhold
    | Checkpoint
    | StateDigests
    | Done
)


@dataclass(frozen=True, slots=True)
class Inert:
    """A record that counts for nothing, and why (`code` is an `InputError` code)."""

    code: str
    detail: str


CLAIM_RECORDS: Final = frozenset(
    {Claim, Release, Accept, Close, Handover, Start, End, Receipt, Dispute, Settle, Lost}
)
"""Records that touch a claim."""

RECORD_TYPES: Final[Mapping[int, type[Any]]] = {
    1: Contact,
    2: Offer,
    3: OfferUpdate,
    4: OfferClose,
    5: Job,
    6: Cancel,
    7: Claim,
    8: Release,
    9: Accept,
    10: Close,
    11: Handover,
    12: Start,
    13: End,
    14: Receipt,
    15: Dispute,
    16: Lost,
    17: ForkProof,
    18: Propose,
    19: Vote,
    20: WithdrawProposal,
    21: Adopt,
    22: Leave,
    23: RotateKey,
    24: Settle,
    25: NewEpoch,
    26: Checkpoint,
    27: StateDigests,
    28: Hold,
    29: Unhold,
    30: Done,
}
"""Type numbers on the wire, never reused."""
