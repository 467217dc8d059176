"""Everything that the state holds is in its bytes, or follows from them."""

from __future__ import annotations

from dataclasses import fields

import pytest

from p2pfed.core import statecodec
from p2pfed.core.entries import ClaimEntry, HostSide, JobEntry, OfferEntry
from p2pfed.core.ids import FeedKey
from p2pfed.core.records import ForkProof
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.statecodec import (
    Section,
    dump_state,
    load_state,
    register_digests,
    register_name,
    state_hash,
)
from p2pfed.errors import InputError
from tests.properties.ledger_worlds import CREDIT_LINES, RULES, LedgerWorld

DERIVED = {
    JobEntry: {"claims", "shared"},
    OfferEntry: {"shared"},
    ClaimEntry: {"state", "shared"},
    HostSide: set(),
}
"""What is not written, because it follows from what is."""

STATE_WRITTEN = {"registers", "heard", "_accounts", "_witnesses", "_shares", "_class_of"}
STATE_WRITTEN |= {"_offered_rest", "_cut_ms"}
STATE_WRITTEN |= {"governance"}
STATE_GIVEN = {"rules", "members"}
STATE_DERIVED = {"version", "_posting_version", "_lived_by", "stale", "forked"}
STATE_DERIVED |= {"_queue", "_open", "_held", "_offers", "charges"}
STATE_DERIVED |= {"_closing", "_closed", "_classes", "inert_count"}
STATE_DERIVED |= {"_touched_jobs", "_touched_claims", "_stale_offers"}

REGISTERS_WRITTEN = {"offers", "jobs", "claims", "contacts", "folded"}
REGISTERS_GIVEN = {"_check_proof", "max_attempts", "governance", "_folders"}
REGISTERS_DERIVED = {"claims_by_offer", "_claims_at", "_early", "_twin", "_is_fork"}


GOVERNANCE_WRITTEN = {"said", "_seen", "convicted", "declared"}
GOVERNANCE_DERIVED = {"proposals", "votes", "_ambiguous", "withdrawn", "adopts", "leaves"}
GOVERNANCE_DERIVED |= {"disputes", "_watched", "_chain", "_forces", "folders", "_founding"}
GOVERNANCE_DERIVED |= {"_sees_claims"}


def convict(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise AssertionError("no proofs here")


def fresh() -> State:
    return State(RULES, CREDIT_LINES, convict)


@pytest.mark.parametrize(
    ("entry_class", "written"),
    [
        (OfferEntry, statecodec.OFFER_FIELDS),
        (JobEntry, statecodec.JOB_FIELDS),
        (ClaimEntry, statecodec.CLAIM_FIELDS),
        (HostSide, statecodec.SIDE_FIELDS),
    ],
)
def test_every_field_of_an_entry_is_written_or_follows(
    entry_class: type, written: tuple[tuple[str, object, object], ...]
) -> None:
    names = {name for name, _, _ in written}
    assert names | DERIVED[entry_class] == {field.name for field in fields(entry_class)}
    assert not names & DERIVED[entry_class]


def test_every_attribute_of_the_state_is_written_given_or_follows() -> None:
    """Who adds an attribute says here which it is, and writes it in `p2pfed.core.statecodec`."""
    assert set(vars(fresh())) == STATE_WRITTEN | STATE_GIVEN | STATE_DERIVED
    governance = set(vars(fresh().governance))
    assert governance == GOVERNANCE_WRITTEN | GOVERNANCE_DERIVED
    registers = set(vars(fresh().registers))
    assert registers == REGISTERS_WRITTEN | REGISTERS_GIVEN | REGISTERS_DERIVED


def folded(seed: int) -> State:
    state = fresh()
    for block in LedgerWorld(seed, 40).blocks:
        state.fold(block)
    state.settle(1_800_000_000_000)
    return state


def test_the_hash_is_that_of_the_loaded_state_and_of_no_other() -> None:
    one, other = dump_state(folded(1)), dump_state(folded(2))
    again = fresh()
    load_state(one, again)
    assert state_hash(dump_state(again)) == state_hash(one)
    assert state_hash(one) != state_hash(other)


def test_sections_ascend_and_each_register_has_a_name() -> None:
    sections = dump_state(folded(1))
    assert [part[:2] for part in sections] == sorted({part[:2] for part in sections})
    names = [
        register_name(section, index)
        for section in sections
        for index in range(len(register_digests(section)))
    ]
    assert len(set(names)) == len(names)
    assert any(name.startswith("claim alpha.") for name in names)
    assert "cut #0" in names


@pytest.mark.parametrize(
    "sections",
    [
        [],
        [Section("cut", "", b"\x81\x81\x01"), Section("job", "alpha", b"\x81\x80")],
        [Section("cut", "", b"\x81\x81\x01"), Section("job", "alpha", b"\x81\x01")],
        [Section("cut", "", b"\x80")],
    ],
    ids=["nothing", "a job of no fields", "a job that is a number", "no cut"],
)
def test_what_is_not_a_state_is_refused(sections: list[Section]) -> None:
    with pytest.raises(InputError, match="not a state"):
        load_state(sections, State(Rules(), {}, convict))
