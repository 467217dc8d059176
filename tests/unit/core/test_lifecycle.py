"""The lifecycle's table and times; and docs/explanation/lifecycle.md shows the table as it is.

The part of the page between its markers is written from it: P2PFED_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfed.core.lifecycle import (
    BARRING_REASONS,
    BOUND_JOB,
    FREES_JOB,
    HOLDS_CAPACITY,
    HOME_MOVES,
    HOST_MOVES,
    JOINT,
    ClaimState,
    HomePhase,
    HostPhase,
    JobState,
    accept_until,
    begin_before,
    claim_until,
    kill_at,
    lease_until,
    may_accept,
    may_declare_lost,
    may_hand_over,
)
from p2pfed.core.rules import Rules

PAGE = Path(__file__).parents[3] / "docs" / "explanation" / "lifecycle.md"
BEGIN = "<!-- written from the tables by tests/unit/core/test_lifecycle.py -->\n"
END = "<!-- end of what is written -->\n"
RULES = Rules()
NOW_MS = 1_700_000_000_000


def diagram(moves: dict, first: HomePhase | HostPhase) -> list[str]:  # type: ignore[type-arg]
    lines = ["```mermaid", "stateDiagram-v2", f"  [*] --> {first.value}"]
    lines += [f"  {a.value} --> {b.value}: {record.__name__}" for (a, record), b in moves.items()]
    last = [p for p in type(first) if p not in {before for before, _ in moves}]
    return [*lines, *(f"  {phase.value} --> [*]" for phase in last), "```"]


def table() -> list[str]:
    head = "| home \\ host | " + " | ".join(host.value for host in HostPhase) + " |"
    rows = [
        f"| **{home.value}** | " + " | ".join(JOINT[home, host].value for host in HostPhase) + " |"
        for home in HomePhase
    ]
    return [head, "| --- " * (len(HostPhase) + 1) + "|", *rows]


def render() -> str:
    def listed(states: frozenset[ClaimState]) -> str:
        return ", ".join(state.value for state in ClaimState if state in states)

    return "\n".join(
        [
            "",
            "The home's side:",
            "",
            *diagram(HOME_MOVES, HomePhase.CLAIMED),
            "",
            "The host's side:",
            "",
            *diagram(HOST_MOVES, HostPhase.SILENT),
            "",
            "What the claim is follows from both:",
            "",
            *table(),
            "",
            f"It holds a part of its offer while it is {listed(HOLDS_CAPACITY)}. Its job may go",
            f"elsewhere once it is {listed(FREES_JOB)}, or ended and settled.",
            "",
            "",
        ]
    )


def test_the_page_shows_the_table_as_it_is() -> None:
    head, _, rest = PAGE.read_text().partition(BEGIN)
    body, _, tail = rest.partition(END)
    if "P2PFED_WRITE_DOCS" in os.environ:
        PAGE.write_text(head + BEGIN + render() + END + tail)
        return
    assert body == render(), "run it again with P2PFED_WRITE_DOCS=1"


def test_every_pair_of_sides_has_a_state() -> None:
    assert set(JOINT) == {(home, host) for home in HomePhase for host in HostPhase}


def test_a_claim_either_frees_its_job_or_binds_it() -> None:
    assert set(BOUND_JOB) | FREES_JOB == set(ClaimState)
    assert not set(BOUND_JOB) & FREES_JOB
    assert not HOLDS_CAPACITY & FREES_JOB


def test_every_job_state_has_a_word_of_psij() -> None:
    assert {state.psij for state in JobState} == {
        "QUEUED",
        "ACTIVE",
        "COMPLETED",
        "FAILED",
        "CANCELED",
    }
    assert {s for s in JobState if s.final} == {
        JobState.COMPLETED,
        JobState.FAILED,
        JobState.CANCELLED,
    }


def test_a_race_once_lost_bars_no_pair() -> None:
    assert {"policy", "denied", "unanswered", "constraint"} == BARRING_REASONS


def test_the_claim_ends_before_the_accept() -> None:
    until_ms = claim_until(NOW_MS, RULES, may_ask=False)
    assert until_ms <= accept_until(until_ms, RULES)


def test_a_claim_waits_longer_where_a_human_may_be_asked() -> None:
    assert claim_until(NOW_MS, RULES, may_ask=True) > claim_until(NOW_MS, RULES, may_ask=False)


@pytest.mark.parametrize("ahead_ms", [-RULES.clock_error_ms, 0, RULES.clock_error_ms])
def test_no_accept_comes_after_the_release_whatever_the_clocks(ahead_ms: int) -> None:
    until_ms = NOW_MS + 30_000
    last_ms = max(t for t in range(until_ms - 12_000, until_ms) if may_accept(t, until_ms, RULES))
    assert last_ms - ahead_ms < until_ms


@pytest.mark.parametrize("ahead_ms", [-RULES.clock_error_ms, 0, RULES.clock_error_ms])
def test_no_handover_comes_after_the_close_whatever_the_clocks(ahead_ms: int) -> None:
    until_ms = NOW_MS + 30_000
    last_ms = max(
        t for t in range(until_ms - 12_000, until_ms) if may_hand_over(t, until_ms, RULES)
    )
    assert last_ms + ahead_ms < until_ms


@pytest.mark.parametrize("walltime_s", [1, 3600, RULES.walltime_max_s])
def test_a_lease_has_room_for_fetching_queueing_running_and_killing(walltime_s: int) -> None:
    until_ms = lease_until(NOW_MS, walltime_s, RULES)
    late_ms = begin_before(until_ms, walltime_s, RULES)
    assert late_ms - NOW_MS == RULES.fetch_ms + RULES.queue_ms
    assert kill_at(until_ms, RULES) - late_ms == walltime_s * 1000 + RULES.kill_grace_ms


def test_all_is_dead_when_the_home_declares_it_lost_whatever_the_clocks() -> None:
    until_ms = lease_until(NOW_MS, 60, RULES)
    assert not may_declare_lost(until_ms - 1, until_ms)
    assert may_declare_lost(until_ms, until_ms)
    slowest_host_ms = kill_at(until_ms, RULES) + RULES.clock_error_ms
    assert slowest_host_ms <= until_ms


def test_no_lease_is_longer_than_a_careful_host_waits() -> None:
    longest_ms = lease_until(NOW_MS, RULES.walltime_max_s, RULES) - NOW_MS
    assert longest_ms <= RULES.lease_max_ms + RULES.clock_error_ms
