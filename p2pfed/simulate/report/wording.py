"""What the report says in words: the verdict, and figures for people."""

from __future__ import annotations

from typing import Final

from p2pfed.draw.svg import duration
from p2pfed.simulate.report.model import CentreReport, Report

SIZE_NAMES: Final = {
    "narrow": "up to 25 %",
    "medium": "up to 50 %",
    "wide": "over 50 %",
}
"""The size classes of jobs, for people."""


def percent(ppm: int) -> str:
    """`62.4 %` for 624 000."""
    return f"{ppm / 10_000:.1f} %"


def verdict(report: Report) -> str:
    """The answer: what all users gain, whether a centre's lose, and what jobs of which size."""
    alone = report.worlds["isolated"].wait_mean_s
    federated = report.worlds["federated"].wait_mean_s
    if report.worlds["isolated"].jobs == 0:
        return "No job was counted: all of them were submitted during the warm-up."
    if alone == 0 and federated == 0:
        return "No job waited, alone or federated: there was nothing to gain."
    gain = 1 - federated / alone if alone else -1.0
    if abs(gain) < 0.01:
        first = f"Federation would have changed little: jobs wait {duration(alone)} on average."
    elif gain > 0:
        first = (
            f"Yes: together, jobs would have waited {duration(federated)} on average instead of"
            f" {duration(alone)}, {gain * 100:.0f} % less."
        )
    else:
        first = (
            f"No: together, jobs would have waited {duration(federated)} on average instead of"
            f" {duration(alone)}."
        )
    return f"{first} {_losers(report)}"


def fairness_words(report: Report) -> str:
    """How alike the centres' users are served, alone and federated."""
    alone, federated = report.fairness_ppm["isolated"], report.fairness_ppm["federated"]
    return (
        f"Fairness between centres (Jain's index of their users' satisfaction): {percent(alone)}"
        f" alone, {percent(federated)} federated."
    )


def losers_of(report: Report) -> tuple[CentreReport, ...]:
    """The centres whose own jobs wait longer federated than alone, on average."""
    return tuple(
        c
        for c in report.centres
        if c.worlds["federated"].wait_mean_s > c.worlds["isolated"].wait_mean_s
    )


def _losers(report: Report) -> str:
    losers = [
        f"{c.centre} ({duration(c.worlds['federated'].wait_mean_s)} instead of"
        f" {duration(c.worlds['isolated'].wait_mean_s)})"
        for c in losers_of(report)
    ]
    worse = ", ".join(
        f"{c.centre} ({SIZE_NAMES[part.name]} of its machine)"
        for c in report.centres
        for part in c.classes
        if part.worse
    )
    tail = f" The longest waits would have grown for some jobs of {worse}." if worse else ""
    if not losers:
        return f"At no centre would its own users have waited longer on average.{tail}"
    return f"Users would have waited longer at {', '.join(losers)}.{tail}"
