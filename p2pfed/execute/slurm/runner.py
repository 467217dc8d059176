"""Runs Slurm's commands: as the daemon, or as the account of the guests.

Reading needs no privilege. What acts for a guest runs as the guests' account: directly when the
daemon is root or is that account itself, else through `sudo -n -u ACCOUNT`. The environment is
made here, so that no SBATCH_… or SLURM_… variable of the daemon's decides anything.

With its controller down, each of Slurm's commands hangs for some nine seconds. So after one could
not reach it, the next are not even tried for a while: each fails at once, and the daemon goes on.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from typing import Final

from p2pfed.errors import ExecutorError
from p2pfed.execute.accounts import Account
from p2pfed.execute.jobs import PATH
from p2pfed.execute.slurm.settings import SlurmSettings

REST_S: Final = 5.0
"""How long Slurm is left alone after it could not be reached."""

_UNREACHABLE: Final = re.compile(
    r"unable to contact slurm controller|socket timed out|connection (refused|timed out)"
    r"|unable to establish controller machine|zero bytes were transmitted|communication (shutdown"
    r"|connection) failure|backup controller|resource temporarily unavailable"
    r"|unable to contact slurm|error connecting slurm|munge|slurm temporarily unable"
    r"|unable to contact accounting|sending persistconninit|unexpected message rec",
    re.IGNORECASE,
)


_OF_SLURM: Final = frozenset({"sbatch", "scancel", "scontrol", "squeue", "sacct", "sinfo"})


class RefusedError(ExecutorError):
    """A command of Slurm's ran and refused; `message` is what it said."""

    def __init__(self, program: str, code: int, message: str) -> None:
        super().__init__(
            "slurm-refused",
            f"{program} refused: {message or f'exit code {code}'}",
            remedy="correct the [slurm] section of centre.toml, or Slurm's own limits",
        )
        self.message = message


class Runner:
    """Runs commands one at a time.

    Args:
        account: the guests' account; None: the daemon's own.
        settings: `bin`, `conf` and `timeout_s` count here.
    """

    def __init__(self, account: Account | None, settings: SlurmSettings) -> None:
        self._account = account
        self._bin = settings.bin
        self._timeout_s = settings.timeout_s
        self._environment = {"PATH": PATH, "LANG": "C.UTF-8", "SLURM_TIME_FORMAT": "%s"}
        if settings.conf:
            self._environment["SLURM_CONF"] = settings.conf
        self._rest_until_s = 0.0

    @property
    def by_sudo(self) -> bool:
        """True if guests' commands go through sudo."""
        return self._account is not None and os.geteuid() not in (0, self._account.uid)

    def read(self, command: list[str]) -> str:
        """What a command printed, run as the daemon.

        Raises:
            ExecutorError: see `act`.
        """
        return self._run(command, b"", None)[0]

    def act(self, command: list[str], script: bytes = b"") -> str:
        """What a command printed, run as the guests' account.

        Raises:
            RefusedError: `slurm-refused` (not transient): it ran and said no.
            ExecutorError: `slurm-unreachable`, `slurm-command` (transient): it could not run, or
                could not reach Slurm; what it should have done may have happened all the same.
        """
        return self._act(command, script)[0]

    def act_for_errors(self, command: list[str]) -> str:
        """What a command that succeeded printed as errors, run as the guests' account.

        Raises:
            ExecutorError: see `act`.
        """
        return self._act(command, b"")[1]

    def _act(self, command: list[str], script: bytes) -> tuple[str, str]:
        account = self._account
        if account is None or account.uid == os.geteuid():
            return self._run(command, script, None)
        if os.geteuid() == 0:
            return self._run(command, script, account)
        as_guest = ["sudo", "-n", "-u", account.name, "--", self._path(command[0]), *command[1:]]
        return self._run(as_guest, script, None)

    def _path(self, program: str) -> str:
        """Where a program of Slurm's is; others are on the PATH."""
        return f"{self._bin}/{program}" if self._bin and program in _OF_SLURM else program

    def _run(self, command: list[str], script: bytes, account: Account | None) -> tuple[str, str]:
        program = command[0]
        if time.monotonic() < self._rest_until_s:
            raise self._unreachable(program, "it could not be reached a moment ago")
        try:
            result = subprocess.run(
                [self._path(program), *command[1:]],
                input=script,
                capture_output=True,
                check=False,
                timeout=self._timeout_s,
                cwd="/",
                env=self._environment,
                user=None if account is None else account.uid,
                group=None if account is None else account.gid,
                extra_groups=None if account is None else account.groups,
            )
        except subprocess.TimeoutExpired:
            self._rest_until_s = time.monotonic() + REST_S
            raise self._unreachable(program, f"no answer in {self._timeout_s} s") from None
        except OSError as error:
            raise ExecutorError(
                "slurm-command",
                f"can't run {program}: {error.strerror}",
                remedy="install Slurm's client commands on the daemon's machine",
                transient=True,
            ) from error
        errors = result.stderr.decode("utf-8", "replace").strip()
        if result.returncode == 0:
            return result.stdout.decode("utf-8", "replace"), errors
        if program == "sudo" and errors.startswith("sudo:"):
            raise ExecutorError(
                "slurm-sudo",
                f"sudo does not let the daemon act for guests: {errors.splitlines()[-1]}",
                remedy="add the rule of docs/how-to/run-a-slurm-site.md",
                transient=True,
            )
        if _UNREACHABLE.search(errors):
            self._rest_until_s = time.monotonic() + REST_S
            raise self._unreachable(program, errors.splitlines()[-1])
        raise RefusedError(program, result.returncode, " ".join(errors.split())[:300])

    def _unreachable(self, program: str, why: str) -> ExecutorError:
        return ExecutorError(
            "slurm-unreachable",
            f"{program} can't reach Slurm: {why}",
            remedy="see that slurmctld and munge run; it is tried again, and jobs go on",
            transient=True,
        )
