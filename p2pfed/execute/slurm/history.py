"""What Slurm accounted for the guests' account: from accounting or completion records, and squeue.

For comparing with the ledger (`p2pfed.shell.reconciling`), never for deciding about a job.
"""

from __future__ import annotations

import time

from p2pfed.errors import ExecutorError
from p2pfed.execute.interface import NativeRun
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.cluster import Cluster
from p2pfed.execute.slurm.runner import Runner
from p2pfed.execute.slurm.states import ACTIVE, ENDED, outcome_of, split_exit


def read_history(runner: Runner, cluster: Cluster, *, uid: int, since_s: int) -> list[NativeRun]:
    """Every attempt of the account that Slurm tells of, by job id; a requeued job is several.

    Raises:
        ExecutorError: `slurm-no-history`: Slurm keeps neither accounting nor completion records;
            `slurm-…` (transient): it can't be asked.
    """
    accounting = cluster.has_accounting()
    if not accounting and not cluster.has_completion():
        raise ExecutorError(
            "slurm-no-history",
            "Slurm keeps neither accounting nor job completion records",
            remedy="set JobCompType=jobcomp/filetxt in slurm.conf, or run slurmdbd",
        )
    since = time.strftime("%Y-%m-%dT%H:%M:%S", time.localtime(since_s))
    text = runner.read(commands.history(since, completion=not accounting))
    found = {run.key: run for run in parse_history(text, uid=uid, since_s=since_s)}
    for run in parse_history(runner.read(commands.queue_history()), uid=uid, since_s=since_s):
        found.setdefault(run.key, run)
    return [found[key] for key in sorted(found)]


def parse_history(text: str, *, uid: int, since_s: int) -> list[NativeRun]:
    """The attempts of an account in lines of `commands.HISTORY_FIELDS`; others are left out.

    Jobs that never began count only as such: `started_s` is 0.
    """
    found = []
    for line in text.splitlines():
        fields = line.split("|", 7)
        try:
            job_id, owner, state, start, end, exits, cores, name = fields
            state = state.partition(" ")[0].rstrip("+")
            known = state in ENDED or state in ACTIVE
            if int(owner) != uid or not job_id.isdigit() or not known:
                continue
            exit_code, signal = split_exit(exits)
            over = state in ENDED
            started_s, ended_s = parse.parse_time(start), parse.parse_time(end) if over else 0
            if over and ended_s < since_s:
                continue
            began = bool(started_s) and (not over or ended_s > started_s or state == "COMPLETED")
            found.append(
                NativeRun(
                    job_id=job_id,
                    name=name,
                    state=state,
                    over=over,
                    outcome=outcome_of(
                        state, began=True, cancelled=False, overdue=False, preempted=False
                    )
                    if over
                    else None,
                    started_s=started_s if began else 0,
                    ended_s=ended_s,
                    cores=int(cores or 0),
                    exit_code=exit_code,
                    signal=signal,
                )
            )
        except ValueError:
            continue
    return found
