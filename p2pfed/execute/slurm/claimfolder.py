"""What stands in a claim's folder about its Slurm job: who began it, when, and who gave it up.

The marker is made by the batch script, as the guests' account, so that a guest could change or
remove it; what the daemon saw and did stands in `batch/`, which is the daemon's alone.
`p2pfed.execute.slurm.executor` tells what each file means.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from p2pfed.execute import notices
from p2pfed.execute.interface import NativeJob
from p2pfed.execute.jobs import now_ms, number
from p2pfed.execute.slurm.parse import JobDetails, QueueRow
from p2pfed.execute.slurm.states import WAITING

DAEMON: Final = "daemon"
SLURM: Final = "slurm"
_CLOCKS_S: Final = 30
_MADE_UNREADABLE: Final = (errno.EACCES, errno.ELOOP, errno.EISDIR, errno.ENXIO)
"""What reading a marker fails with when a guest put something else in its place."""


def make_folder(job: NativeJob, name: str) -> Path:
    """A folder of this name in the claim's folder, durably."""
    folder = job.folder / name
    if not folder.is_dir():
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        notices.sync_folder(str(job.folder))
    return folder


def marker_of(job: NativeJob) -> dict[str, str] | None:
    """The start marker; what a guest made of it can't hide that its job has begun.

    The batch script makes it as the guests' account, so that a guest could change or remove it:
    only a marker that is ours says that we hold it, and what we saw running has begun.
    """
    try:
        found = notices.read_with_owner(str(job.folder / "control" / f"started-{job.name}"))
    except OSError as error:
        if error.errno not in _MADE_UNREADABLE:
            raise
        return {"holder": SLURM}
    began = (job.folder / "batch" / "began").exists()
    if found is None:
        return {"holder": SLURM} if began else None
    fields, owner = found
    if fields.get("holder") == DAEMON and (began or owner != os.geteuid()):
        return {**fields, "holder": SLURM}
    return fields


def give_up(job: NativeJob) -> None:
    """Takes the start marker for the daemon, unless the job has begun."""
    control = make_folder(job, "control")
    notices.take_marker(str(control), job.name, {"holder": DAEMON, "at_ms": str(now_ms())})


def share(top: Path, gid: int) -> None:
    """Lets a group use a folder and everything in it, also what is made there later."""
    for _, _, files, folder_fd in os.fwalk(top):
        os.fchown(folder_fd, -1, gid)
        os.fchmod(folder_fd, 0o2770)
        for name in files:
            os.chown(name, -1, gid, dir_fd=folder_fd, follow_symlinks=False)
            executable = os.stat(name, dir_fd=folder_fd, follow_symlinks=False).st_mode & 0o100
            os.chmod(name, 0o770 if executable else 0o660, dir_fd=folder_fd)


def began_s(job: NativeJob, marker: dict[str, str], row: QueueRow) -> int:
    """When a job that has begun began; remembers it, since guests could change their marker."""
    path = str(make_folder(job, "batch") / "began")
    began = notices.read(path)
    if began is None and row.start_s and row.state not in WAITING:
        began = {"start_s": str(row.start_s)}
        notices.post(path, began)
    return number(began or {}, "start_s") or number(marker, "at_ms") // 1000


def is_second_begin(job: NativeJob, marker: dict[str, str], details: JobDetails) -> bool:
    """True if Slurm tells of a later begin than the one that ran the script.

    Then nobody knows how that one ended. Clocks of nodes may differ a little.
    """
    began = notices.read(str(job.folder / "batch" / "began"))
    if began is not None:
        return details.start_s > number(began, "start_s")
    return details.start_s > number(marker, "at_ms") // 1000 + _CLOCKS_S
