"""Variants: in the order given, and as single runs would give them."""

from __future__ import annotations

import pytest

from p2pfed.errors import InputError
from p2pfed.simulate.study import run_study, vary
from p2pfed.simulate.variants import Variant, run_variants, spread_out
from tests.unit.simulate.report.reports import small_study


def test_sweeps_combine_with_the_last_running_fastest() -> None:
    bases = [Variant(label="a", study=small_study()), Variant(label="b", study=small_study())]
    sweeps = [("seed", ("1", "2")), ("load", ("1", "1.5"))]
    labels = [variant.label for variant in spread_out(bases, sweeps)]
    assert labels[:3] == ["a seed=1 load=1", "a seed=1 load=1.5", "a seed=2 load=1"]
    assert len(labels) == len(set(labels)) == 8


def test_processes_give_what_single_runs_give_in_order() -> None:
    variants = spread_out(
        [Variant(label="", study=small_study(jobs=60))], [("jitter", ("0", "600", "60"))]
    )
    done: list[int] = []
    reports = run_variants(variants, workers=2, done=done.append)
    assert reports == [run_study(variant.study) for variant in variants]
    assert done == [1, 2, 3]


def test_an_error_comes_back_from_another_process_whole() -> None:
    bad = vary(small_study(jobs=30), "load", "1000")
    variants = [Variant(label=str(n), study=bad) for n in range(2)]
    with pytest.raises(InputError, match="load is 1000") as caught:
        run_variants(variants, workers=2)
    assert caught.value.code == "workload-option"


def test_a_sweep_that_never_ends_is_refused() -> None:
    sweep = ("seed", tuple(map(str, range(40))))
    with pytest.raises(InputError) as caught:
        spread_out([Variant(label="", study=small_study())], [sweep, sweep])
    assert caught.value.code == "workload-variants"
