"""A centre's own people have the last word: whatever peers say, and after every crash."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from p2pfed.core.ids import ClaimId, JobId
from p2pfed.core.lifecycle import claim_until
from p2pfed.core.records import (
    Accept,
    Claim,
    Close,
    End,
    Hold,
    Offer,
    OfferClose,
    OfferUpdate,
    Outcome,
    Release,
    Start,
    Unhold,
)
from p2pfed.errors import P2pfedError
from p2pfed.node.admission import AdmissionPolicy, AdmissionRule, Decision, Mode
from p2pfed.node.control import DECISIONS
from p2pfed.node.effects import CancelNative, Reply, SubmitNative, WatchNative
from p2pfed.node.events import (
    AnswerRequest,
    BlockCentre,
    Event,
    HoldJob,
    NativeEnded,
    OpenOffer,
    PayloadFetched,
    PolicyChanged,
    RequestId,
    SetMode,
)
from p2pfed.node.recovery import Memory
from tests.unit.node.benches import ALPHA, BETA, GAMMA, JOB, OFFER, Bench, of_type

REQUEST = RequestId(7)
OFFER_THAT_ASKS = replace(OFFER, may_ask=True)
ASK = AdmissionPolicy(rules=(AdmissionRule(decision=Decision.ASK, name="ask all"),))


def order(bench: Bench, event: Event) -> P2pfedError | None:
    """Gives an order; the error it is answered with, if it is."""
    (reply,) = of_type(bench.do(event), Reply)
    return reply.error


def set_mode(bench: Bench, mode: Mode, reason: str = "maintenance") -> None:
    assert order(bench, SetMode(request=REQUEST, mode=mode, who="ann", reason=reason)) is None


def decisions(bench: Bench) -> list[tuple[str, str, str]]:
    """Who decided what and why, oldest first."""
    rows = [json.loads(v) for k, v in sorted(bench.rows.items()) if k.startswith(DECISIONS)]
    return [(row["who"], row["action"], row["why"]) for row in rows]


def close_reason(bench: Bench, claim_id: ClaimId) -> str:
    return bench.claim_entry(claim_id).host_side.close_reason


def started(bench: Bench) -> ClaimId:
    """A guest of beta that alpha runs."""
    claim_id, _ = bench.claim_on(bench.open_offer())
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    assert len(bench.written(Start)) == 1
    return claim_id


def asked(bench: Bench) -> ClaimId:
    """A claim that waits for a person's word."""
    until_ms = claim_until(bench.now_ms, bench.rules, may_ask=True)
    claim_id, _ = bench.claim_on(bench.open_offer(OFFER_THAT_ASKS), claim_until_ms=until_ms)
    assert claim_id in bench.node.host.asked
    return claim_id


# Pause


def test_a_pause_empties_the_offers_and_a_resume_brings_them_back_in_their_size() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    set_mode(bench, Mode.PAUSED)
    assert bench.node.ledger.live.offers[offer_id].nodes == 0
    claim_id, _ = bench.claim_on(offer_id)
    assert close_reason(bench, claim_id) == "paused"
    set_mode(bench, Mode.OPEN)
    assert bench.node.ledger.live.offers[offer_id].nodes == OFFER.nodes
    assert len(bench.written(OfferUpdate)) == 2


def test_a_pause_and_the_sizes_behind_it_outlive_a_crash() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    set_mode(bench, Mode.PAUSED)
    bench.restart()
    assert bench.node.control.mode is Mode.PAUSED
    assert bench.node.control.order.who == "ann"
    set_mode(bench, Mode.OPEN)
    assert bench.node.ledger.live.offers[offer_id].nodes == OFFER.nodes


def test_a_pause_leaves_the_guests_that_are_here_alone() -> None:
    bench = Bench()
    started(bench)
    set_mode(bench, Mode.PAUSED)
    assert not of_type(bench.effects, CancelNative)


def test_while_no_guests_are_wanted_no_offer_opens() -> None:
    bench = Bench()
    set_mode(bench, Mode.PAUSED)
    error = order(bench, OpenOffer(request=REQUEST, offer=OFFER))
    assert error is not None
    assert error.code == "control-closed"


# Withdraw


def test_a_drain_closes_the_offers_and_lets_guests_finish() -> None:
    bench = Bench()
    started(bench)
    set_mode(bench, Mode.DRAINING)
    assert [r.reason for r in bench.written(OfferClose)] == ["maintenance"]  # type: ignore[union-attr]
    assert not of_type(bench.effects, CancelNative)


