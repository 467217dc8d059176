"""A notice is there whole or not at all, and says what it said."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.execute import notices


def test_a_posted_notice_is_read_back(tmp_path: Path) -> None:
    path = str(tmp_path / "status")
    assert notices.read(path) is None
    assert notices.post(path, {"a": "1", "b": "x=y", "c": ""})
    assert notices.read(path) == {"a": "1", "b": "x=y", "c": ""}


def test_a_second_post_changes_nothing(tmp_path: Path) -> None:
    path = str(tmp_path / "status")
    assert notices.post(path, {"a": "1"})
    assert not notices.post(path, {"a": "2"})
    assert notices.read(path) == {"a": "1"}
    assert [found.name for found in tmp_path.iterdir()] == ["status"]


def test_a_value_stays_on_its_line(tmp_path: Path) -> None:
    path = str(tmp_path / "status")
    notices.post(path, {"detail": "no\nsuch=thing\r\nhere", "outcome": "failed"})
    assert notices.read(path) == {"detail": "no such=thing here", "outcome": "failed"}


def test_a_fulfilled_reservation_holds_the_notice_and_nothing_else(tmp_path: Path) -> None:
    path = str(tmp_path / "status")
    reservation = notices.reserve(path)
    assert Path(reservation).stat().st_size == notices.NOTICE_BYTES_MAX
    assert notices.read(path) is None
    notices.fulfil(reservation, path, {"a": "1"})
    assert Path(path).read_bytes() == b"a=1\n"
    assert [found.name for found in tmp_path.iterdir()] == ["status"]


def test_fulfilling_again_is_safe(tmp_path: Path) -> None:
    path = str(tmp_path / "status")
    reservation = notices.reserve(path)
    notices.fulfil(reservation, path, {"a": "1"})
    notices.fulfil(reservation, path, {"a": "1"})
    assert notices.read(path) == {"a": "1"}


@pytest.mark.parametrize(
    ("damage", "content", "fields"),
    [
        ("empty", b"", {}),
        ("not text", b"\xff\xfe\0=1\n", {"\ufffd\ufffd\0": "1"}),
        ("no equals sign", b"outcome\n", {}),
        ("cut off", b"outcome=comp", {"outcome": "comp"}),
        ("far too long", b"a=1\n" + b"x" * 100_000, {"a": "1"}),
    ],
)
def test_a_damaged_notice_has_fewer_fields(
    tmp_path: Path, damage: str, content: bytes, fields: dict[str, str]
) -> None:
    path = tmp_path / "status"
    path.write_bytes(content)
    assert notices.read(str(path)) == fields, damage


def test_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a=1\n")
    (tmp_path / "status").symlink_to("secret")
    with pytest.raises(OSError, match="symbolic links"):
        notices.read(str(tmp_path / "status"))


def test_a_notice_in_a_missing_folder_is_an_error_not_a_silence(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        notices.post(str(tmp_path / "missing" / "status"), {"a": "1"})
    with pytest.raises(FileNotFoundError):
        notices.reserve(str(tmp_path / "missing" / "status"))
