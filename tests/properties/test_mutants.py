"""Design invariant 7: no ledger that was made wrong passes the audit unnamed, and none crashes it.

`python -m scripts.mutate_ledgers --count 100000` runs as many as one likes.
"""

from __future__ import annotations

import os

import pytest

from p2pfed.simulate.mutants import KINDS, Mutator
from scripts.mutate_ledgers import Trial, make_base

SEED = int(os.environ.get("P2PFED_SEED", "1"))
COUNT = 10
"""Mutants of each kind and base."""


@pytest.fixture(scope="module", params=[SEED % 1_000_000, SEED % 1_000_000 + 1])
def trial(request: pytest.FixtureRequest) -> tuple[Trial, Mutator]:
    base = make_base(request.param)
    return Trial(base), Mutator(base, request.param)


def test_every_mutant_is_named(trial: tuple[Trial, Mutator]) -> None:
    judge, mutator = trial
    kinds = set()
    for number in range(COUNT * len(KINDS)):
        mutant = mutator.make()
        kinds.add(mutant.kind)
        outcome = judge.judge(mutant)
        assert outcome.how in ("alone", "compared"), f"seed {SEED}, mutant {number}: {outcome}"
    assert kinds == set(KINDS)


def test_only_what_nobody_had_acked_needs_another_export(trial: tuple[Trial, Mutator]) -> None:
    judge, mutator = trial
    for kind in ("bit flipped", "records grafted", "signed by another", "forked"):
        mutator.make()
        found = [mutant for mutant in (mutator.make() for _ in range(200)) if mutant.kind == kind]
        assert found
        assert {judge.judge(mutant).how for mutant in found[:5]} == {"alone"}
