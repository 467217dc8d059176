"""The report's values: consistent with each other and with the jobs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from p2pfed.simulate.report import model
from p2pfed.simulate.report.collect import STEPS
from p2pfed.simulate.report.model import FORMAT, WORLDS
from tests.unit.simulate.report.reports import small_report

PAGE = Path(__file__).parents[4] / "docs" / "reference" / "simulate.md"


def test_centres_add_up_to_all() -> None:
    report = small_report(3)
    for world in WORLDS:
        whole = report.worlds[world]
        parts = [centre.worlds[world] for centre in report.centres]
        assert sum(part.jobs for part in parts) == whole.jobs > 0
        waited = sum(part.wait_mean_s * part.jobs for part in parts)
        assert waited / whole.jobs == pytest.approx(whole.wait_mean_s, abs=0.01)
    assert sum(c.exported for c in report.centres) == sum(c.hosted for c in report.centres) > 0


def test_size_classes_add_up_to_their_centre() -> None:
    for centre in small_report(3).centres:
        assert sum(part.jobs for part in centre.classes) == centre.worlds["isolated"].jobs


def test_nobody_uses_more_than_there_is() -> None:
    for centre in small_report(3).centres:
        activity = centre.activity
        both = [a + b for a, b in zip(activity.own, activity.guests, strict=True)]
        assert len(both) == STEPS
        assert max(both) <= centre.processors + 0.01
        assert max(activity.isolated) <= centre.processors + 0.01
        assert min(both) >= 0


def test_guests_are_at_hosts_what_exported_work_is_at_homes() -> None:
    report = small_report(3)
    for centre in report.centres:
        work = report.flows[centre.centre]
        away = sum(amount for host, amount in work.items() if host != centre.centre)
        assert (away > 0) == (centre.exported > 0)


def test_the_document_is_json_of_exactly_the_documented_fields() -> None:
    report = small_report()
    document = json.loads(json.dumps(report.to_json()))
    assert document["format"] == FORMAT
    text = PAGE.read_text(encoding="utf-8")
    for table in (model.Report, model.CentreReport, model.Figures, model.SizeClass,
                  model.Account, model.Activity):  # fmt: skip
        for name in table.__dataclass_fields__:
            assert f"| `{name}` |" in text, f"{table.__name__}.{name}"
