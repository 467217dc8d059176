"""The host: it alone says what runs here, and it holds capacity for nobody for ever."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.core.blocks import fork_proof
from p2pfed.core.ids import ClaimId, OfferId, Position
from p2pfed.core.lifecycle import ClaimState, HostPhase, kill_at, lease_until
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Close,
    End,
    ForkProof,
    Handover,
    Lost,
    OfferUpdate,
    Outcome,
    Receipt,
    Release,
    Start,
)
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import (
    CancelNative,
    FetchPayload,
    ForgetClaim,
    NameHandover,
    StoreBlocks,
    SubmitNative,
    WatchNative,
)
from p2pfed.node.events import (
    ClockStepped,
    CloseOffer,
    NativeEnded,
    NativeNotFound,
    NativeRefused,
    PayloadFailed,
    PayloadFetched,
    RequestId,
)
from p2pfed.node.host import native_name
from p2pfed.node.recovery import Memory
from tests.unit.node.benches import ALPHA, BETA, JOB, OFFER, RULES, Bench, of_type


def accepted(bench: Bench) -> ClaimId:
    """A claim of beta that alpha has accepted."""
    claim_id, _ = bench.claim_on(bench.open_offer())
    assert bench.claim_entry(claim_id).state is ClaimState.ACCEPTED
    return claim_id


def started(bench: Bench) -> ClaimId:
    """A claim of beta whose job alpha has started."""
    claim_id = accepted(bench)
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    assert bench.claim_entry(claim_id).state is ClaimState.STARTED
    return claim_id


def closed_for(bench: Bench, claim_id: ClaimId) -> str:
    """The reason that alpha closed a claim for; empty if it did not."""
    reasons = [r.reason for r in bench.written(Close) if r.claim_id == claim_id]  # type: ignore[union-attr]
    assert len(reasons) <= 1, "a claim was closed twice"
    return reasons[0] if reasons else ""


def ended(claim_id: ClaimId, bench: Bench, outcome: Outcome = Outcome.COMPLETED) -> NativeEnded:
    return NativeEnded(
        claim_id=claim_id,
        outcome=outcome,
        started_ms=bench.now_ms - 1_000,
        ended_ms=bench.now_ms,
        core_s=4,
    )


# Accepting


def test_a_claim_that_fits_is_accepted_and_its_payload_asked_for() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    (fetch,) = of_type(bench.effects, FetchPayload)
    assert (fetch.claim_id, fetch.home) == (claim_id, BETA)


def test_no_more_is_accepted_than_fits_whoever_asks_and_however_it_comes() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    for writer in (bench.beta, bench.gamma, bench.beta, bench.gamma):
        bench.claim_on(offer_id, writer=writer)
    assert len(bench.written(Accept)) == 2
    assert [r.reason for r in bench.written(Close)] == ["no-capacity"] * 2  # type: ignore[union-attr]


def test_a_restarted_host_counts_all_that_it_holds_before_it_accepts_again() -> None:
    bench = Bench()
    offer_id = bench.open_offer(replace(OFFER, nodes=1))
    held, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert bench.claim_entry(held).state is ClaimState.ACCEPTED
    posted = bench.say(bench.beta, JOB, knows=[bench.newest()])
    claim = Claim(
        job_id=posted.position(0),
        offer_id=offer_id,
        attempt=1,
        round=bench.node.rounds.last,
        rules_version=1,
        view_digest=bytes(32),
        claim_until_ms=bench.now_ms + 5_000,
    )
    claimed = bench.say(bench.beta, claim)
    # Beta's claim, which sorts before gamma's, is stored but not yet judged when alpha dies.
    bench.disk += [posted.data, claimed.data]
    bench.restart()
    assert closed_for(bench, ClaimId(claimed.position(0))) == "no-capacity"


def test_capacity_comes_back_when_a_claim_is_released() -> None:
    bench = Bench()
    offer_id = bench.open_offer(replace(OFFER, nodes=1))
    first, _ = bench.claim_on(offer_id)
    bench.hear(bench.say(bench.beta, Release(claim_id=first, reason="expired")))
    second, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert bench.claim_entry(second).state is ClaimState.ACCEPTED


def test_an_offer_that_shrank_takes_nothing_new_and_breaks_nothing_old() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    first, _ = bench.claim_on(offer_id)
    bench.node.ledger.write(
        OfferUpdate(offer_id=offer_id, nodes=1, walltime_max_s=50), bench.now_ms
    )
    second, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert closed_for(bench, second) == "no-capacity"
    bench.hand_over(first)
    bench.do(PayloadFetched(claim_id=first))
    assert bench.claim_entry(first).state is ClaimState.STARTED


def test_a_closed_offer_takes_no_claim_and_what_was_accepted_goes_on() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    first, _ = bench.claim_on(offer_id)
    bench.do(CloseOffer(request=RequestId(99), offer_id=offer_id))
    second, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert closed_for(bench, second) == "offer-closed"
    bench.hand_over(first)
    bench.do(PayloadFetched(claim_id=first))
    assert bench.claim_entry(first).state is ClaimState.STARTED


def test_a_match_of_our_own_view_is_still_held_to_what_one_home_may_have() -> None:
    """Another claim of that home came first, from a view of its own."""
    bench = Bench()
    offer_id = bench.open_offer(replace(OFFER, per_centre_cores=4))
    posted = bench.say(bench.beta, JOB, JOB, knows=[bench.newest()])
    bench.hear(posted)
    bench.hear(bench.say(bench.gamma, knows=[posted]))
    bench.wait(2_500)
    rounds = bench.node.rounds
    matching = rounds.last_matching
    assert matching is not None
    (placed,) = matching.placements
    other = next(posted.position(i) for i in range(2) if posted.position(i) != placed.job_id)
    fields = {"offer_id": offer_id, "attempt": 1, "round": rounds.last, "rules_version": 1}
    until_ms = bench.now_ms + 5_000
    strange = Claim(job_id=other, view_digest=bytes(32), claim_until_ms=until_ms, **fields)  # type: ignore[arg-type]
    digest = rounds.last_digest
    assert digest is not None
    ours = Claim(job_id=placed.job_id, view_digest=digest, claim_until_ms=until_ms, **fields)  # type: ignore[arg-type]
    block = bench.say(bench.beta, strange, ours)
    bench.hear(block)
    assert bench.claim_entry(block.position(0)).state is ClaimState.ACCEPTED
    assert closed_for(bench, ClaimId(block.position(1))) == "no-capacity"


REFUSED: dict[str, tuple[dict[str, object], str]] = {
    "is over": ({"claim_until_ms": 1}, "expired"),
    "would hold capacity for ever": ({"claim_until_ms": (1 << 48) - 1}, "unjustified"),
    "names other rules": ({"rules_version": 2}, "rules-version"),
    "asks for more time than the rules know": (
        {"job": replace(JOB, walltime_s=RULES.walltime_max_s + 1)},
        "constraint",
    ),
    "asks for more time than the offer gives": (
        {"job": replace(JOB, walltime_s=51)},
        "unjustified",
    ),
    "asks for more than a node has": ({"job": replace(JOB, cores_per_node=5)}, "unjustified"),
}


@pytest.mark.parametrize("phrase", REFUSED)
def test_a_claim_is_closed_at_once_that(phrase: str) -> None:
    changed, reason = REFUSED[phrase]
    bench = Bench()
    claim_id, _ = bench.claim_on(bench.open_offer(), **changed)  # type: ignore[arg-type]
    assert closed_for(bench, claim_id) == reason
    assert not bench.written(Accept)


def test_a_claim_on_an_offer_that_never_was_is_closed() -> None:
    bench = Bench()
    claim_id, _ = bench.claim_on(OfferId(Position(ALPHA, 0, 0, 9)))
    assert closed_for(bench, claim_id) == "offer-closed"


def test_two_claims_for_one_job_get_one_accept_at_most() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    posted = bench.say(bench.beta, JOB, knows=[bench.newest()])
    claim = Claim(
        job_id=posted.position(0),
        offer_id=offer_id,
        attempt=1,
        round=0,
        rules_version=1,
        view_digest=bytes(32),
        claim_until_ms=bench.now_ms + 5_000,
    )
    twice = bench.say(bench.beta, claim, claim)
    bench.hear(posted, twice)
    assert len(bench.written(Accept)) <= 1
    assert closed_for(bench, ClaimId(twice.position(0))) == "unjustified"


def test_a_claim_of_a_round_that_never_comes_is_closed_when_it_is_over() -> None:
    bench = Bench()
    claim_id, _ = bench.claim_on(bench.open_offer(), round=1 << 40)
    assert closed_for(bench, claim_id) == ""
    bench.wait(6_000)
    assert closed_for(bench, claim_id) == "expired"


def test_a_paused_host_declines() -> None:
    bench = Bench(policy=AdmissionPolicy(paused=True))
    claim_id, _ = bench.claim_on(bench.open_offer())
    assert closed_for(bench, claim_id) == "paused"


def test_a_home_that_is_convicted_of_a_fork_gets_nothing_more() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    proof = convict(bench)
    bench.hear(bench.say(bench.gamma, proof))
    claim_id, _ = bench.claim_on(offer_id)
    assert closed_for(bench, claim_id) == "unjustified"


def convict(bench: Bench) -> ForkProof:
    """Proof that beta signed two blocks for one place; beta goes on with a branch of its own."""
    other = bench.beta.branch()
    one = bench.say(bench.beta)
    two = other.write(records=[Cancel(job_id=Position(BETA, 0, 0, 0))])
    bench.hear(one)
    return fork_proof(one.header.cose, two.header.cose)


# The lease


def test_nothing_starts_without_a_lease() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.do(PayloadFetched(claim_id=claim_id))
    assert not bench.written(Start)
    bench.hand_over(claim_id)
    assert len(bench.written(Start)) == 1


def test_nothing_starts_without_its_payload() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    handover = bench.hand_over(claim_id)
    assert not bench.written(Start)
    (named,) = of_type(bench.effects, NameHandover)
    assert named.block_id == handover.block_id


def test_the_handover_is_named_only_after_it_is_stored() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.effects.clear()
    handover = bench.hand_over(claim_id)
    stored = [
        i
        for i, e in enumerate(bench.effects)
        if isinstance(e, StoreBlocks) and handover.block_id in {b.block_id for b in e.blocks}
    ]
    named = [i for i, e in enumerate(bench.effects) if isinstance(e, NameHandover)]
    assert stored
    assert stored[0] < named[0]


def test_start_is_stored_before_anything_is_submitted() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.hand_over(claim_id)
    effects = bench.do(PayloadFetched(claim_id=claim_id))
    kinds = [type(effect) for effect in effects]
    assert kinds.index(StoreBlocks) < kinds.index(SubmitNative)
    assert kinds.count(SubmitNative) == 1


def test_a_handover_that_nobody_accepted_starts_nothing() -> None:
    bench = Bench(policy=AdmissionPolicy())
    claim_id, _ = bench.claim_on(bench.open_offer(), round=1 << 40)
    bench.hand_over(claim_id)
    assert closed_for(bench, claim_id) == "unjustified"
    assert not bench.written(Start)


def test_an_accept_ends_at_its_time_and_never_starts_after() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.wait(11_000)
    assert closed_for(bench, claim_id) == "expired"
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    assert not bench.written(Start)


def test_a_lease_that_is_too_short_is_given_back() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    short = Handover(claim_id=claim_id, lease_until_ms=bench.now_ms + 5_000)
    bench.hear(bench.say(bench.beta, short, knows=[bench.newest()]))
    assert closed_for(bench, claim_id) == "lease-short"


def test_a_lease_without_end_does_not_hold_capacity_without_end() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    endless = Handover(claim_id=claim_id, lease_until_ms=(1 << 48) - 1)
    bench.hear(bench.say(bench.beta, endless, knows=[bench.newest()]))
    agreed_ms = lease_until(bench.now_ms, JOB.walltime_s, RULES)
    bench.wait(agreed_ms - bench.now_ms)
    assert closed_for(bench, claim_id) == "lease-short"


def test_a_native_job_gets_no_more_time_than_the_rules_allow() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    endless = Handover(claim_id=claim_id, lease_until_ms=(1 << 48) - 1)
    block = bench.say(bench.beta, endless, knows=[bench.newest()])
    bench.hear(block)
    bench.do(PayloadFetched(claim_id=claim_id))
    (submit,) = of_type(bench.effects, SubmitNative)
    handed_ms = block.time >> 16
    assert submit.kill_at_ms <= kill_at(lease_until(handed_ms, JOB.walltime_s, RULES), RULES)


def test_with_a_stepped_clock_nothing_starts() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.do(ClockStepped(by_ms=5_000))
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    bench.wait(2_000)
    assert not bench.written(Start)
    bench.wait(20_000)
    assert closed_for(bench, claim_id) == "lease-short"


def test_a_cancelled_job_is_closed_before_it_starts_and_killed_after() -> None:
    bench = Bench()
    for begin, over in ((accepted, Close), (started, CancelNative)):
        claim_id = begin(bench)
        claim = bench.claim_entry(claim_id).claim
        assert claim is not None
        bench.effects.clear()
        bench.hear(bench.say(bench.beta, Cancel(job_id=claim.job_id)))
        if over is Close:
            assert closed_for(bench, claim_id) == "cancelled"
        else:
            assert [e.claim_id for e in of_type(bench.effects, CancelNative)] == [claim_id]


def test_a_payload_that_will_never_come_gives_the_claim_back() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.do(PayloadFailed(claim_id=claim_id, why="gone", final=True))
    assert closed_for(bench, claim_id) == "payload-failed"


def test_a_payload_that_did_not_come_is_asked_for_again() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    bench.effects.clear()
    bench.do(PayloadFailed(claim_id=claim_id, why="cut", final=False))
    assert not of_type(bench.effects, FetchPayload)
    bench.wait(1_100)
    assert len(of_type(bench.effects, FetchPayload)) == 1


# Running and ending


def test_an_end_is_bounded_by_what_was_claimed() -> None:
    bench = Bench()
    claim_id = started(bench)
    bench.wait(2_000)
    much = replace(ended(claim_id, bench), core_s=10**9, gpu_s=10**9)
    bench.do(much)
    (end,) = bench.written(End)
    assert isinstance(end, End)
    assert (end.core_s, end.gpu_s) == (4, 0)


def test_what_the_batch_system_says_twice_is_written_once() -> None:
    bench = Bench()
    claim_id = started(bench)
    for event in (ended(claim_id, bench), ended(claim_id, bench, Outcome.FAILED)):
        bench.do(event)
    bench.do(NativeNotFound(claim_id=claim_id))
    bench.do(NativeRefused(claim_id=claim_id, why="late"))
    (end,) = bench.written(End)
    assert isinstance(end, End)
    assert end.outcome == Outcome.COMPLETED


def test_a_restarted_host_looks_for_the_job_and_never_submits_again() -> None:
    bench = Bench()
    claim_id = started(bench)
    bench.effects.clear()
    bench.restart()
    bench.wait(3_000)
    name = native_name(claim_id, bench.node.federation.id)
    assert [e.native_name for e in of_type(bench.effects, WatchNative)] == [name]
    assert not of_type(bench.effects, SubmitNative)
    bench.do(NativeNotFound(claim_id=claim_id))
    (end,) = bench.written(End)
    assert isinstance(end, End)
    assert end.outcome == Outcome.NOT_FOUND


def test_a_lost_claim_whose_job_is_gone_gives_its_capacity_back() -> None:
    bench = Bench()
    offer_id = bench.open_offer(replace(OFFER, nodes=1))
    claim_id, _ = bench.claim_on(offer_id)
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    bench.wait(30_000)
    bench.hear(bench.say(bench.beta, Lost(claim_id=claim_id)))
    assert [e.claim_id for e in of_type(bench.effects, CancelNative)] == [claim_id]
    bench.do(NativeNotFound(claim_id=claim_id))
    assert bench.claim_entry(claim_id).host_side.phase is HostPhase.ENDED
    second, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert bench.claim_entry(second).state is ClaimState.ACCEPTED


def test_what_a_claim_left_is_removed_only_when_its_end_is_settled() -> None:
    bench = Bench()
    claim_id = started(bench)
    bench.do(ended(claim_id, bench))
    bench.wait(5_000)
    assert not of_type(bench.effects, ForgetClaim)
    bench.hear(bench.say(bench.beta, Receipt(claim_id=claim_id, core_s=4), knows=[bench.newest()]))
    assert [e.claim_id for e in of_type(bench.effects, ForgetClaim)] == [claim_id]


def test_what_a_claim_left_is_removed_also_when_the_host_restarted_in_between() -> None:
    bench = Bench()
    claim_id = started(bench)
    bench.do(ended(claim_id, bench))
    bench.restart()
    assert not of_type(bench.effects, ForgetClaim)
    bench.hear(bench.say(bench.beta, Receipt(claim_id=claim_id, core_s=4), knows=[bench.newest()]))
    assert [e.claim_id for e in of_type(bench.effects, ForgetClaim)] == [claim_id]


# Records that nobody has a right to


def test_a_third_centre_cannot_release_hand_over_or_cancel_for_the_home() -> None:
    bench = Bench()
    claim_id = accepted(bench)
    claim = bench.claim_entry(claim_id).claim
    assert claim is not None
    meddling = (
        Release(claim_id=claim_id, reason="x"),
        Handover(claim_id=claim_id, lease_until_ms=bench.now_ms + 60_000),
        Cancel(job_id=claim.job_id),
        Close(claim_id=claim_id, reason="x"),
        Accept(claim_id=claim_id, accept_until_ms=0),
    )
    bench.hear(bench.say(bench.gamma, *meddling, knows=[bench.newest()]))
    assert bench.claim_entry(claim_id).state is ClaimState.ACCEPTED
    assert closed_for(bench, claim_id) == ""


# Careful


def test_a_careful_host_accepts_nothing_and_closes_nothing_until_it_may() -> None:
    bench = careful()
    offer_id = bench.open_offer()
    claim_id, _ = bench.claim_on(offer_id)
    bench.wait(5_500)
    assert not bench.written(Accept, Close)
    bench.wait(bench.node.trust.careful_until_ms - bench.now_ms)
    assert closed_for(bench, claim_id) == "expired"


def test_a_careful_host_stays_so_over_a_restart() -> None:
    bench = careful()
    until_ms = bench.node.trust.careful_until_ms
    bench.restart(Memory.SURE)
    assert bench.node.trust.careful_until_ms == until_ms
    bench.claim_on(bench.open_offer())
    assert not bench.written(Accept, Close)


def test_a_careful_host_does_not_say_that_a_job_is_not_there() -> None:
    bench = Bench()
    claim_id = started(bench)
    bench.restart(Memory.UNSURE)
    bench.greet()
    bench.do(NativeNotFound(claim_id=claim_id))
    assert not bench.written(End)
    bench.wait(bench.node.trust.careful_until_ms - bench.now_ms)
    assert len(bench.written(End)) == 1


def careful() -> Bench:
    """A host that lost its high-water file and has heard every member."""
    bench = Bench()
    bench.restart(Memory.UNSURE)
    bench.greet()
    bench.wait(100)
    assert bench.node.trust.careful(bench.now_ms)
    return bench
