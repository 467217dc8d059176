"""Accounts hold invariants 5 (merge is a join) and 7 (everything that counts can be recomputed)."""

from __future__ import annotations

from collections import defaultdict

from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.accounting import (
    Accounts,
    Counter,
    CounterKey,
    Counters,
    Standing,
    Usage,
    balance,
    merge_counters,
)
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.rules import ResourceClass, Rules

CENTRES = [CentreName(name) for name in ("alpha", "beta", "gamma")]
CLASSES = ["cpu", "gpu", "unknown"]
DAYS = st.integers(100, 112)
AMOUNTS = st.integers(0, 10_000)

RULES = st.builds(
    Rules,
    idle_rate_ppm=st.integers(0, 1_000_000),
    decay_num=st.integers(0, 10),
    decay_den=st.integers(10, 13),
    decay_days=st.integers(1, 8),
    resource_classes=st.just(
        (
            ResourceClass(name="cpu", unit="core", points_num=2, points_den=3),
            ResourceClass(name="gpu", unit="gpu", points_num=50),
        )
    ),
)
USAGES = st.builds(
    Usage,
    st.sampled_from(CENTRES),
    st.sampled_from(CENTRES),
    st.sampled_from(CLASSES),
    DAYS,
    AMOUNTS,
)
CLAIMS = st.integers(0, 5).map(lambda n: ClaimId(Position(CENTRES[0], 0, n, 0)))
OFFERED = st.tuples(st.sampled_from(CENTRES), st.sampled_from(CLASSES), DAYS, AMOUNTS)
STEPS = st.lists(
    st.one_of(st.tuples(CLAIMS, USAGES | st.none()), OFFERED, DAYS, RULES), max_size=30
)
COUNTERS = st.dictionaries(
    st.builds(CounterKey, st.sampled_from(CENTRES), st.sampled_from(CLASSES), DAYS),
    st.builds(Counter, AMOUNTS, AMOUNTS),
    max_size=6,
)


def state_usage(accounts: Accounts, claim_id: ClaimId, usage: Usage) -> None:
    accounts.set_usage(
        claim_id,
        home=usage.home,
        host=usage.host,
        resource_class=usage.resource_class,
        day=usage.day,
        amount=usage.amount,
    )


def standing_by_definition(
    rules: Rules,
    usages: list[Usage],
    offered: list[tuple[CentreName, str, int, int]],
    centre: CentreName,
    today: int,
) -> Standing:
    """The module's docstring, word for word, with no thought for speed."""

    def decayed(points: dict[int, int]) -> int:
        total = 0
        for day in range(today - rules.decay_days + 1, today + 1):
            total = total * rules.decay_num // rules.decay_den + points[day]
        return total + sum(points[day] for day in points if day > today)

    contribution: dict[int, int] = defaultdict(int)
    consumption: dict[int, int] = defaultdict(int)
    for resource_class in rules.resource_classes:
        name = resource_class.name
        for day in range(90, 120):
            given_away = sum(
                u.amount for u in usages if (u.host, u.resource_class, u.day) == (centre, name, day)
            )
            made_available = sum(o[3] for o in offered if o[:3] == (centre, name, day))
            idle = max(0, made_available - given_away) * rules.idle_rate_ppm // 1_000_000
            contribution[day] += resource_class.points(given_away + idle)
            consumption[day] += resource_class.points(
                sum(
                    u.amount
                    for u in usages
                    if (u.home, u.resource_class, u.day) == (centre, name, day)
                )
            )
    return Standing(decayed(contribution), decayed(consumption), rules.credit_line)


@given(rules=RULES, steps=STEPS, today=DAYS)
def test_invariant_7_what_was_kept_incrementally_equals_what_is_recomputed(
    rules: Rules, steps: list[object], today: int
) -> None:
    accounts = Accounts(rules)
    usages: dict[ClaimId, Usage] = {}
    offered: list[tuple[CentreName, str, int, int]] = []
    for step in steps:
        match step:
            case Rules():
                rules = step
                accounts.set_rules(step)
            case int():  # asked in between, so that what is cached can go stale
                for centre in CENTRES:
                    accounts.standing(centre, step)
            case (Position() as position, None):
                usages.pop(ClaimId(position), None)
                accounts.set_usage(
                    ClaimId(position),
                    home=CENTRES[0],
                    host=CENTRES[1],
                    resource_class="cpu",
                    day=100,
                    amount=None,
                )
            case (Position() as position, Usage() as usage):
                usages[ClaimId(position)] = usage
                state_usage(accounts, ClaimId(position), usage)
            case (centre, str() as resource_class, int() as day, int() as amount):
                offered.append((centre, resource_class, day, amount))
                accounts.add_offered(centre, resource_class, day, amount)
    for centre in CENTRES:
        assert accounts.standing(centre, today) == standing_by_definition(
            rules, list(usages.values()), offered, centre, today
        )


@given(usages=st.dictionaries(CLAIMS, USAGES), data=st.data(), today=DAYS)
def test_invariant_5_usages_in_any_order_and_repetition_give_the_same_accounts(
    usages: dict[ClaimId, Usage], data: st.DataObject, today: int
) -> None:
    once, shuffled = Accounts(Rules()), Accounts(Rules())
    for claim_id, usage in usages.items():
        state_usage(once, claim_id, usage)
    repeated = data.draw(st.permutations([*usages, *usages]))
    for claim_id in repeated:
        state_usage(shuffled, claim_id, usages[claim_id])
    assert once.counters() == shuffled.counters()
    for centre in CENTRES:
        assert once.standing(centre, today) == shuffled.standing(centre, today)


@given(a=COUNTERS, b=COUNTERS, c=COUNTERS)
def test_invariant_5_merging_counters_is_a_join(a: Counters, b: Counters, c: Counters) -> None:
    assert merge_counters(a, a) == a
    assert merge_counters(a, b) == merge_counters(b, a)
    assert merge_counters(merge_counters(a, b), c) == merge_counters(a, merge_counters(b, c))


@given(history=st.lists(USAGES, max_size=8), known=st.integers(0, 8))
def test_invariant_5_counters_of_a_view_absorb_those_of_every_earlier_view(
    history: list[Usage], known: int
) -> None:
    earlier, later = Accounts(Rules()), Accounts(Rules())
    for number, usage in enumerate(history):
        claim_id = ClaimId(Position(CENTRES[0], 0, number, 0))
        state_usage(later, claim_id, usage)
        if number < known:
            state_usage(earlier, claim_id, usage)
    assert merge_counters(earlier.counters(), later.counters()) == later.counters()


@given(
    standing=st.builds(Standing, *[st.integers(0, 1 << 60)] * 3),
    less=st.integers(0, 1 << 60),
    more=st.integers(0, 1 << 60),
)
def test_a_balance_stays_in_range_and_only_falls_by_a_charge(
    standing: Standing, less: int, more: int
) -> None:
    less, more = sorted((less, more))
    assert -1_000_000 <= balance(standing, more) <= balance(standing, less) <= 1_000_000
