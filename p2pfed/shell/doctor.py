"""What to know when nothing runs: each line says that something is well, or what to do.

Everything is looked at from outside the daemon: the folder, the key, the disk, the batch system,
and what the daemon itself answers, if it does. Run it as the daemon's account: permissions and sudo
rules are then those that count. Nothing is changed, and no check ends another.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Final

from p2pfed.core.charter import check_charter, decode_charter
from p2pfed.errors import ControlError, P2pfedError
from p2pfed.execute.accounts import check_reach, find_account
from p2pfed.execute.slurm import commands, parse
from p2pfed.execute.slurm.localjobs import MARK
from p2pfed.execute.slurm.runner import Runner
from p2pfed.shell.answers import StatusView
from p2pfed.shell.bulk_client import DISK_RESERVE_BYTES
from p2pfed.shell.client import Client
from p2pfed.shell.config import CentreConfig, read_passphrase, require_file
from p2pfed.shell.executors import slurm_settings
from p2pfed.store.keyfile import load_key

DISK_LOW_BYTES: Final = 1 << 30
"""Less free space than this is worth a word; below `DISK_RESERVE_BYTES` nothing is fetched."""
_LOOK_UP: Final = "docs/reference/errors.md tells what the code means"


class Level(Enum):
    """How bad it is."""

    OK = "ok"
    WARNING = "warning"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One thing that was looked at: what was found, and what to do about it ("" if nothing)."""

    check: str
    level: Level
    found: str
    remedy: str = ""


def ok(check: str, found: str) -> Line:
    """All is well."""
    return Line(check=check, level=Level.OK, found=found)


def warn(check: str, found: str, remedy: str) -> Line:
    """It works, and may not for long, or not as wanted."""
    return Line(check=check, level=Level.WARNING, found=found, remedy=remedy)


def fail(check: str, found: str, remedy: str) -> Line:
    """It does not work."""
    return Line(check=check, level=Level.FAILED, found=found, remedy=remedy)


def examine(config: CentreConfig) -> Iterator[Line]:
    """Looks at everything, in the order in which one thing needs another."""
    checks: list[tuple[str, Callable[[CentreConfig], Iterator[Line]]]] = [
        ("account", _account),
        ("key", _key),
        ("charter", _charter),
        ("spool", _disk),
        ("daemon", _daemon),
        ("executor", _slurm if config.executor.kind == "slurm" else _local),
    ]
    for name, check in checks:
        try:
            yield from check(config)
        except P2pfedError as error:
            yield fail(name, str(error), error.remedy or _LOOK_UP)
        except OSError as error:
            yield fail(name, f"{error.filename or ''}: {error.strerror or error}", "see the path")


# The folder


def _account(config: CentreConfig) -> Iterator[Line]:
    owner = config.folder.stat().st_uid
    if os.geteuid() == owner:
        yield ok("account", f"{_name(owner)}, whose folder {config.folder} is")
    else:
        yield warn(
            "account",
            f"you are {_name(os.geteuid())}, the folder is {_name(owner)}'s",
            f"look again as the daemon's account: sudo -u {_name(owner)} p2pfed doctor",
        )


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def _key(config: CentreConfig) -> Iterator[Line]:
    key = load_key(config.key.file, passphrase=read_passphrase(config.key, os.environ))
    yield ok("key", f"{config.key.file} opens, and only its owner can read it")
    charter = decode_charter(_read(config.charter), where=str(config.charter))
    card = charter.founder(config.name)
    if card is not None and card.public_key != key.public_key:
        yield warn(
            "key",
            "the charter names another key for this centre",
            "well only if the key was changed since: see p2pfed members",
        )


def _read(path: Path) -> bytes:
    return require_file(path, "the charter", "see docs/how-to/configure-a-centre.md").read_bytes()


def _charter(config: CentreConfig) -> Iterator[Line]:
    charter = decode_charter(_read(config.charter), where=str(config.charter))
    missing = check_charter(charter).missing
    if missing:
        yield fail(
            "charter", f"not signed by {', '.join(missing)}", "they sign: p2pfed charter sign"
        )
    else:
        yield ok("charter", f"{charter.name}, signed by all {len(charter.founders)} founders")


def _disk(config: CentreConfig) -> Iterator[Line]:
    for check, folder in (("spool", config.spool), ("state", config.state)):
        there = folder if folder.exists() else folder.parent
        free = shutil.disk_usage(there).free
        text = f"{folder}: {free >> 20} MiB free"
        if not os.access(there, os.W_OK | os.X_OK):
            yield fail(check, f"{folder} can't be written", "give it to the daemon's account")
        elif free < DISK_RESERVE_BYTES:
            yield fail(check, f"{text}: nothing is fetched any more", "make room")
        elif free < DISK_LOW_BYTES:
            yield warn(check, text, "make room: payloads and results need it")
        else:
            yield ok(check, text)


# What the daemon answers


def _daemon(config: CentreConfig) -> Iterator[Line]:
    try:
        with Client(config.control.socket) as client:
            status = client.status()
            peers, offers = client.peers(), client.offers(own=True)
    except ControlError as error:
        yield fail("daemon", error.what, error.remedy)
        return
    if status["recovering"]:
        yield fail("daemon", "runs, but may not write yet", "start the other centres; see warnings")
    else:
        yield ok("daemon", f"runs, version {status['version']}, round {status['round']}")
    for warning in status["warnings"]:
        yield warn("daemon", warning, "see p2pfed status")
    yield _clock(status)
    for peer in peers:
        name = f"peer {peer['centre']}"
        if peer["linked"]:
            yield ok(name, f"connected, {peer['lacks_blocks'] or 0} blocks behind")
        else:
            why = peer["error"] or "no connection yet"
            remedy = f"see that {peer['address']} can be reached from here, and {config.advertise} "
            yield fail(name, why, f"{remedy}from there")
    mine = [offer for offer in offers if offer["open"]]
    room = sum(offer["free_cores"] for offer in mine)
    if not mine:
        yield warn("offers", "none is open: no guests come", "p2pfed offer open TEMPLATE")
    elif not all(offer["live"] for offer in mine):
        yield warn("offers", "not heard by the rounds lately", "see the lines on clock and peers")
    else:
        yield ok("offers", f"{len(mine)} open, {room} cores free")


