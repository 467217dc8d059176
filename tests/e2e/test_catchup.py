"""A federation with a history, a newcomer with an empty folder: it begins with a checkpoint.

The first centre has moved its old blocks to the archive, so the newcomer's history comes out of
segments. It works before that has come, and in the end its own audit agrees with everybody's.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.charter import decode_charter
from p2pfed.store.segments import joined
from tests.e2e.federation import Centre, Federation

RULES = {"checkpoint_ms": 1_000, "notice_rounds": 2}


@pytest.fixture
def federation() -> Iterator[Federation]:
    with Federation.found("alpha", "beta", "gamma", rules=RULES, opened=("beta",)) as made:
        centre = made["alpha"]
        centre.edit_config('# keep = "30d"', 'keep = "1s"')
        centre.edit_config("# segment_kib = 16384", "segment_kib = 8")
        made.start()
        made.until_offers(1)
        yield made


def admitted(federation: Federation, name: str) -> Centre:
    """One more centre, by invitation and vote."""
    newcomer = federation.add(name, cores=2)
    invitation = newcomer.folder / "invitation.json"
    alpha = federation["alpha"]
    card = str(newcomer.folder / "card.json")
    told = alpha.cli("invite", card, "-o", str(invitation), "--json").json["proposal"]
    known, beta = told["proposal_id"], federation["beta"]
    beta.until(
        lambda client: known in {p["proposal_id"] for p in client.proposals()}, "the proposal"
    )
    beta.cli("vote", known, "yes")
    alpha.until(
        lambda client: name in {m["centre"] for m in client.members() if m["state"] == "member"},
        "the newcomer",
    )
    newcomer.cli("join", str(invitation))
    return newcomer


def archived(centre: Centre) -> int:
    return centre.status()["retention"]["archived_blocks"]


def test_a_newcomer_begins_with_a_checkpoint_and_gets_the_history_later(
    federation: Federation,
) -> None:
    alpha = federation["alpha"]
    jobs = [alpha.submit("#!/bin/sh\necho out\n") for _ in range(3)]
    alpha.until_over(jobs)
    alpha.until(lambda client: client.status()["retention"]["segments"] >= 3, "archive segments")
    delta = admitted(federation, "delta")
    taken = delta.cli("catchup", "--from", "alpha", "--json").json
    assert taken["giver"] == "alpha"
    assert len(taken["signers"]) >= 2
    assert taken["lacking_blocks"] > 20
    assert "begun" in delta.cli("catchup", code=None).err
    delta.begin()
    delta.until_linked(3)
    delta.until_writing()
    own = delta.submit("#!/bin/sh\necho from the newcomer\n")
    assert delta.until_over([own])[own]["state"] == "completed"
    assert delta.output(own) == "from the newcomer\n"
    delta.until(lambda client: not client.status()["warnings"], "the whole history")
    federation.until_settled()
    federation.common_digest()
    assert "history-confirmed" in delta.log
    assert not (delta.folder / "state" / "base").exists()
    report = delta.audit()
    assert report.ok, report
    assert report.admitted > taken["lacking_blocks"]
    ledgers = [str(centre.export()) for centre in (alpha, delta)]
    assert delta.cli("ledger", "diff", *ledgers, code=None).code == 0
    audit_of_the_archive(alpha)
    # The next start is like any other.
    assert delta.stop() == 0
    delta.start()
    delta.until_writing()
    assert delta.audit().ok


def audit_of_the_archive(centre: Centre) -> None:
    """A folder of segments is audited like an export."""
    charter = decode_charter((centre.folder / "charter.cbor").read_bytes())
    with joined(centre.folder / "archive") as file:
        report = audit_ledger(FileSource(file), expected=charter.federation_id, samples=0)
    assert report.severity is None, report.ledger.findings
    assert report.ledger.blocks > 20
    paths = [str(centre.folder / name) for name in ("archive", "charter.cbor")]
    shown = centre.cli("audit", paths[0], "--charter", paths[1], code=None)
    assert shown.code == 0, shown
