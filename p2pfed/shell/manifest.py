"""The manifest of a payload or result: which files there are, and what to run.

Deterministic CBOR (`p2pfed.core.codec`). It names every file with its size, its SHA-256 and the
SHA-256 of each chunk of `CHUNK_BYTES`; for a payload also what to run. Its own SHA-256 is the
payload digest that the Job record states, or the result digest of the End record: each received
chunk can be checked against what was signed. Times, owners and permissions other than "executable"
are not part of it. A payload holds a salt: without it, whoever reads the ledger could try which of
the scripts that he can think of has the digest of a job. The format: docs/reference/archive.md.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, NoReturn

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import Position
from p2pfed.core.limits import (
    ARCHIVE_MEMBERS_MAX,
    CHUNK_BYTES,
    MANIFEST_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    RESULT_BYTES_MAX,
)
from p2pfed.errors import InputError
from p2pfed.shell.members import check_member_path

FORMAT: Final = 1
DIGEST_BYTES: Final = 32

ARGUMENTS_MAX: Final = 1000
ARGUMENT_BYTES_MAX: Final = 1 << 16
VARIABLES_MAX: Final = 1000
PATTERNS_MAX: Final = 64
PATTERN_BYTES_MAX: Final = 256
LEFT_OUT_MAX: Final = 100
"""Files that a result names as left out; there may have been more."""
SIGNAL_MAX: Final = 64
SIGNAL_S: Final = 60
SIGNAL_S_MAX: Final = 65_535
SALT_BYTES: Final = 16
SALT_BYTES_MAX: Final = 32

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """What a payload runs, and what of it is wanted back.

    Attributes:
        script: the path of the batch script among the files.
        arguments: passed to it as they are.
        environment: extra variables, (name, value), ascending by name.
        stdout, stderr: paths below the working directory; `%j` stands for the job id. May be equal.
        fetch: patterns (`fnmatch`) of the files to bring back besides stdout and stderr.
        checkpoint: patterns of the files that the job can go on from when it was cut short.
        signal: the number of the signal that tells it to write them; 0: none.
        signal_s: how long before the end of its walltime it wants that signal.
    """

    script: str
    arguments: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    stdout: str = "stdout.txt"
    stderr: str = "stderr.txt"
    fetch: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    signal: int = 0
    signal_s: int = SIGNAL_S

    def for_job(self, job_id: Position) -> tuple[str, str]:
        """The paths of stdout and stderr once the job has its id.

        Raises:
            InputError: `archive-path`.
        """
        stdout, stderr = (name.replace("%j", str(job_id)) for name in (self.stdout, self.stderr))
        return check_member_path(stdout), check_member_path(stderr)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One file: `digest` is its SHA-256, `chunks` the joined SHA-256s of its chunks."""

    path: str
    executable: bool
    size: int
    digest: bytes
    chunks: bytes

    @property
    def chunk_count(self) -> int:
        """How many chunks the file has; none if it is empty."""
        return len(self.chunks) // DIGEST_BYTES

    def chunk_bytes(self, index: int) -> int:
        """The size of chunk `index`."""
        return min(CHUNK_BYTES, self.size - index * CHUNK_BYTES)

    def chunk_digest(self, index: int) -> bytes:
        """The SHA-256 of chunk `index`."""
        return self.chunks[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES]


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """The files of a payload or result, ascending by path.

    Attributes:
        run: what to run; None in a result.
        left_out: files that were asked for and are not here, each with the reason.
        salt: chance bytes, at most SALT_BYTES_MAX, that make the digest of a payload its own.
    """

    members: tuple[Member, ...]
    run: RunSpec | None = None
    left_out: tuple[tuple[str, str], ...] = ()
    salt: bytes = b""

    @property
    def total_bytes(self) -> int:
        """The sizes of all files; what Job and End state as `..._bytes`."""
        return sum(member.size for member in self.members)


# The manifest as bytes


def encode_manifest(manifest: Manifest) -> bytes:
    """The one encoding of a manifest.

    Raises:
        InputError: `archive-too-large`: its encoding exceeds MANIFEST_BYTES_MAX.
    """
    run = manifest.run
    run_item: CborItem = None
    if run is not None:
        run_item = [
            run.script,
            list(run.arguments),
            [[name, value] for name, value in run.environment],
            run.stdout,
            run.stderr,
            list(run.fetch),
            list(run.checkpoint),
            run.signal,
            run.signal_s,
        ]
    data = encode(
        {
            0: FORMAT,
            1: [[m.path, m.executable, m.size, m.digest, m.chunks] for m in manifest.members],
            2: run_item,
            3: [[path, why] for path, why in manifest.left_out],
            4: manifest.salt,
        }
    )
    if len(data) > MANIFEST_BYTES_MAX:
        raise InputError(
            "archive-too-large",
            f"the list of files has {len(data)} bytes, at most {MANIFEST_BYTES_MAX} are allowed",
            remedy="pack many small files into one",
        )
    return data


