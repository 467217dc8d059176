"""Who may look and who may change, by the kernel's word; and what is written down about calls."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest

from p2pfed.errors import ControlError, InputError, StateError
from p2pfed.shell.api.app import ROUTES
from p2pfed.shell.api.gate import UPLOADS_MAX
from p2pfed.shell.callers import Caller, Groups, group_id
from p2pfed.shell.calllog import CallLog
from p2pfed.shell.client import Client
from p2pfed.shell.control import CONNECTIONS_MAX
from tests.unit.shell.doors import MemoryDoor, served
from tests.waiting import wait_until

KNOCK = """
import json, os, socket, sys
path, calls, uid, gid, groups = sys.argv[1], *map(json.loads, sys.argv[2:])
os.setgroups(groups)
os.setgid(gid)
os.setuid(uid)
found = []
for method, target in calls:
    with socket.socket(socket.AF_UNIX) as sock:
        try:
            sock.connect(path)
        except PermissionError:
            found.append("denied")
            continue
        head = f"{method} /v1{target} HTTP/1.1\\r\\nhost: p2pfed\\r\\nconnection: close\\r\\n"
        sock.sendall((head + "content-length: 2\\r\\n\\r\\n{}").encode())
        answer = b""
        while piece := sock.recv(65536):
            answer += piece
        found.append(int(answer.split()[1]))
print(json.dumps(found))
"""
"""Becomes another account, with its groups, and asks the socket."""
LOOK, CHANGE = ("GET", "/status"), ("POST", "/control/reload")
STRANGER = "nobody"


def two_groups() -> tuple[str, str]:
    """Two groups of this machine that the stranger's account is in only if it is said so."""
    own = pwd.getpwnam(STRANGER).pw_gid
    first, second, *_ = [g.gr_name for g in grp.getgrall() if g.gr_gid not in (0, own)]
    return first, second


@pytest.fixture
def door() -> Iterator[MemoryDoor]:
    """In a folder whose parents any account may enter."""
    folder = Path(tempfile.mkdtemp(prefix="p2pfed-"))
    folder.chmod(0o750)
    yield MemoryDoor(folder)
    shutil.rmtree(folder)


def knock(path: Path, groups: Sequence[str], *calls: tuple[str, str]) -> list[object]:
    """What an account of those groups hears, a status each."""
    if os.geteuid() != 0:
        pytest.skip("only root can call as another account")
    account = pwd.getpwnam(STRANGER)
    numbers = [group_id(name) for name in groups]
    arguments = (calls, account.pw_uid, account.pw_gid, numbers)
    done = subprocess.run(
        [sys.executable, "-c", KNOCK, str(path), *map(json.dumps, arguments)],
        capture_output=True,
        check=True,
        timeout=60,
    )
    found: list[object] = json.loads(done.stdout)
    return found


def test_without_groups_a_stranger_can_not_connect(door: MemoryDoor) -> None:
    with served(door) as client:
        assert knock(client.path, (), LOOK, CHANGE) == ["denied", "denied"]


def test_the_group_may_do_all(door: MemoryDoor) -> None:
    group, _ = two_groups()
    with served(door, Groups(group=group)) as client:
        assert knock(client.path, [group], LOOK, CHANGE) == [200, 200]
        assert knock(client.path, [], LOOK, CHANGE) == ["denied", "denied"]


def test_readers_may_look_and_change_nothing(door: MemoryDoor) -> None:
    group, readers = two_groups()
    changing = [
        (method, path.format(**dict.fromkeys(("job_id", "claim_id", "offer_id"), "alpha.1.0"),
                             centre="beta", proposal_id="alpha.1.0"))
        for method, path, _ in ROUTES
        if method != "GET"
    ]  # fmt: skip
    with served(door, Groups(group=group, readers=readers)) as client:
        found = knock(client.path, [readers], LOOK, ("GET", "/jobs"), *changing)
        assert found == [200, 200] + [403] * len(changing)
        assert knock(client.path, [readers, group], LOOK, CHANGE) == [200, 200]
        assert knock(client.path, [group], LOOK) == ["denied"]
        assert client.reload() == ["listen"]  # the daemon's own account
    assert len(changing) > 15
    assert door.submitted == []


def test_readers_alone_leave_changing_to_the_daemons_account(door: MemoryDoor) -> None:
    _, readers = two_groups()
    with served(door, Groups(readers=readers)) as client:
        assert knock(client.path, [readers], LOOK, CHANGE) == [200, 403]
        assert client.reload() == ["listen"]


