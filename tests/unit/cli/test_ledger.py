"""`p2pfed ledger show`, `diff` and `export` on files; usage records in the formats of others."""

from __future__ import annotations

import csv
import io
import json
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest
from click.testing import CliRunner, Result

from p2pfed.cli.main import cli
from p2pfed.cli.session import Session
from p2pfed.cli.usage_formats import OURS, UR, Ledger, write_apel_gpu, write_ur
from p2pfed.core.audit.usage import Standing, UsageLine
from p2pfed.core.ids import CentreName, ClaimId, JobId, Position
from p2pfed.core.records import Contact, End, Job
from p2pfed.core.rules import Rules
from p2pfed.simulate.scribes import Scribes
from tests.unit.core.ledgers import BETA, good_world

JOBS = 12


@pytest.fixture(scope="module")
def ledger(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("ledgers") / "true.ledger"
    scribes = Scribes(5, jobs=JOBS, per_round=2, walltimes_s=(20, 40), dispute_per_mille=300)
    path.write_bytes(b"".join(scribes.export()))
    return path


def run(*arguments: object) -> Result:
    return CliRunner().invoke(cli, ["ledger", *map(str, arguments)], obj=Session())


def exported(ledger: Path, tmp_path: Path, *options: object) -> str:
    path = tmp_path / "out"
    result = run("export", "--from", ledger, *options, path)
    assert result.exit_code == 0, result.output
    return path.read_text(encoding="utf-8")


def test_every_usage_record_becomes_one_usage_record_of_ogf(ledger: Path, tmp_path: Path) -> None:
    root = ElementTree.fromstring(exported(ledger, tmp_path, "--format", "ur"))
    assert root.tag == f"{{{UR}}}UsageRecords"
    records = root.findall(f"{{{UR}}}UsageRecord")
    assert len(records) == JOBS
    first = records[0]
    compute = first.find(f"{{{UR}}}ComputeUsageBlock")
    assert compute is not None
    raw, agreed = compute.findtext(f"{{{UR}}}CpuDuration"), compute.findtext(f"{{{OURS}}}Standing")
    assert raw is not None
    assert raw.startswith("PT")
    assert agreed in ("receipted", "disputed")
    names = {f"{{{UR}}}{b}Block" for b in ("RecordIdentity", "SubjectIdentity", "JobUsage")}
    assert names <= {block.tag for block in first}


APEL_MANDATORY = (
    "Site", "LocalJobId", "WallDuration", "CpuDuration", "StartTime", "EndTime",
)  # fmt: skip
APEL_FIELDS = (
    "Site", "SubmitHost", "MachineName", "Queue", "LocalJobId", "LocalUserId", "GlobalUserName",
    "FQAN", "VO", "VOGroup", "VORole", "WallDuration", "CpuDuration", "Processors", "NodeCount",
    "StartTime", "EndTime", "InfrastructureDescription", "InfrastructureType", "MemoryReal",
    "MemoryVirtual", "ServiceLevelType", "ServiceLevel",
)  # fmt: skip
"""What APEL's loader demands of an individual-job record, and what it knows: its JobRecord."""
ACCELERATOR_REQUIRED = (
    "MeasurementMonth", "MeasurementYear", "AssociatedRecordType", "AssociatedRecord", "FQAN",
    "SiteName", "Count", "AvailableDuration", "Type",
)  # fmt: skip
ACCELERATOR_FIELDS = (
    *ACCELERATOR_REQUIRED,
    "GlobalUserName", "Cores", "ActiveDuration", "BenchmarkType", "Benchmark", "Model",
)  # fmt: skip
"""The same of an accelerator record: APEL's ACCELERATOR_MSG_SCHEMA."""


def test_every_usage_record_becomes_one_record_of_apel(ledger: Path, tmp_path: Path) -> None:
    text = exported(ledger, tmp_path, "--format", "apel")
    header, *_ = text.splitlines()
    assert header == "APEL-individual-job-message: v0.3"
    records = text.removeprefix(header + "\n").split("%%\n")
    assert records.pop() == ""
    assert len(records) == JOBS
    fields = dict(line.split(": ", 1) for line in records[0].splitlines())
    assert set(APEL_MANDATORY) <= set(fields) <= set(APEL_FIELDS)
    assert fields["ServiceLevelType"].lower() in ("si2k", "hepspec", "hepscore23")
    for name in ("WallDuration", "CpuDuration", "Processors", "NodeCount", "MemoryReal"):
        assert fields[name].isdecimal()
    assert 0 < int(fields["StartTime"]) <= int(fields["EndTime"])
    assert int(fields["CpuDuration"]) == int(fields["WallDuration"]) * int(fields["Processors"])


def test_a_table_tells_raw_and_agreed_amounts(ledger: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(ledger, tmp_path, "--format", "csv"))))
    assert len(rows) == JOBS
    disputed = [row for row in rows if row["standing"] == "disputed"]
    assert disputed
    for row in rows:
        least = min(int(row["core_s"]), int(row["agreed_core_s"]))
        assert int(row["points"]) == least == int(row["agreed_core_s"])
    assert all(int(row["agreed_core_s"]) < int(row["core_s"]) for row in disputed)


