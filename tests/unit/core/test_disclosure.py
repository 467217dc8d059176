"""A disclosure proves one thing, of one job, and its form is strict."""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import replace

import cbor2
import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.disclosure import (
    Disclosure,
    check_disclosure,
    dump_disclosure,
    opening_of,
    owner_of,
    parse_disclosure,
)
from p2pfed.core.ids import CentreName, FederationId, JobId, Position
from p2pfed.errors import InputError
from tests.unit.node.benches import JOB

FEDERATION = FederationId(b"f" * 32)
ALPHA, BETA = CentreName("alpha"), CentreName("beta")
JOB_ID = JobId(Position(ALPHA, 0, 4, 0))
KEY = b"k" * 32
OPENING = opening_of(KEY, JOB.payload_digest)
TRUE = Disclosure(FEDERATION, JOB_ID, "ann", OPENING)
OWNED = replace(JOB, owner=owner_of(FEDERATION, ALPHA, JOB.payload_digest, OPENING, "ann"))


def test_the_construction_is_what_the_reference_says() -> None:
    opening = hmac.new(KEY, b"p2pfed opening 1" + JOB.payload_digest, "sha256").digest()
    parts = ["p2pfed owner 1", FEDERATION, "alpha", JOB.payload_digest, opening, b"ann"]
    assert opening == OPENING
    assert hashlib.sha256(cbor2.dumps(parts)).digest() == OWNED.owner
    check_disclosure(TRUE, FEDERATION, OWNED)


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"user": "bob"}, "disclosure-false"),
        ({"opening": bytes(32)}, "disclosure-false"),
        ({"job_id": JobId(Position(BETA, 0, 4, 0))}, "disclosure-false"),
        ({"federation": FederationId(bytes(32))}, "disclosure-federation"),
    ],
)
def test_a_disclosure_that_says_anything_else_is_refused(
    changes: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        check_disclosure(TRUE._replace(**changes), FEDERATION, OWNED)  # type: ignore[arg-type]
    assert caught.value.code == code


def test_a_job_that_states_no_user_proves_nothing() -> None:
    with pytest.raises(InputError) as caught:
        check_disclosure(TRUE, FEDERATION, JOB)
    assert caught.value.code == "disclosure-no-owner"


@given(user=st.text(max_size=40), opening=st.binary(min_size=32, max_size=32))
def test_a_disclosure_survives_its_file(user: str, opening: bytes) -> None:
    said = Disclosure(FEDERATION, JOB_ID, user, opening)
    assert parse_disclosure(dump_disclosure(said)) == said


GOOD = json.loads(dump_disclosure(TRUE))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff",
        b"[]",
        b"[" * 3000,
        b"{}",
        json.dumps({**GOOD, "more": 1}).encode(),
        json.dumps({**GOOD, "user": 5}).encode(),
        json.dumps({**GOOD, "user": "\ud800"}).encode(),
        json.dumps({**GOOD, "format": "p2pfed-disclosure 2"}).encode(),
        json.dumps({**GOOD, "opening": "ab"}).encode(),
        json.dumps({**GOOD, "opening": "zz" * 32}).encode(),
        json.dumps({**GOOD, "user": "a" * 5000}).encode(),
    ],
)
def test_what_is_no_disclosure_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_disclosure(data, where="file")
    assert caught.value.code == "disclosure-form"