def decode_manifest(data: bytes) -> Manifest:
    """The manifest that a stranger's bytes encode; everything in it is checked.

    Raises:
        InputError: `cbor-...`, `archive-manifest`, `archive-path`, `archive-run`,
            `archive-too-large`.
    """
    item = decode(data, limit=MANIFEST_BYTES_MAX, where="manifest")
    if type(item) is not dict or sorted(item) != [0, 1, 2, 3, 4]:
        _malformed("it has other keys than 0, 1, 2, 3, 4")
    if item[0] != FORMAT:
        _malformed(f"its format is {item[0]!r}, this version reads {FORMAT}")
    members = tuple(_decode_member(m) for m in _list(item[1], ARCHIVE_MEMBERS_MAX, "files"))
    _check_tree([member.path for member in members])
    run = None if item[2] is None else _decode_run(item[2])
    left_out = tuple(_pair(pair, "left-out file") for pair in _list(item[3], LEFT_OUT_MAX, "3"))
    salt = item[4]
    if type(salt) is not bytes or len(salt) > SALT_BYTES_MAX:
        _malformed(f"the salt is not of at most {SALT_BYTES_MAX} bytes")
    manifest = Manifest(members=members, run=run, left_out=left_out, salt=salt)
    _check_run(manifest)
    limit = RESULT_BYTES_MAX if run is None else PAYLOAD_BYTES_MAX
    if manifest.total_bytes > limit:
        raise InputError(
            "archive-too-large",
            f"the files have {manifest.total_bytes} bytes, at most {limit} are allowed",
        )
    return manifest


def _malformed(why: str) -> NoReturn:
    raise InputError("archive-manifest", f"not a manifest: {why}")


def _list(item: CborItem, limit: int, what: str) -> list[CborItem]:
    if type(item) is not list or len(item) > limit:
        _malformed(f"{what} is not a list of at most {limit}")
    return item


def _text(item: CborItem, limit: int, what: str) -> str:
    if type(item) is not str or len(item.encode()) > limit or "\0" in item:
        _malformed(f"{what} is not a text of at most {limit} bytes")
    return item


def _pair(item: CborItem, what: str) -> tuple[str, str]:
    if type(item) is not list or len(item) != 2:
        _malformed(f"{what} is not a pair")
    return _text(item[0], ARGUMENT_BYTES_MAX, what), _text(item[1], ARGUMENT_BYTES_MAX, what)


def _decode_member(item: CborItem) -> Member:
    if type(item) is not list or len(item) != 5:
        _malformed("a file is not a list of five")
    path, executable, size, digest, chunks = item
    if not (
        type(path) is str
        and type(executable) is bool
        and type(size) is int
        and 0 <= size <= RESULT_BYTES_MAX
        and type(digest) is bytes
        and len(digest) == DIGEST_BYTES
        and type(chunks) is bytes
        and len(chunks) == DIGEST_BYTES * -(-size // CHUNK_BYTES)
    ):
        _malformed("a file's path, flag, size, digest or chunks are out of range")
    return Member(
        path=check_member_path(path),
        executable=executable,
        size=size,
        digest=digest,
        chunks=chunks,
    )


def _check_tree(paths: Sequence[str]) -> None:
    if any(not a < b for a, b in pairwise(paths)):
        _malformed("its files are not in ascending order")
    files = frozenset(paths)
    for path in paths:
        for end in (i for i, letter in enumerate(path) if letter == "/"):
            if path[:end] in files:
                _malformed(f"{path[:end]!r} is a file and a folder")


def _decode_run(item: CborItem) -> RunSpec:
    if type(item) is not list or len(item) != 9:
        _malformed("what to run is not a list of nine")
    script, arguments, environment, stdout, stderr, fetch, checkpoint, number, signal_s = item
    if type(number) is not int or not 0 <= number <= SIGNAL_MAX:
        _malformed(f"the signal is no number up to {SIGNAL_MAX}")
    if type(signal_s) is not int or not 0 <= signal_s <= SIGNAL_S_MAX:
        _malformed(f"the time of the signal is not up to {SIGNAL_S_MAX}")
    return RunSpec(
        script=_text(script, ARGUMENT_BYTES_MAX, "the script"),
        arguments=tuple(
            _text(a, ARGUMENT_BYTES_MAX, "an argument")
            for a in _list(arguments, ARGUMENTS_MAX, "arguments")
        ),
        environment=tuple(
            _pair(pair, "a variable") for pair in _list(environment, VARIABLES_MAX, "environment")
        ),
        stdout=_text(stdout, ARGUMENT_BYTES_MAX, "stdout"),
        stderr=_text(stderr, ARGUMENT_BYTES_MAX, "stderr"),
        fetch=_patterns(fetch),
        checkpoint=_patterns(checkpoint),
        signal=number,
        signal_s=signal_s,
    )


def _patterns(item: CborItem) -> tuple[str, ...]:
    found = _list(item, PATTERNS_MAX, "patterns")
    return tuple(_text(pattern, PATTERN_BYTES_MAX, "a pattern") for pattern in found)


def _check_run(manifest: Manifest) -> None:
    """What to run makes sense, whoever wrote it: user or peer."""
    run = manifest.run
    if run is None:
        return
    scripts = [m for m in manifest.members if m.path == run.script]
    if not scripts or not scripts[0].executable:
        raise InputError(
            "archive-run", f"the script {run.script!r} is not an executable file of the payload"
        )
    names = [name for name, _ in run.environment]
    bad = [name for name in names if not _VARIABLE.match(name)]
    if bad or names != sorted(set(names)):
        raise InputError(
            "archive-run",
            f"{(bad or names)[0]!r} is no name of a variable, or stands twice or out of order",
        )
    if any("\0" in a or len(a.encode()) > ARGUMENT_BYTES_MAX for a in run.arguments):
        raise InputError("archive-run", "an argument is too long or holds a zero byte")
    check_member_path(run.stdout)
    check_member_path(run.stderr)
