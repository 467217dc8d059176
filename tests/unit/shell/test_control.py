"""The control API over a real Unix socket: what it answers, and what it refuses."""

from __future__ import annotations

import json
import os
import pwd
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from p2pfed.core.limits import PAYLOAD_BYTES_MAX
from p2pfed.core.records import Offer
from p2pfed.errors import ControlError, InputError, P2pfedError, StateError, StorageError
from p2pfed.node.admission import Mode
from p2pfed.shell.answers import Notice
from p2pfed.shell.api.upload import Upload
from p2pfed.shell.client import Client
from p2pfed.shell.control import open_control_socket
from p2pfed.shell.door import JobQuery, OfferRequest
from tests.unit.shell.doors import NOW_MS, MemoryDoor, job_view, served

SCRIPT = b"#!/bin/bash\n#SBATCH -n 4 -t 10 -p long\necho hello\n"


@pytest.fixture
def door(tmp_path: Path) -> MemoryDoor:
    return MemoryDoor(tmp_path)


@pytest.fixture
def client(door: MemoryDoor) -> Iterator[Client]:
    with served(door) as found:
        yield found


@pytest.fixture
def raw(client: Client) -> Iterator[httpx.Client]:
    """What `curl --unix-socket` could send."""
    transport = httpx.HTTPTransport(uds=str(client.path))
    with httpx.Client(transport=transport, base_url="http://p2pfed/v1") as found:
        yield found


def test_questions_are_answered_as_the_door_answers_them(client: Client, door: MemoryDoor) -> None:
    assert client.status() == door.status()
    assert client.peers() == door.peers()
    assert client.members() == door.members()
    assert client.offers() == door.offers(own=False)
    assert client.offers(own=True) == []
    assert client.balance() == door.balance()
    assert client.job("alpha.4.0")["attempts"][0]["host"] == "beta"
    assert client.explain("alpha.4.0")["ahead"] == 1


def test_jobs_are_listed_by_scope_and_state(client: Client, door: MemoryDoor) -> None:
    assert client.jobs(scope="all", states=("queued", "started"), limit=5) == [door.view]
    assert door.queries == [JobQuery(scope="all", states=("queued", "started"), limit=5)]


def test_an_offer_is_opened_from_a_template_or_from_terms(client: Client, door: MemoryDoor) -> None:
    client.open_offer(template="night", nodes=1)
    client.open_offer(
        terms={
            "resource_class": "cpu",
            "nodes": 1,
            "cores_per_node": 2,
            "memory_mib_per_node": 512,
            "walltime_max_s": 60,
            "deny": ["delta", "beta"],
        }
    )
    assert door.opened[0] == OfferRequest(template="night", nodes=1)
    terms = Offer(
        resource_class="cpu",
        nodes=1,
        cores_per_node=2,
        memory_mib_per_node=512,
        walltime_max_s=60,
        deny=("beta", "delta"),
    )
    assert door.opened[1] == OfferRequest(terms=terms)


def test_one_offer_or_all_are_closed(client: Client, door: MemoryDoor) -> None:
    assert client.close_offers("beta.2.0", reason="maintenance") == ["beta.2.0"]
    client.close_offers(None)
    assert [(str(offer or "all"), reason) for offer, reason in door.closed] == [
        ("beta.2.0", "maintenance"),
        ("all", ""),
    ]


def test_a_job_arrives_with_its_files_and_options(
    client: Client, door: MemoryDoor, tmp_path: Path
) -> None:
    script, data, program = tmp_path / "job.sh", tmp_path / "data", tmp_path / "run"
    script.write_bytes(SCRIPT)
    data.write_bytes(os.urandom(300_000))
    program.write_bytes(b"")
    job, remarks = client.submit(
        {
            "nodes": 2,
            "name": "größe",
            "environment": {"A": "1"},
            "executable": ["bin/run"],
            "allow": ["gamma", "beta"],
        },
        script,
        {"in/größe 1.bin": data, "bin/run": program},
    )
    assert job["job_id"] == "alpha.4.0"
    assert remarks == ["job.sh, line 2: --partition is ignored: the host decides"]
    [(submission, files)] = door.submitted
    request = submission.request
    assert files == {"job.sh": SCRIPT, "in/größe 1.bin": data.read_bytes(), "bin/run": b""}
    assert (request.nodes, request.cores_per_node, request.walltime_s) == (2, 4, 600)
    assert (request.name, request.environment) == ("größe", (("A", "1"),))
    assert request.allow == ("beta", "gamma")
    modes = {name: stat.S_IMODE((submission.folder / name).stat().st_mode) for name in files}
    assert modes == {"job.sh": 0o700, "in/größe 1.bin": 0o600, "bin/run": 0o700}


