"""The members' decisions over the control API: what a caller sends, and what the door gets."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfed.core.charter import write_card
from p2pfed.core.records import ProposalKind
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError, StateError
from p2pfed.shell.client import Client
from tests.unit.core.councils import card_of
from tests.unit.shell.council_door import dispute_view, proposal_view, version_view
from tests.unit.shell.doors import MemoryDoor, served
from tests.writers import private_key


@pytest.fixture
def door(tmp_path_factory: pytest.TempPathFactory) -> MemoryDoor:
    return MemoryDoor(tmp_path_factory.mktemp("staging"))


@pytest.fixture
def client(door: MemoryDoor) -> Iterator[Client]:
    with served(door) as found:
        yield found


def test_questions_are_answered_as_the_door_answers_them(client: Client) -> None:
    assert client.proposals() == [proposal_view()]
    assert client.proposal("beta.4.0") == proposal_view()
    assert client.versions() == [version_view()]
    assert client.disputes() == [dispute_view()]
    assert client.why("beta")["fact"] == "beta is a member"
    assert client.why()["fact"] == "rules version 1 holds"
    assert Rules.from_mapping(client.rules()) == Rules()
    assert Rules.from_mapping(client.rules("beta.4.0")) == Rules()


def test_what_is_said_reaches_the_door(client: Client, door: MemoryDoor) -> None:
    client.vote("beta.4.0", in_favour=False, reason="too small")
    client.withdraw_proposal("beta.4.0")
    client.dispute("alpha.2.0", core_s=40, reason="it stood still")
    client.settle("alpha.3.0", core_s=70)
    assert client.leave(reason="moving") == "alpha.9.0"
    assert door.governance.said == [
        ("vote", "beta.4.0", False, "too small"),
        ("withdraw", "beta.4.0"),
        ("dispute", "alpha.2.0", 40, None, "it stood still"),
        ("settle", "alpha.3.0", 70, 0),
        ("leave", "moving"),
    ]


def test_a_card_is_read_with_its_signature(client: Client, door: MemoryDoor) -> None:
    text = write_card(card_of("gamma"), private_key("gamma"))
    client.propose("admit", card=text, reason="welcome", deadline_ms=5_000)
    ((_, request),) = door.governance.said
    card, signature = request.card  # type: ignore[attr-defined]
    assert (card, len(signature)) == (card_of("gamma"), 64)
    assert request.kind is ProposalKind.ADMIT  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("kind", "fields", "code"),
    [
        ("conquer", {}, "request-field-value"),
        ("admit", {"card": 3}, "request-field-value"),
        ("admit", {"card": "{}"}, "card-json"),
        ("rules", {"rules": {"round_ms": 1}}, "rules-value-range"),
        ("remove", {"subject": "Gamma"}, "centre-name"),
        ("remove", {"subject": "gamma", "because": "x"}, "request-field-unknown"),
        ("dispute", {"claim_id": "alpha"}, "position"),
        ("dispute", {"core_s": -1}, "request-field-value"),
    ],
)
def test_what_makes_no_sense_is_refused(
    client: Client, door: MemoryDoor, kind: str, fields: dict[str, object], code: str
) -> None:
    with pytest.raises(InputError) as caught:
        client.propose(kind, **fields)
    assert caught.value.code == code
    assert door.governance.said == []


def test_a_proposal_that_nobody_made_is_not_found(client: Client) -> None:
    with pytest.raises(StateError) as caught:
        client.proposal("beta.5.0")
    assert caught.value.code == "proposal-unknown"