def _clock(status: StatusView) -> Line:
    offset_ms = status["clock_offset_ms"]
    if offset_ms is None:
        return warn("clock", "not compared with any peer yet", "see the lines on peers")
    if not status["clock_trusted"]:
        return fail(
            "clock",
            f"{offset_ms:+} ms from the peers': nothing is handed over or started",
            "synchronise it (chrony, ntpd), here or there",
        )
    return ok("clock", f"{offset_ms:+} ms from the peers'")


# The batch system


def _guests(config: CentreConfig) -> Line:
    name = config.executor.run_as
    if not name:
        return warn("guests", "run as the daemon's own account", "set run_as under [executor]")
    claims = config.spool / "claims"
    try:
        check_reach(find_account(name), claims if claims.exists() else config.spool.parent)
    except P2pfedError as error:
        return fail("guests", error.what, error.remedy)
    return ok("guests", f"run as {name}, who can reach {config.spool}")


def _local(config: CentreConfig) -> Iterator[Line]:
    yield ok("executor", f"local processes, {config.executor.nodes} nodes")
    yield _guests(config)
    if config.executor.run_as and os.geteuid() != 0:
        yield fail("guests", "only root can run processes as another account", "run it as root")


def _slurm(config: CentreConfig) -> Iterator[Line]:
    settings = slurm_settings(config)
    yield _guests(config)
    account = find_account(config.executor.run_as) if config.executor.run_as else None
    runner = Runner(account, settings)
    cluster = parse.parse_config(runner.read(commands.show_config()))
    version = cluster.get("SLURM_VERSION", "?")
    yield ok("slurm", f"{cluster['ClusterName']} answers, Slurm {version}")
    partition = parse.parse_pairs(runner.read(commands.show_partition(settings.partition)))
    state = partition.get("State", "?")
    if state == "UP":
        yield ok("partition", f"{settings.partition}: {partition.get('TotalNodes')} nodes")
    else:
        remedy = f"scontrol update partition={settings.partition} state=up"
        yield fail("partition", f"{settings.partition} is {state}", remedy)
    if runner.by_sudo and account is not None:
        yield from _sudo(account.name, [["sbatch"], ["scancel"], ["chmod"]])
    yield _try_out(runner, config)
    yield from _records(cluster)
    if "linuxproc" in cluster.get("ProctrackType", ""):
        remedy = "ProctrackType=proctrack/cgroup"
        yield warn("tracking", "without cgroups a guest can escape its job", remedy)
    if config.export.partitions:
        yield from _export(config, runner)


def _try_out(runner: Runner, config: CentreConfig) -> Line:
    """Would Slurm take a guest's job, with its partition, account, QOS and reservation?"""
    slurm = config.slurm
    command = commands.test_only(slurm.partition, nodes=1, cores_per_node=1, minutes=1)
    under = (("account", slurm.account), ("qos", slurm.qos), ("reservation", slurm.reservation))
    command[2:2] = [f"--{name}={value}" for name, value in under if value]
    try:
        runner.act_for_errors(command)
    except P2pfedError as error:
        return fail("submission", error.what, error.remedy)
    return ok("submission", "Slurm would take a guest's job")


def _records(cluster: dict[str, str]) -> Iterator[Line]:
    accounting = cluster.get("AccountingStorageType") == "accounting_storage/slurmdbd"
    if accounting or cluster.get("JobCompType") == "jobcomp/filetxt":
        yield ok("records", "slurmdbd" if accounting else "job completion records")
    else:
        yield warn(
            "records",
            f"Slurm forgets an ended job after {cluster.get('MinJobAge', '?')}",
            "JobCompType=jobcomp/filetxt, or slurmdbd; else p2pfed reconcile can compare nothing",
        )


def _sudo(account: str, wanted: list[list[str]]) -> Iterator[Line]:
    """A line for each command, with arguments as the daemon would give them."""
    for program, *arguments in wanted:
        path = shutil.which(program) or program
        command = ["sudo", "-n", "-l", "-u", account, path, *arguments]
        try:
            code = subprocess.run(command, capture_output=True, check=False, timeout=10).returncode
        except (OSError, subprocess.TimeoutExpired):
            code = 1
        if code == 0:
            yield ok("sudo", f"{' '.join([program, *arguments[:1]])} as {account}")
        else:
            yield fail(
                "sudo",
                f"the daemon may not run {' '.join([path, *arguments])} as {account}",
                "add the rules of docs/how-to/run-a-slurm-site.md",
            )


def _export(config: CentreConfig, runner: Runner) -> Iterator[Line]:
    for name in config.export.partitions:
        partition = parse.parse_pairs(runner.read(commands.show_partition(name)))
        yield ok("export", f"from partition {name}, {partition.get('State', '?')}")
    if os.geteuid() != 0:
        find_account(config.export.operator)
        orders = (
            commands.hold("1"),
            commands.release("1"),
            commands.set_comment("1", f"{MARK}x"),
            commands.batch_script("1"),
            commands.scancel_job("1"),
        )
        yield from _sudo(config.export.operator, list(orders))
