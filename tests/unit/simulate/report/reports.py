"""Small reports of real replays, for tests."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

from p2pfed.core.ids import CentreName
from p2pfed.simulate.report.model import Report
from p2pfed.simulate.study import Study, run_study
from p2pfed.simulate.workload.lublin import synthetic_trace


def small_study(centres: int = 2, jobs: int = 120) -> Study:
    """Invented centres, the first with more work than it can do."""
    return Study(
        traces=tuple(
            synthetic_trace(
                CentreName(f"centre-{number}"),
                procs=32,
                jobs=jobs,
                seed=7,
                load=1.1 if number == 0 else 0.4,
                start_unix_s=0,
            )
            for number in range(centres)
        )
    )


@cache
def small_report(centres: int = 2) -> Report:
    """The report of such a replay."""
    return run_study(small_study(centres))


def renamed(report: Report, name: str) -> Report:
    """The same report, its first centre called otherwise."""
    first = report.centres[0]
    flows = {name if home == first.centre else home: hosts for home, hosts in report.flows.items()}
    centres = (replace(first, centre=name), *report.centres[1:])
    return replace(report, centres=centres, flows=flows)
