"""The page: whole, self-contained, safe with any name, and the same bytes for the same report."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from p2pfed.simulate.report import plots, plots_fairness
from p2pfed.simulate.report.model import Report
from p2pfed.simulate.report.page import render_page
from p2pfed.simulate.report.page_variants import render_variants
from p2pfed.simulate.report.wording import losers_of, verdict
from tests.unit.simulate.report.reports import renamed, small_report

PICTURES: list[Callable[[Report], str]] = [
    plots.draw_waits,
    plots.draw_distributions,
    plots.draw_utilisation,
    plots.draw_queues,
    plots.draw_balances,
    plots.draw_flows,
    plots_fairness.draw_fairness,
]


class Outside(HTMLParser):
    """Collects what a page would load or run, and the tags that it leaves open."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in {"script", "link", "iframe", "img", "object"}:
            self.found.append(tag)
        for name, value in attrs:
            local = (value or "").startswith(("data:", "#"))
            if name in {"src", "href", "srcset"} and not local:
                self.found.append(f"{tag} {name}={value}")
            if name.startswith("on"):
                self.found.append(f"{tag} {name}")
        if tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def check_page(page: str) -> None:
    outside = Outside()
    outside.feed(page)
    outside.close()
    assert outside.found == []
    assert outside.open == []
    assert not re.search(r"url\(|@import", page)


def test_a_page_loads_nothing_and_closes_what_it_opens() -> None:
    check_page(render_page(small_report(3)))


def test_a_page_of_variants_loads_nothing_either() -> None:
    report = small_report()
    check_page(render_variants([("round_ms=10000", report), ("a <b> & c", report)]))


def test_a_name_can_not_break_out_of_the_page() -> None:
    report = renamed(small_report(), '"><script>alert(1)</script>')
    check_page(render_page(report))
    check_page(render_variants([("<script>", report)]))


@pytest.mark.parametrize("draw", PICTURES)
@pytest.mark.parametrize("centres", [1, 2, 5])
def test_every_picture_is_a_document_of_its_own(
    draw: Callable[[Report], str], centres: int
) -> None:
    root = ET.fromstring(draw(small_report(centres)))
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    width, height = (float(v) for v in root.attrib["viewBox"].split()[2:])
    for mark in root.iter("{http://www.w3.org/2000/svg}text"):
        assert 0 <= float(mark.attrib["x"]) <= width, mark.text
        assert 0 <= float(mark.attrib["y"]) <= height, mark.text
    assert "nan" not in draw(small_report(centres))


def test_pictures_survive_a_replay_without_counted_jobs_or_accounts() -> None:
    report = small_report()
    centres = tuple(
        replace(c, accounts=(), wait_quantiles=dict.fromkeys(c.wait_quantiles, ()))
        for c in report.centres
    )
    for draw in PICTURES:
        ET.fromstring(draw(replace(report, centres=centres, flows={})))


def test_equal_reports_give_equal_bytes() -> None:
    again = small_report.__wrapped__()
    assert again is not small_report()
    assert render_page(again) == render_page(small_report())


def with_waits(report: Report, alone_s: float, federated_s: float) -> Report:
    """The report with other mean waits, of all jobs and of every centre's."""
    worlds = {
        **report.worlds,
        "isolated": replace(report.worlds["isolated"], wait_mean_s=alone_s),
        "federated": replace(report.worlds["federated"], wait_mean_s=federated_s),
    }
    centres = tuple(replace(centre, worlds=worlds) for centre in report.centres)
    return replace(report, worlds=worlds, centres=centres)


@pytest.mark.parametrize(
    ("alone_s", "federated_s", "words"),
    [
        (7_200, 720, "12 min on average instead of 2 h, 90 % less. At no centre"),
        (720, 7_200, "No: together, jobs would have waited 2 h on average instead of 12 min."),
        (720, 721, "would have changed little"),
        (0, 0, "nothing to gain"),
    ],
)
def test_the_verdict_says_what_the_figures_say(
    alone_s: float, federated_s: float, words: str
) -> None:
    report = with_waits(small_report(), alone_s, federated_s)
    assert words in verdict(report)
    assert bool(losers_of(report)) == (federated_s > alone_s)
