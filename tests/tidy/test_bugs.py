"""Every deliberate bug can still be put in, and no two have one name."""

from __future__ import annotations

import ast

import pytest

from tests.mutations.patched import Bug, read_bugs


@pytest.mark.parametrize("bug", read_bugs(), ids=lambda bug: bug.name)
def test_a_bug_still_fits_its_file(bug: Bug) -> None:
    assert bug.old != bug.new
    ast.parse(bug.text())


def test_bugs_have_names_of_their_own() -> None:
    names = [bug.name for bug in read_bugs()]
    assert len(names) == len(set(names)) >= 25
