"""`ledger verify` says what it found, to people and to programs, and by its exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from p2pfed.cli.ledger_verify import verify
from p2pfed.core.charter import encode_charter
from p2pfed.core.records import Contact
from p2pfed.errors import InputError
from tests.unit.core.ledgers import ALPHA, BETA, GAMMA, founding, good_world, meddling


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "ledger"
    path.write_bytes(good_world().export())
    return path


def run(*arguments: object, given: bytes | None = None) -> Result:
    return CliRunner().invoke(verify, [str(a) for a in arguments], input=given)


def test_a_good_ledger_is_called_valid(file: Path) -> None:
    result = run(file)
    assert result.exit_code == 0
    assert "the ledger is valid and complete" in result.output
    assert "14, of which 14 admitted; 11 records, of which 0 inert" in result.output
    assert "by its own charter" in result.output
    assert "-0.0799 %" in result.output


def test_the_report_in_json_has_the_documented_fields(file: Path) -> None:
    report = json.loads(run(file, "--json").output)
    assert report["ok"] is True
    assert report["balances"][0] == {
        "centre": "alpha",
        "contribution": 0,
        "usage": 800,
        "credit_line": 1_000_000,
        "balance_ppm": -799,
    }
    assert [head["centre"] for head in report["frontier"]] == ["alpha", "beta", "gamma"]
    page = Path(__file__).parents[3] / "docs" / "reference" / "ledger-file.md"
    documented = page.read_text()
    for field in (*report, *report["frontier"][0], "severity", "code", "where", "text"):
        assert f"`{field}`" in documented


def test_a_ledger_comes_from_standard_input_too(file: Path) -> None:
    result = run("-", given=file.read_bytes())
    assert result.exit_code == 0


def test_a_truncated_ledger_fails_with_the_reason(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-30])
    result = run(file)
    assert result.exit_code == 1
    assert "[ledger-truncated]" in result.output
    assert "does not verify" in result.output
    assert json.loads(run(file, "--json").output)["counts"] == {"ledger-truncated": 1}


def test_a_file_that_is_no_ledger_fails_with_the_reason(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"\x89PNG" * 100)
    result = run(tmp_path / "photo")
    assert result.exit_code == 1
    assert "[ledger-magic]" in result.output


def test_a_warning_is_shown_and_does_not_fail(tmp_path: Path) -> None:
    world = good_world()
    world.write(GAMMA, Contact(address="gamma.example:1"), meddling())
    (tmp_path / "ledger").write_bytes(world.export())
    result = run(tmp_path / "ledger")
    assert result.exit_code == 0
    assert "warning: gamma.2.1: alpha.1.0 is not an open job of its author" in result.output


def test_the_charter_decides_which_federation_is_meant(file: Path, tmp_path: Path) -> None:
    right, wrong = tmp_path / "right.cbor", tmp_path / "wrong.cbor"
    right.write_bytes(encode_charter(founding()))
    wrong.write_bytes(encode_charter(founding((ALPHA, BETA))))
    assert "as expected" in run(file, "--charter", right).output
    result = run(file, "--charter", wrong)
    assert result.exit_code == 1
    assert "[ledger-federation]" in result.output


def test_a_file_that_is_not_there_is_an_input_error(tmp_path: Path) -> None:
    for arguments in ([tmp_path / "absent"], [tmp_path, "--charter", tmp_path / "absent"]):
        result = run(*arguments)
        assert isinstance(result.exception, InputError)
        assert result.exception.code == "file-unreadable"