def test_a_withdrawal_ends_every_guest_and_says_that_it_was_the_hosts_doing() -> None:
    bench = Bench()
    claim_id = started(bench)
    set_mode(bench, Mode.WITHDRAWN)
    assert [e.claim_id for e in of_type(bench.effects, CancelNative)] == [claim_id]
    ended = NativeEnded(
        claim_id=claim_id,
        outcome=Outcome.CANCELLED,
        started_ms=bench.now_ms,
        ended_ms=bench.now_ms,
        core_s=0,
    )
    bench.do(ended)
    (end,) = bench.written(End)
    assert isinstance(end, End)
    assert end.outcome == Outcome.PREEMPTED


def test_a_withdrawal_closes_what_was_accepted_and_not_begun() -> None:
    bench = Bench()
    claim_id, _ = bench.claim_on(bench.open_offer())
    assert bench.written(Accept)
    set_mode(bench, Mode.WITHDRAWN)
    assert close_reason(bench, claim_id) == "withdrawn"
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    assert not bench.written(Start)


def test_a_withdrawal_needs_no_right_to_write() -> None:
    bench = Bench()
    started(bench)
    (offer_id,) = (o for o in bench.node.ledger.live.offers if o.centre == ALPHA)
    bench.effects.clear()
    bench.restart(Memory.UNSURE)
    set_mode(bench, Mode.WITHDRAWN)
    kinds = [type(e) for e in bench.effects if isinstance(e, WatchNative | CancelNative)]
    assert kinds == [WatchNative, CancelNative]
    assert not bench.written(OfferClose)
    bench.greet()
    assert bench.node.ledger.live.offers[offer_id].closed


def test_a_withdrawal_that_a_crash_cut_short_goes_on() -> None:
    bench = Bench()
    claim_id = started(bench)
    set_mode(bench, Mode.WITHDRAWN)
    bench.effects.clear()
    bench.restart()
    assert [e.claim_id for e in of_type(bench.effects, CancelNative)] == [claim_id]
    assert not of_type(bench.effects, SubmitNative)


# Blocks


def test_a_blocked_centre_gets_nothing_until_it_is_unblocked() -> None:
    bench = Bench()
    offer_id = bench.open_offer()
    blocked = BlockCentre(request=REQUEST, centre=BETA, blocked=True, who="ann", reason="debts")
    assert order(bench, blocked) is None
    bench.restart()
    first, _ = bench.claim_on(offer_id)
    other, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert close_reason(bench, first) == "policy"
    assert close_reason(bench, other) == ""
    freed = BlockCentre(request=REQUEST, centre=BETA, blocked=False, who="ann")
    assert order(bench, freed) is None
    again, _ = bench.claim_on(offer_id)
    assert close_reason(bench, again) == ""


def test_a_centre_that_is_no_member_can_not_be_blocked() -> None:
    bench = Bench()
    for name in ("alpha", "omega"):
        centre = type(BETA)(name)
        error = order(bench, BlockCentre(request=REQUEST, centre=centre, blocked=True, who="ann"))
        assert error is not None
        assert error.code == "centre-unknown"


# Approvals


def test_what_the_policy_asks_waits_and_comes_when_it_is_approved() -> None:
    bench = Bench(policy=ASK)
    claim_id = asked(bench)
    assert not bench.written(Accept)
    answer = AnswerRequest(request=REQUEST, claim_id=claim_id, approve=True, who="ann")
    assert order(bench, answer) is None
    assert len(bench.written(Accept)) == 1
    assert claim_id not in bench.node.host.asked
    assert decisions(bench) == [("policy", "ask", "ask all"), ("ann", "approve", "")]


def test_what_is_denied_is_closed_and_barred() -> None:
    bench = Bench(policy=ASK)
    claim_id = asked(bench)
    answer = AnswerRequest(
        request=REQUEST, claim_id=claim_id, approve=False, who="ann", reason="not today"
    )
    assert order(bench, answer) is None
    assert close_reason(bench, claim_id) == "denied"
    assert decisions(bench)[-1] == ("ann", "deny", "not today")


ASKS = AdmissionRule(decision=Decision.ASK, name="ask")


@pytest.mark.parametrize(
    ("rule", "offer", "may"),
    [
        (ASKS, OFFER, True),
        (replace(ASKS, decision=Decision.DECLINE), OFFER, False),
        (replace(ASKS, centres=frozenset({"beta"})), replace(OFFER, allow=("gamma",)), False),
        (replace(ASKS, centres=frozenset({"beta"})), replace(OFFER, deny=("beta",)), False),
        (replace(ASKS, centres=frozenset({"beta", "gamma"})), replace(OFFER, deny=("beta",)), True),
        (replace(ASKS, classes=frozenset({"low"})), replace(OFFER, classes=("normal",)), False),
        (replace(ASKS, features=frozenset({"apptainer"})), OFFER, False),
        (replace(ASKS, cores_from=1_000), OFFER, True),
    ],
)
def test_an_offer_may_ask_if_a_rule_that_asks_could_fit_one_of_its_jobs(
    rule: AdmissionRule, offer: Offer, may: bool
) -> None:
    assert AdmissionPolicy(rules=(rule,)).may_ask(offer) is may


