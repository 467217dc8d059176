"""Brings real Slurm clusters up on this machine, idempotently, and takes them down again.

`up` compares what is there with what is asked for: packages, accounts, folders, configuration,
daemons. What is right stays as it is; a cluster whose configuration changed is restarted. Jobs
survive a restart as they do on any Slurm.
"""

from __future__ import annotations

import argparse
import os
import pwd
import shutil
import socket
import stat
import subprocess
import sys
from pathlib import Path

from scripts.testbed.daemons import TestbedError, is_running, run, stop, wait_for
from scripts.testbed.database import database_up, slurmdbd_up, stop_database
from scripts.testbed.layout import (
    DAEMON,
    GUEST,
    RESIDENT,
    Cluster,
    Settings,
    cgroup_conf,
    gres_conf,
    slurm_conf,
    slurmdbd_conf,
)

ROOT = Path("/var/lib/slurm-testbed")
NAMES = ("alpha", "beta", "gamma")
UP_S = 60.0
_PACKAGES = ("slurmctld", "slurmd", "slurm-client", "munge", "sudo")
_ACCOUNTING_PACKAGES = ("slurmdbd", "mariadb-server")
_CGROUPS = ("memory", "freezer", "cpuset", "cpuacct", "devices")
_POLICY = Path("/usr/sbin/policy-rc.d")


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="slurm-testbed", description=__doc__)
    parser.add_argument("command", choices=("up", "status", "env", "down", "wipe"))
    parser.add_argument("names", nargs="*", help=f"clusters [{' '.join(NAMES)}]")
    parser.add_argument("--root", type=Path, default=ROOT, help=f"folder [{ROOT}]")
    parser.add_argument("--nodes", type=int, default=4, help="nodes of a cluster [4]")
    parser.add_argument("--cores", type=int, default=4, help="cores of a node [4]")
    parser.add_argument("--memory-mib", type=int, default=4000, help="of a node [4000]")
    parser.add_argument("--gpus", type=int, default=2, help="pretended GPUs of a node [2]")
    parser.add_argument("--accounting", action="store_true", help="with slurmdbd and MariaDB")
    parser.add_argument("--no-cgroups", action="store_true", help="even where cgroup v1 is there")
    options = parser.parse_intermixed_args()
    settings = Settings(
        root=options.root.absolute(),
        nodes=options.nodes,
        cores=options.cores,
        memory_mib=options.memory_mib,
        gpus=options.gpus,
        accounting=options.accounting,
        cgroups=not options.no_cgroups and _cgroups_writable(),
        host=socket.gethostname().partition(".")[0],
    )
    there = sorted(path.parent.name for path in settings.root.glob("*/slot"))
    names: list[str] = options.names or (list(NAMES) if options.command == "up" else there)
    try:
        return _perform(options.command, names, settings)
    except TestbedError as error:
        print(f"slurm-testbed: {error}", file=sys.stderr)
        return 1


def _perform(command: str, names: list[str], settings: Settings) -> int:
    if command == "up":
        _up(names, settings)
        return 0
    clusters = [_cluster(name, settings) for name in names]
    for cluster in clusters:
        match command:
            case "env":
                print(f"export SLURM_CONF={cluster.slurm_conf}")
            case "status":
                _status(cluster)
            case _:
                _down(cluster)
                if command == "wipe":
                    shutil.rmtree(cluster.folder)
    if command in ("down", "wipe") and not any(settings.root.glob("*/run/slurmdbd.pid")):
        stop_database(settings)
        if command == "wipe" and not any(settings.root.glob("*/slot")):
            shutil.rmtree(settings.root, ignore_errors=True)
    return 0


# Up


def _up(names: list[str], settings: Settings) -> None:
    if os.geteuid() != 0:
        raise TestbedError("Slurm's daemons must be started by root")
    settings.root.mkdir(mode=0o755, parents=True, exist_ok=True)
    _install(settings)
    for account in (GUEST, RESIDENT):
        if not _has_account(account):
            run(["useradd", "--create-home", "--shell", "/bin/bash", account], log=None)
    if not _has_account(DAEMON):
        run(["useradd", "--system", "--shell", "/usr/sbin/nologin", "-G", GUEST, DAEMON], log=None)
    clusters = [_cluster(name, settings) for name in names]
    if settings.accounting:
        database_up(settings, names)
    for cluster in clusters:
        _cluster_up(cluster)
    for cluster in clusters:
        if not wait_for(lambda: _usable(cluster), UP_S):  # noqa: B023 - called at once
            raise TestbedError(f"{cluster.name} does not come up; see {cluster.folder}/log")
        print(f"{cluster.name}: {settings.nodes} nodes up, SLURM_CONF={cluster.slurm_conf}")


def _install(settings: Settings) -> None:
    wanted = _PACKAGES + (_ACCOUNTING_PACKAGES if settings.accounting else ())
    missing = [name for name in wanted if not _is_installed(name)]
    if not missing:
        return
    print(f"apt-get install {' '.join(missing)}")
    log = settings.root / "apt.log"
    env = {"DEBIAN_FRONTEND": "noninteractive"}
    # The packages would start their services, with no configuration, on a machine with systemd.
    ours = not _POLICY.exists()
    if ours:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        run(["apt-get", "update", "-qq"], env=env, log=log)
        install = ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *missing]
        run(install, env=env, log=log)
    finally:
        if ours:
            _POLICY.unlink()


