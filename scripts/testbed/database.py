"""Slurm's accounting in a test bed: one MariaDB for all clusters, one slurmdbd for each."""

from __future__ import annotations

import os
import shutil
import subprocess

from scripts.testbed.daemons import TestbedError, is_running, run, stop, wait_for
from scripts.testbed.layout import GUEST, RESIDENT, Cluster, Settings

UP_S = 60.0


def database_up(settings: Settings, names: list[str]) -> None:
    """Starts MariaDB, reachable through a socket only, with a database for each cluster."""
    folder = settings.root / "_mariadb"
    socket, pid_file = folder / "socket", folder / "pid"
    folder.mkdir(mode=0o755, exist_ok=True)
    shutil.chown(folder, "mysql", "mysql")
    if not is_running(pid_file, "mariadbd"):
        if not (folder / "data").exists():
            run(
                [
                    "mariadb-install-db",
                    "--user=mysql",
                    f"--datadir={folder}/data",
                    "--auth-root-authentication-method=socket",
                    "--skip-test-db",
                ],
                log=settings.root / "mariadb.log",
            )
        _start(settings)
    statements = "".join(
        f"create database if not exists slurm_{name};"
        f"grant all on slurm_{name}.* to slurm@localhost;"
        for name in names
    )
    user = "create user if not exists slurm@localhost identified via unix_socket;"
    run(["mariadb", "-uroot", f"-S{socket}", "-e", user + statements], log=None)


def _start(settings: Settings) -> None:
    folder = settings.root / "_mariadb"
    socket = folder / "socket"
    with (settings.root / "mariadb.log").open("ab") as log:
        subprocess.Popen(
            [
                "mariadbd",
                "--no-defaults",
                "--user=mysql",
                f"--datadir={folder}/data",
                f"--socket={socket}",
                f"--pid-file={folder}/pid",
                "--skip-networking",
                "--innodb-buffer-pool-size=64M",
                "--innodb-lock-wait-timeout=900",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    answers = ["mariadb", "-uroot", f"-S{socket}", "-e", "select 1"]
    if not wait_for(
        lambda: subprocess.run(answers, capture_output=True, check=False).returncode == 0, UP_S
    ):
        raise TestbedError(f"MariaDB does not come up; see {settings.root}/mariadb.log")


def stop_database(settings: Settings) -> None:
    """Stops MariaDB, if it runs."""
    stop(settings.root / "_mariadb" / "pid", "mariadbd")


def slurmdbd_up(cluster: Cluster) -> None:
    """Starts the cluster's slurmdbd, and makes its accounts."""
    if is_running(cluster.pid_file("slurmdbd"), "slurmdbd"):
        return
    # The client library finds a socket that is not at its default through this variable.
    database = str(cluster.settings.root / "_mariadb" / "socket")
    env = {"SLURM_CONF": str(cluster.slurm_conf), "MYSQL_UNIX_PORT": database}
    run(["slurmdbd"], user="slurm", env=env, log=cluster.folder / "log" / "start.log")

    def sacctmgr(*arguments: str) -> bool:
        command = ["sacctmgr", "--noheader", "--immediate", *arguments]
        full = {**os.environ, **env}
        return subprocess.run(command, env=full, capture_output=True, check=False).returncode == 0

    if not wait_for(lambda: sacctmgr("list", "cluster"), UP_S):
        raise TestbedError(f"slurmdbd does not answer; see {cluster.folder}/log/slurmdbd.log")
    # What is there already is refused, and stays.
    sacctmgr("add", "cluster", cluster.name)
    for account, user in (("local", RESIDENT), ("guest", GUEST)):
        sacctmgr("add", "account", account, f"Cluster={cluster.name}")
        sacctmgr("add", "user", user, f"Account={account}", f"Cluster={cluster.name}")
