"""Contribution, usage and balance: the arithmetic by hand, and the documentation's example."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest

from p2pfed.core.accounting import (
    Accounts,
    Counter,
    CounterKey,
    Standing,
    Usage,
    balance,
    days_in_debt,
    merge_counters,
)
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.rules import ResourceClass, Rules

ALPHA, BETA, GAMMA = CentreName("alpha"), CentreName("beta"), CentreName("gamma")
HALVING = Rules(decay_num=1, decay_den=2, decay_days=10, credit_line=1_000)
TODAY = 20_000


def claim(seq_num: int) -> ClaimId:
    return ClaimId(Position(BETA, 0, seq_num, 0))


def use(accounts: Accounts, seq_num: int, amount: int | None, *, day: int = TODAY) -> None:
    """A job of beta's consumed `amount` core-seconds at alpha."""
    accounts.set_usage(
        claim(seq_num), home=BETA, host=ALPHA, resource_class="cpu", day=day, amount=amount
    )


def test_the_documented_example_holds() -> None:
    page = Path(__file__).parents[3] / "docs" / "explanation" / "accounting.md"
    result = doctest.testfile(str(page), module_relative=False, encoding="utf-8")
    assert result.attempted > 5
    assert result.failed == 0


def test_a_newcomer_has_a_balance_of_zero() -> None:
    assert balance(Accounts(HALVING).standing(ALPHA, TODAY)) == 0
    assert balance(Standing(0, 0, 0)) == 0


@pytest.mark.parametrize(
    ("standing", "charged", "expected"),
    [
        (Standing(1_000, 0, 1_000), 0, 500_000),
        (Standing(0, 1_000, 1_000), 0, -500_000),
        (Standing(2, 1, 0), 0, 333_333),
        (Standing(1, 2, 0), 0, -333_333),
        (Standing(1_000, 0, 1_000), 1_000, 0),
        (Standing(7, 0, 0), 0, 1_000_000),
        (Standing(0, 7, 0), 0, -1_000_000),
    ],
)
def test_the_balance_is_rounded_towards_zero(
    standing: Standing, charged: int, expected: int
) -> None:
    assert balance(standing, charged) == expected


def test_usage_credits_the_host_and_debits_the_home() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 300)
    assert accounts.standing(ALPHA, TODAY) == Standing(300, 0, 1_000)
    assert accounts.standing(BETA, TODAY) == Standing(0, 300, 1_000)
    assert accounts.standing(GAMMA, TODAY) == Standing(0, 0, 1_000)


def test_saying_the_same_usage_twice_counts_once() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 300)
    use(accounts, 1, 300)
    assert accounts.standing(ALPHA, TODAY).contribution == 300


def test_a_dispute_replaces_what_the_host_stated() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 300)
    use(accounts, 1, 200)
    assert accounts.standing(ALPHA, TODAY).contribution == 200
    assert accounts.standing(BETA, TODAY).usage == 200
    assert accounts.usage(claim(1)) == Usage(BETA, ALPHA, "cpu", TODAY, 200)


def test_a_usage_can_be_taken_back() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 300)
    use(accounts, 1, None)
    use(accounts, 2, None)
    assert accounts.standing(ALPHA, TODAY) == Standing(0, 0, 1_000)
    assert accounts.usage(claim(1)) is None
    assert accounts.counters() == {}


def test_committed_points_count_as_usage() -> None:
    accounts = Accounts(HALVING)
    assert accounts.standing(ALPHA, TODAY, 50).usage == 50
    use(accounts, 1, 300)
    assert accounts.standing(BETA, TODAY, committed_points=50).usage == 350
    assert accounts.standing(BETA, TODAY).usage == 300


def test_idle_capacity_counts_at_its_rate_and_delivered_capacity_in_full() -> None:
    accounts = Accounts(HALVING)
    accounts.add_offered(ALPHA, "cpu", TODAY, 1_000)
    assert accounts.standing(ALPHA, TODAY).contribution == 100
    use(accounts, 1, 400)
    assert accounts.standing(ALPHA, TODAY).contribution == 400 + 60
    accounts.add_offered(ALPHA, "cpu", TODAY, 100)
    assert accounts.standing(ALPHA, TODAY).contribution == 400 + 70
    accounts.add_offered(ALPHA, "cpu", TODAY, -701)
    assert accounts.standing(ALPHA, TODAY).contribution == 400, "delivering more costs nothing"


