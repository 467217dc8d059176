"""What a bad folder gets: one clear message, a stable code, an exit code, and nothing lost.

None of these needs a peer: a single centre's daemon is started on what is wrong, and must end by
itself; or it runs already, and must stay up.
"""

from __future__ import annotations

import os
import shutil
import socket
import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from p2pfed.errors import InputError, StorageError
from p2pfed.shell.bulk_client import DISK_RESERVE_BYTES
from tests.e2e.federation import Centre, Federation, call, run_program

NAMES = ("alpha", "beta")


@pytest.fixture
def federation() -> Iterator[Federation]:
    with Federation.found(*NAMES, opened=("beta",)) as made:
        yield made


@pytest.fixture
def alpha(federation: Federation) -> Centre:
    return federation["alpha"]


# A daemon that can't start


def replaced(old: str, new: str) -> Callable[[Centre], None]:
    return lambda centre: centre.edit_config(old, new)


def readable_key(centre: Centre) -> None:
    (centre.folder / "key.pem").chmod(0o644)


def foreign_key(centre: Centre) -> None:
    shutil.copy(centre.folder.parent / "beta" / "key.pem", centre.folder / "key.pem")


def without(name: str) -> Callable[[Centre], None]:
    return lambda centre: (centre.folder / name).unlink()


def unsigned_charter(centre: Centre) -> None:
    root = centre.folder.parent
    cards = [str(root / name / "card.json") for name in NAMES]
    draft = str(root / "unsigned.cbor")
    call("charter", "new", *cards, "-o", draft)
    call("charter", "sign", draft, "--config", str(centre.folder))
    shutil.copy(draft, centre.folder / "charter.cbor")


def charter_without_us(centre: Centre) -> None:
    root = centre.folder.parent
    draft = str(root / "other.cbor")
    call("charter", "new", str(root / "beta" / "card.json"), "-o", draft)
    call("charter", "sign", draft, "--config", str(root / "beta"))
    shutil.copy(draft, centre.folder / "charter.cbor")


def charter_of_noise(centre: Centre) -> None:
    (centre.folder / "charter.cbor").write_bytes(os.urandom(200))


def database(centre: Centre) -> Path:
    path = centre.folder / "state" / "ledger.sqlite"
    path.parent.mkdir(mode=0o700, exist_ok=True)
    return path


def newer_database(centre: Centre) -> None:
    centre.start()
    assert centre.stop() == 0
    with closing(sqlite3.connect(database(centre))) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()


def foreign_database(centre: Centre) -> None:
    with closing(sqlite3.connect(database(centre))) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
        connection.commit()


def database_of_another_federation(centre: Centre) -> None:
    with Federation.found(*NAMES) as other:
        other["alpha"].start()
        assert other["alpha"].stop() == 0
        shutil.copy(database(other["alpha"]), database(centre))


def no_database_at_all(centre: Centre) -> None:
    database(centre).write_bytes(b"not a database " * 1000)


CANNOT_START: dict[str, tuple[Callable[[Centre], object], int, str, str]] = {
    "a typing error in a key": (
        replaced("Cores of each node.\ncores_per_node", "Cores of each node.\ncores_per_nodes"),
        2,
        "config-key-unknown",
        "cores_per_nodes",
    ),
    "a wrong unit": (
        replaced('\nwalltime_max = "1d"', '\nwalltime_max = "1 fortnight"'),
        2,
        "config-unit",
        "walltime_max",
    ),
    "a word for a number": (
        replaced("\nnodes = 1\n# Cores of", '\nnodes = "one"\n# Cores of'),
        2,
        "config-type",
        "nodes",
    ),
    "an unknown key": (
        replaced("[key]", 'colour = "red"\n[key]'),
        2,
        "config-key-unknown",
        "colour",
    ),
    "no TOML": (replaced("[key]", "[key"), 2, "config-syntax", "centre.toml"),
    "a key file that others can read": (readable_key, 2, "key-mode", "chmod 600"),
    "no key file": (without("key.pem"), 2, "key-missing", "key.pem"),
    "another key than the charter's": (foreign_key, 2, "charter-key", "alpha"),
    "no charter": (without("charter.cbor"), 2, "config-file-missing", "charter"),
    "a charter that not all have signed": (unsigned_charter, 2, "charter-unsigned", "beta"),
    "a charter of others": (charter_without_us, 2, "charter-no-founder", "alpha"),
    "a charter of noise": (charter_of_noise, 2, "", "charter.cbor"),
    "a database of another version": (newer_database, 4, "database-version", "99"),
    "a database of another program": (foreign_database, 4, "database-foreign", "ledger.sqlite"),
    "a database of another federation": (
        database_of_another_federation,
        4,
        "database-federation",
        "ledger.sqlite",
    ),
    "a file that is no database": (no_database_at_all, 4, "database-foreign", "ledger.sqlite"),
}