def _cluster_up(cluster: Cluster) -> None:
    folder, settings = cluster.folder, cluster.settings
    for name in ("etc", "state", "log", "run"):
        _make_folder(folder / name, "slurm")
    for name in ("spool", "dev"):
        _make_folder(folder / name, "root")
    changed = [
        _write(cluster.slurm_conf, slurm_conf(cluster)),
        _write(folder / "etc" / "cgroup.conf", cgroup_conf(cluster)),
        _write(folder / "etc" / "gres.conf", gres_conf(cluster)),
    ]
    for number in range(settings.gpus):
        device = folder / "dev" / f"gpu{number}"
        if not device.exists():
            os.mknod(device, stat.S_IFCHR | 0o666, os.makedev(1, 3))
            device.chmod(0o666)
    if any(changed):
        _stop_slurm(cluster)
    _munge_up(cluster)
    log = folder / "log" / "start.log"
    env = {"SLURM_CONF": str(cluster.slurm_conf)}
    if settings.accounting:
        _write(folder / "etc" / "slurmdbd.conf", slurmdbd_conf(cluster), owner="slurm", mode=0o600)
        slurmdbd_up(cluster)
    if not is_running(cluster.pid_file("slurmctld"), "slurmctld"):
        run(["slurmctld"], user="slurm", env=env, log=log)
    for node in cluster.nodes:
        if not is_running(cluster.pid_file("slurmd", node), "slurmd"):
            run(["slurmd", "-N", node], env=env, log=log)


def _munge_up(cluster: Cluster) -> None:
    folder = cluster.folder / "munge"
    _make_folder(folder, "munge")
    key, pid_file = folder / "key", folder / "pid"
    if not key.exists():
        _write_bytes(key, os.urandom(128), "munge", 0o600)
    if is_running(pid_file, "munged"):
        return
    for leftover in folder.glob("socket*"):
        leftover.unlink()
    files = {"key": key, "pid": pid_file}
    files |= {name: folder / name for name in ("socket", "log", "seed")}
    names = {"socket": "--socket", **{n: f"--{n}-file" for n in ("key", "pid", "log", "seed")}}
    run(["munged", *(f"{names[n]}={path}" for n, path in files.items())], user="munge", log=None)


def _usable(cluster: Cluster) -> bool:
    if not is_running(cluster.pid_file("slurmctld"), "slurmctld"):
        return False
    states = _sinfo(cluster, "-N", "-p", "guest", "-o", "%T").split()
    good = [state for state in states if state in ("idle", "mixed", "allocated")]
    return len(good) == cluster.settings.nodes


# Down


def _down(cluster: Cluster) -> None:
    _stop_slurm(cluster)
    stop(cluster.pid_file("slurmdbd"), "slurmdbd")
    stop(cluster.folder / "munge" / "pid", "munged")


def _stop_slurm(cluster: Cluster) -> None:
    for pid_file in (cluster.folder / "run").glob("slurmd-*.pid"):
        stop(pid_file, "slurmd")
    stop(cluster.pid_file("slurmctld"), "slurmctld")


# What is there


def _cluster(name: str, settings: Settings) -> Cluster:
    """The cluster of this name; a new one gets the lowest free slot."""
    slots = {path.parent.name: int(path.read_text()) for path in settings.root.glob("*/slot")}
    if name not in slots:
        slots[name] = min(set(range(len(slots) + 1)) - set(slots.values()))
        (settings.root / name).mkdir(mode=0o755, parents=True, exist_ok=True)
        (settings.root / name / "slot").write_text(f"{slots[name]}\n")
    return Cluster(name=name, slot=slots[name], settings=settings)


def _status(cluster: Cluster) -> None:
    shown = _sinfo(cluster, "-o", f"{cluster.name} %P %a %D %t %C %G")
    print(shown.rstrip() or f"{cluster.name} down")


def _sinfo(cluster: Cluster, *arguments: str) -> str:
    env = {**os.environ, "SLURM_CONF": str(cluster.slurm_conf)}
    command = ["timeout", "2", "sinfo", "--noheader", *arguments]
    result = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    return result.stdout


def _is_installed(package: str) -> bool:
    command = ["dpkg-query", "-W", "-f=${Status}", package]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    return result.stdout == "install ok installed"


def _has_account(name: str) -> bool:
    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def _cgroups_writable() -> bool:
    return all(os.access(f"/sys/fs/cgroup/{name}/tasks", os.W_OK) for name in _CGROUPS)


def _make_folder(path: Path, owner: str) -> None:
    path.mkdir(mode=0o755, parents=True, exist_ok=True)
    shutil.chown(path, owner, owner)


def _write(path: Path, content: str, *, owner: str = "slurm", mode: int = 0o644) -> bool:
    """Writes a file if it differs; True if it did."""
    if path.exists() and path.read_text() == content:
        return False
    _write_bytes(path, content.encode(), owner, mode)
    return True


def _write_bytes(path: Path, content: bytes, owner: str, mode: int) -> None:
    path.touch(mode=mode)
    path.chmod(mode)
    shutil.chown(path, owner, owner)
    path.write_bytes(content)


if __name__ == "__main__":
    sys.exit(main())
