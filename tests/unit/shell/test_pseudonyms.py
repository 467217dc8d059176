"""A pseudonym is always the same at its home, and tells nobody else anything."""

from __future__ import annotations

from pathlib import Path

from p2pfed.shell.pseudonyms import KEY_BYTES, Pseudonyms


def test_a_pseudonym_outlives_a_restart_and_differs_from_home_to_home(tmp_path: Path) -> None:
    alpha, beta = tmp_path / "alpha.key", tmp_path / "beta.key"
    ann = Pseudonyms(alpha).of("ann")
    assert Pseudonyms(alpha).of("ann") == ann
    assert Pseudonyms(beta).of("ann") != ann
    assert Pseudonyms(alpha).of("bob") != ann
    assert len(ann) == 32
    assert "ann" not in ann


def test_its_key_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    path = tmp_path / "key"
    Pseudonyms(path).of("ann")
    assert path.stat().st_mode & 0o777 == 0o600
    assert len(path.read_bytes()) == KEY_BYTES