def test_a_script_alone_is_enough(raw: httpx.Client, door: MemoryDoor) -> None:
    answer = raw.post("/jobs", files={"script": ("job.sh", SCRIPT)})
    assert answer.status_code == 201
    assert door.submitted[0][0].request.cores_per_node == 4


def multipart(*parts: tuple[str, str | None, bytes]) -> bytes:
    body = b""
    for name, filename, content in parts:
        extra = f'; filename="{filename}"' if filename is not None else ""
        body += f'--B\r\nContent-Disposition: form-data; name="{name}"{extra}\r\n\r\n'.encode()
        body += content + b"\r\n"
    return body + b"--B--\r\n"


GOOD = ("script", "job.sh", SCRIPT)
BAD_UPLOADS = {
    "no body": (b"", "upload-form"),
    "no parts": (b"--B--\r\n", "upload-form"),
    "not multipart": (b"{}", "upload-form"),
    "no script": (multipart(("request", None, b"{}")), "upload-form"),
    "two scripts": (multipart(GOOD, GOOD), "upload-form"),
    "an unknown part": (multipart(GOOD, ("input2", "a", b"")), "upload-form"),
    "half a part": (multipart(GOOD)[:-12], "upload-form"),
    "a script in a folder": (multipart(("script", "a/b.sh", SCRIPT)), "upload-name"),
    "a script without a name": (multipart(("script", None, SCRIPT)), "upload-name"),
    "an input that climbs out": (multipart(GOOD, ("input", "../x", b"")), "archive-path"),
    "an input in a climbing folder": (multipart(GOOD, ("input", "a/../../x", b"")), "archive-path"),
    "an absolute input": (multipart(GOOD, ("input", "/etc/passwd", b"")), "archive-path"),
    "an input without a name": (multipart(GOOD, ("input", "", b"")), "archive-path"),
    "an input over the script": (multipart(GOOD, ("input", "job.sh", b"")), "upload-name"),
    "an input below a file": (
        multipart(GOOD, ("input", "a", b""), ("input", "a/b", b"")),
        "upload-name",
    ),
    "a request that is no JSON": (multipart(("request", None, b"{"), GOOD), "request-json"),
    "a request that is a list": (multipart(("request", None, b"[]"), GOOD), "request-json"),
    "a request beyond measure": (
        multipart(("request", None, b" " * (1 << 20) + b"{}"), GOOD),
        "upload-too-large",
    ),
    "a misspelt field": (
        multipart(("request", None, b'{"walltime": 1}'), GOOD),
        "request-field-unknown",
    ),
    "a number as text": (
        multipart(("request", None, b'{"nodes": "2"}'), GOOD),
        "request-field-value",
    ),
    "zero nodes": (multipart(("request", None, b'{"nodes": 0}'), GOOD), "script-request"),
    "an output elsewhere": (
        multipart(("request", None, b'{"stdout": "../x"}'), GOOD),
        "script-request",
    ),
    "a pattern that climbs out": (
        multipart(("request", None, b'{"fetch": ["../*"]}'), GOOD),
        "script-request",
    ),
    "an executable that is no input": (
        multipart(("request", None, b'{"executable": ["x"]}'), GOOD),
        "request-field-value",
    ),
    "a script that is none": (multipart(("script", "job.sh", b"\0\1")), "script-binary"),
    "a class that is none": (
        multipart(("request", None, b'{"work_class": "none"}'), GOOD),
        "job-class",
    ),
}


def test_a_bad_upload_is_refused_and_leaves_nothing(raw: httpx.Client, door: MemoryDoor) -> None:
    found = {}
    for phrase, (body, _) in BAD_UPLOADS.items():
        headers = {"content-type": "multipart/form-data; boundary=B"}
        answer = raw.post("/jobs", content=body, headers=headers)
        assert answer.status_code == 400, phrase
        assert sorted(answer.json()) == ["code", "remedy", "what", "where"], phrase
        found[phrase] = answer.json()["code"]
    assert found == {phrase: code for phrase, (_, code) in BAD_UPLOADS.items()}
    assert door.submitted == []
    assert list(door.staging().iterdir()) == []


