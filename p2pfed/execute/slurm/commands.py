"""Slurm's commands as argument lists; pure.

Each list begins with the program's name. What a guest chose stands only in values of options
(`--name=value`), never where it could be read as an option. All times are asked for in seconds
since the epoch: `SLURM_TIME_FORMAT=%s` belongs in the environment of every command. `--all` shows
also what is in partitions that the daemon itself may not use.
"""

from __future__ import annotations

from typing import Final

from p2pfed.execute.interface import NativeJob
from p2pfed.execute.slurm.settings import SlurmSettings

SQUEUE_FORMAT: Final = "%i|%T|%j|%S|%e|%r"
"""Job id, state, name, start, end, reason: the reason last, since it may hold anything."""

SACCT_FORMAT: Final = "JobIDRaw,State,Start,End,ExitCode,AllocCPUS,MaxRSS,AllocTRES"
SINFO_FORMAT: Final = (
    "NodeList:|,StateComplete:|,CPUsState:|,Memory:|,AllocMem:|,Gres:|,GresUsed:|,Partition:|"
)
PENDING_FORMAT: Final = (
    "JobArrayID:|,UserName:|,StartTime:|,NumNodes:|,NumCPUs:|,NumTasks:|,Partition:|,"
    "OverSubscribe:|,tres-alloc:|,tres-per-node:|,tres-per-job:|,tres-per-task:|,Reason:|"
)
"""Job id, user, expected start, nodes, cores, tasks, partitions, sharing of nodes; what it asks for
in all (memory; GPUs only with slurmdbd), and GPUs by node, job and task; reason."""
GUESTS_FORMAT: Final = "%j|%N"
"""Name, nodes held."""
HISTORY_FIELDS: Final = "JobIDRaw,UID,State,Start,End,ExitCode,AllocCPUS,JobName"
_QUEUE_HISTORY: Final = "%A|%U|%T|%S|%e|0:0|%C|%j"
"""The same fields from squeue, which tells no exit code."""
LOCAL_FORMAT: Final = "%i|%T|%U|%V|%Q|%D|%C|%l|%b|%E|%r"
"""Job id, state, user's number, submitted, priority, nodes, cores, time limit, GRES, dependency,
reason: nothing that a user can choose freely, who could forge whole lines with it."""


def sbatch(job: NativeJob, settings: SlurmSettings, *, minutes: int, deadline_s: int) -> list[str]:
    """Submits the batch script on standard input, to be begun once and ended in time.

    Args:
        minutes: Slurm's time limit.
        deadline_s: when Slurm itself must have ended the job, seconds since the epoch.
    """
    command = [
        "sbatch",
        "--parsable",
        f"--job-name={job.name}",
        f"--partition={job.queue or settings.partition}",
        f"--nodes={job.nodes}-{job.nodes}",
        f"--ntasks-per-node={job.cores_per_node}",
        f"--mem={job.memory_mib_per_node}M",
        f"--time={minutes}",
        f"--deadline=uts{deadline_s}",
        "--no-requeue",
        "--export=ALL",
        "--mail-type=NONE",
        # Slurm would replace % in these; the script opens its own files.
        "--input=/dev/null",
        "--output=/dev/null",
        f"--chdir={job.folder.absolute()}/work",
    ]
    if job.gpus_per_node:
        command.append(f"--gres={job.gpu_gres or settings.gpu_gres}:{job.gpus_per_node}")
    if job.signal:
        # To the script itself; also before the time limit, and when Slurm takes the nodes back.
        command.append(f"--signal=B:{job.signal}@{job.signal_s}")
    under = (
        ("account", settings.account),
        ("qos", settings.qos),
        ("reservation", settings.reservation),
    )
    return [*command, *(f"--{name}={value}" for name, value in under if value)]


def squeue(user: str, name: str = "") -> list[str]:
    """Lists jobs of an account in every state, all or those of one name."""
    command = ["squeue", "--noheader", "--all", "--states=all", f"--user={user}"]
    return [*command, f"--format={SQUEUE_FORMAT}", *([f"--name={name}"] if name else [])]


def show_job(job_id: str) -> list[str]:
    """Tells all of one job, on one line."""
    return ["scontrol", "show", "job", "--all", "--details", "--oneliner", job_id]


def show_config() -> list[str]:
    """Tells the cluster's configuration."""
    return ["scontrol", "show", "config"]


