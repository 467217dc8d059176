"""`p2pfed audit`: exit codes by severity, reports in three forms, what the options ask for."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from p2pfed.cli.main import cli
from p2pfed.cli.session import Session
from p2pfed.core.charter import encode_charter
from p2pfed.core.records import Contact, Receipt
from tests.unit.core.ledgers import ALPHA, BETA, GAMMA, World, good_world


@pytest.fixture
def ledger(tmp_path: Path) -> Path:
    path = tmp_path / "good.ledger"
    world = World()
    for name in (ALPHA, BETA, GAMMA):
        world.write(name, Contact(address=f"{name}.example:7411"))
    path.write_bytes(world.export())
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["audit", *map(str, arguments)], obj=Session())


def as_json(*arguments: object) -> Any:
    return json.loads(run(*arguments, "--json").output)


def test_a_ledger_that_shows_nothing_wrong_exits_with_0(ledger: Path) -> None:
    result = run(ledger)
    assert result.exit_code == 0
    assert "shows nothing wrong" in result.output


def test_a_broken_rule_exits_with_7_and_names_who_broke_it(tmp_path: Path) -> None:
    path = tmp_path / "breach.ledger"
    path.write_bytes(good_world().export())  # its claim cites no view that anybody had
    result = run(path)
    assert result.exit_code == 7
    assert "[claim-view-stale]" in result.output
    found = as_json(path)["ledgers"][0]
    assert found["severity"] == "warning"
    assert {
        "home": "alpha",
        "justified": 0,
        "unjustified": 0,
        "stale_view": 1,
        "false_view": 0,
    } in (found["claims"])


def test_a_damaged_ledger_exits_with_1(ledger: Path) -> None:
    ledger.write_bytes(ledger.read_bytes()[:-1])
    result = run(ledger)
    assert result.exit_code == 1
    assert "[ledger-truncated]" in result.output


def test_another_charter_than_the_trusted_one_is_an_error(ledger: Path, tmp_path: Path) -> None:
    charter = tmp_path / "charter.cbor"
    charter.write_bytes(encode_charter(World().charter))
    assert run(ledger, "--charter", charter).exit_code == 0
    from tests.unit.core.ledgers import founding

    charter.write_bytes(encode_charter(founding((ALPHA, BETA))))
    assert "[ledger-federation]" in run(ledger, "--charter", charter).output


def test_two_exports_that_contradict_are_shown_with_both_signed_headers(tmp_path: Path) -> None:
    world, twin = good_world(), good_world()
    mine = world.write(BETA, Contact(address="here:1"))
    theirs = twin.write(BETA, Contact(address="there:1"))
    paths = [tmp_path / "one.ledger", tmp_path / "two.ledger"]
    for path, written in zip(paths, (world, twin), strict=True):
        path.write_bytes(written.export())
    found = as_json(*paths)["comparison"]
    assert [finding["code"] for finding in found] == ["exports-contradict"]
    assert mine.header.cose.hex() in found[0]["text"]
    assert theirs.header.cose.hex() in found[0]["text"]
    assert run(*paths).exit_code == 1


def test_a_later_export_extends_an_earlier_one(tmp_path: Path) -> None:
    world = good_world()
    early, late = tmp_path / "early.ledger", tmp_path / "late.ledger"
    early.write_bytes(world.export())
    world.write(BETA)
    late.write_bytes(world.export())
    assert [f["code"] for f in as_json(early, late)["comparison"]] == ["export-behind"]


def test_a_focus_leaves_out_what_others_did(tmp_path: Path) -> None:
    path = tmp_path / "breach.ledger"
    path.write_bytes(good_world().export())
    codes = {f["code"] for f in as_json(path, "--centre", "beta")["ledgers"][0]["findings"]}
    assert codes == {"accept-too-long"}
    assert as_json(path, "--until", "2001-01-01")["ledgers"][0]["findings"] == []


def test_a_job_is_told_from_post_to_receipt(tmp_path: Path) -> None:
    path = tmp_path / "job.ledger"
    path.write_bytes(good_world().export())
    story = as_json(path, "--job", "alpha.1.0")["ledgers"][0]["story"]
    kinds = [line["record"] for line in story]
    assert kinds == ["Job", "Claim", "Accept", "Handover", "Start", "End", "Receipt"]


def test_a_code_is_explained(ledger: Path) -> None:
    result = run("--explain", "claim-unjustified")
    assert result.exit_code == 0
    assert "does not give this pair" in result.output
    assert run("--explain", "no-such-code").exit_code != 0


def test_the_page_stands_alone(ledger: Path, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    assert run(ledger, "--html", page).exit_code == 0
    text = page.read_text(encoding="utf-8")
    assert text.count("<svg") == 3
    for word in ("http://www.w3.org/2000/svg", "Contribution over time", "Balance over time"):
        assert word in text
    assert "<script" not in text
    assert "src=" not in text


def test_all_processes_find_the_same(tmp_path: Path) -> None:
    path = tmp_path / "two.ledger"
    world = good_world()
    bad = replace(world.blocks[5], data=world.blocks[5].data[:-1] + b"\x01")
    path.write_bytes(world.export([*world.blocks[:5], bad, *world.blocks[6:]]))
    assert as_json(path, "--jobs", "2") == as_json(path)


def test_a_ledger_can_come_through_a_pipe(ledger: Path) -> None:
    program = "import sys; from p2pfed.cli.main import main; sys.exit(main(['audit', '-']))"
    found = subprocess.run(
        [sys.executable, "-c", program], input=ledger.read_bytes(),
        capture_output=True,
    )  # fmt: skip
    assert found.returncode == 0, found.stderr
    assert b"shows nothing wrong" in found.stdout


def test_a_receipt_of_other_amounts_is_named(tmp_path: Path) -> None:
    world = good_world()
    receipt = world.blocks[10].records[0]
    assert isinstance(receipt, Receipt)
    changed = World(world.charter, world.blocks[:10], world.blocks[9].time >> 16)
    changed.acked = {}
    changed.write(ALPHA, replace(receipt, core_s=8))
    path = tmp_path / "less.ledger"
    path.write_bytes(changed.export())
    assert "[receipt-differs]" in run(path).output
