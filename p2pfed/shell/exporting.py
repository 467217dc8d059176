"""Which local jobs go out, and as what: values in, values out.

A job goes out if it waits for nodes in a partition that the policy names, has waited long enough,
is a job by itself (no part of a heterogeneous job, no dependency), is within the policy's sizes,
and its user neither is excluded nor said `#P2PFED --local`. Each task of an array is a job; one of
an array that may run only so many at a time, or whose script counts its tasks, stays at home.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from p2pfed.errors import InputError, StorageError
from p2pfed.execute.slurm.localjobs import LocalDetails, LocalRow
from p2pfed.shell.answers import JobView
from p2pfed.shell.directives import Wishes
from p2pfed.shell.door import JobRequest
from p2pfed.shell.jobscript import MEMORY_MIB_PER_CORE, check_request
from p2pfed.shell.manifest import SIGNAL_S
from p2pfed.shell.sections import ExportConfig

SCRIPT = "job.sh"
"""Name of the batch script among the files of an exported job."""
_WAITS = re.compile(r"(None|Priority|Resources|ReqNodeNotAvail.*|Nodes required.*)\Z")
"""Reasons of a job that could run if there were nodes; others are its user's or the site's."""
_COUNTS_TASKS = re.compile(rb"SLURM_ARRAY_TASK_(?:COUNT|MIN|MAX|STEP)")
"""Slurm forgets how an array was made when it takes a task out of it."""
_FEATURES = re.compile(r"[A-Za-z0-9._+-]+(&[A-Za-z0-9._+-]+)*\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sibling:
    """The local job that a federated one was made from, and where its user wants the output.

    `submit_s` tells it from a later job of the same number.
    """

    job_id: str
    submit_s: int
    user: str
    folder: str
    stdout: str
    stderr: str

    def dump(self) -> bytes:
        """The row's value."""
        return json.dumps(asdict(self), sort_keys=True).encode()

    def is_row(self, row: LocalRow) -> bool:
        """True if the row tells of this very job."""
        return (row.job_id, row.submit_s) == (self.job_id, self.submit_s)


def parse_sibling(data: bytes) -> Sibling:
    """The sibling that a row names.

    Raises:
        StorageError: `local-row-damaged`.
    """
    try:
        return Sibling(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise StorageError(
            "local-row-damaged",
            f"the row of an exported job is not as it was written: {error}",
            remedy="restore the state folder from a backup; the ledger itself is not affected",
        ) from None


def waits_long(row: LocalRow, policy: ExportConfig, now_s: int) -> bool:
    """True if the job waits, has done so for long, and is not held by anybody."""
    return row.pending and not row.held and now_s - row.submit_s >= policy.after_wait_s


def waits_for_nodes(row: LocalRow) -> bool:
    """True if nodes are all that it waits for, as far as Slurm tells."""
    return bool(_WAITS.match(row.reason))


def kept_by(row: LocalRow, policy: ExportConfig) -> str:
    """Why the job stays at home by what the queue tells of it; empty if it may go."""
    wide, large = policy.nodes_max, policy.cores_max
    reasons = (
        (bool(row.bound), row.bound),
        (row.uid == 0, "it is a job of root"),
        (not row.walltime_s, "it has no time limit"),
        (row.walltime_s > policy.walltime_max_s, "its time limit is above walltime_max"),
        (0 < wide < row.nodes, f"it asks for more than {wide} nodes (nodes_max)"),
        (0 < large < row.cores, f"it asks for more than {large} cores (cores_max)"),
    )
    return next((why for keeps, why in reasons if keeps), "")


def check_task(row: LocalRow, details: LocalDetails, script: bytes) -> None:
    """Refuses a task that would not be elsewhere what it is in its array.

    Raises:
        InputError: `export-array`.
    """
    if row.task is None:
        return
    if details.throttle not in ("", "0"):
        raise InputError(
            "export-array", f"its array may run only {details.throttle} tasks at a time"
        )
    counts = _COUNTS_TASKS.search(script)
    if counts is not None:
        raise InputError("export-array", f"its script uses {counts[0].decode()}")


def user_may_go(user: str, policy: ExportConfig) -> bool:
    """True if the policy lets jobs of this account out."""
    return user not in policy.deny_users and (not policy.users or user in policy.users)


def request_of(
    row: LocalRow, details: LocalDetails, wishes: Wishes, policy: ExportConfig
) -> JobRequest:
    """What is asked of the federation: what Slurm says that the job needs, and its user's wishes.

    Raises:
        InputError: `export-constraint`, `script-request`: it can't be asked for.
    """
    if details.features and not _FEATURES.match(details.features):
        raise InputError(
            "export-constraint", f"--constraint={details.features} is more than a list joined by &"
        )
    cores = -(-row.cores // row.nodes)
    per_core = details.memory_mib_per_core or MEMORY_MIB_PER_CORE
    request = JobRequest(
        name=details.name or SCRIPT,
        script=SCRIPT,
        arguments=details.arguments,
        fetch=wishes.fetch,
        checkpoint=wishes.checkpoint,
        signal=wishes.signal.number if wishes.signal else 0,
        signal_s=wishes.signal.before_s if wishes.signal else SIGNAL_S,
        environment=(*_task_variables(row), *wishes.environment),
        resource_class=wishes.resource_class or ("gpu" if row.gpus_per_node else "cpu"),
        nodes=row.nodes,
        cores_per_node=cores,
        gpus_per_node=row.gpus_per_node,
        memory_mib_per_node=details.memory_mib_per_node or cores * per_core,
        walltime_s=row.walltime_s,
        features=_words(details.features.lower().split("&"), wishes.features),
        work_class=wishes.work_class or policy.work_class,
        data_class=wishes.data_class or policy.data_class,
        allow=wishes.allow,
        deny=wishes.deny,
    )
    check_request(request)
    return request


def _task_variables(row: LocalRow) -> tuple[tuple[str, str], ...]:
    if row.task is None:
        return ()
    array, task = row.task
    return ("SLURM_ARRAY_JOB_ID", array), ("SLURM_ARRAY_TASK_ID", task)


def _words(*lists: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted({word for words in lists for word in words if word}))


def comment_of(view: JobView) -> str:
    """What `squeue` tells its user of a job that is out."""
    job_id, host = view["job_id"], view["host"]
    match view["state"]:
        case "queued":
            return f"waits in the federation, too, as {job_id}"
        case "claimed" | "accepted":
            return f"{host} may take it, as {job_id}"
        case "leased":
            return f"goes to {host}, as {job_id}"
        case "started":
            return f"runs at {host}, as {job_id}"
        case "ended":
            return f"ended at {host}, its output is on the way, as {job_id}"
        case _:
            return f"{view['state']} as {job_id}"


def end_of(view: JobView) -> str:
    """What `squeue` and accounting tell of a job that is over."""
    how = view["outcome"] or view["state"]
    where = "" if view["host"] is None else f" at {view['host']}"
    exit_code = "" if view["exit_code"] is None else f", exit code {view['exit_code']}"
    return f"{how}{where}{exit_code}, as {view['job_id']}"
