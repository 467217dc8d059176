"""A table of bad ledgers, each with a name and what an audit must find; for every implementation.

`bad_ledgers.json` holds whole ledger files in base64 with the codes that `p2pfed audit` gives. The
files change only with the wire format; P2PFED_WRITE_VECTORS=1 writes the table anew.
"""

from __future__ import annotations

import base64
import io
import json
import os
from pathlib import Path
from typing import Any

import pytest

from p2pfed.core.audit import FileSource, Severity, audit_ledger
from p2pfed.core.audit.catalogue import explanation_of
from p2pfed.simulate.scribes import Scribes
from tests.unit.core.audit.test_check import BAD_LEDGERS
from tests.unit.core.audit.test_conduct import BREACHES, RULES
from tests.vectors import stranger

FILE = Path(__file__).with_name("bad_ledgers.json")
BYTES_MAX = 14_000
"""Larger ledgers are left to the unit tests."""


def found_in(data: bytes) -> dict[str, int]:
    return dict(sorted(audit_ledger(FileSource(io.BytesIO(data)), samples=0).ledger.counts.items()))


def made() -> dict[str, Any]:
    ledgers: dict[str, bytes] = {name: make() for name, (_, make) in BAD_LEDGERS.items()}
    for name, (_, breach) in BREACHES.items():
        scribes = Scribes(
            3, jobs=2, per_round=1, rules=RULES, walltimes_s=(20,), rounds_max=10, tamper=breach()
        )
        ledgers[name] = b"".join(scribes.export())
    return {
        "about": "Bad ledger files and what an audit finds in them; docs/reference/audit-codes.md",
        "ledgers": [
            {"name": name, "codes": codes, "data": base64.b64encode(data).decode()}
            for name, data in ledgers.items()
            if len(data) <= BYTES_MAX and (codes := found_in(data))
        ],
    }


if "P2PFED_WRITE_VECTORS" in os.environ:
    FILE.write_text(json.dumps(made(), indent=1) + "\n", encoding="utf-8")
TABLE = json.loads(FILE.read_text(encoding="utf-8"))["ledgers"]


@pytest.mark.parametrize("ledger", TABLE, ids=lambda ledger: ledger["name"])
def test_the_audit_finds_what_the_table_says(ledger: dict[str, Any]) -> None:
    assert found_in(base64.b64decode(ledger["data"])) == ledger["codes"]


@pytest.mark.parametrize("ledger", TABLE, ids=lambda ledger: ledger["name"])
def test_a_stranger_refuses_those_that_are_not_valid_and_takes_the_rest(
    ledger: dict[str, Any],
) -> None:
    weights = {(explanation_of(code) or pytest.fail(code)).severity for code in ledger["codes"]}
    data = base64.b64decode(ledger["data"])
    if Severity.ERROR in weights:
        with pytest.raises(stranger.WrongError):
            stranger.verify(data)
    else:
        stranger.verify(data)


def test_every_kind_of_fault_is_in_the_table() -> None:
    codes = {code for ledger in TABLE for code in ledger["codes"]}
    assert {"block-signature", "tail-withheld", "fork-branch", "ledger-truncated"} <= codes
    assert {"claim-unjustified", "claim-view-false", "capacity-exceeded", "lease-double"} <= codes
    assert len(TABLE) > 40