def test_each_day_the_past_is_decayed_and_rounded_down() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 7, day=TODAY - 2)
    use(accounts, 2, 2, day=TODAY - 1)
    # 7 -> 3, + 2 = 5 -> 2
    assert accounts.standing(BETA, TODAY).usage == 2
    assert accounts.standing(BETA, TODAY - 1).usage == 5
    assert accounts.standing(BETA, TODAY + 1).usage == 1


def test_days_beyond_the_window_count_no_more() -> None:
    rules = Rules(decay_num=1, decay_den=1, decay_days=10)
    accounts = Accounts(rules)
    use(accounts, 1, 500, day=TODAY - 9)
    assert accounts.standing(BETA, TODAY).usage == 500
    assert accounts.standing(BETA, TODAY + 1).usage == 0


def test_a_day_in_the_future_counts_as_today() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 500, day=TODAY + 3)
    assert accounts.standing(BETA, TODAY).usage == 500
    assert accounts.standing(BETA, TODAY + 4).usage == 250


def test_resource_classes_are_exchanged_into_points_and_an_unknown_one_is_worth_nothing() -> None:
    accounts = Accounts(HALVING)
    for seq_num, resource_class in enumerate(["gpu", "fpga"]):
        accounts.set_usage(
            claim(seq_num),
            home=BETA,
            host=ALPHA,
            resource_class=resource_class,
            day=TODAY,
            amount=3,
        )
    assert accounts.standing(ALPHA, TODAY).contribution == 150
    assert accounts.counters()[CounterKey(ALPHA, "fpga", TODAY)] == Counter(3, 0)


def test_new_rules_value_old_amounts_anew() -> None:
    accounts = Accounts(HALVING)
    use(accounts, 1, 300)
    accounts.add_offered(ALPHA, "cpu", TODAY, 500)
    dear = ResourceClass(name="cpu", unit="core", points_num=3)
    accounts.set_rules(Rules(resource_classes=(dear,), idle_rate_ppm=0, credit_line=7))
    assert accounts.standing(ALPHA, TODAY) == Standing(900, 0, 7)
    use(accounts, 1, 100)
    assert accounts.standing(BETA, TODAY) == Standing(0, 300, 7)


def test_a_credit_line_is_the_admitted_one_or_the_default() -> None:
    accounts = Accounts(HALVING, {ALPHA: 5})
    assert accounts.standing(ALPHA, TODAY).credit_line == 5
    assert accounts.standing(BETA, TODAY).credit_line == 1_000
    accounts.set_credit_line(BETA, 9)
    assert accounts.standing(BETA, TODAY).credit_line == 9


def test_counters_show_raw_amounts_and_merge_by_maximum() -> None:
    older, newer = Accounts(HALVING), Accounts(HALVING)
    use(older, 1, 300)
    use(newer, 1, 300)
    use(newer, 2, 50)
    assert newer.counters() == {
        CounterKey(ALPHA, "cpu", TODAY): Counter(350, 0),
        CounterKey(BETA, "cpu", TODAY): Counter(0, 350),
    }
    assert merge_counters(older.counters(), newer.counters()) == newer.counters()


def test_centres_with_any_amount_are_listed_in_order() -> None:
    accounts = Accounts(HALVING)
    accounts.add_offered(GAMMA, "cpu", TODAY, 1)
    use(accounts, 1, 300)
    assert accounts.centres() == (ALPHA, BETA, GAMMA)
    assert accounts.totals() == [
        (ALPHA, "cpu", 300, 0, 0),
        (BETA, "cpu", 0, 0, 300),
        (GAMMA, "cpu", 0, 1, 0),
    ]


def test_a_debt_ends_when_contribution_has_caught_up() -> None:
    rules = Rules(decay_num=1, decay_den=2)
    assert days_in_debt(Standing(10, 10, 5), 0, rules) == 0
    assert days_in_debt(Standing(0, 100, 5), 20, rules) == 2  # 30, -5
    assert days_in_debt(Standing(0, 100, 5), 0, rules) is None
    assert days_in_debt(Standing(0, 10**9, 5), 1, Rules(decay_num=1, decay_den=1)) is None


def test_the_gain_of_a_day_is_the_mean_of_the_days_since_the_first() -> None:
    accounts = Accounts(Rules(idle_rate_ppm=0))
    home, host = CentreName("home"), CentreName("host")
    claim = ClaimId(Position(home, 0, 0, 0))
    accounts.set_usage(claim, home=home, host=host, resource_class="cpu", day=8, amount=90)
    assert accounts.gain_per_day(host, 10, 7) == 30
    assert accounts.gain_per_day(home, 10, 7) == -30
    assert accounts.gain_per_day(host, 10, 2) == 0
    assert accounts.gain_per_day(CentreName("other"), 10, 7) == 0
