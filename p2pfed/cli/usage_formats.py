"""Usage records of a ledger in the formats of others: OGF Usage Record 2.0, APEL, and CSV.

Sources: "Usage Record - Format Recommendation", GFD-R-P.204 (Open Grid Forum, 2013); "Grid
Accounting: Individual Job Records and Messages", message format 0.3, docs.egi.eu, as APEL's own
loader reads it (apel/db/records/job.py); GPUs as APEL's accelerator message 0.1, which is JSON
(apel/common/message_schemas.py).

Both know more than a ledger holds. It has no user names, so APEL's GlobalUserName is left out; what
it calls CPU time is allocated cores times elapsed time, which is all that a batch system enforces.
Raw amounts stand in the formats' own fields; what they are worth by the federation's rates is
APEL's ServiceLevel, and in XML an element of a namespace of ours, as are GPUs, which GFD.204 does
not know.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from typing import Final, NamedTuple
from xml.sax.saxutils import escape

from p2pfed.core.audit.usage import UsageLine
from p2pfed.core.records import Outcome
from p2pfed.core.rules import Rules

UR: Final = "http://schema.ogf.org/urf/2013/04/urf"
OURS: Final = "urn:p2pfed:usage:1"
APEL_HEADER: Final = "APEL-individual-job-message: v0.3"
APEL_GPU_TYPE: Final = "APEL-accelerator-message"
APEL_GPU_VERSION: Final = "0.1"
APEL_GPU_RECORDS_MAX: Final = 1000
"""Records in one accelerator message, by APEL's schema."""


class Ledger(NamedTuple):
    """What the records say of where they come from."""

    federation: str
    name: str
    rules: Rules
    made_ms: int


Writer = Callable[[Iterable[UsageLine], Ledger], Iterator[str]]


