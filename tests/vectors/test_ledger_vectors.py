"""The golden bytes of the wire format, and a stranger that verifies them.

`ledger.json` holds a charter, a card, valid blocks and named invalid ones, for every implementation
of docs/reference/wire-format.md. The bytes change only with the format's version; after such a
change `P2PFED_WRITE_VECTORS=1 pytest tests/vectors` writes the file anew.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

import cbor2
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pfed.core.blocks import check_fork_proof, decode_block, fork_proof
from p2pfed.core.charter import (
    Card,
    decode_charter,
    draft_charter,
    encode_charter,
    parse_card,
    sign_charter,
    write_card,
)
from p2pfed.core.clock import next_time
from p2pfed.core.ids import CentreName, FederationId, FeedKey, Head
from p2pfed.core.keys import key_id
from p2pfed.core.records import RECORD_TYPES, ForkProof
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.rules import Rules
from p2pfed.core.units import HlcTime, hlc, hlc_cut
from p2pfed.errors import InputError
from tests.bad_blocks import REFUSED
from tests.examples import EXAMPLES
from tests.writers import FEDERATION, START_MS, Writer, keys_of, private_key, public_key

FILE = Path(__file__).with_name("ledger.json")
KEYS = keys_of("alpha", "beta")
INVALID_BYTES_MAX = 4096
"""Larger invalid blocks are left to the unit tests."""


def made() -> dict[str, Any]:
    """What the file shall hold."""
    alpha, beta = Writer("alpha"), Writer("beta")
    rival = alpha.branch()
    first = alpha.write(records=EXAMPLES)
    forked = rival.write()
    proof = fork_proof(first.header.cose, forked.header.cose)
    second = beta.write(first, records=[proof])
    third = alpha.write(second, time=hlc(START_MS + 10_000))
    cards = [
        Card(
            name=CentreName(name),
            public_key=public_key(name),
            address=f"{name}.example.org:7411",
            credit_line=86_400,
        )
        for name in ("alpha", "beta")
    ]
    charter = draft_charter(cards, Rules(), "testbed", START_MS)
    for name in ("alpha", "beta"):
        charter = sign_charter(charter, CentreName(name), private_key(name))
    frontier = {third.feed: third.head, second.feed: second.head}
    return {
        "about": "Golden bytes of the wire format, version 1; see docs/reference/wire-format.md",
        "federation_id": FEDERATION.hex(),
        "keys": {
            name: {"public_key": public_key(name).hex(), "key_id": key_id(public_key(name)).hex()}
            for name in ("alpha", "beta")
        },
        "blocks": [
            {
                "data": block.data.hex(),
                "block_id": block.block_id.hex(),
                "centre": block.feed.centre,
                "epoch": block.feed.epoch,
                "seq_num": block.seq_num,
                "time": block.time,
                "records": len(block.records),
            }
            for block in (first, second, third)
        ],
        "fork": {"first": proof.first.hex(), "second": proof.second.hex(), "seq_num": 0},
        "frontier": {
            "heads": [
                [*feed, head.seq_num, head.block_id.hex()] for feed, head in frontier.items()
            ],
            "view_digest": view_digest(frontier).hex(),
        },
        "hybrid_time": {
            "ms": START_MS,
            "hlc": hlc(START_MS),
            "next_after_full_counter": next_time(START_MS, hlc(START_MS, 65535)),
            "cut": hlc_cut(START_MS),
        },
        "card": write_card(cards[0], private_key("alpha")),
        "charter": {
            "data": encode_charter(charter).hex(),
            "federation_id": charter.federation_id.hex(),
        },
        "invalid_blocks": {
            phrase: {"data": data.hex(), "code": code}
            for phrase, (data, code) in REFUSED.items()
            if len(data) <= INVALID_BYTES_MAX
        },
    }


def vectors() -> dict[str, Any]:
    if os.environ.get("P2PFED_WRITE_VECTORS") == "1":
        FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="utf-8")
    content: dict[str, Any] = json.loads(FILE.read_text(encoding="utf-8"))
    return content


VECTORS = vectors()
FEDERATION_ID = FederationId(bytes.fromhex(VECTORS["federation_id"]))


def test_we_still_write_the_golden_bytes() -> None:
    now = json.loads(json.dumps(made()))
    assert now.keys() == VECTORS.keys()
    for name, value in VECTORS.items():
        assert now[name] == value, name


@pytest.mark.parametrize("vector", VECTORS["blocks"])
def test_we_read_the_golden_blocks(vector: dict[str, Any]) -> None:
    block = decode_block(bytes.fromhex(vector["data"]), FEDERATION_ID, KEYS)
    assert block.block_id.hex() == vector["block_id"]
    assert [*block.feed, block.seq_num] == [vector["centre"], vector["epoch"], vector["seq_num"]]
    assert (block.time, len(block.records)) == (vector["time"], vector["records"])


def test_the_golden_blocks_hold_every_type_of_record() -> None:
    found = {
        type(record)
        for vector in VECTORS["blocks"]
        for record in decode_block(bytes.fromhex(vector["data"]), FEDERATION_ID, KEYS).records
    }
    assert found == set(RECORD_TYPES.values())


def test_the_golden_blocks_form_a_ledger() -> None:
    held = Replica(FEDERATION_ID, KEYS, 60_000)
    for vector in VECTORS["blocks"]:
        assert held.receive(bytes.fromhex(vector["data"]), START_MS).admitted
    heads = {
        FeedKey(CentreName(centre), epoch): Head(seq_num, bytes.fromhex(block_id))  # type: ignore[arg-type]
        for centre, epoch, seq_num, block_id in VECTORS["frontier"]["heads"]
    }
    assert held.frontier() == heads
    assert view_digest(held.frontier()).hex() == VECTORS["frontier"]["view_digest"]


@pytest.mark.parametrize("phrase", VECTORS["invalid_blocks"])
def test_we_refuse_the_golden_block_that_is_or_has(phrase: str) -> None:
    vector = VECTORS["invalid_blocks"][phrase]
    with pytest.raises(InputError) as caught:
        decode_block(bytes.fromhex(vector["data"]), FEDERATION_ID, KEYS)
    assert caught.value.code == vector["code"]


def test_we_accept_the_golden_fork_proof() -> None:
    fork = VECTORS["fork"]
    proof = ForkProof(first=bytes.fromhex(fork["first"]), second=bytes.fromhex(fork["second"]))
    feed, seq_num = check_fork_proof(proof, FEDERATION_ID, KEYS)
    assert (feed, seq_num) == (FeedKey(CentreName("alpha"), 0), fork["seq_num"])


def test_we_read_the_golden_card_and_charter() -> None:
    assert parse_card(VECTORS["card"]).name == "alpha"
    charter = decode_charter(bytes.fromhex(VECTORS["charter"]["data"]))
    assert charter.federation_id.hex() == VECTORS["charter"]["federation_id"]
    assert len(charter.signatures) == 2


def test_hybrid_times_are_the_golden_ones() -> None:
    golden = VECTORS["hybrid_time"]
    assert hlc(golden["ms"]) == golden["hlc"]
    after = HlcTime(golden["hlc"] + 65535)
    assert next_time(golden["ms"], after) == golden["next_after_full_counter"]
    assert hlc_cut(golden["ms"]) == golden["cut"]


# A stranger: nothing below uses p2pfed.


def verify_as_a_stranger(data: bytes, federation_id: bytes, key: bytes) -> dict[int, Any]:
    """The header of a block, verified as docs/reference/wire-format.md tells."""
    message, records = cbor2.loads(data)
    protected, unprotected, payload, signature = cbor2.loads(message)
    assert unprotected == {}
    assert cbor2.loads(protected) == {1: -8, 4: hashlib.sha256(key).digest()[:16]}
    sig_structure = cbor2.dumps(["Signature1", protected, federation_id, payload])
    Ed25519PublicKey.from_public_bytes(key).verify(signature, sig_structure)
    header: dict[int, Any] = cbor2.loads(payload)
    assert header[7] == hashlib.sha256(records).digest()
    assert all(isinstance(record, dict) for record in cbor2.loads(records))
    return header


def test_a_stranger_verifies_the_chain_of_blocks() -> None:
    ids: dict[tuple[str, int, int], bytes] = {}
    times: dict[bytes, int] = {}
    for vector in VECTORS["blocks"]:
        data = bytes.fromhex(vector["data"])
        key = bytes.fromhex(VECTORS["keys"][vector["centre"]]["public_key"])
        header = verify_as_a_stranger(data, bytes.fromhex(VECTORS["federation_id"]), key)
        version, centre, epoch, seq_num, backlink, time, acks, _ = (header[n] for n in range(8))
        assert (version, centre) == (1, vector["centre"])
        assert backlink == ids.get((centre, epoch, seq_num - 1))
        for ack_centre, ack_epoch, ack_seq_num, block_id in acks:
            assert ids[ack_centre, ack_epoch, ack_seq_num] == block_id
            assert time > times[block_id]
        block_id = hashlib.sha256(cbor2.loads(cbor2.loads(data)[0])[2]).digest()
        assert block_id.hex() == vector["block_id"]
        ids[centre, epoch, seq_num], times[block_id] = block_id, time


def test_a_stranger_verifies_the_charter() -> None:
    payload, messages = cbor2.loads(bytes.fromhex(VECTORS["charter"]["data"]))
    assert hashlib.sha256(payload).hexdigest() == VECTORS["charter"]["federation_id"]
    founders = {hashlib.sha256(card[2]).digest()[:16]: card[2] for card in cbor2.loads(payload)[3]}
    for protected, _, _, signature in messages:
        sig_structure = cbor2.dumps(["Signature1", protected, b"p2pfed charter", payload])
        key = founders[cbor2.loads(protected)[4]]
        Ed25519PublicKey.from_public_bytes(key).verify(signature, sig_structure)
    assert len(messages) == len(founders)


def test_a_stranger_verifies_the_card() -> None:
    card = json.loads(VECTORS["card"])
    key = bytes.fromhex(card["public_key"])
    payload = cbor2.dumps(
        {0: 1, 1: card["name"], 2: key, 3: card["address"], 4: card["credit_line"]}
    )
    protected = cbor2.dumps({1: -8, 4: hashlib.sha256(key).digest()[:16]})
    sig_structure = cbor2.dumps(["Signature1", protected, b"p2pfed card", payload])
    Ed25519PublicKey.from_public_bytes(key).verify(bytes.fromhex(card["signature"]), sig_structure)
