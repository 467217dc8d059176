"""Studies: equal ones give equal reports; neighbours differ in one value."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.errors import InputError
from p2pfed.simulate.study import VARIABLES, Study, describe, run_study, vary
from p2pfed.simulate.workload.options import CentrePolicy
from tests.unit.simulate.report.reports import small_study


def test_equal_studies_give_equal_reports() -> None:
    assert run_study(small_study()) == run_study(small_study())


def test_progress_ascends_from_nothing_to_all() -> None:
    seen: list[float] = []
    run_study(small_study(), seen.append)
    assert (seen[0], seen[-1]) == (0.0, 1.0)
    assert seen == sorted(seen)


def test_a_replay_of_some_centres_knows_no_others() -> None:
    study = replace(small_study(3), only=("centre-0", "centre-2"))
    report = run_study(with_own_policy(study, "centre-1", CentrePolicy(share=0.0)))
    assert [centre.centre for centre in report.centres] == ["centre-0", "centre-2"]


def with_own_policy(study: Study, centre: str, policy: CentrePolicy) -> Study:
    federation = replace(study.federation, policies={centre: policy})
    return replace(study, federation=federation)


def test_a_free_rider_hosts_nothing() -> None:
    report = run_study(with_own_policy(small_study(), "centre-1", CentrePolicy.free_rider()))
    assert [centre.hosted for centre in report.centres] == [0, 0] or (
        report.centres[1].hosted == 0 and report.centres[0].exported == 0
    )


@pytest.mark.parametrize(
    ("name", "value", "found"),
    [
        ("load", "1.5", lambda s: s.shaping.load == 1.5),
        ("seed", "9", lambda s: s.shaping.seed == 9),
        ("delay", "5_000", lambda s: s.federation.delay_ms == 5_000),
        ("share", "0.25", lambda s: s.federation.policy.share == 0.25),
        ("checkpoint", "yes", lambda s: s.federation.checkpoints is True),
        ("min_balance", "-250000", lambda s: s.federation.rules.min_balance == -250_000),
    ],
)
def test_a_variable_changes_one_value(name: str, value: str, found: object) -> None:
    assert callable(found)
    before = small_study()
    after = vary(before, name, value)
    assert found(after)
    assert not found(before)


def test_what_a_centre_was_given_of_its_own_is_not_swept() -> None:
    study = with_own_policy(small_study(), "centre-1", CentrePolicy(share=0.0))
    policies = vary(study, "share", "0.5").federation.policies
    assert policies["centre-1"].share == 0.0
    assert vary(study, "kept-free", "3").federation.policies["centre-1"].kept_free == 3


BAD = {
    "an unknown name": ("nonsense", "1", "workload-variable"),
    "a word for a number": ("load", "much", "workload-option"),
    "a fraction for a count": ("kept-free", "1.5", "workload-option"),
    "a number for a switch": ("preemptible", "1", "workload-option"),
    "a share above all": ("share", "2", "workload-option"),
    "a rule out of its range": ("round_ms", "1", "rules-value-range"),
    "a rule that is no number": ("round_ms", "", "workload-option"),
}


@pytest.mark.parametrize("what", BAD)
def test_a_bad_variable_is_refused(what: str) -> None:
    name, value, code = BAD[what]
    with pytest.raises(InputError) as caught:
        vary(small_study(), name, value)
    assert caught.value.code == code


@pytest.mark.parametrize("name", VARIABLES)
def test_every_variable_refuses_a_word_that_it_can_not_mean(name: str) -> None:
    with pytest.raises(InputError) as caught:
        vary(small_study(), name, "perhaps")
    assert caught.value.code == "workload-option"


def test_the_description_holds_what_was_asked_for() -> None:
    study = vary(vary(small_study(), "share", "0.5"), "round_ms", "60000")
    found = describe(study)
    assert found["rules"] == {"round_ms": 60_000}
    policy = found["policy"]
    assert isinstance(policy, dict)
    assert policy["share"] == 0.5
