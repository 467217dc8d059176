"""What is answered about the members' decisions: proposals, versions, disputes, and why."""

from __future__ import annotations

from typing import Literal, TypedDict

ProposalKindName = Literal[
    "admit", "remove", "readmit", "replace-key", "rules", "dispute", "new-epoch"
]
ProposalStateName = Literal[
    "open",
    "carried",
    "adopted",
    "in force",
    "withdrawn",
    "refused",
    "expired",
    "impossible",
]
DisputeStateName = Literal["open", "to be decided", "settled", "decided", "lapsed"]


class BallotView(TypedDict):
    """One centre's vote. `counts`: the centre has a vote on this proposal."""

    centre: str
    in_favour: bool
    reason: str
    vote_id: str
    time_ms: int
    counts: bool


class ChangeView(TypedDict):
    """A rule that a version changes, as JSON texts."""

    rule: str
    before: str
    after: str


class ProposalView(TypedDict):
    """A proposal at the last cut.

    `needed` votes in favour of `electors` carry it. `version` and `start_ms` are set once it is
    adopted. `changes` lists what proposed rules change against those that it builds on.
    """

    proposal_id: str
    kind: ProposalKindName
    subject: str
    proposer: str
    reason: str
    proposed_ms: int
    deadline_ms: int
    state: ProposalStateName
    why: str
    electors: list[str]
    needed: int
    ballots: list[BallotView]
    version: int | None
    start_ms: int | None
    epoch: int
    public_key: str | None
    address: str | None
    credit_line: int | None
    claim_id: str | None
    core_s: int
    gpu_s: int
    changes: list[ChangeView]


class VersionView(TypedDict):
    """A version of what holds, and the decision that made it; the charter is version 1."""

    number: int
    rules_version: int
    start_round: int
    start_ms: int
    in_force: bool
    kind: Literal["charter"] | ProposalKindName
    subject: str
    proposal_id: str | None
    adopt: str | None
    votes: list[str]
    members: list[str]
    changes: list[ChangeView]


class DisputeView(TypedDict):
    """A disputed claim. `counts_*` is what counts of it at the last cut."""

    claim_id: str
    job_id: str
    home: str
    host: str
    reason: str
    state: DisputeStateName
    disputed_ms: int
    settle_until_ms: int
    decide_until_ms: int
    stated_core_s: int
    stated_gpu_s: int
    measured_core_s: int
    measured_gpu_s: int
    counts_core_s: int
    counts_gpu_s: int


class WhyView(TypedDict):
    """A fact about the federation, and the records that it follows from, as sentences."""

    fact: str
    reasons: list[str]