def _instant(ms: int) -> str:
    return f"{datetime.fromtimestamp(ms / 1000, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _wall_s(line: UsageLine) -> int:
    return -(-max(0, line.end.ended_ms - line.end.started_ms) // 1000)


def _processors(line: UsageLine) -> int:
    return line.job.nodes * line.job.cores_per_node


def _gpus(line: UsageLine) -> int:
    return line.job.nodes * line.job.gpus_per_node


# OGF Usage Record 2.0


def write_ur(lines: Iterable[UsageLine], ledger: Ledger) -> Iterator[str]:
    """One XML document with a UsageRecord for each line."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n'
    yield f'<urf:UsageRecords xmlns:urf="{UR}" xmlns:p2pfed="{OURS}">\n'
    for line in lines:
        yield from _ur_record(line, ledger)
    yield "</urf:UsageRecords>\n"


def _ur_record(line: UsageLine, ledger: Ledger) -> Iterator[str]:
    outcome = Outcome(line.end.outcome)
    blocks: list[tuple[str, list[tuple[str, str]]]] = [
        (
            "RecordIdentityBlock",
            [
                ("urf:RecordId", f"p2pfed:{ledger.federation}:{line.claim_id}"),
                ("urf:CreateTime", _instant(ledger.made_ms)),
                ("urf:Site", line.host),
                ("urf:Infrastructure", "p2pfed"),
            ],
        ),
        ("SubjectIdentityBlock", [("urf:GlobalGroupId", f"{ledger.name}/{line.job_id.centre}")]),
        (
            "ComputeUsageBlock",
            [
                ("urf:CpuDuration", f"PT{line.end.core_s}S"),
                ("urf:WallDuration", f"PT{_wall_s(line)}S"),
                ("urf:StartTime", _instant(line.end.started_ms)),
                ("urf:EndTime", _instant(line.end.ended_ms)),
                ("urf:Processors", str(_processors(line))),
                ("urf:NodeCount", str(line.job.nodes)),
                ("urf:ExitStatus", str(line.end.exit_code)),
                ("urf:Charge", str(line.points)),
                ("p2pfed:GpuCount", str(_gpus(line))),
                ("p2pfed:GpuDuration", f"PT{line.end.gpu_s}S"),
                ("p2pfed:AgreedCpuDuration", f"PT{line.core_s}S"),
                ("p2pfed:AgreedGpuDuration", f"PT{line.gpu_s}S"),
                ("p2pfed:Standing", line.standing.value),
            ],
        ),
        (
            "JobUsageBlock",
            [
                ("urf:GlobalJobId", str(line.job_id)),
                ("urf:LocalJobId", line.native_name),
                ("urf:SubmitHost", line.job_id.centre),
                ("urf:Queue", line.job.work_class),
                ("urf:Status", outcome.name.lower().replace("_", "-")),
            ],
        ),
        (
            "MemoryUsageBlock",
            [
                ("urf:MemoryClass", "RAM"),
                ("urf:MemoryResourceCapacityUsed", str(line.end.memory_mib_max << 20)),
            ],
        ),
    ]
    yield " <urf:UsageRecord>\n"
    for name, fields in blocks:
        yield f"  <urf:{name}>\n"
        for field, value in fields:
            yield f"   <{field}>{escape(value)}</{field}>\n"
        yield f"  </urf:{name}>\n"
    yield " </urf:UsageRecord>\n"


# APEL


def write_apel(lines: Iterable[UsageLine], ledger: Ledger) -> Iterator[str]:
    """One individual-job message."""
    yield f"{APEL_HEADER}\n"
    for line in lines:
        yield _apel(
            ("Site", line.host),
            ("SubmitHost", f"p2pfed/{line.job_id.centre}"),
            ("MachineName", line.host),
            ("Queue", line.job.work_class),
            ("LocalJobId", line.native_name),
            ("FQAN", f"/{ledger.name}/{line.job_id.centre}"),
            ("WallDuration", _wall_s(line)),
            ("CpuDuration", line.end.core_s),
            ("Processors", _processors(line)),
            ("NodeCount", line.job.nodes),
            ("StartTime", line.end.started_ms // 1000),
            ("EndTime", line.end.ended_ms // 1000),
            ("InfrastructureDescription", "P2PFED"),
            ("InfrastructureType", "grid"),
            ("MemoryReal", line.end.memory_mib_max * 1024),
            ("ServiceLevelType", "HEPSPEC"),
            ("ServiceLevel", _rate(line, ledger.rules)),
        )


def write_apel_gpu(lines: Iterable[UsageLine], ledger: Ledger) -> Iterator[str]:
    """Accelerator messages, one on each line: a record for each job that had GPUs.

    Each names its individual-job record. How long GPUs were active is not known, only how long the
    job held them, so ActiveDuration is left out.
    """
    records = (_accelerator(line, ledger) for line in lines if _gpus(line))
    while batch := list(islice(records, APEL_GPU_RECORDS_MAX)):
        message = {
            "Type": APEL_GPU_TYPE,
            "Version": APEL_GPU_VERSION,
            "UsageRecords": batch,
        }
        yield json.dumps(message) + "\n"


def _accelerator(line: UsageLine, ledger: Ledger) -> dict[str, object]:
    ended = datetime.fromtimestamp(line.end.ended_ms / 1000, UTC)
    return {
        "MeasurementMonth": ended.month,
        "MeasurementYear": ended.year,
        "AssociatedRecordType": "job",
        "AssociatedRecord": line.native_name,
        "FQAN": f"/{ledger.name}/{line.job_id.centre}",
        "SiteName": line.host,
        "Count": _gpus(line),
        "AvailableDuration": _wall_s(line),
        "BenchmarkType": "p2pfed-points",
        "Benchmark": float(_rate(line, ledger.rules)),
        "Type": "GPU",
        "Model": line.job.resource_class,
    }


def _apel(*fields: tuple[str, object]) -> str:
    return "".join(f"{name}: {value}\n" for name, value in fields) + "%%\n"


def _rate(line: UsageLine, rules: Rules) -> str:
    """Points for a second of the job's resource class."""
    resource = rules.resource_class(line.job.resource_class)
    if resource is None:
        return "0"
    return f"{resource.points_num / resource.points_den:.6g}"


# A table


_COLUMNS: Final = (
    "claim", "job", "home", "host", "class", "resource_class", "outcome", "standing",
    "started", "ended", "wall_s", "cores", "gpus", "core_s", "gpu_s",
    "agreed_core_s", "agreed_gpu_s", "points",
)  # fmt: skip


def write_csv(lines: Iterable[UsageLine], _ledger: Ledger) -> Iterator[str]:
    """A table with a heading; raw amounts, agreed amounts, points."""
    yield _row(_COLUMNS)
    for line in lines:
        yield _row(
            (
                line.claim_id,
                line.job_id,
                line.job_id.centre,
                line.host,
                line.job.work_class,
                line.job.resource_class,
                Outcome(line.end.outcome).name.lower(),
                line.standing.value,
                _instant(line.end.started_ms),
                _instant(line.end.ended_ms),
                _wall_s(line),
                _processors(line),
                _gpus(line),
                line.end.core_s,
                line.end.gpu_s,
                line.core_s,
                line.gpu_s,
                line.points,
            )
        )


def _row(values: Iterable[object]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(values)
    return text.getvalue()


WRITERS: Final[dict[str, Writer]] = {
    "ur": write_ur,
    "apel": write_apel,
    "apel-gpu": write_apel_gpu,
    "csv": write_csv,
}
