"""What holds of a native job on every batch system: what can be run, and what it sees."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Final

from p2pfed.core.records import Outcome
from p2pfed.errors import ExecutorError
from p2pfed.execute import notices
from p2pfed.execute.interface import Capacity, NativeJob, NativeState, NativeStatus

PATH: Final = "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"
"""PATH of every job."""

_NAME: Final = re.compile(r"[a-z0-9][a-z0-9.-]{0,127}\Z")
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")
_OWN_PREFIX: Final = "P2PFED_"
_FROM_HOME: Final = frozenset({"P2PFED_USER"})
"""The variables of that prefix that a job's home sets, and not whoever runs it."""


def check_job(job: NativeJob) -> None:
    """Returns if the job can be run as it stands.

    Raises:
        ExecutorError: `executor-name`, `executor-path`, `executor-environment`,
            `executor-arguments`.
    """
    if not _NAME.match(job.name):
        raise ExecutorError("executor-name", f"{job.name!r} can't name a job")
    for path in (job.script, job.stdout, job.stderr):
        parts = PurePosixPath(path).parts
        if not parts or path.startswith("/") or ".." in parts or not _is_text(path):
            raise ExecutorError(
                "executor-path",
                f"{path!r} is not a file name inside the job's folder",
                remedy="use a relative path without `..`",
            )
    for name, value in job.environment:
        ours = name.startswith(_OWN_PREFIX) and name not in _FROM_HOME
        if ours or not _VARIABLE.match(name) or not _is_text(value):
            raise ExecutorError(
                "executor-environment",
                f"the environment variable {name!r} can't be set",
                remedy=f"use letters, digits and _, and leave {_OWN_PREFIX}* alone",
            )
    if not all(map(_is_text, job.arguments)):
        raise ExecutorError("executor-arguments", "an argument holds NUL or a lone surrogate")


def check_size(job: NativeJob, largest: Capacity) -> None:
    """Returns if the job fits the hardware when nothing else runs.

    Raises:
        ExecutorError: `executor-too-large`.
    """
    wanted = (job.nodes, job.cores_per_node, job.gpus_per_node, job.memory_mib_per_node)
    there = (
        largest.nodes,
        largest.cores_per_node,
        largest.gpus_per_node,
        largest.memory_mib_per_node,
    )
    if any(want > have for want, have in zip(wanted, there, strict=True)):
        raise ExecutorError(
            "executor-too-large",
            f"nodes, cores, GPUs and MiB per node {wanted} exceed this machine's {there}",
            remedy="make no offer larger than the [executor] section of centre.toml",
        )


def require_work(job: NativeJob) -> None:
    """Returns if the folder to run in is there.

    Raises:
        ExecutorError: `executor-folder`.
    """
    if not (job.folder / "work").is_dir():
        raise ExecutorError(
            "executor-folder",
            "there is no folder `work` to run in",
            where=str(job.folder),
            remedy="put the script and its inputs there before submitting",
        )


def environment_of(job: NativeJob, user: str) -> dict[str, str]:
    """The variables of the script; nothing comes from the daemon's own."""
    folder = job.folder.absolute()
    return {
        "PATH": PATH,
        "HOME": str(folder / "work"),
        "USER": user,
        "LOGNAME": user,
        "SHELL": "/bin/sh",
        "LANG": "C.UTF-8",
        "TMPDIR": str(folder / "tmp"),
        "OMP_NUM_THREADS": str(job.cores_per_node),
        **dict(job.environment),
        "P2PFED_JOB_ID": job.name,
        "P2PFED_NODES": str(job.nodes),
        "P2PFED_CORES": str(job.cores_per_node),
        "P2PFED_GPUS": str(job.gpus_per_node),
        "P2PFED_MEMORY_MIB": str(job.memory_mib_per_node),
        "P2PFED_WALLTIME_S": str(job.walltime_s),
    }


def read_marker(job: NativeJob) -> dict[str, str] | None:
    """The fields of the job's start marker, or None if nobody took it."""
    return notices.read(str(job.folder / "control" / f"started-{job.name}"))


def read_status(path: Path, name: str) -> NativeStatus | None:
    """How a job ended, as a notice tells it; None if nobody wrote it.

    One that is damaged says NODE_FAILURE: nobody knows better.
    """
    fields = notices.read(str(path))
    if fields is None:
        return None
    try:
        outcome = Outcome[fields.get("outcome", "").upper().replace("-", "_")]
    except KeyError:
        outcome = Outcome.NODE_FAILURE
    return NativeStatus(
        name=name,
        state=NativeState.ENDED,
        started_ms=number(fields, "started_ms"),
        ended_ms=number(fields, "ended_ms"),
        outcome=outcome,
        exit_code=number(fields, "exit_code"),
        signal=number(fields, "signal"),
        memory_mib_max=number(fields, "memory_mib_max"),
        detail=fields.get("detail", ""),
    )


def number(fields: dict[str, str], key: str) -> int:
    """A natural number of a notice; 0 if it is missing or damaged."""
    text = fields.get(key, "")
    return int(text) if text.isascii() and text.isdigit() else 0


@contextlib.contextmanager
def file_errors(folder: Path) -> Iterator[None]:
    """Turns errors of the file system into `executor-disk`."""
    try:
        yield
    except OSError as error:
        raise ExecutorError(
            "executor-disk",
            f"{error.filename or folder}: {error.strerror}",
            where=str(folder),
            remedy="free disk space or repair the permissions; it is tried again",
            transient=True,
        ) from error


def now_ms() -> int:
    """The wall clock."""
    return time.time_ns() // 1_000_000


def _is_text(text: str) -> bool:
    """True if the text can be an argument or a variable of a process."""
    try:
        return b"\0" not in text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        return False
