"""What a daemon says of its counters is held against the ledger, and each difference is named."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from p2pfed.cli.main import cli
from p2pfed.cli.session import Session
from p2pfed.core.audit import AuditReport, FileSource, Finding, Findings, audit_ledger
from p2pfed.core.audit.counters import compare_counters, parse_counters
from p2pfed.core.charter import encode_charter
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.errors import InputError
from p2pfed.shell import views
from p2pfed.simulate.scribes import Scribes
from tests.federation.scenarios import CALM, busy_federation

KEYS = ("centre", "resource_class", "day")
LEDGER = b"".join(Scribes(3, jobs=12, per_round=3, walltimes_s=(20, 40)).export())


@pytest.fixture(scope="module")
def report() -> AuditReport:
    return audit_ledger(FileSource(io.BytesIO(LEDGER)))


def stated(report: AuditReport) -> dict[str, Any]:
    """What a daemon that computes rightly says."""
    ledger = report.ledger
    assert ledger.federation is not None
    assert ledger.cut_digest is not None
    return {
        "centre": "centre-00",
        "federation_id": ledger.federation.hex(),
        "cut_ms": ledger.at_ms,
        "view_digest": ledger.cut_digest.hex(),
        "counters": [
            {
                **dict(zip(KEYS, key, strict=True)),
                **counter._asdict(),
            }
            for key, counter in report.counters.items()
        ],
    }


def compared(said: dict[str, Any], report: AuditReport) -> list[Finding]:
    findings = Findings()
    data = json.dumps(said).encode()
    compare_counters(parse_counters(data, "counters.json"), report, findings)
    return findings.kept


def test_equal_counters_are_no_finding(report: AuditReport) -> None:
    assert len(report.counters) >= 3
    assert compared(stated(report), report) == []


def without_one(said: dict[str, Any]) -> None:
    del said["counters"][0]


def one_more(said: dict[str, Any]) -> None:
    said["counters"].append({**said["counters"][0], "day": 1})


def one_raised(said: dict[str, Any]) -> None:
    said["counters"][0]["consumed"] += 1


@pytest.mark.parametrize("change", [without_one, one_more, one_raised])
def test_each_difference_is_named(
    report: AuditReport, change: Callable[[dict[str, Any]], None]
) -> None:
    said = stated(report)
    change(said)
    (finding,) = compared(said, report)
    assert (finding.code, finding.centre) == ("counters-differ", "centre-00")


@pytest.mark.parametrize(
    ("field", "value"),
    [("federation_id", "00" * 32), ("cut_ms", 5), ("view_digest", "00" * 32)],
)
def test_what_rests_on_other_blocks_is_not_compared(
    report: AuditReport, field: str, value: object
) -> None:
    said = {**stated(report), field: value}
    one_raised(said)
    assert [finding.code for finding in compared(said, report)] == ["counters-view"]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"centre": "a", "federation_id": "", "cut_ms": true, "view_digest": "", "counters": []}',
        b'{"centre": "a", "federation_id": "", "cut_ms": 1, "view_digest": null, "counters": [1]}',
    ],
)
def test_what_is_no_report_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_counters(data, "file")
    assert caught.value.code == "counters-form"


def test_daemons_report_what_an_audit_of_any_export_comes_to(tmp_path: Path) -> None:
    world = busy_federation(4, CALM, jobs=8)
    world.run(60_000)
    export, path = tmp_path / "ledger", tmp_path / "counters.json"
    one, *others = world.centres.values()
    export.write_bytes(b"".join(write_ledger(encode_charter(world.charter), one.disk.blocks)))
    for centre in (one, others[0]):
        assert centre.node is not None
        said = views.counters(centre.node)
        assert said["counters"], "nothing was consumed yet"
        path.write_text(json.dumps(said))
        arguments = ["audit", str(export), "--counters", str(path), "--json"]
        done = CliRunner().invoke(cli, arguments, obj=Session())
        assert json.loads(done.output)["comparison"] == []
        assert done.exit_code == 0
        said["counters"][0]["contributed"] += 1
        path.write_text(json.dumps(said))
        done = CliRunner().invoke(cli, arguments, obj=Session())
        (finding,) = json.loads(done.output)["comparison"]
        assert finding["code"] == "counters-differ"
        assert done.exit_code == 7
    at_another_time = ["audit", str(export), "--counters", str(path), "--at", "1000000000000"]
    assert CliRunner().invoke(cli, at_another_time, obj=Session()).exit_code == 2
