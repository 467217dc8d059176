"""Proof that the checks bite: simulated federations catch bugs that are put in on purpose.

A third of them each day; `scripts/prove-checks worlds` tries all.
"""

from __future__ import annotations

import datetime

import pytest

from scripts.prove_checks import catch
from tests.mutations.patched import Bug, read_bugs

DAY = datetime.datetime.now(datetime.UTC).date().toordinal()
BUGS = read_bugs()


@pytest.mark.parametrize("bug", BUGS[DAY % 3 :: 3], ids=lambda bug: bug.name)
def test_a_deliberate_bug_is_caught(bug: Bug) -> None:
    told = catch(bug)
    assert told["broken"], f"{bug.name} was not caught within {bug.seeds} seeds"
