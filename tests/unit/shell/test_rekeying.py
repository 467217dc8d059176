"""Key files and the way of a key change through the control API."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.store.keyfile import generate_key, load_key
from p2pfed.store.keyfiles import former_keys, next_key, promote, settle


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "centre.key"


def test_the_next_key_takes_the_place_of_the_one_in_use_which_is_kept(path: Path) -> None:
    old = generate_key(path)
    new = next_key(path, None)
    assert load_key(path).public_key == old.public_key
    promote(path, old)
    assert load_key(path).public_key == new.public_key
    assert [key.public_key for key in former_keys(path, None)] == [old.public_key]


def test_a_next_key_that_lies_ready_is_used(path: Path) -> None:
    generate_key(path)
    assert next_key(path, None).public_key == next_key(path, None).public_key


def test_a_crash_before_the_files_change_places_is_made_good_at_the_start(path: Path) -> None:
    old = generate_key(path)
    new = next_key(path, None)
    assert settle(path, old, None, old.public_key) is old
    assert settle(path, old, None, None) is old
    found = settle(path, old, None, new.public_key)
    assert found.public_key == new.public_key
    assert load_key(path).public_key == new.public_key


def test_a_next_key_that_the_ledger_does_not_name_stays_where_it_is(path: Path) -> None:
    old, other = generate_key(path), generate_key(path.with_name("other.key"))
    next_key(path, None)
    assert settle(path, old, None, other.public_key) is old
    assert load_key(path).public_key == old.public_key


def test_promoting_again_after_a_crash_changes_nothing_else(path: Path) -> None:
    old = generate_key(path)
    next_key(path, None)
    promote(path, old)
    current = load_key(path)
    again = next_key(path, None)
    promote(path, current)
    assert load_key(path).public_key == again.public_key
    kept = {key.public_key for key in former_keys(path, None)}
    assert kept == {old.public_key, current.public_key}
