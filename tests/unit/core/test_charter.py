"""A federation starts when every founder has signed one charter."""

from __future__ import annotations

import dataclasses
import hashlib
import json

import pytest

from p2pfed.core import cose
from p2pfed.core.charter import (
    CHARTER_CONTEXT,
    Card,
    Charter,
    check_charter,
    decode_charter,
    draft_charter,
    encode_charter,
    merge_charters,
    parse_card,
    sign_charter,
    write_card,
)
from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError, P2pfedError, StateError
from tests.writers import START_MS, private_key, public_key

RULES = Rules()


def card(name: str) -> Card:
    return Card(
        name=CentreName(name),
        public_key=public_key(name),
        address=f"{name}.example.org:7411",
        credit_line=86_400,
    )


def draft() -> Charter:
    return draft_charter([card("beta"), card("alpha")], RULES, "testbed", START_MS)


def signed(*names: str) -> Charter:
    charter = draft()
    for name in names:
        charter = sign_charter(charter, CentreName(name), private_key(name))
    return charter


# Cards


def test_a_card_file_is_read_back() -> None:
    text = write_card(card("alpha"), private_key("alpha"))
    assert parse_card(text) == card("alpha")
    assert list(json.loads(text)) == [
        "p2pfed_card",
        "name",
        "public_key",
        "address",
        "credit_line",
        "signature",
    ]


def test_a_card_is_written_with_its_own_key_only() -> None:
    with pytest.raises(StateError) as caught:
        write_card(card("alpha"), private_key("beta"))
    assert caught.value.code == "card-signer"


def with_field(**changes: object) -> str:
    content = json.loads(write_card(card("alpha"), private_key("alpha")))
    content.update(changes)
    return json.dumps({key: value for key, value in content.items() if value is not ...})


BAD_CARDS = {
    "not JSON": ("name = alpha", "card-json"),
    "JSON of something else": ("[1]", "card-json"),
    "nested without end": ("[" * 100_000, "card-json"),
    "no version": (with_field(p2pfed_card=...), "card-json"),
    "a version that is true": (with_field(p2pfed_card=True), "card-json"),
    "a later version": (with_field(p2pfed_card=2), "card-version"),
    "an unknown field": (with_field(colour="red"), "card-field"),
    "no address": (with_field(address=...), "card-field"),
    "a name that is a number": (with_field(name=1), "card-field"),
    "a name nobody can have": (with_field(name="Alpha"), "centre-name"),
    "a key in capitals": (with_field(public_key="AB" * 32), "card-field"),
    "a key of 31 bytes": (with_field(public_key="ab" * 31), "key-length"),
    "a key of small order": (with_field(public_key="00" * 32), "key-small-order"),
    "a signature that is no hexadecimal": (with_field(signature="xy"), "card-field"),
    "a signature of another length": (with_field(signature="00"), "card-signature"),
    "an address without port": (with_field(address="alpha.example.org"), "card-address"),
    "an address with port 0": (with_field(address="alpha:0"), "card-address"),
    "an address with port 65536": (with_field(address="alpha:65536"), "card-address"),
    "a negative credit line": (with_field(credit_line=-1), "card-credit-line"),
    "a credit line that is true": (with_field(credit_line=True), "card-credit-line"),
    "a credit line that is a float": (with_field(credit_line=1.5), "card-credit-line"),
    "an address changed after signing": (with_field(address="mallory:1"), "card-signature"),
    "another centre's key": (with_field(public_key=public_key("beta").hex()), "card-signature"),
}