def scancel(user: str, name: str) -> list[str]:
    """Ends every job of this name; without any it does nothing and succeeds."""
    return ["scancel", "--quiet", f"--user={user}", f"--name={name}"]


def signal(user: str, name: str, number: int) -> list[str]:
    """Sends a signal to the script of every running job of this name."""
    command = ["scancel", "--quiet", "--batch", f"--signal={number}", "--state=RUNNING"]
    return [*command, f"--user={user}", f"--name={name}"]


def sacct(job_id: str, *, completion: bool) -> list[str]:
    """Tells of a job and its steps from accounting, or from job completion records."""
    command = ["sacct", "--noheader", "--parsable2", f"--jobs={job_id}"]
    return [*command, f"--format={SACCT_FORMAT}", *(["--completion"] if completion else [])]


def history(since: str, *, completion: bool) -> list[str]:
    """Tells of every attempt since a time, of all users, from accounting or completion records."""
    command = ["sacct", "--noheader", "--parsable2", "--allusers", "--duplicates"]
    command += ["--allocations", f"--starttime={since}", f"--format={HISTORY_FIELDS}"]
    return [*command, *(["--completion"] if completion else [])]


def queue_history() -> list[str]:
    """Tells the same of the jobs that Slurm still has in mind and that have begun."""
    states = "--states=RUNNING,COMPLETING,SUSPENDED"
    return ["squeue", "--noheader", "--all", states, f"--format={_QUEUE_HISTORY}"]


def sinfo(partition: str = "") -> list[str]:
    """Tells each node's state and what is in use of it: of one partition, or of all."""
    which = [f"--partition={partition}"] if partition else ["--all"]
    return ["sinfo", "--noheader", "--Node", *which, f"--Format={SINFO_FORMAT}"]


def pending() -> list[str]:
    """Lists the jobs that wait, of all users, and when each is expected to begin."""
    command = ["squeue", "--noheader", "--all", "--array", "--states=PENDING"]
    return [*command, f"--Format={PENDING_FORMAT}"]


def guests(user: str) -> list[str]:
    """Lists the jobs of an account that hold nodes."""
    states = "--states=RUNNING,SUSPENDED,COMPLETING,CONFIGURING"
    return ["squeue", "--noheader", "--all", states, f"--user={user}", f"--format={GUESTS_FORMAT}"]


def show_partition(partition: str) -> list[str]:
    """Tells all of one partition, on one line."""
    return ["scontrol", "show", "partition", "--oneliner", partition]


def test_only(partition: str, *, nodes: int, cores_per_node: int, minutes: int) -> list[str]:
    """Asks when a job of this size would begin; queues nothing, but uses up a job id."""
    return [
        "sbatch",
        "--test-only",
        f"--partition={partition}",
        f"--nodes={nodes}",
        f"--ntasks-per-node={cores_per_node}",
        f"--time={minutes}",
        "--wrap=true",
    ]


# The centre's own jobs


def local_pending(partitions: tuple[str, ...]) -> list[str]:
    """Lists the jobs that wait in some partitions, each task of an array by itself."""
    return [
        "squeue",
        "--noheader",
        "--all",
        "--array",
        "--states=PENDING",
        f"--partition={','.join(partitions)}",
        f"--format={LOCAL_FORMAT}",
    ]


def local_jobs(job_ids: tuple[str, ...]) -> list[str]:
    """Lists these jobs in every state."""
    command = ["squeue", "--noheader", "--all", "--array", "--states=all"]
    return [*command, f"--jobs={','.join(job_ids)}", f"--format={LOCAL_FORMAT}"]


def batch_script(job_id: str) -> list[str]:
    """Prints the batch script of a job."""
    return ["scontrol", "write", "batch_script", job_id, "-"]


def hold(job_id: str) -> list[str]:
    """Keeps a job from beginning, so that only an operator may let it."""
    return ["scontrol", "hold", job_id]


def release(job_id: str) -> list[str]:
    """Lets a held job begin."""
    return ["scontrol", "release", job_id]


def set_comment(job_id: str, comment: str) -> list[str]:
    """Writes the comment that `squeue --format=%k` shows."""
    return ["scontrol", "update", f"jobid={job_id}", f"comment={comment}"]


def scancel_job(job_id: str) -> list[str]:
    """Ends one job; one that is over is no error."""
    return ["scancel", "--quiet", job_id]