def test_a_centre_and_a_time_choose_usage_records(ledger: Path, tmp_path: Path) -> None:
    rows = list(csv.DictReader(io.StringIO(exported(ledger, tmp_path, "--format", "csv"))))
    centre = "--centre", "centre-00"
    mine = exported(ledger, tmp_path, "--force", "--format", "csv", *centre)
    chosen = list(csv.DictReader(io.StringIO(mine)))
    assert chosen == [row for row in rows if "centre-00" in (row["home"], row["host"])]
    assert 0 < len(chosen) < len(rows)
    none = exported(ledger, tmp_path, "--force", "--format", "csv", "--until", "2001-01-01")
    assert none.count("\n") == 1


def test_gpus_are_told_where_the_formats_have_a_place_for_them() -> None:
    home, host = CentreName("alpha"), CentreName("beta")
    job = Job(
        resource_class="gpu", nodes=2, cores_per_node=4, gpus_per_node=3, memory_mib_per_node=1,
        walltime_s=100, work_class="normal", payload_digest=bytes(32), payload_bytes=1,
    )  # fmt: skip
    end = End(
        claim_id=Position(home, 0, 2, 0), outcome=1, started_ms=0, ended_ms=10_000, core_s=80,
        gpu_s=60,
    )  # fmt: skip
    line = UsageLine(
        ClaimId(end.claim_id), JobId(Position(home, 0, 1, 0)), host, job, end, "native & <name>",
        Standing.RECEIPTED, 80, 60, 3_000,
    )  # fmt: skip
    ledger = Ledger("ab" * 32, "tests", Rules(), 20_000)
    without = line._replace(job=replace(job, gpus_per_node=0))
    (text,) = write_apel_gpu([line, without], ledger)
    message = json.loads(text)
    assert (message["Type"], message["Version"]) == ("APEL-accelerator-message", "0.1")
    (record,) = message["UsageRecords"]
    assert set(ACCELERATOR_REQUIRED) <= set(record) <= set(ACCELERATOR_FIELDS)
    assert (record["Count"], record["AvailableDuration"], record["Benchmark"]) == (6, 10, 50.0)
    assert record["AssociatedRecord"] == "native & <name>"
    assert list(write_apel_gpu([without], ledger)) == []
    many = [json.loads(one) for one in write_apel_gpu([line] * 2_001, ledger)]
    assert [len(one["UsageRecords"]) for one in many] == [1_000, 1_000, 1]
    root = ElementTree.fromstring("".join(write_ur([line], ledger)))
    assert root.findtext(f".//{{{OURS}}}GpuDuration") == "PT60S"
    assert root.findtext(f".//{{{UR}}}Charge") == "3000"
    assert root.findtext(f".//{{{UR}}}LocalJobId") == "native & <name>"


def test_a_ledger_that_does_not_verify_gives_no_usage(tmp_path: Path) -> None:
    path = tmp_path / "bad.ledger"
    path.write_bytes(good_world().export()[:-1])
    result = run("export", "--from", path, "--format", "csv", "-")
    assert getattr(result.exception, "code", "") == "ledger-not-valid"


def test_a_cut_of_a_ledger_is_a_whole_ledger(ledger: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.ledger"
    until = 1_700_000_000_000 + 60_000
    assert run("export", "--from", ledger, "--until", until, path).exit_code == 0
    result = CliRunner().invoke(cli, ["audit", str(path), str(ledger), "--json"], obj=Session())
    report = json.loads(result.output)
    assert [found["ok"] for found in report["ledgers"]] == [True, True]
    assert {f["code"] for f in report["comparison"]} == {"export-behind"}
    assert 0 < report["ledgers"][0]["blocks"] < report["ledgers"][1]["blocks"]


def test_show_prints_what_was_written(ledger: Path) -> None:
    lines = run("show", ledger, "--json").output.splitlines()
    kinds = [record["record"] for line in lines for record in json.loads(line)["records"]]
    assert kinds.count("Job") == JOBS
    assert kinds.count("End") == JOBS
    shown = run("show", ledger, "--centre", "centre-01").output
    assert "centre-01.0" in shown
    assert "\ncentre-00.0" not in shown


def test_show_follows_a_job(ledger: Path) -> None:
    shown = run("show", ledger, "--job", "centre-00.0.1").output
    assert "Job" in shown
    assert "Claim  job_id=centre-00.0.1" in shown


def test_diff_says_whether_two_files_agree(tmp_path: Path) -> None:
    world, twin = good_world(), good_world()
    paths = [tmp_path / name for name in ("one", "same", "other")]
    for path, written in zip(paths, (world, world, twin), strict=True):
        path.write_bytes(written.export())
    assert "both hold the same blocks" in run("diff", *paths[:2]).output
    world.write(BETA, Contact(address="here:1"))
    twin.write(BETA, Contact(address="there:1"))
    paths[0].write_bytes(world.export())
    assert run("diff", *paths[:2]).exit_code == 0
    paths[2].write_bytes(twin.export())
    result = run("diff", paths[0], paths[2])
    assert result.exit_code == 1
    assert "[exports-contradict]" in result.output