def test_an_upload_beyond_the_limit_is_stopped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("p2pfed.shell.api.upload.PAYLOAD_BYTES_MAX", 100)
    assert PAYLOAD_BYTES_MAX > 100
    upload = Upload("multipart/form-data; boundary=B", tmp_path)
    with pytest.raises(InputError) as caught:
        upload.feed(multipart(GOOD, ("input", "big", b"x" * 100)))
    upload.close()
    assert caught.value.code == "upload-too-large"


BAD_CALLS = {
    "an unknown path": ("GET", "/nothing", None, 404, "request-path"),
    "a wrong method": ("PUT", "/status", None, 405, "request-path"),
    "an id that is none": ("GET", "/jobs/alpha", None, 400, "position"),
    "an unknown job": ("GET", "/jobs/alpha.9.0", None, 404, "job-unknown"),
    "an unknown offer": ("DELETE", "/offers/beta.9.0", None, 404, "offer-unknown"),
    "a scope that is none": ("GET", "/jobs?scope=mine", None, 400, "request-field-value"),
    "a state that is none": ("GET", "/jobs?state=lost", None, 400, "request-field-value"),
    "a limit too high": ("GET", "/jobs?limit=10001", None, 400, "request-field-value"),
    "a query that is none": ("GET", "/jobs?user=me", None, 400, "request-field-unknown"),
    "no offer at all": ("POST", "/offers", b"", 400, "request-field-missing"),
    "both kinds of offer": (
        "POST",
        "/offers",
        b'{"template": "a", "terms": {}}',
        400,
        "request-field-missing",
    ),
    "terms that lack one": ("POST", "/offers", b'{"terms": {}}', 400, "request-field-missing"),
    "terms with a misspelt one": (
        "POST",
        "/offers",
        b'{"terms": {"node": 1}}',
        400,
        "request-field-unknown",
    ),
    "deep JSON": ("POST", "/offers", b"[" * 100_000, 400, "request-json"),
    "a huge JSON": ("POST", "/offers", b" " * (1 << 21), 400, "request-too-large"),
    "a result too early": ("GET", "/jobs/alpha.4.0/output", None, 409, "result-not-ready"),
}


def test_a_bad_call_is_answered_with_its_code(raw: httpx.Client) -> None:
    for phrase, (method, path, body, status, code) in BAD_CALLS.items():
        answer = raw.request(method, path, content=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), phrase


def test_an_error_comes_back_as_the_same_exception(client: Client) -> None:
    with pytest.raises(StateError) as caught:
        client.job("alpha.9.0")
    error = caught.value
    assert (error.code, error.what, error.remedy) == (
        "job-unknown",
        "there is no job alpha.9.0",
        "see p2pfed jobs",
    )


def test_a_failure_inside_is_one_clear_error_and_the_daemon_goes_on(
    client: Client, door: MemoryDoor, caplog: pytest.LogCaptureFixture
) -> None:
    door.view = {}  # type: ignore[typeddict-item]
    with pytest.raises(P2pfedError) as caught:
        list(client.output("alpha.4.0"))
    assert caught.value.code == "internal-error"
    assert "KeyError" in caplog.text
    assert client.status()["centre"] == "alpha"


def test_only_listed_files_of_a_result_are_served(
    client: Client, raw: httpx.Client, door: MemoryDoor
) -> None:
    door.view = job_view(result="ready", state="completed", final=True)
    folder = door.folder / "result"
    (folder / "out").mkdir()
    (folder / "stdout.txt").write_bytes(b"hello\n")
    (folder / "out" / "a b.csv").write_bytes(b"x" * 100_000)
    (door.folder / "secret").write_bytes(b"key")
    assert b"".join(client.output("alpha.4.0")) == b"hello\n"
    assert [f["path"] for f in client.files("alpha.4.0")["files"]] == ["out/a b.csv", "stdout.txt"]
    assert b"".join(client.file("alpha.4.0", "out/a b.csv")) == b"x" * 100_000
    for path in ("..%2fsecret", "out/../../secret", "%2fetc%2fpasswd", "nothing"):
        assert raw.get(f"/jobs/alpha.4.0/files/{path}").status_code == 404, path


def test_the_ledger_comes_in_pieces(client: Client) -> None:
    assert b"".join(client.ledger()) == b"p2pfed-ledger"


