"""Stand-ins for Slurm's commands, as real programs, for what a Slurm 22.05 can't be made to print.

Each answers with the text of a file beside it, exits with the code in another, and notes its
arguments.
"""

from __future__ import annotations

import os
from pathlib import Path

from p2pfed.execute.interface import NativeJob
from p2pfed.execute.slurm.executor import SlurmExecutor
from p2pfed.execute.slurm.settings import SlurmSettings

CONFIG = "ClusterName = fake\nKillWait = 3 sec\nAccountingStorageType = {}\nJobCompType = {}\n"
NO_ACCOUNTING = CONFIG.format("accounting_storage/none", "jobcomp/none")
SLURMDBD = CONFIG.format("accounting_storage/slurmdbd", "jobcomp/none")
_PROGRAM = """\
#!/bin/sh
here={folder}
echo "{name} $*" >>"$here/calls" 2>/dev/null
[ "$1 $2" = "show config" ] && set -- config && exec cat "$here/config.out"
cat "$here/{name}.err" >&2 2>/dev/null
cat "$here/{name}.out" 2>/dev/null
exit "$(cat "$here/{name}.code" 2>/dev/null || echo 0)"
"""


class FakeSlurm:
    """A folder of programs named like Slurm's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        for name in ("sbatch", "squeue", "scontrol", "scancel", "sacct", "sinfo"):
            path = folder / name
            path.write_text(_PROGRAM.format(folder=folder, name=name))
            path.chmod(0o755)
        (folder / "calls").touch(0o666)
        (folder / "calls").chmod(0o666)
        self.says("config", NO_ACCOUNTING)
        self.says("sbatch", "7\n")

    def says(self, program: str, out: str = "", err: str = "", code: int = 0) -> None:
        """Sets what a program answers from now on."""
        for suffix, text in (("out", out), ("err", err), ("code", str(code))):
            (self.folder / f"{program}.{suffix}").write_text(text)

    def calls(self, program: str) -> list[str]:
        """The arguments of every run of a program so far."""
        lines = (self.folder / "calls").read_text().splitlines()
        return [line for line in lines if line.partition(" ")[0] == program]

    def executor(self, timeout_s: int = 15, scripts: tuple[str, ...] = ()) -> SlurmExecutor:
        """An executor over these programs."""
        settings = SlurmSettings(
            partition="guest",
            run_as="nobody" if os.geteuid() == 0 else "",
            bin=str(self.folder),
            timeout_s=timeout_s,
            scripts=scripts,
        )
        return SlurmExecutor(settings)


def mark_begun(job: NativeJob, job_id: str = "7", at_ms: int = 1_795_445_091_000) -> None:
    """Takes the job's start marker as its batch script would."""
    control = job.folder / "control"
    control.mkdir(exist_ok=True)
    text = f"holder=slurm\njob_id={job_id}\nattempt={job_id}.x\nat_ms={at_ms}\n"
    (control / f"started-{job.name}").write_text(text)