def test_the_refusal_has_a_code_of_its_own() -> None:
    with pytest.raises(StateError) as caught:
        Caller(name="ann").require_change()
    assert caught.value.code == "control-read-only"


def test_a_group_that_is_none_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        group_id("no-such-group")
    assert caught.value.code == "control-socket"


# The log of calls


def lines(door: MemoryDoor) -> list[dict[str, object]]:
    path = door.folder / "calls.log"
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def test_every_call_that_may_change_something_is_written_down_with_its_account(
    door: MemoryDoor,
) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    with served(door) as client:
        client.status()
        client.jobs()
        assert lines(door) == []
        client.set_mode("paused", reason="cooling")
        with pytest.raises(StateError):
            client.cancel("alpha.9.0")
        client.close_offers(None)
        with pytest.raises(StateError):
            client.vote("alpha.1.0", in_favour=True)
    found = lines(door)
    assert [(row["method"], row["path"], row["outcome"]) for row in found] == [
        ("POST", "/v1/control", "200"),
        ("POST", "/v1/jobs/alpha.9.0/cancel", "job-unknown"),
        ("DELETE", "/v1/offers", "200"),
        ("POST", "/v1/proposals/alpha.1.0/vote", "proposal-unknown"),
    ]
    assert {(row["who"], row["uid"], row["pid"]) for row in found} == {
        (me, os.geteuid(), os.getpid())
    }
    assert (door.folder / "calls.log").stat().st_mode & 0o777 == 0o600


def test_a_refused_call_is_written_down_too(door: MemoryDoor) -> None:
    _, readers = two_groups()
    with served(door, Groups(readers=readers)) as client:
        knock(client.path, [readers], CHANGE)
    [row] = lines(door)
    assert (row["who"], row["outcome"]) == (STRANGER, "control-read-only")


def test_a_path_can_not_forge_a_line(tmp_path: Path) -> None:
    log = CallLog(tmp_path / "calls.log")
    log.write(1, Caller(name="ann\n{}"), "POST", '/v1/x"}\n{"who": "root"' + "y" * 9999, "200")
    [line] = (tmp_path / "calls.log").read_text().splitlines()
    assert json.loads(line)["who"] == "ann\n{}" and len(line) < 1000


def test_a_log_that_can_not_be_written_stops_no_call(
    door: MemoryDoor, caplog: pytest.LogCaptureFixture
) -> None:
    (door.folder / "calls.log").mkdir()
    with served(door) as client:
        assert client.set_mode("withdrawn")["mode"] == "withdrawn"
    assert "not in the log of calls" in caplog.text


# How many at a time


def connected(path: Path) -> socket.socket:
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(path))
    sock.settimeout(30)
    return sock


def test_one_account_can_not_take_all_connections(door: MemoryDoor) -> None:
    with served(door) as client, ExitStack() as held:
        socks = [held.enter_context(connected(client.path)) for _ in range(CONNECTIONS_MAX + 50)]
        assert socks[-1].recv(1) == b""  # the last was closed at once
        held.close()
        wait_until(lambda: answers(client.path), "an answer when they are gone")


def answers(path: Path) -> bool:
    try:
        with Client(path) as client:
            return bool(client.status())
    except ControlError:
        return False


def test_a_caller_that_leaves_gives_its_place_back_at_once(door: MemoryDoor) -> None:
    with served(door) as client:
        for _ in range(2 * CONNECTIONS_MAX):
            with Client(client.path) as again:
                assert again.status()


def test_one_upload_too_many_is_told_to_come_again(
    door: MemoryDoor, caplog: pytest.LogCaptureFixture
) -> None:
    head = (
        b"POST /v1/jobs HTTP/1.1\r\nhost: p2pfed\r\ncontent-length: 9\r\n"
        b"content-type: multipart/form-data; boundary=B\r\n\r\n"
    )
    with served(door) as client, ExitStack() as held:
        for _ in range(UPLOADS_MAX):
            held.enter_context(connected(client.path)).sendall(head)
        uploads = door.staging()
        wait_until(lambda: len(list(uploads.iterdir())) == UPLOADS_MAX, "the uploads")
        late = held.enter_context(connected(client.path))
        late.sendall(head + b"--B--\r\n\r\n")
        answer = late.recv(65536)
        assert b" 503 " in answer.split(b"\r\n")[0]
        assert client.set_mode("paused")["mode"] == "paused"  # orders need no place
        held.close()
        wait_until(lambda: list(uploads.iterdir()) == [], "the uploads to be given up")
    assert {row["outcome"] for row in lines(door)} == {"control-busy", "200", "given-up"}
    assert "Traceback" not in caplog.text
