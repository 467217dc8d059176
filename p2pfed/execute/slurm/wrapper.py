"""The batch script that Slurm runs: it decides whether the guest's script begins, and becomes it.

On the node, as the guests' account, it

1. gives up if it is too late to begin;
2. takes the start marker by linking a finished file to its name, which only one of any number of
   processes can do, also over NFS; whoever finds the marker taken gives up, also a second begin of
   the same Slurm job (it was requeued, or slurmctld lost that it had begun);
3. starts a watch, which asks the script to end at its walltime or shortly before the end of the
   lease, says so in `overdue-<name>`, and kills it after a grace;
4. becomes the script, with an environment of its own making, so that Slurm sees the script's own
   exit code and signal.

Giving up is exit code 0 without a marker. Slurm itself kills whatever is left of the job when the
script is over, and ends the job at its time limit should the guest have killed the watch.
"""

from __future__ import annotations

import posixpath
import shlex

from p2pfed.execute.interface import NativeJob
from p2pfed.execute.jobs import environment_of
from p2pfed.execute.slurm.settings import SlurmSettings

GRACE_S = 10
"""Between the request to end and the kill."""

_BODY = """\
#!/bin/sh
# p2pfed: one attempt to run a guest's job. See docs/explanation/slurm.md.
umask {umask}
name={name}
control={control}
work={work}
[ "$(date +%s%3N)" -lt {begin_before_ms} ] || exit 0
cd -- "$work" || exit 0
attempt="$SLURM_JOB_ID.$(cat /proc/sys/kernel/random/uuid)"
mine="$control/attempt-$attempt"
printf 'holder=slurm\\njob_id=%s\\nattempt=%s\\nat_ms=%s\\n' \\
    "$SLURM_JOB_ID" "$attempt" "$(date +%s%3N)" >"$mine" || exit 0
sync "$mine" 2>/dev/null
ln -- "$mine" "$control/started-$name" 2>/dev/null
grep -qx "attempt=$attempt" "$control/started-$name" || exit 0
sync "$control" 2>/dev/null

end_s=$(($(date +%s) + {walltime_s}))
[ "$end_s" -le {last_s} ] || end_s={last_s}
left_s=$((end_s - $(date +%s)))
[ "$left_s" -gt 0 ] || left_s=1
(
    timeout "$left_s" tail -s 1 --pid="$$" -f /dev/null && exit 0
    [ $? -eq 124 ] || exit 0
    : >"$control/overdue-$name"
    kill -TERM "$$"
    timeout {grace_s} tail -s 1 --pid="$$" -f /dev/null && exit 0
    [ $? -eq 124 ] && kill -KILL "$$"
) </dev/null >/dev/null 2>&1 &

mkdir -p -- {folders}
exec </dev/null >{stdout} {stderr}
case $(od -An -tx1 -N4 -- {script} 2>&1 | tr -d ' \\n') in
    2321* | 7f454c46) ;;
    *) echo "p2pfed: the script is missing, or has no #! line and is no program" >&2; exit 126 ;;
esac
exec env {environment} {command}
"""

_NOT_FOR_GUESTS = ("SUDO_COMMAND", "SUDO_USER", "SUDO_UID", "SUDO_GID", "MAIL", "SLURM_TIME_FORMAT")


def batch_script(job: NativeJob, settings: SlurmSettings, *, user: str, shared: bool) -> bytes:
    """The batch script of a job.

    Args:
        user: the account that it runs as.
        shared: its files must be usable by the account's group, because the daemon is no root.
    """
    folder = job.folder.absolute()
    stdout, stderr = _relative(job.stdout), _relative(job.stderr)
    variables = environment_of(job, user)
    removed = [f"--unset={name}" for name in _NOT_FOR_GUESTS if name not in variables]
    text = _BODY.format(
        umask="0007" if shared else "0077",
        name=_quote(job.name),
        control=_quote(f"{folder}/control"),
        work=_quote(f"{folder}/work"),
        begin_before_ms=job.begin_before_ms,
        walltime_s=job.walltime_s,
        last_s=job.kill_at_ms // 1000 - GRACE_S - 1,
        grace_s=GRACE_S,
        folders=" ".join(_quote(posixpath.dirname(path)) for path in (stdout, stderr)),
        stdout=_quote(stdout),
        stderr="2>&1" if stdout == stderr else f"2>{_quote(stderr)}",
        script=_quote(_relative(job.script)),
        environment=" ".join([*removed, *(_quote(f"{k}={v}") for k, v in variables.items())]),
        command=" ".join(map(_quote, _command(job, settings))),
    )
    return text.encode("utf-8", "surrogateescape")


def _command(job: NativeJob, settings: SlurmSettings) -> list[str]:
    command = [settings.wrapper] if settings.wrapper else []
    if settings.image:
        folder = job.folder.absolute()
        command += ["apptainer", "exec", "--contain", "--no-home", f"--pwd={folder}/work"]
        for name in ("work", "tmp"):
            command += ["--bind", f"{folder}/{name}"]
        command.append(settings.image)
    return [*command, _relative(job.script), *job.arguments]


def _relative(path: str) -> str:
    return f"./{posixpath.normpath(path)}"


def _quote(text: str) -> str:
    # sbatch refuses a script in which a line ends as on DOS.
    return shlex.quote(text).replace("\r", "'\"$(printf '\\015')\"'")