@pytest.mark.parametrize("phrase", CANNOT_START)
def test_a_daemon_that_cannot_start_says_why_and_what_to_do(alpha: Centre, phrase: str) -> None:
    spoil, code, error_code, hint = CANNOT_START[phrase]
    spoil(alpha)
    before = contents(alpha)
    exit_code, said = alpha.fails_to_start()
    assert exit_code == code, said
    assert f"[{error_code}" in said
    assert hint in said
    assert len([line for line in said.splitlines() if not line.startswith("20")]) <= 4, said
    assert contents(alpha) == before


def contents(centre: Centre) -> dict[str, bytes]:
    """What must not change: everything but the log and what an attempt to start locks."""
    return {
        str(path): path.read_bytes()
        for path in sorted(centre.folder.rglob("*"))
        if path.is_file() and path.name not in ("daemon.log", "lock") and "-" not in path.suffix
    }


def test_a_port_in_use_is_named(alpha: Centre) -> None:
    with socket.create_server(("127.0.0.1", alpha.port)):
        exit_code, said = alpha.fails_to_start()
    assert exit_code == 3
    assert f"another program listens on 127.0.0.1:{alpha.port} already [listen-in-use]" in said
    alpha.start()


def test_a_second_daemon_on_the_same_folder_is_refused_and_the_first_stays(alpha: Centre) -> None:
    alpha.start()
    assert alpha.process is not None
    answer = run_program("daemon", "--config", str(alpha.config), folder=alpha.folder, code=4)
    assert "[folder-locked]" in answer.err
    assert str(alpha.process.pid) in answer.err
    assert alpha.running and alpha.status()["centre"] == "alpha"


# A daemon that runs, and what it is given


BAD_SCRIPTS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "script-empty"),
    "only blanks": (b" \n\n", "script-empty"),
    "no shebang": (b"echo hello\n", "script-shebang"),
    "a program": (b"\x7fELF\x02\x01\x01" + bytes(100), "script-binary"),
    "line ends of DOS": (b"#!/bin/sh\r\necho\r\n", "script-line-ends"),
    "an impossible request": (b"#!/bin/sh\n#SBATCH -N 3 -n 2\n", "script-request"),
    "no node": (b"#!/bin/sh\n#SBATCH -N 0\n", "script-option-value"),
    "an option of nobody": (b"#!/bin/sh\n#SBATCH --colour=red\n", "script-option-unknown"),
    "an option that can't be honoured": (
        b"#!/bin/sh\n#SBATCH --array=1-9\n",
        "script-option-unsupported",
    ),
}


def test_a_bad_script_is_refused_by_the_program_and_by_the_daemon(alpha: Centre) -> None:
    alpha.start()
    alpha.until_writing()
    path = alpha.folder / "bad.sh"
    for phrase, (script, code) in BAD_SCRIPTS.items():
        path.write_bytes(script)
        answer = alpha.cli("submit", str(path), code=2)
        assert f"[{code}]" in answer.err, (phrase, answer.err)
        with alpha.client() as client, pytest.raises(InputError) as refused:
            client.submit({}, path, {})
        assert refused.value.code == code, phrase
    assert alpha.jobs() == {}
    assert not list((alpha.folder / "spool" / "staging").iterdir())