def test_a_watcher_misses_nothing_from_the_moment_it_watches(
    client: Client, door: MemoryDoor
) -> None:
    notice: Notice = {
        "kind": "job",
        "at_ms": NOW_MS,
        "level": 0,
        "code": "job-started",
        "text": "alpha.4.0 started at beta",
        "job": job_view(state="started"),
    }
    door.on_watch = lambda: door.notices.publish(notice)
    with client.watch() as notices:
        assert next(notices) == notice
        assert client.status()["centre"] == "alpha"


def test_the_socket_is_its_owners_alone(client: Client) -> None:
    assert stat.S_IMODE(client.path.stat().st_mode) == 0o600


def test_a_dead_daemons_socket_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "run" / "control.sock"
    open_control_socket(path).close()
    open_control_socket(path).close()
    assert path.is_socket()


def test_a_stopped_daemon_takes_its_socket_away(door: MemoryDoor) -> None:
    with served(door) as client:
        client.status()
    assert not client.path.exists()
    with pytest.raises(ControlError) as caught, Client(client.path) as again:
        again.status()
    assert (caught.value.code, caught.value.exit_code) == ("daemon-unreachable", 6)


def test_a_socket_path_that_can_not_be_is_refused(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("precious")
    for path, group in ((taken, ""), (tmp_path / ("x" * 120), ""), (tmp_path / "s", "no-such")):
        with pytest.raises(InputError) as caught:
            open_control_socket(path, group=group)
        assert caught.value.code == "control-socket"
    assert taken.read_text() == "precious"
    with pytest.raises(StorageError):
        open_control_socket(taken / "below" / "s")


def test_answers_are_json_with_exact_numbers(raw: httpx.Client) -> None:
    answer = raw.get("/status")
    assert answer.headers["content-type"] == "application/json"
    assert json.loads(answer.content)["now_ms"] == NOW_MS


# Orders


def test_an_order_is_given_by_the_account_at_the_other_end_of_the_socket(
    client: Client, door: MemoryDoor, raw: httpx.Client
) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert client.set_mode("paused", reason="cooling")["mode"] == "paused"
    client.block("beta", blocked=True, reason="debts")
    client.block("beta", blocked=False)
    client.hold("alpha.4.0", held=True)
    client.answer("beta.3.0", approve=False, reason="no")
    assert client.reload() == ["listen"]
    assert raw.post("/control", json={"mode": "open", "who": "root"}).status_code == 400
    assert door.control.orders == [
        (Mode.PAUSED, me, "cooling"),
        ("beta", True, me, "debts"),
        ("beta", False, me, ""),
        ("alpha.4.0", True, me, ""),
        ("beta.3.0", False, me, "no"),
        ("reload", me),
    ]


def test_what_waits_and_what_was_decided_is_listed(client: Client, door: MemoryDoor) -> None:
    assert client.control() == door.control.state()
    assert client.requests() == door.control.requests()
    assert [row["action"] for row in client.decisions(limit=5)] == ["pause"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("POST", "/control", {"mode": "shut"}, 400),
        ("POST", "/control", {"mode": {}}, 400),
        ("POST", "/proposals", {"kind": ["admit"]}, 400),
        ("POST", "/control", {"mode": "open", "reason": "two\nlines"}, 400),
        ("POST", "/control/blocked/Beta", {}, 400),
        ("POST", "/requests/beta.3.0", {"approve": "yes"}, 400),
        ("POST", "/requests/beta.9.0", {"approve": True}, 404),
        ("GET", "/decisions?limit=0", None, 400),
    ],
)
def test_an_order_that_makes_no_sense_is_refused(
    raw: httpx.Client, method: str, path: str, body: object, status: int
) -> None:
    assert raw.request(method, path, json=body).status_code == status


def test_who_asks_whose_a_job_is_is_the_account_at_the_other_end(
    client: Client, door: MemoryDoor, raw: httpx.Client
) -> None:
    me = pwd.getpwuid(os.geteuid()).pw_name
    assert client.disclose("alpha.4.0")["user"] == "ann"
    assert client.forget("ann") == 2
    assert door.privacy.asked == [("alpha.4.0", me), ("ann", me)]
    for body in ({}, {"user": ""}, {"user": 5}, {"user": "ann", "who": "root"}):
        assert raw.post("/forget", json=body).status_code == 400
