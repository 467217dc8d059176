"""The evidence about a job: complete, small, and good for nothing once a byte is changed."""

from __future__ import annotations

import io
from collections.abc import Iterable

import pytest

from p2pfed.core.blocks import Block
from p2pfed.core.charter import Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.evidence import bundle, read_evidence
from p2pfed.core.ids import CentreName, Position
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import Claim, Dispute, End, Job, Outcome, Record, Settle, Start
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from tests.unit.core.councils import card_of
from tests.writers import START_MS, Writer, private_key

ALPHA, BETA = CentreName("alpha"), CentreName("beta")
JOB_ID, CLAIM_ID = Position(ALPHA, 0, 0, 0), Position(ALPHA, 0, 1, 0)
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=1,
    memory_mib_per_node=1,
    walltime_s=100,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=1,
)
CLAIM = Claim(
    job_id=JOB_ID,
    offer_id=Position(BETA, 0, 0, 0),
    attempt=1,
    round=1,
    rules_version=1,
    view_digest=bytes(32),
    claim_until_ms=START_MS,
)
END = End(claim_id=CLAIM_ID, outcome=int(Outcome.COMPLETED), started_ms=1, ended_ms=2, core_s=90)


def founded() -> Charter:
    charter = draft_charter([card_of("alpha"), card_of("beta")], Rules(), "testbed", START_MS)
    for name in ("alpha", "beta"):
        charter = sign_charter(charter, CentreName(name), private_key(name))
    return charter


def ledger(charter: Charter, blocks: Iterable[Block]) -> io.BytesIO:
    return io.BytesIO(b"".join(write_ledger(encode_charter(charter), blocks)))


def a_dispute() -> tuple[Charter, list[Block]]:
    charter = founded()
    alpha, beta = (Writer(n, federation=charter.federation_id) for n in ("alpha", "beta"))

    def say(writer: Writer, *records: Record) -> None:
        others = [block for block in blocks if block.feed != writer.feed]
        blocks.append(writer.write(*others[-1:], records=records))

    blocks: list[Block] = []
    say(alpha, JOB)
    say(alpha, CLAIM)
    say(beta)
    say(beta, Start(claim_id=CLAIM_ID, native_name="p2pfed-1"), END)
    say(alpha)
    say(alpha, Dispute(claim_id=CLAIM_ID, core_s=10, reason="it hung"))
    say(beta, Settle(claim_id=CLAIM_ID, core_s=50))
    return charter, blocks


def test_a_bundle_holds_what_was_said_about_the_job_and_verifies_alone() -> None:
    charter, blocks = a_dispute()
    data = b"".join(bundle(JOB_ID, ledger(charter, blocks)))
    found = read_evidence(io.BytesIO(data), JOB_ID)
    assert found.federation == charter.federation_id.hex()
    assert found.blocks == 5
    assert [type(s.record) for s in found.statements] == [Job, Claim, Start, End, Dispute, Settle]
    assert found.measures() == [
        (CLAIM_ID, BETA, "end", 90, 0),
        (CLAIM_ID, ALPHA, "dispute", 10, 0),
        (CLAIM_ID, BETA, "settle", 50, 0),
    ]


def test_a_changed_byte_spoils_it() -> None:
    charter, blocks = a_dispute()
    data = bytearray(b"".join(bundle(JOB_ID, ledger(charter, blocks))))
    data[data.index(b"it hung")] ^= 1
    with pytest.raises(InputError):
        read_evidence(io.BytesIO(bytes(data)), JOB_ID)


def test_a_bundle_of_another_job_is_no_evidence() -> None:
    charter, blocks = a_dispute()
    data = b"".join(bundle(JOB_ID, ledger(charter, blocks)))
    with pytest.raises(InputError) as caught:
        read_evidence(io.BytesIO(data), Position(BETA, 0, 0, 9))
    assert caught.value.code == "evidence-empty"
