"""One record of every type, with every field set, from a plausible run of one job."""

from __future__ import annotations

import hashlib

from p2pfed.core.ids import CentreName, Position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import (
    Accept,
    Adopt,
    Cancel,
    Claim,
    Close,
    Contact,
    Dispute,
    Done,
    End,
    Handover,
    Hold,
    Job,
    Leave,
    Lost,
    NewEpoch,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    ProposalKind,
    Propose,
    Receipt,
    Record,
    Release,
    RotateKey,
    Settle,
    Start,
    Unhold,
    Vote,
    WithdrawProposal,
)
from p2pfed.core.rules import Rules
from tests.writers import START_MS, private_key, public_key

ALPHA, BETA = CentreName("alpha"), CentreName("beta")
JOB_ID = Position(ALPHA, 0, 0, 5)
OFFER_ID = Position(BETA, 1, 300, 0)
CLAIM_ID = Position(ALPHA, 0, 0, 7)
PROPOSAL_ID = Position(ALPHA, 0, 9, 0)
DIGEST = hashlib.sha256(b"example").digest()

EXAMPLES: tuple[Record, ...] = (
    Contact(address="alpha.example.org:7411"),
    Contact(address="[2001:db8::1]:7411"),
    Offer(
        resource_class="gpu",
        nodes=4,
        cores_per_node=64,
        gpus_per_node=4,
        memory_mib_per_node=515_000,
        walltime_max_s=86_400,
        until_ms=START_MS + 86_400_000,
        features=("apptainer", "cuda-12"),
        classes=("low", "normal"),
        data_classes=("open",),
        allow=("beta", "gamma"),
        deny=("delta",),
        per_centre_cores=128,
        min_balance=-500_000,
        may_ask=True,
        preemptible=True,
        notice_s=300,
        name="night",
    ),
    OfferUpdate(offer_id=OFFER_ID, nodes=0, walltime_max_s=3_600, until_ms=START_MS + 3_600_000),
    OfferClose(offer_id=OFFER_ID, reason="maintenance"),
    Job(
        resource_class="cpu",
        nodes=2,
        cores_per_node=32,
        gpus_per_node=0,
        memory_mib_per_node=64_000,
        walltime_s=7_200,
        features=("apptainer",),
        work_class="normal",
        data_class="internal",
        allow=("beta",),
        deny=("delta", "gamma"),
        payload_digest=DIGEST,
        payload_bytes=1_048_576,
    ),
    Cancel(job_id=JOB_ID),
    Claim(
        job_id=JOB_ID,
        offer_id=OFFER_ID,
        attempt=1,
        round=170_000_000,
        rules_version=1,
        view_digest=DIGEST,
        claim_until_ms=START_MS + 30_000,
    ),
    Release(claim_id=CLAIM_ID, reason="expired"),
    Accept(claim_id=CLAIM_ID, accept_until_ms=START_MS + 120_000),
    Close(claim_id=CLAIM_ID, reason="no-capacity"),
    Handover(claim_id=CLAIM_ID, lease_until_ms=START_MS + 9_000_000),
    Start(claim_id=CLAIM_ID, native_name="p2pfed-alpha.0.7"),
    End(
        claim_id=CLAIM_ID,
        outcome=int(Outcome.FAILED),
        exit_code=3,
        signal=9,
        started_ms=START_MS,
        ended_ms=START_MS + 60_000,
        core_s=3_840,
        gpu_s=16,
        memory_mib_max=1_200,
        result_digest=DIGEST,
        result_bytes=4_096,
    ),
    Receipt(claim_id=CLAIM_ID, core_s=3_840, gpu_s=16),
    Dispute(claim_id=CLAIM_ID, core_s=1_000, gpu_s=4, reason="ran for 15 s only"),
    Lost(claim_id=CLAIM_ID),
    Propose(
        kind=int(ProposalKind.ADMIT),
        deadline_ms=START_MS + 86_400_000,
        reason="a new cluster",
        subject="gamma",
        epoch=1,
        public_key=public_key("gamma"),
        address="gamma.example.org:7411",
        credit_line=86_400,
        card_signature=private_key("gamma").sign(b"its card"),
        rules=encode_rules(Rules()),
        claims=(CLAIM_ID,),
        core_s=3_000,
        gpu_s=8,
    ),
    Vote(proposal_id=PROPOSAL_ID, in_favour=True, reason="welcome"),
    WithdrawProposal(proposal_id=PROPOSAL_ID),
    Adopt(
        proposal_id=PROPOSAL_ID,
        base_version=1,
        effective_round=170_000_100,
        votes=(Position(ALPHA, 0, 9, 1), Position(BETA, 1, 12, 0)),
    ),
    Leave(reason="the machine is switched off"),
    Settle(claim_id=CLAIM_ID, core_s=2_000, gpu_s=8),
    RotateKey(
        public_key=public_key("alpha-new"), signature=private_key("alpha-new").sign(b"its feed")
    ),
    NewEpoch(reason="the disk was lost while beta was down"),
    Done(job_id=JOB_ID),
    Hold(job_id=JOB_ID),
    Unhold(job_id=JOB_ID),
)
