"""Three centres over three real Slurm clusters on one machine: one command up, one command down.

Every centre runs a daemon of its own as root (so that it needs no sudo rules), takes guests in its
cluster's partition `guest`, and sends jobs out that wait in its partition `federated`.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

from p2pfed.cli.main import main as p2pfed
from p2pfed.errors import ControlError
from p2pfed.shell.client import Client
from scripts.testbed.layout import GUEST, RESIDENT

ROOT = Path("/var/lib/slurm-federation")
TESTBED = Path("/var/lib/slurm-testbed")
NAMES = ("alpha", "beta", "gamma")
PORT = 17_790
AFTER_WAIT = "5s"
UP_S = 60.0
RULES = """\
round_ms = 2000
settle_ms = 500
heartbeat_ms = 2000
offer_lease_ms = 20000
clock_error_ms = 1000
claim_wait_ms = 20000
accept_wait_ms = 60000
fetch_ms = 30000
queue_ms = 90000
kill_grace_ms = 20000
"""


def main() -> int:
    """Runs the command line; returns the exit code."""
    parser = argparse.ArgumentParser(prog="slurm-federation", description=__doc__)
    parser.add_argument("command", choices=("up", "congest", "status", "down", "wipe"))
    parser.add_argument("--root", type=Path, default=ROOT, help=f"the centres' folder [{ROOT}]")
    options = parser.parse_args()
    root: Path = options.root.absolute()
    match options.command:
        case "up":
            return up(root)
        case "congest":
            return congest()
        case "status":
            return status(root)
        case "down":
            return down(root)
        case _:
            down(root)
            shutil.rmtree(root, ignore_errors=True)
            return 0


def up(root: Path) -> int:
    """Brings up whatever is missing, and waits until every centre sees every offer."""
    if os.geteuid() != 0:
        print("slurm-federation: the clusters' daemons must be started by root", file=sys.stderr)
        return 1
    code = subprocess.run(["scripts/slurm-testbed", "up", *NAMES], check=False).returncode
    if code:
        return code
    if not (root / "charter.cbor").exists():
        shutil.rmtree(root, ignore_errors=True)
        found(root)
    for name in NAMES:
        if answers(root / name) is None:
            start(root / name)
    deadline_s = time.monotonic() + UP_S
    while not all(count == len(NAMES) for count in map(live_offers, centres(root))):
        if time.monotonic() > deadline_s:
            print(f"slurm-federation: not all offers came up; see {root}/*/daemon.log")
            return 1
        time.sleep(0.5)
    for name in NAMES:
        print(f"{name}: P2PFED_CONFIG={root / name} SLURM_CONF={slurm_conf(name)}")
    return 0


def centres(root: Path) -> list[Path]:
    """The folders of the centres."""
    return [root / name for name in NAMES]


def slurm_conf(name: str) -> Path:
    """What SLURM_CONF names for a centre's cluster."""
    return TESTBED / name / "etc" / "slurm.conf"


def found(root: Path) -> None:
    """Makes the centres' folders and a charter that all have signed."""
    root.mkdir(mode=0o711, parents=True)
    (root / "rules.toml").write_text(RULES)
    draft = root / "draft.cbor"
    for number, name in enumerate(NAMES):
        folder = root / name
        run("init", str(folder), "--name", name, "--listen", f"127.0.0.1:{PORT + number}",
            "--nodes", "4", "--cores-per-node", "4", "--memory-mib-per-node", "4000")  # fmt: skip
        configure(folder)
    cards = [str(root / name / "card.json") for name in NAMES]
    run("charter", "new", *cards, "--rules", str(root / "rules.toml"), "-o", str(draft))
    for name in NAMES:
        run("charter", "sign", str(draft), "--config", str(root / name))
    for name in NAMES:
        shutil.copy(draft, root / name / "charter.cbor")
    draft.rename(root / "charter.cbor")


def configure(folder: Path) -> None:
    """Turns a new centre into one of its cluster, which takes guests and sends jobs out."""
    config = folder / "centre.toml"
    text = config.read_text()
    changes = {
        '# kind = "local"': 'kind = "slurm"',
        '# run_as = ""': f'run_as = "{GUEST}"',
        'required.\n# partition = ""': 'required.\npartition = "guest"',
        '# conf = ""': f'conf = "{slurm_conf(folder.name)}"',
        "\nopen = false": "\nopen = true",
        "# partitions = []": 'partitions = ["federated"]',
        '# after_wait = "10m"': f'after_wait = "{AFTER_WAIT}"',
        '# interval = "10s"': 'interval = "2s"',
    }
    for old, new in changes.items():
        if text.count(old) != 1:
            raise SystemExit(f"slurm-federation: {config} has not exactly one {old!r}")
        text = text.replace(old, new)
    config.write_text(text)
    for path in (folder, folder / "spool", folder / "spool" / "claims"):
        path.mkdir(exist_ok=True)
        path.chmod(0o711)


def run(*arguments: str) -> None:
    """Runs a command of p2pfed in this process; it must succeed."""
    if p2pfed(arguments) != 0:
        raise SystemExit(f"slurm-federation: p2pfed {' '.join(arguments)} failed")


def start(folder: Path) -> None:
    """Starts a centre's daemon, in a session of its own."""
    with (folder / "daemon.log").open("ab") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "p2pfed", "daemon", "--config", str(folder)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    (folder / "pid").write_text(f"{process.pid}\n")


def answers(folder: Path) -> dict[str, object] | None:
    """The status of a centre's daemon; None if it does not answer."""
    try:
        with Client(folder / "run" / "control.sock") as client:
            return dict(client.status())
    except ControlError:
        return None


def live_offers(folder: Path) -> int:
    """How many live offers a centre sees."""
    try:
        with Client(folder / "run" / "control.sock") as client:
            return sum(offer["live"] for offer in client.offers())
    except ControlError:
        return 0


def congest() -> int:
    """A local job takes all nodes of alpha's cluster for two minutes."""
    command = ["sbatch", "--partition=local", "--nodes=4", "--exclusive", "--time=3",
               "--output=/dev/null", "--chdir=/", "--wrap=sleep 120"]  # fmt: skip
    env = {"PATH": os.environ["PATH"], "SLURM_CONF": str(slurm_conf("alpha"))}
    return subprocess.run(command, env=env, user=RESIDENT, group=RESIDENT, check=False).returncode


def status(root: Path) -> int:
    """One line for each centre."""
    for folder in centres(root):
        found = answers(folder)
        if found is None:
            print(f"{folder.name} down")
        else:
            parts = ("peers_linked", "offers_open", "jobs", "hosted", "control")
            print(folder.name, *(f"{part}={json.dumps(found[part])}" for part in parts))
    return 0


def down(root: Path) -> int:
    """Stops the daemons; guests' jobs run on."""
    pids = []
    for folder in centres(root):
        file = folder / "pid"
        if file.exists():
            pids.append(int(file.read_text()))
            file.unlink()
    for pid in pids:
        if is_daemon(pid):
            os.kill(pid, signal.SIGTERM)
    deadline_s = time.monotonic() + 10
    while any(is_daemon(pid) for pid in pids) and time.monotonic() < deadline_s:
        time.sleep(0.1)
    return 0


def is_daemon(pid: int) -> bool:
    """True if the process is a daemon of ours and lives."""
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False
    return b"p2pfed\0daemon" in command


if __name__ == "__main__":
    sys.exit(main())