@pytest.mark.parametrize(("text", "code"), BAD_CARDS.values(), ids=BAD_CARDS.keys())
def test_refuses_a_card_with(text: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_card(text, where="card.json")
    assert (caught.value.code, caught.value.where) == (code, "card.json")


# Drafting and signing


def test_a_draft_puts_the_founders_in_order_and_has_no_signature() -> None:
    charter = draft()
    assert [founder.name for founder in charter.founders] == ["alpha", "beta"]
    assert charter.rules == RULES
    assert check_charter(charter).missing == ("alpha", "beta")
    assert charter.founder("alpha") == card("alpha")
    assert charter.founder("gamma") is None
    assert [centre for centre, _ in list(charter.keys())] == ["alpha", "beta"]


def test_the_federation_id_is_the_hash_of_the_payload_and_the_same_for_every_drafter() -> None:
    other = draft_charter([card("alpha"), card("beta")], RULES, "testbed", START_MS)
    assert other.federation_id == draft().federation_id
    assert other.federation_id == hashlib.sha256(draft().payload).digest()
    assert signed("alpha").federation_id == draft().federation_id


def test_a_charter_is_complete_when_every_founder_has_signed() -> None:
    assert check_charter(signed("alpha")).signed == ("alpha",)
    assert check_charter(signed("alpha")).missing == ("beta",)
    assert not check_charter(signed("alpha")).complete
    assert check_charter(signed("alpha", "beta")).complete


def test_copies_that_different_founders_signed_are_merged() -> None:
    merged = merge_charters([signed("beta"), signed("alpha"), draft()])
    assert merged == signed("alpha", "beta")
    assert encode_charter(merged) == encode_charter(signed("beta", "alpha"))


def test_signing_twice_changes_nothing() -> None:
    assert signed("alpha", "alpha") == signed("alpha")


def test_copies_of_different_charters_are_not_merged() -> None:
    other = draft_charter([card("alpha"), card("beta")], RULES, "testbed", START_MS + 1)
    with pytest.raises(InputError) as caught:
        merge_charters([signed("alpha"), other])
    assert caught.value.code == "charter-differs"


@pytest.mark.parametrize("names", [(), ("alpha",), ("alpha", "beta")])
def test_a_charter_file_is_read_back(names: tuple[str, ...]) -> None:
    charter = signed(*names)
    assert decode_charter(encode_charter(charter)) == charter


def test_only_a_founder_signs_and_only_with_its_own_key() -> None:
    with pytest.raises(InputError) as stranger:
        sign_charter(draft(), CentreName("gamma"), private_key("gamma"))
    assert stranger.value.code == "charter-not-founder"
    with pytest.raises(StateError) as wrong_key:
        sign_charter(draft(), CentreName("alpha"), private_key("beta"))
    assert wrong_key.value.code == "charter-signer"


def double_key() -> list[Card]:
    return [card("alpha"), dataclasses.replace(card("beta"), public_key=public_key("alpha"))]


@pytest.mark.parametrize(
    ("cards", "name", "created_ms", "code"),
    [
        ([], "testbed", START_MS, "charter-founders"),
        ([card("alpha"), card("alpha")], "testbed", START_MS, "charter-founders"),
        (double_key(), "testbed", START_MS, "key-shared"),
        ([card("alpha")], "Test Bed", START_MS, "charter-name"),
        ([card("alpha")], "testbed", -1, "charter-created"),
    ],
    ids=["no founder", "one name twice", "one key twice", "a bad name", "a time before 1970"],
)
def test_drafts_no_charter_with(cards: list[Card], name: str, created_ms: int, code: str) -> None:
    with pytest.raises(InputError) as caught:
        draft_charter(cards, RULES, name, created_ms)
    assert caught.value.code == code


# Reading what a stranger sends

PAYLOAD = decode(draft().payload, limit=1 << 20)
assert isinstance(PAYLOAD, dict)


def file_of(payload: CborItem, *messages: CborItem) -> bytes:
    return encode([encode(payload), list(messages)])


def message(
    name: str, payload: bytes = draft().payload, context: bytes = CHARTER_CONTEXT
) -> CborItem:
    kid = key_id(public_key(name))
    signature = private_key(name).sign(cose.to_be_signed(context, kid, payload))
    return [cose.protected(kid), {}, None, signature]


def by_key(*names: str) -> list[str]:
    return sorted(names, key=lambda name: key_id(public_key(name)))


LOW, HIGH = by_key("alpha", "beta")
ALPHA = card("alpha").to_wire()
BAD_CHARTERS: dict[str, tuple[bytes, str]] = {
    "nothing": (b"", "cbor-malformed"),
    "no array": (encode({0: 1}), "charter-form"),
    "a payload that is no CBOR": (encode([b"\xff", []]), "cbor-malformed"),
    "a payload of version 2": (file_of({**PAYLOAD, 0: 2}), "charter-form"),
    "a payload with an unknown field": (file_of({**PAYLOAD, 9: 2}), "charter-form"),
    "a founder of card version 2": (file_of({**PAYLOAD, 3: [{**ALPHA, 0: 2}]}), "card-field"),
    "a founder with an unknown field": (file_of({**PAYLOAD, 3: [{**ALPHA, 9: 2}]}), "card-field"),
    "a founder that is a number": (file_of({**PAYLOAD, 3: [7]}), "card-field"),
    "a founder with a bad key": (
        file_of({**PAYLOAD, 3: [{**ALPHA, 2: bytes(32)}]}),
        "key-small-order",
    ),
    "founders out of order": (
        file_of({**PAYLOAD, 3: [card("beta").to_wire(), ALPHA]}),
        "charter-founders",
    ),
    "rules that are no rules": (file_of({**PAYLOAD, 4: {9: 1}}), "rules-form"),
    "a signature that is a number": (file_of(PAYLOAD, 5), "charter-form"),
    "a signature with payload attached": (
        file_of(PAYLOAD, [cose.protected(bytes(16)), {}, b"x", bytes(64)]),
        "charter-form",
    ),
    "a signature with an unprotected header": (
        file_of(PAYLOAD, [cose.protected(bytes(16)), {4: b""}, None, bytes(64)]),
        "charter-form",
    ),
    "a signature by no founder": (file_of(PAYLOAD, message("gamma")), "charter-signer-unknown"),
    "a signature of another charter": (
        file_of(PAYLOAD, message("alpha", payload=b"another")),
        "charter-signature",
    ),
    "a signature that was meant for a card": (
        file_of(PAYLOAD, message("alpha", context=b"p2pfed card")),
        "charter-signature",
    ),
    "one founder's signature twice": (
        file_of(PAYLOAD, message("alpha"), message("alpha")),
        "charter-form",
    ),
    "signatures out of order": (file_of(PAYLOAD, message(HIGH), message(LOW)), "charter-form"),
}


@pytest.mark.parametrize(("data", "code"), BAD_CHARTERS.values(), ids=BAD_CHARTERS.keys())
def test_refuses_a_charter_with(data: bytes, code: str) -> None:
    with pytest.raises(P2pfedError) as caught:
        decode_charter(data)
    assert isinstance(caught.value, InputError)
    assert caught.value.code == code


def test_the_baseline_of_the_cases_above_is_a_good_charter() -> None:
    found = decode_charter(file_of(PAYLOAD, message(LOW), message(HIGH)))
    assert found == signed("alpha", "beta")


def test_a_card_knows_its_key_as_a_key() -> None:
    assert PublicKey(card("alpha").public_key) == public_key("alpha")