def test_what_nobody_answers_is_declined_before_its_home_takes_it_back() -> None:
    bench = Bench(policy=ASK)
    claim_id = asked(bench)
    until_ms = bench.claim_entry(claim_id).claim.claim_until_ms  # type: ignore[union-attr]
    bench.wait(until_ms - bench.rules.clock_error_ms - bench.now_ms - 1)
    assert close_reason(bench, claim_id) == ""
    bench.wait(2)
    assert close_reason(bench, claim_id) == "unanswered"
    answer = AnswerRequest(request=REQUEST, claim_id=claim_id, approve=True, who="ann")
    error = order(bench, answer)
    assert error is not None
    assert error.code == "request-unknown"
    assert not bench.written(Accept)


def test_a_question_outlives_a_crash() -> None:
    bench = Bench(policy=ASK)
    claim_id = asked(bench)
    bench.restart()
    assert claim_id in bench.node.host.asked


def test_an_approval_does_not_make_room_where_there_is_none() -> None:
    bench = Bench(policy=ASK)
    until_ms = claim_until(bench.now_ms, bench.rules, may_ask=True)
    offer_id = bench.open_offer(OFFER_THAT_ASKS)
    claims = [
        bench.claim_on(offer_id, writer=writer, claim_until_ms=until_ms)[0]
        for writer in (bench.beta, bench.gamma, bench.beta, bench.gamma)
    ]
    for claim_id in claims:
        order(bench, AnswerRequest(request=REQUEST, claim_id=claim_id, approve=True, who="ann"))
    assert len(bench.written(Accept)) == 2
    assert [r.reason for r in bench.written(Close)] == ["no-capacity"] * 2  # type: ignore[union-attr]


def test_a_new_policy_judges_what_waits() -> None:
    bench = Bench(policy=ASK)
    claim_id = asked(bench)
    bench.do(PolicyChanged(policy=AdmissionPolicy(), who="SIGHUP"))
    assert len(bench.written(Accept)) == 1
    assert claim_id not in bench.node.host.asked
    assert ("SIGHUP", "reload", "") in decisions(bench)


def test_a_rule_that_accepts_or_declines_is_written_down() -> None:
    rules = (
        AdmissionRule(decision=Decision.DECLINE, name="no gamma", centres=frozenset({GAMMA})),
        AdmissionRule(decision=Decision.ACCEPT, name="small", cores_from=1),
    )
    bench = Bench(policy=AdmissionPolicy(rules=rules))
    offer_id = bench.open_offer()
    bench.claim_on(offer_id)
    declined, _ = bench.claim_on(offer_id, writer=bench.gamma)
    assert close_reason(bench, declined) == "policy"
    assert decisions(bench) == [
        ("policy", "accept", "small"),
        ("policy", "decline", "no gamma"),
    ]


# Holding an own job


def hold(bench: Bench, job_id: JobId, *, held: bool) -> P2pfedError | None:
    return order(bench, HoldJob(request=REQUEST, job_id=job_id, held=held, who="ann"))


def test_a_held_job_is_not_claimed_until_it_is_released() -> None:
    bench = Bench()
    bench.hear(bench.say(bench.beta, OFFER))
    job_id = bench.submit()
    assert hold(bench, job_id, held=True) is None
    for _ in range(6):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
    assert not bench.written(Claim)
    assert hold(bench, job_id, held=False) is None
    for _ in range(3):
        bench.wait(1_000)
        bench.hear(bench.say(bench.beta, knows=[bench.newest()]))
    assert len(bench.written(Claim)) == 1
    assert [type(r) for r in bench.written(Hold, Unhold)] == [Hold, Unhold]


def test_a_hold_takes_a_claim_back_that_was_not_handed_over() -> None:
    bench = Bench()
    claim_id = bench.claimed_by_alpha()
    bench.accept(claim_id)
    job = bench.node.ledger.live.job_of(claim_id)
    assert job is not None
    assert hold(bench, job.job_id, held=True) is None
    (release,) = bench.written(Release)
    assert isinstance(release, Release)
    assert release.reason == "held"


def test_only_an_own_job_can_be_held() -> None:
    bench = Bench()
    posted = bench.say(bench.beta, JOB)
    bench.hear(posted)
    error = hold(bench, JobId(posted.position(0)), held=True)
    assert error is not None
    assert error.code == "job-unknown"


def test_nothing_of_it_is_ever_closed_twice() -> None:
    bench = Bench(policy=ASK)
    asked(bench)
    set_mode(bench, Mode.WITHDRAWN)
    set_mode(bench, Mode.OPEN)
    set_mode(bench, Mode.WITHDRAWN)
    closes = [r.claim_id for r in bench.written(Close)]  # type: ignore[union-attr]
    assert len(closes) == len(set(closes)) == 1
