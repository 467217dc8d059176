"""Vectors that others made: Wycheproof for Ed25519, RFC 8949 for CBOR, the COSE examples.

They are no part of the repository. They are looked for in `vectors` of the folder that
`$P2PFED_SHARED` names, or of a folder `shared` beside the repository; else these tests are skipped.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import cbor2
import pytest

from p2pfed.core.codec import decode, encode
from p2pfed.core.keys import parse_public_key, verify
from p2pfed.errors import InputError

SHARED = Path(os.environ.get("P2PFED_SHARED", Path(__file__).parents[3] / "shared"))
FOLDER = SHARED / "vectors"

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"the vectors are not in {FOLDER}")


def load(name: str) -> Any:
    return json.loads((FOLDER / name).read_text(encoding="utf-8"))


def in_subset(item: object) -> bool:
    """What docs/reference/wire-format.md admits, written as the definition."""
    match item:
        case None | bool() | str() | bytes():
            return True
        case int():
            return -(1 << 64) <= item < 1 << 64
        case list():
            return all(map(in_subset, item))
        case dict():
            return all(type(k) is int and 0 <= k <= 23 and in_subset(v) for k, v in item.items())
        case _:
            return False


def test_the_examples_of_the_cbor_standard_are_read_or_refused_as_the_subset_says() -> None:
    read, refused = 0, 0
    for vector in load("cbor_appendix_a.json"):
        data = bytes.fromhex(vector["hex"])
        tagged = data[0] >> 5 == 6
        try:
            item = cbor2.loads(data)
        except cbor2.CBORDecodeError:
            item = ...  # f818, which the present standard forbids
        wanted = vector["roundtrip"] and not tagged and in_subset(item)
        if wanted:
            assert decode(data, limit=1 << 16) == vector.get("decoded", item)
            assert encode(decode(data, limit=1 << 16)) == data
            read += 1
        else:
            with pytest.raises(InputError):
                decode(data, limit=1 << 16)
            refused += 1
    assert (read, refused) == (READ, REFUSED)


READ, REFUSED = 34, 48
"""Of the 82 examples; a change means that the subset changed."""


def test_signatures_of_wycheproof_are_judged_as_stated() -> None:
    judged = 0
    for group in load("wycheproof_ed25519.json")["testGroups"]:
        key = parse_public_key(bytes.fromhex(group["publicKey"]["pk"]))
        for case in group["tests"]:
            good = verify(key, bytes.fromhex(case["sig"]), bytes.fromhex(case["msg"]))
            assert good == (case["result"] == "valid"), (case["tcId"], case["comment"])
            judged += 1
    assert judged == 151


def test_the_signature_of_another_cose_implementation_is_good() -> None:
    example = load("cose_eddsa_sig_01.json")
    key = parse_public_key(bytes.fromhex(example["input"]["sign0"]["key"]["x_hex"]))
    message = cbor2.loads(bytes.fromhex(example["output"]["cbor"]))
    protected, _, payload, signature = message.value
    to_be_signed = encode(["Signature1", protected, b"", payload])
    assert to_be_signed.hex().upper() == example["intermediates"]["ToBeSign_hex"]
    assert verify(key, signature, to_be_signed)
    assert not verify(key, signature, to_be_signed + b"\x00")
