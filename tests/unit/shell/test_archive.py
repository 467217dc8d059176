"""Payloads and results hold what they say, and nothing that a stranger planted gets in or out."""

from __future__ import annotations

import hashlib
import os
import socket
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.limits import CHUNK_BYTES, MANIFEST_BYTES_MAX
from p2pfed.errors import InputError
from p2pfed.shell import archive
from p2pfed.shell.archive import (
    Sealed,
    collect_result,
    load_archive,
    pack_payload,
    restore_files,
)
from p2pfed.shell.manifest import RunSpec, decode_manifest, encode_manifest
from p2pfed.shell.members import Members, check_member_path

RUN = RunSpec(script="job.sh", arguments=("a", "b c"), environment=(("B", "2"), ("A", "1")))


def tree(root: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    root.mkdir(exist_ok=True)
    return root


def pack(tmp_path: Path, files: dict[str, bytes], run: RunSpec = RUN, name: str = "p") -> Sealed:
    folder = tmp_path / f"{name}-packed"
    folder.mkdir()
    return pack_payload(tree(tmp_path / name, files), folder, run)


FILES = {"job.sh": b"#!/bin/sh\n", "data/in.txt": b"x" * (CHUNK_BYTES + 1), "empty": b""}


def test_a_payload_is_read_back_as_it_was_packed(tmp_path: Path) -> None:
    sealed = pack(tmp_path, FILES)
    assert load_archive(tmp_path / "p-packed") == sealed
    assert decode_manifest(sealed.data) == sealed.manifest
    assert [m.path for m in sealed.manifest.members] == ["data/in.txt", "empty", "job.sh"]
    assert [m.chunk_count for m in sealed.manifest.members] == [2, 0, 1]
    assert [m.executable for m in sealed.manifest.members] == [False, False, True]
    assert sealed.manifest.total_bytes == sum(map(len, FILES.values()))
    data = sealed.manifest.members[0]
    assert data.digest == hashlib.sha256(FILES["data/in.txt"]).digest()
    assert data.chunk_digest(1) == hashlib.sha256(b"x").digest()
    assert data.chunk_bytes(1) == 1
    assert sealed.digest == hashlib.sha256(sealed.data).digest()


def test_identical_content_has_an_identical_digest(tmp_path: Path) -> None:
    first = pack(tmp_path, FILES, name="one")
    os.utime(tmp_path / "one-packed" / "files" / "job.sh", (1, 1))
    second = pack(
        tmp_path,
        dict(reversed(FILES.items())),
        replace(RUN, environment=(("A", "1"), ("B", "2"))),
        name="two",
    )
    assert first.digest == second.digest


@pytest.mark.parametrize(
    "change",
    [
        {"arguments": ("a",)},
        {"environment": (("A", "1"),)},
        {"stdout": "other.txt"},
        {"fetch": ("*.dat",)},
    ],
    ids=["arguments", "environment", "stdout", "patterns"],
)
def test_whatever_changes_what_runs_changes_the_digest(
    tmp_path: Path, change: dict[str, tuple[str, ...]]
) -> None:
    other = replace(RUN, **change)  # type: ignore[arg-type]  # a table of changes
    assert pack(tmp_path, FILES).digest != pack(tmp_path, FILES, other, name="q").digest


BAD_PAYLOADS = {
    "script missing": ({"x": b""}, RUN, "archive-run"),
    "script is a folder": ({"job.sh/x": b""}, RUN, "archive-member-type"),
    "script above": (FILES, replace(RUN, script="../job.sh"), "archive-path"),
    "variable name": (FILES, replace(RUN, environment=(("A=B", "1"),)), "archive-run"),
    "variable twice": (FILES, replace(RUN, environment=(("A", "1"), ("A", "2"))), "archive-run"),
    "stdout above": (FILES, replace(RUN, stdout="../../x"), "archive-path"),
    "stdout absolute": (FILES, replace(RUN, stderr="/etc/x"), "archive-path"),
    "zero byte in an argument": (FILES, replace(RUN, arguments=("a\0",)), "archive-manifest"),
    "name with a newline": ({**FILES, "a\nb": b""}, RUN, "archive-path"),
}


@pytest.mark.parametrize("case", BAD_PAYLOADS)
def test_a_payload_that_a_host_would_refuse_is_refused_when_packed(
    tmp_path: Path, case: str
) -> None:
    files, run, code = BAD_PAYLOADS[case]
    with pytest.raises(InputError) as caught:
        pack(tmp_path, files, run)
    assert caught.value.code == code


def test_links_and_pipes_do_not_go_into_a_payload(tmp_path: Path) -> None:
    for name in ("link", "pipe"):
        source = tree(tmp_path / name, FILES)
        os.mkfifo(source / "x") if name == "pipe" else (source / "x").symlink_to("/etc/passwd")
        (tmp_path / f"{name}2").mkdir()
        with pytest.raises(InputError) as caught:
            pack_payload(source, tmp_path / f"{name}2", RUN)
        assert caught.value.code == "archive-member-type"


def test_the_job_id_completes_the_names_of_the_streams() -> None:
    run = RunSpec(script="s", stdout="out-%j.txt", stderr="err/%j")
    job_id = Position(CentreName("alpha"), 0, 12, 0)
    assert run.for_job(job_id) == ("out-alpha.12.0.txt", "err/alpha.12.0")


# Results


def collect(work: Path, folder: Path, **options: object) -> Sealed:
    folder.mkdir(exist_ok=True)
    known: dict[str, object] = {"stdout": "out", "stderr": "err", "fetch": ("*.dat",), **options}
    return collect_result(work, folder, **known)  # type: ignore[arg-type]  # options by name


def test_a_result_holds_the_streams_and_what_matches(tmp_path: Path) -> None:
    work = tree(
        tmp_path / "work",
        {"out": b"hello", "err": b"", "a.dat": b"1", "deep/er/b.dat": b"22", "secret": b"no"},
    )
    sealed = collect(work, tmp_path / "result")
    assert [m.path for m in sealed.manifest.members] == ["a.dat", "deep/er/b.dat", "err", "out"]
    assert (tmp_path / "result/files/deep/er/b.dat").read_bytes() == b"22"
    assert not (tmp_path / "result/files/secret").exists()
    assert sealed.manifest.run is None
    assert load_archive(tmp_path / "result") == sealed


def test_collecting_again_gives_the_same_result(tmp_path: Path) -> None:
    work = tree(tmp_path / "work", {"out": b"hello"})
    tree(tmp_path / "result/files", {"out": b"left by a try that was killed"})
    assert collect(work, tmp_path / "result").digest == collect(work, tmp_path / "other").digest
    assert (tmp_path / "result/files/out").read_bytes() == b"hello"


def test_a_job_that_left_nothing_has_an_empty_result(tmp_path: Path) -> None:
    assert collect(tree(tmp_path / "work", {}), tmp_path / "result").manifest.members == ()


def test_what_a_job_plants_does_not_leave_the_host(tmp_path: Path) -> None:
    secret = tree(tmp_path / "host", {"key.pem": b"the host's own"})
    work = tree(tmp_path / "work", {"good.dat": b"fine"})
    (work / "out").symlink_to(secret / "key.pem")
    (work / "dir.dat").symlink_to(secret)
    (work / "deep").symlink_to(secret)
    os.mkfifo(work / "pipe.dat")
    with socket.socket(socket.AF_UNIX) as planted:
        planted.bind(str(work / "sock.dat"))
        sealed = collect(work, tmp_path / "result", fetch=("*",))
    assert [m.path for m in sealed.manifest.members] == ["good.dat"]
    assert dict(sealed.manifest.left_out) == {
        "out": "link",
        "dir.dat": "link",
        "deep": "link",
        "pipe.dat": "not-a-file",
        "sock.dat": "not-a-file",
    }
    assert b"own" not in sealed.data


@pytest.mark.skipif(os.geteuid() != 0, reason="giving files to another account needs root")
def test_a_hard_link_to_another_accounts_file_does_not_leave_the_host(tmp_path: Path) -> None:
    secret = tree(tmp_path / "host", {"key.pem": b"the host's own"})
    work = tree(tmp_path / "work", {"mine.dat": b"fine"})
    os.link(secret / "key.pem", work / "linked.dat")
    os.chown(work, 65534, 65534)
    os.chown(work / "mine.dat", 65534, 65534)
    sealed = collect(work, tmp_path / "result")
    assert [m.path for m in sealed.manifest.members] == ["mine.dat"]
    assert sealed.manifest.left_out == (("linked.dat", "owner"),)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_where_guests_are_another_account_their_files_are_taken_and_no_links_to_ours(
    tmp_path: Path,
) -> None:
    """A daemon that is not root owns the folder; what it owns besides, a guest may have linked."""
    guest = 65_534
    work = tree(tmp_path / "work", {"out": b"hello", "input.dat": b"1", "made.dat": b"2"})
    for name in ("out", "made.dat"):
        os.chown(work / name, guest, -1)
    key = tmp_path / "key.pem"
    key.write_bytes(b"private")
    (work / "key.dat").hardlink_to(key)
    sealed = collect(work, tmp_path / "result", guest_uid=guest)
    assert [m.path for m in sealed.manifest.members] == ["input.dat", "made.dat", "out"]
    assert sealed.manifest.left_out == (("key.dat", "owner"),)
    assert collect(work, tmp_path / "other", guest_uid=guest + 1).manifest.left_out != ()


def test_names_that_are_no_text_and_depth_without_end_are_survived(tmp_path: Path) -> None:
    work = tree(tmp_path / "work", {"out": b"o"})
    (work / os.fsdecode(b"\xff.dat")).write_bytes(b"1")
    inner = work
    for _ in range(200):
        inner = inner / "d"
        inner.mkdir()
    (inner / "x.dat").write_bytes(b"too deep")
    sealed = collect(work, tmp_path / "result")
    assert [m.path for m in sealed.manifest.members] == ["out"]
    assert sealed.manifest.left_out == (("?.dat", "name"),)


def test_what_exceeds_the_size_limit_is_left_out_and_the_streams_come_first(
    tmp_path: Path,
) -> None:
    work = tree(tmp_path / "work", {"a.dat": b"x" * 60, "b.dat": b"y" * 10, "out": b"z" * 50})
    sealed = collect(work, tmp_path / "result", bytes_max=100)
    assert [m.path for m in sealed.manifest.members] == ["b.dat", "out"]
    assert sealed.manifest.left_out == (("a.dat", "too-large"),)


def test_a_list_of_files_that_nobody_may_read_is_shortened(tmp_path: Path) -> None:
    long = {f"{'n' * 240}/{'m' * 200}{i:05}.dat": b"" for i in range(8000)}
    sealed = collect(tree(tmp_path / "work", long), tmp_path / "result")
    assert len(sealed.data) <= MANIFEST_BYTES_MAX
    assert 1000 < len(sealed.manifest.members) < 8000
    assert ("too-many") in {why for _, why in sealed.manifest.left_out}


# Paths


BAD_PATHS = {
    "absolute": "/etc/passwd",
    "climbing": "../x",
    "climbing inside": "a/../../x",
    "here": "./x",
    "empty": "",
    "empty part": "a//b",
    "folder": "a/",
    "zero byte": "a\0b",
    "newline": "a\nb",
    "escape": "\x1b[2J",
    "not UTF-8": "\udcff",
    "too long": "a/" * 600 + "x",
    "long name": "x" * 256,
    "too deep": "/".join("a" * 33),
}


@pytest.mark.parametrize("case", BAD_PATHS)
def test_a_path_that_could_lead_elsewhere_is_refused(case: str) -> None:
    with pytest.raises(InputError) as caught:
        check_member_path(BAD_PATHS[case])
    assert caught.value.code == "archive-path"


@given(st.text(max_size=40))
def test_every_accepted_path_stays_below_its_root(path: str) -> None:
    try:
        check_member_path(path)
    except InputError:
        return
    assert os.path.normpath(f"/root/{path}") == f"/root/{path}"


def test_writing_never_follows_a_planted_link(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", {"file": b"untouched"})
    root = tree(tmp_path / "root", {})
    (root / "file").symlink_to(outside / "file")
    (root / "folder").symlink_to(outside)
    os.link(outside / "file", root / "hard")
    os.mkfifo(root / "pipe")
    (root / "real").mkdir()
    members = Members(root)
    for path in ("file", "folder/file", "folder/new", "hard", "pipe", "real"):
        with pytest.raises(InputError) as caught:
            members.open_write(path)
        assert caught.value.code == "archive-member-type"
    for path in ("file", "folder/file", "pipe", "real"):
        with pytest.raises(InputError) as caught:
            members.open_read(path)
        assert caught.value.code == "archive-member-type"
    assert (outside / "file").read_bytes() == b"untouched"
    assert sorted(p.name for p in outside.iterdir()) == ["file"]


# Manifests from strangers


def member(path: str = "a", size: int = 1, executable: bool = True) -> list[CborItem]:
    chunks = bytes(32 * -(-size // CHUNK_BYTES))
    return [path, executable, size, bytes(32), chunks]


def manifest(*members: CborItem, run: CborItem = None, left_out: CborItem = None) -> bytes:
    return encode({0: 1, 1: list(members), 2: run, 3: left_out or [], 4: b""})


GOOD_RUN: list[CborItem] = ["a", [], [["A", "1"]], "out", "err", ["*"], ["state"], 10, 60]

BAD_MANIFESTS = {
    "not CBOR": (b"\xff", "cbor-malformed"),
    "a list": (encode([]), "archive-manifest"),
    "another format": (encode({0: 2, 1: [], 2: None, 3: [], 4: b""}), "archive-manifest"),
    "a key too many": (encode({0: 1, 1: [], 2: None, 3: [], 4: b"", 5: 0}), "archive-manifest"),
    "a key too few": (encode({0: 1, 1: [], 2: None, 3: []}), "archive-manifest"),
    "long salt": (encode({0: 1, 1: [], 2: None, 3: [], 4: bytes(33)}), "archive-manifest"),
    "salt as text": (encode({0: 1, 1: [], 2: None, 3: [], 4: "salt"}), "archive-manifest"),
    "zip slip": (manifest(member("../../etc/cron.d/x")), "archive-path"),
    "absolute": (manifest(member("/etc/passwd")), "archive-path"),
    "twice": (manifest(member("a"), member("a")), "archive-manifest"),
    "out of order": (manifest(member("b"), member("a")), "archive-manifest"),
    "file as folder": (manifest(member("a"), member("a.b"), member("a/b")), "archive-manifest"),
    "negative size": (manifest(["a", True, -1, bytes(32), b""]), "archive-manifest"),
    "chunks missing": (manifest(["a", True, 1, bytes(32), b""]), "archive-manifest"),
    "short digest": (manifest(["a", True, 0, bytes(31), b""]), "archive-manifest"),
    "mode as number": (manifest(["a", 0o4755, 0, bytes(32), b""]), "archive-manifest"),
    "too much together": (
        manifest(*[member(f"{i}", 500 << 20) for i in range(9)]),
        "archive-too-large",
    ),
    "payload too large": (
        manifest(member("a"), member("b", (1 << 30) + 1), run=GOOD_RUN),
        "archive-too-large",
    ),
    "script not executable": (
        manifest(member("a", executable=False), run=GOOD_RUN),
        "archive-run",
    ),
    "no script": (manifest(member("b"), run=GOOD_RUN), "archive-run"),
    "run is no list": (manifest(member("a"), run={0: 1}), "archive-manifest"),
    "variable is no pair": (
        manifest(member("a"), run=["a", [], [["A"]], "o", "e", [], [], 0, 60]),
        "archive-manifest",
    ),
    "stdout elsewhere": (
        manifest(member("a"), run=["a", [], [], "/dev/sda", "e", [], [], 0, 60]),
        "archive-path",
    ),
    "too many files": (
        encode({0: 1, 1: [member(f"{i:05}", 0) for i in range(10_001)], 2: None, 3: [], 4: b""}),
        "archive-manifest",
    ),
    "too long": (bytes(MANIFEST_BYTES_MAX + 1), "cbor-too-long"),
}


@pytest.mark.parametrize("case", BAD_MANIFESTS)
def test_a_bad_manifest_is_refused(case: str) -> None:
    data, code = BAD_MANIFESTS[case]
    with pytest.raises(InputError) as caught:
        decode_manifest(data)
    assert caught.value.code == code


def test_a_good_manifest_is_accepted_and_encodes_to_the_same_bytes() -> None:
    data = manifest(member("a"), member("b/c", 3 * CHUNK_BYTES), run=GOOD_RUN)
    assert encode_manifest(decode_manifest(data)) == data


def test_salt_gives_equal_payloads_different_digests(tmp_path: Path) -> None:
    digests = set()
    for name, salt in (("one", b"1"), ("two", b"2"), ("again", b"2")):
        (tmp_path / name).mkdir()
        source = tree(tmp_path / f"{name}-files", {"job.sh": b"#!/bin/sh\n"})
        sealed = pack_payload(source, tmp_path / name, RunSpec(script="job.sh"), salt=salt)
        assert decode_manifest(sealed.data).salt == salt
        digests.add(sealed.digest)
    assert len(digests) == 2


ITEMS = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-3, 1 << 40)
    | st.text(max_size=5)
    | st.binary(max_size=33),
    lambda inner: (
        st.lists(inner, max_size=6) | st.dictionaries(st.integers(0, 5), inner, max_size=5)
    ),
    max_leaves=20,
)


@given(ITEMS | st.fixed_dictionaries({0: st.just(1), 1: ITEMS, 2: ITEMS, 3: ITEMS, 4: ITEMS}))
def test_a_strangers_manifest_is_read_or_refused_and_nothing_else(item: CborItem) -> None:
    data = encode(item)
    try:
        found = decode_manifest(data)
    except InputError:
        return
    assert encode_manifest(found) == data
    assert decode(data, limit=len(data)) == item


def test_what_an_attempt_saved_is_put_over_the_files_of_the_next(tmp_path: Path) -> None:
    work, saved, next_one = tmp_path / "work", tmp_path / "saved", tmp_path / "next"
    for folder in (work / "steps", saved, next_one / archive.FILES):
        folder.mkdir(parents=True)
    (work / "steps" / "7").write_text("seven")
    (work / "state").write_text("new")
    (work / "input").write_text("not wanted")
    sealed = collect_result(work, saved, stdout="out", stderr="err", fetch=("state", "steps/*"))
    assert [member.path for member in sealed.manifest.members] == ["state", "steps/7"]
    (next_one / archive.FILES / "state").write_text("old and longer")
    (next_one / archive.FILES / "input").write_text("as sent")
    for _ in range(2):
        restore_files(saved, next_one)
    assert (next_one / archive.FILES / "state").read_text() == "new"
    assert (next_one / archive.FILES / "steps" / "7").read_text() == "seven"
    assert (next_one / archive.FILES / "input").read_text() == "as sent"
