"""Files come and go with the rights of their user, whatever is in the way."""

from __future__ import annotations

import os
import pwd
import tempfile
from pathlib import Path

import pytest

from p2pfed.errors import ExecutorError, InputError
from p2pfed.execute.accounts import Account
from p2pfed.execute.courier import Parcel, collect, deliver

LIMITS = {"files_max": 10, "bytes_max": 1000}


def account(name: str = "") -> Account:
    """The account that runs the tests, or another."""
    entry = pwd.getpwnam(name) if name else pwd.getpwuid(os.geteuid())
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid, groups=(entry.pw_gid,))


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


@pytest.fixture
def target(tmp_path: Path) -> Path:
    folder = tmp_path / "target"
    folder.mkdir()
    return folder


def test_files_and_folders_are_collected_as_they_are_named(home: Path, target: Path) -> None:
    (home / "data.txt").write_text("42")
    (home / "parts" / "deep").mkdir(parents=True)
    (home / "parts" / "deep" / "run").write_text("#!")
    (home / "parts" / "deep" / "run").chmod(0o755)
    (home / "link").symlink_to("data.txt")
    collect(account(), str(home), ("data.txt", "parts", "link"), target, **LIMITS)
    assert (target / "data.txt").read_text() == (target / "link").read_text() == "42"
    assert not (target / "link").is_symlink()
    assert (target / "parts" / "deep" / "run").stat().st_mode & 0o777 == 0o700


def test_an_input_that_is_missing_is_named(home: Path, target: Path) -> None:
    with pytest.raises(InputError, match="absent") as caught:
        collect(account(), str(home), ("absent",), target, **LIMITS)
    assert caught.value.code == "export-input"


@pytest.mark.parametrize(("files", "size"), [(11, 1), (1, 1001)])
def test_more_than_a_job_may_bring_is_refused(
    home: Path, target: Path, files: int, size: int
) -> None:
    for number in range(files):
        (home / str(number)).write_bytes(bytes(size))
    with pytest.raises(InputError, match="more than a job"):
        collect(account(), str(home), [str(n) for n in range(files)], target, **LIMITS)


def test_a_pipe_is_no_input(home: Path, target: Path) -> None:
    os.mkfifo(home / "pipe")
    with pytest.raises(InputError, match="regular file"):
        collect(account(), str(home), ("pipe",), target, **LIMITS)


def test_parcels_replace_what_is_there_and_join_their_parts(home: Path, target: Path) -> None:
    (target / "out").write_text("out\n")
    (target / "err").write_text("err\n")
    (home / "slurm.out").write_text("old")
    deliver(
        account(),
        [
            Parcel(path=f"{home}/slurm.out", parts=(target / "out", target / "err")),
            Parcel(path=f"{home}/new/run", parts=(target / "out",), executable=True),
        ],
    )
    assert (home / "slurm.out").read_text() == "out\nerr\n"
    assert (home / "new" / "run").stat().st_mode & 0o777 == 0o755


def test_a_link_in_the_way_is_replaced_and_not_written_through(home: Path, target: Path) -> None:
    (target / "out").write_text("new")
    (target / "precious").write_text("precious")
    (home / "slurm.out").symlink_to(target / "precious")
    deliver(account(), [Parcel(path=f"{home}/slurm.out", parts=(target / "out",))])
    assert (target / "precious").read_text() == "precious"
    assert (home / "slurm.out").read_text() == "new"


def test_what_can_not_be_written_is_said(home: Path, target: Path) -> None:
    (target / "out").write_text("new")
    (home / "file").write_text("")
    with pytest.raises(ExecutorError) as caught:
        deliver(account(), [Parcel(path=f"{home}/file/below", parts=(target / "out",))])
    assert caught.value.code == "courier"
    assert caught.value.transient


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can act for another account")
def test_nothing_is_reached_that_the_user_could_not_reach(target: Path) -> None:
    nobody = account("nobody")
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        home.chmod(0o755)
        check_reach_of(nobody, home, target)


def check_reach_of(nobody: Account, home: Path, target: Path) -> None:
    (target / "out").write_text("new")
    (home / "secret").write_text("secret")
    (home / "secret").chmod(0o600)
    with pytest.raises(InputError):
        collect(nobody, str(home), ("secret",), target, **LIMITS)
    (home / "door").symlink_to("/etc")
    for path in (f"{home}/mine", f"{home}/door/p2pfed-was-here"):
        with pytest.raises(ExecutorError):
            deliver(nobody, [Parcel(path=path, parts=(target / "out",))])
    home.chmod(0o777)
    deliver(nobody, [Parcel(path=f"{home}/mine", parts=(target / "out",))])
    assert (home / "mine").stat().st_uid == nobody.uid
