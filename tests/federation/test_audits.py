"""What honest centres wrote in an unkind world passes the audit, whoever saw how much of it."""

from __future__ import annotations

import io

import pytest

from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.audit.views import Views
from p2pfed.core.charter import encode_charter
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.simulate.scene import Faults
from tests.federation.councils import NAMES, agreed, propose_rules, vote
from tests.federation.scenarios import CALM, HOMES, UNKIND, busy_federation, heal, job
from tests.federation.test_forks import (
    FORKER,
    agree,
    fork,
    founded,
    names,
    others,
    verdicts,
)

SLOW = Faults(delay_ms=(1, 900))
"""Slower than rounds settle: homes match before they have heard everything."""


@pytest.mark.parametrize(("faults", "seed"), [(UNKIND, 4), (SLOW, 1)])
def test_no_honest_centre_is_accused(
    faults: Faults, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = busy_federation(seed, faults, jobs=12)
    world.run(30_000)
    heal(world)
    apart: list[str] = []
    state_at = Views.state_at

    def counted(views: Views, *arguments: object) -> object:
        apart.append("")
        return state_at(views, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(Views, "state_at", counted)
    blocks = world.centres[HOMES[0]].disk.blocks
    data = b"".join(write_ledger(encode_charter(world.charter), blocks))
    report = audit_ledger(FileSource(io.BytesIO(data)), expected=world.federation.id)
    assert report.ledger.findings == ()
    assert sum(tally.justified for tally in report.claims.values()) >= 12
    if faults is SLOW:
        assert apart, "no home saw less than the others: the test shows nothing"


@pytest.mark.parametrize(("seed", "centres"), [(6, 4), (5, 3)])
def test_of_a_forked_ledger_only_the_forker_is_accused(seed: int, centres: int) -> None:
    world = founded(seed, centres)
    rest = sorted(names(world) - {FORKER})
    middle = (len(rest) + 1) // 2
    fork(world, set(rest[:middle]), set(rest[middle:]), jobs=True)
    assert world.run(60_000, lambda: bool(verdicts(world)[0].suspended) and agree(world))
    for number, name in enumerate(rest):
        world.submit(name, job(10 + number))
    world.run(30_000)
    assert world.run(60_000, lambda: agree(world))
    for centre in others(world):
        assert centre.node is not None
        ledger = centre.node.ledger
        data = b"".join(write_ledger(encode_charter(world.charter), centre.disk.blocks))
        report = audit_ledger(FileSource(io.BytesIO(data)), at_ms=ledger.view.cut_ms)
        assert report.ledger.ok
        assert {finding.centre for finding in report.ledger.findings} == {FORKER}
        assert {"fork", "fork-branches", "fork-proven"} <= set(report.ledger.counts)
        # What counts, and so every balance, is what the daemons make of the two branches.
        state, cut_ms = ledger.view.state, ledger.view.cut_ms
        stated = {line.centre: line.standing for line in report.ledger.balances}
        assert stated == {name: state.standing(name, cut_ms) for name in names(world)}
        assert report.ledger.cut_digest == ledger.digest(cut_ms)
        assert sum(tally.justified for tally in report.claims.values()) >= len(rest)


def test_rules_and_rounds_that_changed_are_followed() -> None:
    world = busy_federation(1, SLOW, jobs=12)
    world.run(2_000)
    world.faults = CALM
    proposal = propose_rules(world, NAMES[0], round_ms=2_000, claim_wait_ms=6_000)
    vote(world, proposal, *NAMES[1:3])
    assert world.run(90_000, lambda: agreed(world, 2))
    for number, home in enumerate(HOMES * 3):
        world.submit(home, job(40 + number))
    heal(world)
    centre = world.centres[HOMES[1]]
    assert centre.node is not None
    data = b"".join(write_ledger(encode_charter(world.charter), centre.disk.blocks))
    report = audit_ledger(FileSource(io.BytesIO(data)))
    assert report.ledger.findings == ()
    assert [version.rules_version for version in report.versions] == [1, 2]
    assert len(report.versions[1].votes) >= 2
    assert sum(tally.justified for tally in report.claims.values()) >= 18
