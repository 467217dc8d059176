"""Who a job is of: a commitment in the ledger, and the opening that shows it for one job alone.

Theory of operation. A home keeps a random key for each of its users. From it and a job's payload
digest follows the job's *opening*, and from the opening and the user's name the *owner* that the
Job record states:

    opening = HMAC-SHA256(user's key, "p2pfed opening 1" || payload digest)
    owner   = SHA-256(["p2pfed owner 1", federation id, home, payload digest, opening, user])

Payload digests are salted, so no two jobs have the same. Without its opening an owner is 32 bytes
that tell nothing: neither the name, nor that two jobs are of one user. The opening of one job says
nothing about another's, because both are outputs of a keyed hash. So a home can disclose the user
of one job, and whoever has the ledger can check it; and a home that destroys a user's key can never
disclose any of the user's jobs again, while every hash in the ledger stays as it was.
docs/adr/0020 weighs this against its alternatives.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from typing import Final, NamedTuple

from p2pfed.core.codec import encode
from p2pfed.core.ids import CentreName, FederationId, JobId, parse_position
from p2pfed.core.records import NO_OWNER, Job
from p2pfed.errors import InputError

FORMAT: Final = "p2pfed-disclosure 1"
USER_KEY_BYTES: Final = 32
DISCLOSURE_BYTES_MAX: Final = 4096
_FIELDS: Final = ("format", "federation_id", "job_id", "user", "opening")
_OPENING_BYTES: Final = 32


class Disclosure(NamedTuple):
    """What an auditor is given: who one job is of, and what proves it against the ledger."""

    federation: FederationId
    job_id: JobId
    user: str
    opening: bytes


def opening_of(user_key: bytes, payload_digest: bytes) -> bytes:
    """The opening of one job of the user whose key this is."""
    return hmac.digest(user_key, b"p2pfed opening 1" + payload_digest, "sha256")


def owner_of(
    federation: FederationId, home: CentreName, payload_digest: bytes, opening: bytes, user: str
) -> bytes:
    """What the Job record states of its user."""
    name = user.encode("utf-8", "surrogateescape")
    parts = encode(["p2pfed owner 1", federation, home, payload_digest, opening, name])
    return hashlib.sha256(parts).digest()


def check_disclosure(disclosure: Disclosure, federation: FederationId, job: Job) -> None:
    """That the ledger of the federation says so of this job, posted under the disclosed id.

    Raises:
        InputError: `disclosure-federation`, `disclosure-no-owner`, `disclosure-false`.
    """
    if disclosure.federation != federation:
        raise InputError("disclosure-federation", "the disclosure is of another federation")
    if job.owner == NO_OWNER:
        raise InputError("disclosure-no-owner", f"job {disclosure.job_id} states no user")
    home = disclosure.job_id.centre
    found = owner_of(federation, home, job.payload_digest, disclosure.opening, disclosure.user)
    if not hmac.compare_digest(found, job.owner):
        raise InputError(
            "disclosure-false",
            f"the ledger does not say that job {disclosure.job_id} is of {disclosure.user!r}",
        )


def dump_disclosure(disclosure: Disclosure) -> bytes:
    """The file: JSON, for people to read and any program to check."""
    values = (
        FORMAT,
        disclosure.federation.hex(),
        str(disclosure.job_id),
        disclosure.user,
        disclosure.opening.hex(),
    )
    return json.dumps(dict(zip(_FIELDS, values, strict=True)), indent=2).encode() + b"\n"


def parse_disclosure(data: bytes, *, where: str = "") -> Disclosure:
    """What `dump_disclosure` wrote.

    Raises:
        InputError: `disclosure-form`, or `position`.
    """
    refused = InputError("disclosure-form", "this is not a disclosure of p2pfed", where=where)
    if len(data) > DISCLOSURE_BYTES_MAX:
        raise refused
    try:
        item = json.loads(data)
    except (ValueError, RecursionError):
        raise refused from None
    if not isinstance(item, dict) or sorted(item) != sorted(_FIELDS):
        raise refused
    if not all(isinstance(value, str) for value in item.values()) or item["format"] != FORMAT:
        raise refused
    try:
        federation, opening = bytes.fromhex(item["federation_id"]), bytes.fromhex(item["opening"])
        item["user"].encode("utf-8", "surrogateescape")
    except ValueError:
        raise refused from None
    if len(opening) != _OPENING_BYTES:
        raise refused
    job_id = JobId(parse_position(item["job_id"]))
    return Disclosure(FederationId(federation), job_id, item["user"], opening)
