"""A block is valid for everyone or for nobody, and each broken rule has its name."""

from __future__ import annotations

import hashlib

import pytest

from p2pfed.core import cose
from p2pfed.core.blocks import (
    check_fork_proof,
    decode_block,
    decode_header,
    fork_proof,
    peek_block_id,
    seal_block,
    split_block,
)
from p2pfed.core.codec import encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, FederationId, FeedKey, Head, Position
from p2pfed.core.keys import key_id
from p2pfed.core.limits import (
    HEADER_BYTES_MAX,
    RECORDS_PER_BLOCK_MAX,
)
from p2pfed.core.records import Cancel, Contact, ForkProof, Inert, Lost
from p2pfed.core.units import hlc
from p2pfed.errors import InputError, StateError
from tests.bad_blocks import HEADER, REFUSED, flipped, signed, with_records
from tests.writers import (
    CONTACT,
    FEDERATION,
    START_MS,
    Writer,
    keys_of,
    private_key,
    public_key,
    some_id,
)

KEYS = keys_of("alpha", "beta")


def code_of(data: bytes) -> str:
    with pytest.raises(InputError) as caught:
        decode_block(data, FEDERATION, KEYS)
    return caught.value.code


def test_what_a_centre_seals_everyone_decodes() -> None:
    alpha, beta = Writer("alpha"), Writer("beta")
    first = beta.write()
    cancel = Cancel(job_id=Position(CentreName("alpha"), 0, 0, 0))
    sealed = alpha.write(first, records=[CONTACT, cancel])
    found = decode_block(sealed.data, FEDERATION, KEYS)
    assert found == sealed
    assert found.records == (CONTACT, cancel)
    assert found.header.acks == ((first.feed, first.head),)
    assert found.position(1) == Position(CentreName("alpha"), 0, 0, 1)
    assert peek_block_id(sealed.data) == sealed.block_id
    assert found.header.head == found.head == Head(0, found.block_id)
    assert found.header.feed == found.feed == FeedKey(CentreName("alpha"), 0)


def test_a_second_block_names_the_first() -> None:
    alpha = Writer("alpha")
    first = alpha.write()
    assert alpha.write().header.backlink == first.block_id


def test_a_valid_header_is_the_baseline_of_the_cases_below() -> None:
    assert decode_block(signed(encode(HEADER)), FEDERATION, KEYS).seq_num == 5


