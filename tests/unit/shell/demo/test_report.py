"""A report finds every fault, and its page describes every field."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path

from p2pfed.core.ids import CentreName
from p2pfed.shell.demo.report import BalanceLine, CentreReport, DemoReport, JobLine

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "demo.md"

JOB = JobLine(
    job_id="alpha.1.0",
    name="primes-01",
    home=CentreName("alpha"),
    host="beta",
    arguments=("2", "10"),
    cores=1,
    state="completed",
    attempts=2,
    runs=1,
    waited_ms=10,
    ran_ms=20,
    exit_code=0,
    output="4 primes",
    expected="4 primes",
    verified=True,
)
REPORT = DemoReport(
    federation_id="00",
    elapsed_ms=1,
    round=1,
    view_digest="aa",
    jobs=(JOB,),
    centres=(),
    balances=(),
    failures=(),
    folder=None,
)

FAULTS = {
    "not completed": ({"state": "cancelled"}, "is cancelled"),
    "another exit code": ({"exit_code": 3}, "exit code 3"),
    "no exit code": ({"exit_code": None}, "exit code None"),
    "ran twice": ({"runs": 2}, "ran 2 times"),
    "never ran": ({"runs": 0}, "ran 0 times"),
    "ran at home": ({"host": "alpha"}, "its own home"),
    "wrong output": ({"output": "5 primes", "verified": False}, "'5 primes' instead of '4 primes'"),
    "no output": ({"output": None, "verified": False}, "printed None"),
}


def test_a_good_job_has_no_fault() -> None:
    assert JOB.faults() == []


def test_every_fault_is_named() -> None:
    for phrase, (changes, expected) in FAULTS.items():
        [fault] = dataclasses.replace(JOB, **changes).faults()  # type: ignore[arg-type]
        assert expected in fault, phrase


def test_one_failure_spoils_the_whole() -> None:
    assert REPORT.ok
    assert not dataclasses.replace(REPORT, failures=("something",)).ok


def test_the_report_is_json_and_its_page_describes_every_field() -> None:
    found = json.loads(json.dumps(REPORT.to_json()))
    assert found["jobs"][0]["arguments"] == ["2", "10"]
    sections = PAGE.read_text().split("\n## ")[1:]
    tables = (re.findall(r"^\| `(\w+)` \|", text, re.MULTILINE) for text in sections)
    stated = [fields for fields in tables if fields]
    kinds = (JobLine, CentreReport, BalanceLine)
    expected = [list(found)] + [[f.name for f in dataclasses.fields(kind)] for kind in kinds]
    assert stated == expected
