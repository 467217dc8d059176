"""What honest centres wrote in an unkind world passes the audit, whoever saw how much of it."""

from __future__ import annotations

import io

import pytest

from p2pfed.core.audit import FileSource, audit_ledger
from p2pfed.core.audit.views import Views
from p2pfed.core.charter import encode_charter
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.simulate.scene import Faults
from tests.federation.scenarios import HOMES, UNKIND, busy_federation, heal

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
