"""Federations of two, where no vote is possible while one is down; and a centre in two of them.

The north is alpha and beta, the south alpha and gamma: the alphas are two daemons of one host, with
two folders, which know nothing of each other.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.federation import Centre, Federation, run_program
from tests.waiting import wait_until

HELLO = "#!/bin/bash\necho hello\n"


@pytest.fixture(scope="module")
def north() -> Iterator[Federation]:
    with Federation.found("alpha", "beta", cores=2, opened=("beta",)) as made:
        made.start()
        made.until_offers(1)
        yield made


def ran(home: Centre, host: str) -> str:
    """A job that ran to its end elsewhere; its id."""
    job_id = home.submit(HELLO)
    view = home.until_over([job_id])[job_id]
    assert (view["state"], view["host"]) == ("completed", host)
    assert home.output(job_id) == "hello\n"
    return job_id


def test_a_centre_in_two_federations_is_two_daemons_that_share_nothing(north: Federation) -> None:
    with Federation.found("alpha", "gamma", cores=2, opened=("gamma",)) as south:
        south.start()
        south.until_offers(1)
        # At once, and both first jobs of an alpha: their ids may be the same.
        ran(north["alpha"], "beta")
        ran(south["alpha"], "gamma")
        names = [m["centre"] for m in south["alpha"].cli("members", "--json").json["members"]]
        assert names == ["alpha", "gamma"]
        ids = {made["alpha"].status()["federation_id"] for made in (north, south)}
        assert len(ids) == 2
        # The key of the other alpha opens no door.
        stranger = south["alpha"].folder / "key.pem"
        assert stranger.read_bytes() != (north["alpha"].folder / "key.pem").read_bytes()


def test_the_evidence_of_a_dispute_can_be_checked_by_anybody(
    north: Federation, tmp_path: Path
) -> None:
    alpha, bundle = north["alpha"], tmp_path / "evidence.ledger"
    job_id = ran(alpha, "beta")
    alpha.cli("dispute", job_id, "--core-s", "0", "--reason", "it hung")
    shown = alpha.cli("disputes").out
    assert "open" in shown
    alpha.cli("evidence", job_id, "-o", str(bundle))
    answer = run_program("evidence", job_id, "--check", str(bundle), "--json", folder=tmp_path)
    types = [s["type"] for s in answer.json["statements"]]
    assert {"Job", "Claim", "Accept", "Handover", "Start", "End", "Receipt", "Dispute"} <= set(
        types
    )
    assert answer.json["federation_id"] == alpha.status()["federation_id"]
    disputed = next(s for s in answer.json["statements"] if s["type"] == "Dispute")
    assert (disputed["by"], disputed["says"]["reason"]) == ("alpha", "it hung")
    plain = run_program("evidence", job_id, "--check", str(bundle), folder=tmp_path).out
    assert "every signature is good" in plain
    forged = tmp_path / "forged.ledger"
    forged.write_bytes(bundle.read_bytes().replace(b"it hung", b"it sung"))
    refused = run_program("evidence", job_id, "--check", str(forged), folder=tmp_path, code=None)
    assert refused.code != 0
    assert "error" in refused.err


def test_proposed_rules_are_replayed_on_the_past_before_anybody_votes(
    north: Federation, tmp_path: Path
) -> None:
    alpha = north["alpha"]
    ran(alpha, "beta")
    change, page = tmp_path / "change.toml", tmp_path / "replay.html"
    change.write_text("balance_points = 0\nidle_rate_ppm = 1_000_000\n")
    before = alpha.cli("rules", "replay", str(change), "--json").json
    proposal = alpha.cli("rules", "propose", str(change), "--json").json["proposal"]["proposal_id"]
    after = alpha.cli("rules", "replay", proposal, "--json", "--html", str(page)).json
    assert {c["centre"] for c in after["centres"]} == {"alpha", "beta"}
    assert after["changes"] == before["changes"] and len(after["changes"]) == 2
    assert "<svg" in page.read_text()
    alpha.cli("propose", "withdraw", proposal)


def test_of_two_the_one_that_lost_its_disk_begins_anew_while_the_other_is_down(
    north: Federation,
) -> None:
    alpha, beta = north["alpha"], north["beta"]
    needless = alpha.cli("epoch", "declare", "--yes", code=3)
    assert "[epoch-not-needed]" in needless.err
    beta.kill()
    alpha.kill()
    shutil.rmtree(alpha.folder / "state")
    (alpha.folder / "highwater").unlink()
    alpha.start()
    alpha.until(lambda c: any("beta has not" in w for w in c.status()["warnings"]), "that it waits")
    begun = alpha.cli("epoch", "declare", "--yes", "--reason", "disk lost, beta is down", "--json")
    assert begun.json["epoch"] == 1
    status = alpha.status()
    assert (status["epoch"], status["recovering"]) == (1, False)
    beta.start()
    north.until_offers(1)
    beta.until(
        lambda c: any((m["centre"], m["epoch"]) == ("alpha", 1) for m in c.members()), "the epoch"
    )
    ran(alpha, "beta")
    for centre in north:
        report = centre.audit()
        assert report.ok and not report.findings, report.findings
    wait_until(lambda: bool(north.common_digest()), "a common view")