@pytest.mark.parametrize(("data", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_refuses_a_block_that_is_or_has(data: bytes, code: str) -> None:
    assert code_of(data) == code


def test_an_ack_of_ones_own_earlier_epoch_is_allowed() -> None:
    header: dict[int, CborItem] = {**HEADER, 2: 1, 6: [["alpha", 0, 4, bytes(32)]]}
    assert decode_block(signed(encode(header)), FEDERATION, KEYS).header.acks[0].feed.epoch == 0


def test_a_block_of_one_federation_is_worthless_in_another() -> None:
    block = Writer("alpha").write()
    with pytest.raises(InputError) as caught:
        decode_block(block.data, FederationId(bytes(32)), KEYS)
    assert caught.value.code == "block-signature"


def test_malformed_records_are_inert_and_leave_the_block_valid() -> None:
    data = with_records([{0: 1, 1: "alpha:1"}, {0: 999}, {0: 1}, {}, {0: 1, 1: 5}])
    block = decode_block(data, FEDERATION, KEYS)
    assert block.records[0] == Contact(address="alpha:1")
    codes = [record.code for record in block.records[1:] if isinstance(record, Inert)]
    assert codes == [
        "record-type-unknown",
        "record-field-missing",
        "record-type-unknown",
        "record-field-value",
    ]


@pytest.mark.parametrize(
    "change",
    [
        {"records": [Contact(address="nowhere")]},
        {"records": [Lost(claim_id=Position(CentreName("Beta"), 0, 0, 0))]},
        {"backlink": None},
        {"records": [CONTACT] * (RECORDS_PER_BLOCK_MAX + 1)},
        {"acks": {FeedKey(CentreName("alpha"), 0): Head(4, some_id("x"))}},
        {"time": hlc(1 << 48)},
    ],
    ids=["bad address", "bad position", "no backlink", "too many records", "own ack", "bad time"],
)
def test_a_centre_never_seals_what_others_would_refuse(change: dict[str, object]) -> None:
    arguments: dict[str, object] = {
        "federation": FEDERATION,
        "signer": private_key("alpha"),
        "kid": key_id(public_key("alpha")),
        "centre": CentreName("alpha"),
        "epoch": 0,
        "seq_num": 5,
        "backlink": some_id("before"),
        "time": hlc(START_MS),
        "acks": {},
        "records": [],
    }
    seal_block(**arguments)  # type: ignore[arg-type]  # the same call without the change succeeds
    with pytest.raises(StateError):
        seal_block(**{**arguments, **change})  # type: ignore[arg-type]


def test_a_block_of_the_greatest_size_is_sealed_and_read() -> None:
    records = [Contact(address=f"h{n:0199}:1") for n in range(RECORDS_PER_BLOCK_MAX)]
    block = Writer("alpha").write(records=records)
    assert len(decode_block(block.data, FEDERATION, KEYS).records) == RECORDS_PER_BLOCK_MAX


# Forks


def test_two_blocks_at_one_place_prove_a_fork_in_one_form() -> None:
    writer = Writer("alpha")
    other = writer.branch()
    first, second = writer.write(), other.write(records=[CONTACT])
    proof = fork_proof(first.header.cose, second.header.cose)
    assert proof == fork_proof(second.header.cose, first.header.cose)
    assert check_fork_proof(proof, FEDERATION, KEYS) == (first.feed, 0)


def test_a_fork_is_proven_by_headers_that_outlive_their_records() -> None:
    block = Writer("alpha").write(records=[CONTACT])
    message, _ = split_block(block.data)
    assert decode_header(message, FEDERATION, KEYS) == block.header


def fork_cases() -> dict[str, tuple[ForkProof, str]]:
    writer = Writer("alpha")
    other = writer.branch()
    first, second = writer.write(), other.write(records=[CONTACT])
    next_one = writer.write()
    low, high = sorted([first.header.cose, second.header.cose])
    foreign = Writer("mallory").write()
    return {
        "in the wrong order": (ForkProof(first=high, second=low), "fork-proof-order"),
        "one header twice": (ForkProof(first=low, second=low), "fork-proof-order"),
        "two places of one feed": (
            fork_proof(first.header.cose, next_one.header.cose),
            "fork-proof-place",
        ),
        "two feeds": (
            fork_proof(first.header.cose, Writer("beta").write().header.cose),
            "fork-proof-place",
        ),
        "a stranger's header": (
            fork_proof(first.header.cose, foreign.header.cose),
            "block-key-unknown",
        ),
        "a forged header": (ForkProof(first=low, second=flipped(high, -3)), "block-signature"),
    }


@pytest.mark.parametrize(("proof", "code"), fork_cases().values(), ids=fork_cases().keys())
def test_proves_no_fork(proof: ForkProof, code: str) -> None:
    with pytest.raises(InputError) as caught:
        check_fork_proof(proof, FEDERATION, KEYS)
    assert caught.value.code == code


def signed_with_another_nonce(message: bytes) -> bytes:
    """A second valid signature of what `message` signs: the nonce is the signer's choice."""
    p, order = 2**255 - 19, 2**252 + 27742317777372353535851937790883648493
    d = -121665 * pow(121666, -1, p) % p
    base_x = 15112221349535400772501151409588531511454012693041857206046113283949847762202
    base = (base_x, 4 * pow(5, -1, p) % p)

    def add(a: tuple[int, int], b: tuple[int, int]) -> tuple[int, int]:
        k = d * a[0] * b[0] * a[1] * b[1] % p
        x = (a[0] * b[1] + b[0] * a[1]) * pow(1 + k, -1, p) % p
        return x, (a[1] * b[1] + a[0] * b[0]) * pow(1 - k, -1, p) % p

    def times(n: int) -> bytes:
        total, power = (0, 1), base
        while n:
            total, power, n = add(total, power) if n & 1 else total, add(power, power), n >> 1
        return (total[1] | (total[0] & 1) << 255).to_bytes(32, "little")

    kid, payload, _ = cose.cut(message)
    seed = hashlib.sha512(private_key("alpha").private_bytes_raw()).digest()
    scalar = int.from_bytes(seed[:32], "little") & ((1 << 254) - 8) | 1 << 254
    nonce = 12345
    r = times(nonce)
    to_sign = r + public_key("alpha") + cose.to_be_signed(FEDERATION, kid, payload)
    challenge = int.from_bytes(hashlib.sha512(to_sign).digest(), "little")
    return message[:-64] + r + ((nonce + challenge * scalar) % order).to_bytes(32, "little")


def test_one_header_signed_twice_is_no_fork() -> None:
    message = Writer("alpha").write().header.cose
    again = signed_with_another_nonce(message)
    assert decode_header(again, FEDERATION, KEYS).block_id == peek_id(message)
    with pytest.raises(InputError) as caught:
        check_fork_proof(fork_proof(message, again), FEDERATION, KEYS)
    assert caught.value.code == "fork-proof-same"


def peek_id(message: bytes) -> bytes:
    return hashlib.sha256(cose.cut(message)[1]).digest()


def test_a_header_larger_than_any_is_not_even_cut() -> None:
    with pytest.raises(InputError) as caught:
        decode_header(bytes(HEADER_BYTES_MAX + 1), FEDERATION, KEYS)
    assert caught.value.code == "block-size"