def test_a_configuration_with_a_mistake_is_not_read_again(alpha: Centre) -> None:
    alpha.start()
    alpha.until_writing()
    alpha.edit_config("\n[key]", '\ncolour = "red"\n[key]')
    assert alpha.process is not None
    alpha.process.send_signal(1)
    alpha.until(lambda _: "the configuration stays as it was" in alpha.log, "a line in the log")
    assert "[config-key-unknown]" in alpha.log
    assert alpha.open_offer()


SPOOL_KIB = 2 * DISK_RESERVE_BYTES // 1024
"""A transfer begins only where that much room would be left."""


@contextmanager
def small_disk(folder: Path, size_kib: int) -> Iterator[None]:
    """Mounts a disk of that size over an empty folder; skips the test where that is not allowed."""
    folder.mkdir(mode=0o700, exist_ok=True)
    options = ["-o", f"size={size_kib}k,mode=0700"]
    done = subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", str(folder)], check=False)
    if done.returncode:
        pytest.skip("a disk that can be filled needs the right to mount one")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """A file that takes all the room that is left."""
    path = folder / "filler"
    with path.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while file.write(bytes(size)):
                    pass
            except OSError:
                continue
    return path


def test_a_full_disk_under_the_ledger_stops_writing_and_nothing_else(
    federation: Federation, alpha: Centre
) -> None:
    with small_disk(alpha.folder / "state", 4096):
        federation.start()
        federation.until_offers(1)
        kept = alpha.submit("#!/bin/sh\necho kept\n")
        alpha.until_over([kept])
        filler = fill(alpha.folder / "state")
        alpha.until(
            lambda client: any("[disk-full]" in text for text in client.status()["warnings"]),
            "the warning",
        )
        with pytest.raises(StorageError) as refused:
            alpha.submit("#!/bin/sh\ntrue\n")
        assert refused.value.code == "disk-full"
        assert "[disk-full]" in alpha.cli("offer", "open", "default", code=4).err
        assert alpha.output(kept) == "kept\n"
        filler.unlink()
        alpha.until(lambda client: not client.status()["warnings"], "a disk with room")
        later = alpha.submit("#!/bin/sh\necho later\n")
        assert alpha.until_over([later])[later]["state"] == "completed"
        assert kept in alpha.jobs()
        assert alpha.audit().ok
        assert alpha.stop() == 0


def test_a_full_disk_under_the_spool_refuses_the_payload_and_loses_nothing(
    federation: Federation, alpha: Centre
) -> None:
    with small_disk(alpha.folder / "spool", SPOOL_KIB):
        federation.start()
        federation.until_offers(1)
        filler = fill(alpha.folder / "spool")
        with pytest.raises(StorageError) as refused:
            alpha.submit("#!/bin/sh\ntrue\n")
        assert refused.value.code == "disk-full"
        assert alpha.jobs() == {}
        filler.unlink()
        job_id = alpha.submit("#!/bin/sh\necho fits\n")
        alpha.until_over([job_id])
        assert alpha.output(job_id) == "fits\n"
        assert alpha.stop() == 0


def test_a_host_whose_spool_is_full_gives_the_job_back_or_waits_for_room(
    federation: Federation, alpha: Centre
) -> None:
    beta = federation["beta"]
    with small_disk(beta.folder / "spool", SPOOL_KIB):
        federation.start()
        federation.until_offers(1)
        filler = fill(beta.folder / "spool")
        job_id = alpha.submit("#!/bin/sh\necho at last\n")
        beta.until(lambda _: "no room is left" in beta.log, "a line in the log")
        assert beta.running
        filler.unlink()
        view = alpha.until_over([job_id])[job_id]
        assert (view["state"], alpha.output(job_id)) == ("completed", "at last\n")
        assert beta.stop() == 0
