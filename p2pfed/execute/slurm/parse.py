"""What Slurm printed, as values; pure.

Nothing here trusts a line: what can't be read raises `ExecutorError` with a `slurm-…` code, or is
handed back beside what could, so that one odd line costs only its own job.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute.slurm.states import ACTIVE, ENDED, WAITING, split_exit

_JOB_ID: Final = re.compile(r"([1-9]\d*)(?:[_+](?:\d+|\[[^\]|]*\]))?\Z")
_STATE: Final = re.compile(r"[A-Z][A-Z_]*\Z")
_PAIR: Final = re.compile(r"(?:^| )([A-Za-z][A-Za-z0-9_/:*-]*)=")
_SIZE: Final = re.compile(r"(\d+)(?:\.\d+)?([KMGT]?)\Z")
_GPUS: Final = re.compile(r"(?:^|,)gres/gpu=(\d+)(?:,|\Z)")
_KIB: Final = {"": 0, "K": 1, "M": 1 << 10, "G": 1 << 20, "T": 1 << 30}
_KNOWN: Final = WAITING | ACTIVE | ENDED.keys()


@dataclass(frozen=True, slots=True, kw_only=True)
class QueueRow:
    """One job as squeue lists it; times in seconds since the epoch, 0 if unknown."""

    job_id: str
    state: str
    name: str
    start_s: int
    end_s: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDetails:
    """How a job ended, by scontrol or by accounting; 0 where nothing is known.

    `cores` and `gpus` are what Slurm allocated in total, `memory_mib_max` the most that one step
    used.
    """

    state: str
    start_s: int
    end_s: int
    exit_code: int
    signal: int
    preempted: bool = False
    cores: int = 0
    gpus: int = 0
    memory_mib_max: int = 0
    reason: str = ""


def parse_submitted(text: str) -> str:
    """The job id that `sbatch --parsable` printed.

    Raises:
        ExecutorError: `slurm-output` (transient: the next look tells by name).
    """
    lines = text.strip().splitlines()
    # A site's plugin may print before it; a federated cluster adds ";name".
    job_id = lines[-1].partition(";")[0].strip() if lines else ""
    if not _JOB_ID.match(job_id):
        raise _odd("sbatch", "a job id", text)
    return job_id


def parse_queue(text: str) -> tuple[tuple[QueueRow, ...], tuple[str, ...]]:
    """The jobs that squeue listed, and the lines that can't be read.

    Raises:
        ExecutorError: `slurm-output` (transient): the text was cut off.
    """
    _check_whole("squeue", text)
    rows, odd = [], []
    for line in text.splitlines():
        fields = line.split("|", 5)
        if len(fields) != 6 or not _JOB_ID.match(fields[0]) or fields[1] not in _KNOWN:
            odd.append(line)
            continue
        job_id, state, name, start, end, reason = fields
        rows.append(
            QueueRow(
                job_id=job_id,
                state=state,
                name=name,
                start_s=parse_time(start),
                end_s=parse_time(end),
                reason=reason,
            )
        )
    return tuple(rows), tuple(odd)


def parse_details(text: str) -> JobDetails:
    """What `scontrol show job --details --oneliner` tells of a job.

    Raises:
        ExecutorError: `slurm-output`, `slurm-state` (transient both).
    """
    fields = parse_pairs(text)
    try:
        exit_code, signal = split_exit(fields["ExitCode"])
        state = fields["JobState"]
        cores = int(fields.get("NumCPUs", "0").partition("-")[0])
    except (KeyError, ValueError):
        raise _odd("scontrol", "a job", text) from None
    return JobDetails(
        state=_checked_state(state),
        start_s=parse_time(fields.get("StartTime", "")),
        end_s=parse_time(fields.get("EndTime", "")),
        exit_code=exit_code,
        signal=signal,
        preempted=parse_time(fields.get("PreemptTime", "")) > 0,
        cores=cores,
        gpus=count_gpus(fields.get("JOB_GRES", "")),
        reason=fields.get("Reason", ""),
    )


def parse_accounting(text: str, job_id: str) -> JobDetails | None:
    """What sacct tells of a job and its steps; None if it tells nothing, or the job is not over.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    _check_whole("sacct", text)
    found: JobDetails | None = None
    memory_kib = 0
    for line in text.splitlines():
        fields = line.split("|")
        if len(fields) != 8:
            raise _odd("sacct", "eight fields", line)
        row_id, state, start, end, exits, cores, rss, tres = fields
        if row_id.partition(".")[0] != job_id:
            continue
        memory_kib = max(memory_kib, _kib(rss))
        state = state.partition(" ")[0].rstrip("+")  # "CANCELLED by 1001"
        if "." in row_id or state not in ENDED:
            continue
        try:
            exit_code, signal = split_exit(exits)
            found = JobDetails(
                state=state,
                start_s=parse_time(start),
                end_s=parse_time(end),
                exit_code=exit_code,
                signal=signal,
                cores=int(cores or 0),
                gpus=int(gpus[1]) if (gpus := _GPUS.search(tres)) else 0,
            )
        except ValueError:
            raise _odd("sacct", "an exit code and a number of cores", line) from None
    if found is None:
        return None
    return JobDetails(
        state=found.state,
        start_s=found.start_s,
        end_s=found.end_s,
        exit_code=found.exit_code,
        signal=found.signal,
        cores=found.cores,
        gpus=found.gpus,
        memory_mib_max=-(-memory_kib // 1024),
    )


def parse_memory(text: str, job_id: str) -> int:
    """The most memory in MiB that a step of the job used, by sacct; 0 if it does not tell yet."""
    rows = [line.split("|") for line in text.splitlines()]
    used = [_kib(row[6]) for row in rows if len(row) == 8 and row[0].partition(".")[0] == job_id]
    return -(-max(used, default=0) // 1024)


def parse_config(text: str) -> dict[str, str]:
    """The settings of `scontrol show config`.

    Raises:
        ExecutorError: `slurm-output` (transient).
    """
    pairs = (line.partition("=") for line in text.splitlines())
    found = {key.strip(): value.strip() for key, equals, value in pairs if equals}
    if "ClusterName" not in found:
        raise _odd("scontrol", "a configuration with ClusterName", text)
    return found


def parse_seconds(text: str) -> int:
    """The number in `30 sec` or `2 min`, in seconds; 0 if there is none (`UNLIMITED`)."""
    number, _, unit = text.partition(" ")
    return int(number) * (60 if unit.startswith("min") else 1) if number.isdigit() else 0


def count_gpus(gres: str) -> int:
    """The GPUs in a list such as `gpu:a100:2(IDX:0-1),shard:4`."""
    return sum(gpus_by_type(gres).values())


def gpus_by_type(gres: str) -> dict[str, int]:
    """The GPUs in a list such as `gpu:a100:2(S:0-1),gpu:4`, by type; no type is ``""``."""
    found: dict[str, int] = {}
    for item in re.sub(r"\([^)]*\)", "", gres).split(","):
        parts = item.strip().split(":")
        if parts[0] != "gpu" or not parts[-1].isdigit():
            continue
        kind = parts[1] if len(parts) > 2 else ""
        found[kind] = found.get(kind, 0) + int(parts[-1])
    return found


def parse_pairs(text: str) -> dict[str, str]:
    """The `Key=value` pairs of a line; values may hold spaces and `=`."""
    line = text.strip()
    found: dict[str, str] = {}
    marks = list(_PAIR.finditer(line))
    ends = [*(mark.start() for mark in marks[1:]), len(line)]
    for mark, end in zip(marks, ends, strict=False):
        # A guest chose the job's name, so that the first of two equal keys counts.
        found.setdefault(mark[1], line[mark.end() : end].strip())
    return found


def _checked_state(state: str) -> str:
    if state in _KNOWN:
        return state
    raise ExecutorError(
        "slurm-state",
        f"Slurm says that a job is {state!r:.60}, which is no state that is known",
        remedy="the job is looked at again; tell the maintainers the state and Slurm's version",
        transient=True,
    )


def _check_whole(command: str, text: str) -> None:
    if text and not text.endswith("\n"):
        raise _odd(command, "whole lines", text)


def _odd(command: str, wanted: str, text: str) -> ExecutorError:
    shown = text if len(text) <= 120 else f"{text[:120]}…"
    return ExecutorError(
        "slurm-output",
        f"{command} should have printed {wanted}, but printed {shown!r}",
        remedy="it is tried again; tell the maintainers the text and Slurm's version",
        transient=True,
    )


def parse_time(text: str) -> int:
    """Seconds since the epoch; 0 for `Unknown`, `None`, `N/A` and the like."""
    return int(text) if text.isascii() and text.isdigit() else 0


def _kib(text: str) -> int:
    size = _SIZE.match(text)
    if not size:
        return 0
    return int(size[1]) * _KIB[size[2]] if size[2] else int(size[1]) >> 10
