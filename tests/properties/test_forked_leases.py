"""A lease on a branch that does not count: it binds, and it ends, whoever stays silent about it.

Alpha claims beta's offer and hands a job over on one branch of its feed; the members see that
branch or another. Beta may accept, start and end the job, and may stop at any point for good.
"""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.blocks import Block, check_fork_proof, fork_proof
from p2pfed.core.ids import CentreName, FeedKey, is_on_branch
from p2pfed.core.records import (
    Accept,
    Claim,
    Contact,
    End,
    ForkProof,
    Handover,
    Job,
    Offer,
    Outcome,
    Record,
    Start,
)
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc
from p2pfed.core.view import View, in_time
from tests.properties.test_forks import causal_shuffle
from tests.writers import FEDERATION, START_MS, Writer, keys_of

ALPHA, BETA, GAMMA = NAMES = tuple(CentreName(name) for name in ("alpha", "beta", "gamma"))
KEYS = keys_of(*NAMES)
RULES = Rules(walltime_max_s=60, fetch_ms=10_000, queue_ms=10_000)
HANDED_MS = START_MS + 4_000
OFFER = Offer(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    memory_mib_per_node=4_000,
    walltime_max_s=600,
)
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=4,
    memory_mib_per_node=500,
    walltime_s=60,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)


def prove(proof: ForkProof) -> tuple[FeedKey, int]:
    return check_fork_proof(proof, FEDERATION, KEYS)


def at(writer: Writer, ms: int, *acked: Block, records: tuple[Record, ...] = ()) -> Block:
    return writer.write(*acked, records=records, time=HlcTime(hlc(START_MS + ms)))


def history(*, gamma_saw_it: bool, steps: int, lease_until_ms: int) -> list[Block]:
    """The blocks; `steps`: how many records beta wrote of the claim."""
    alpha, beta, gamma = Writer(ALPHA), Writer(BETA), Writer(GAMMA)
    offered = at(beta, 0, records=(OFFER,))
    trunk = at(alpha, 1_000, offered, records=(JOB,))
    other = alpha.branch()
    claim = Claim(
        job_id=trunk.position(0),
        offer_id=offered.position(0),
        attempt=1,
        round=1,
        rules_version=1,
        view_digest=bytes(32),
        claim_until_ms=START_MS + 30_000,
    )
    claimed = at(alpha, 2_000, records=(claim,))
    claim_id = claimed.position(0)
    said = (
        Accept(claim_id=claim_id, accept_until_ms=START_MS + 60_000),
        Start(claim_id=claim_id, native_name="p2pfed-x"),
        End(
            claim_id=claim_id,
            outcome=Outcome.COMPLETED,
            core_s=40,
            started_ms=START_MS + 5_000,
            ended_ms=START_MS + 6_000,
        ),
    )
    blocks = [offered, trunk, claimed]
    blocks.append(at(beta, 3_000, claimed, records=said[: min(steps, 1)]))
    handed = at(
        alpha,
        4_000,
        blocks[-1],
        records=(Handover(claim_id=claim_id, lease_until_ms=lease_until_ms),),
    )
    blocks.append(handed)
    blocks.append(at(beta, 5_000, handed, records=said[1:2] if steps > 1 else ()))
    blocks.append(at(beta, 6_000, records=said[2:] if steps > 2 else ()))
    rival = at(other, 2_500, records=(Contact(address="elsewhere:1"),))
    proof = fork_proof(claimed.header.cose, rival.header.cose)
    blocks += [rival, at(gamma, 5_500, handed if gamma_saw_it else rival)]
    blocks.append(at(gamma, 7_000, records=(proof,)))
    return blocks


def view_of(blocks: list[Block], cut_ms: int, rng: random.Random | None) -> State:
    held: list[Block] = []
    lines = dict.fromkeys(NAMES, 1_000)
    view = View(lambda: State(RULES, lines, prove), in_time(lambda: list(held)), prove)
    view.watch({FeedKey(ALPHA, 0)}, {})
    for block in blocks:
        held.append(block)
        view.add(block)
        if rng is not None and rng.random() < 0.5:
            view.advance(min(cut_ms, START_MS + 8_000))
    view.advance(cut_ms)
    return view.state


@settings(max_examples=60)
@given(
    gamma_saw_it=st.booleans(),
    steps=st.integers(0, 3),
    lease_ms=st.integers(1_000, 1 << 40),
    cut_ms=st.integers(8_000, 400_000),
    rng=st.randoms(use_true_random=False),
)
def test_a_lease_that_nobody_can_end_holds_nothing_beyond_its_time(
    gamma_saw_it: bool, steps: int, lease_ms: int, cut_ms: int, rng: random.Random
) -> None:
    blocks = history(gamma_saw_it=gamma_saw_it, steps=steps, lease_until_ms=HANDED_MS + lease_ms)
    state = view_of(blocks, START_MS + cut_ms, None)
    (entry,) = state.registers.claims.values()
    over_ms = HANDED_MS + min(lease_ms, RULES.lease_max_ms)
    # Beta is one of two others: only what gamma saw, too, has a majority.
    assert is_on_branch(entry.claim_id) is not gamma_saw_it
    (offer,) = state.offers().values()
    holds = [part.claim_id for part in offer.running]
    waits = steps < 3 and (gamma_saw_it or START_MS + cut_ms < over_ms)
    assert holds == ([entry.claim_id] if waits else [])
    assert (state.committed(ALPHA) > 0) is (waits or steps == 3)
    # Invariant 5: in any order, with rounds in between, it is the same.
    again = view_of(causal_shuffle(blocks, rng), START_MS + cut_ms, rng)
    assert [o.running for o in again.offers().values()] == [offer.running]
    assert again.committed(ALPHA) == state.committed(ALPHA)
    assert again.registers.claims.keys() == state.registers.claims.keys()
