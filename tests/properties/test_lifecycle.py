"""Invariants 1 and 2 by exhaustion: every way in which one claim can go, second by second.

Home and host each act by the tables and times of `p2pfed.core.lifecycle`, at any second at which
they may, or not at all (a crash, a partition). Each learns of the other's records at any later
second, or never. Their clocks differ by up to ε. The batch system begins a job at any second that
its wrapper allows and ends it whenever it likes, at the latest when the batch system kills it.

In no state that can be reached may the job be free for another place, or its capacity for another
job, while it runs. With any one of the rules left out, the search finds such a state: so it looks.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import pytest

from p2pfed.core.lifecycle import (
    FREES_JOB,
    HOME_MOVES,
    HOST_MOVES,
    JOINT,
    ClaimState,
    HomePhase,
    HostPhase,
    accept_until,
    advance_home,
    advance_host,
    begin_before,
    claim_until,
    kill_at,
    lease_until,
    may_accept,
    may_declare_lost,
    may_hand_over,
)
from p2pfed.core.records import Accept, Close, End, Handover, Lost, Record, Release, Start
from p2pfed.core.rules import Rules

S = 1_000
RULES = Rules(
    objection_ms=0,
    clock_error_ms=S,
    claim_wait_ms=3 * S,
    accept_wait_ms=2 * S,
    fetch_ms=S,
    queue_ms=S,
    kill_grace_ms=S,
)
WALLTIME_S = 2
END_MS = 16 * S


@dataclass(frozen=True)
class Without:
    """The rules that are left out."""

    lease_wait: bool = False
    """Home declares a claim lost before its lease is over."""
    early_kill: bool = False
    """The batch system kills at the end of the lease, not ε before it."""
    no_enforcement: bool = False
    """Nobody but the daemon ends the job, and the daemon may be down."""
    lease: bool = False
    """The host starts what it accepted, without waiting for a lease."""
    final_close: bool = False
    """The host may start after it closed."""
    end_when_over: bool = False
    """End is written when the kill was asked for, not when the job was seen to be over."""
    release_rule: bool = False
    """Home releases a claim that it has handed over."""


class World(NamedTuple):
    """One claim, both its sides, and the one native job that it may lead to."""

    now_ms: int = 0
    home: HomePhase = HomePhase.CLAIMED
    host: HostPhase = HostPhase.SILENT
    home_knows: HostPhase = HostPhase.SILENT
    host_knows: HomePhase = HomePhase.CLAIMED
    lease_until_ms: int = 0
    submitted: bool = False
    running: bool = False
    kill_ms: int = 0


class Search:
    """Every world that can be reached with a host whose clock is ahead by `offset_ms`."""

    def __init__(self, offset_ms: int, without: Without) -> None:
        self.offset_ms = offset_ms
        self.without = without
        self.claim_until_ms = claim_until(0, RULES, may_ask=False)
        self.accept_until_ms = accept_until(self.claim_until_ms, RULES)

    def worlds(self) -> Iterator[World]:
        seen = {World()}
        left = [World()]
        while left:
            world = left.pop()
            yield world
            for found in self._next(world):
                if found not in seen:
                    seen.add(found)
                    left.append(found)

    def _next(self, world: World) -> Iterator[World]:
        yield world._replace(home_knows=world.host)
        yield world._replace(host_knows=world.home)
        yield from self._home(world)
        yield from self._host(world)
        yield from self._batch(world)
        if world.now_ms < END_MS:
            yield self._tick(world)

    def _tick(self, world: World) -> World:
        now_ms = world.now_ms + S
        killed = now_ms + self.offset_ms >= world.kill_ms and not self.without.no_enforcement
        return world._replace(now_ms=now_ms, running=world.running and not killed)

    def _home(self, world: World) -> Iterator[World]:
        sees = JOINT[world.home, world.home_knows]
        if sees in (ClaimState.CLAIMED, ClaimState.ACCEPTED):
            yield from self._as_home(world, Release)
        if sees is ClaimState.ACCEPTED and may_hand_over(world.now_ms, self.accept_until_ms, RULES):
            until_ms = lease_until(world.now_ms, WALLTIME_S, RULES)
            for handed in self._as_home(world, Handover):
                yield handed._replace(lease_until_ms=until_ms)
        if sees in (ClaimState.LEASED, ClaimState.STARTED):
            over = may_declare_lost(world.now_ms, world.lease_until_ms)
            if over or self.without.lease_wait:
                yield from self._as_home(world, Lost)
            if self.without.release_rule:
                yield world._replace(home=HomePhase.RELEASED)

    def _host(self, world: World) -> Iterator[World]:
        now_ms = world.now_ms + self.offset_ms
        sees = JOINT[world.host_knows, world.host]
        if sees is ClaimState.CLAIMED and may_accept(now_ms, self.claim_until_ms, RULES):
            yield from self._as_host(world, Accept)
        if world.host in (HostPhase.SILENT, HostPhase.ACCEPTED):
            yield from self._as_host(world, Close)
        before_ms = begin_before(world.lease_until_ms, WALLTIME_S, RULES)
        if sees is ClaimState.LEASED and world.host is HostPhase.ACCEPTED and now_ms < before_ms:
            for begun in self._as_host(world, Start):
                yield begun._replace(submitted=True)
        if sees is ClaimState.ACCEPTED and self.without.lease:
            for begun in self._as_host(world, Start):
                yield begun._replace(submitted=True, lease_until_ms=END_MS * 2)
        if world.host is HostPhase.CLOSED and self.without.final_close and not world.submitted:
            yield world._replace(submitted=True)
        if world.host is HostPhase.STARTED and (not world.running or self.without.end_when_over):
            # Whoever writes End without a running job has taken its start marker.
            for done in self._as_host(world, End):
                yield done._replace(submitted=False)

    def _batch(self, world: World) -> Iterator[World]:
        now_ms = world.now_ms + self.offset_ms
        if world.submitted and now_ms <= begin_before(world.lease_until_ms, WALLTIME_S, RULES):
            kill_ms = kill_at(world.lease_until_ms, RULES)
            if self.without.early_kill:
                kill_ms = world.lease_until_ms + RULES.clock_error_ms
            yield world._replace(submitted=False, running=True, kill_ms=kill_ms)
        if world.running:
            yield world._replace(running=False)

    def _as_home(self, world: World, record: type[Record]) -> Iterator[World]:
        phase = advance_home(world.home, record)
        if phase is not None:
            yield world._replace(home=phase)

    def _as_host(self, world: World, record: type[Record]) -> Iterator[World]:
        phase = advance_host(world.host, record)
        if phase is not None:
            yield world._replace(host=phase)


def job_is_free(world: World) -> bool:
    """True if the home may now place the job elsewhere."""
    sees = JOINT[world.home, world.home_knows]
    return sees in FREES_JOB or sees is ClaimState.ENDED


def capacity_is_free(world: World) -> bool:
    """True if the host's own books hold nothing for the claim any more."""
    sees = JOINT[world.host_knows, world.host]
    accepted = world.host is HostPhase.ACCEPTED and sees in (
        ClaimState.ACCEPTED,
        ClaimState.LEASED,
    )
    return not accepted and world.host is not HostPhase.STARTED


def breach(offset_ms: int, without: Without) -> World | None:
    for world in Search(offset_ms, without).worlds():
        if world.running and (job_is_free(world) or capacity_is_free(world)):
            return world
    return None


@pytest.mark.parametrize("offset_ms", [-S, 0, S])
def test_invariants_1_and_2_nothing_runs_that_is_free_for_another(offset_ms: int) -> None:
    assert breach(offset_ms, Without()) is None


@pytest.mark.parametrize("offset_ms", [-S, 0, S])
def test_every_state_of_the_table_that_honest_centres_can_reach_is_reached(offset_ms: int) -> None:
    reached = {(w.home, w.host) for w in Search(offset_ms, Without()).worlds()}
    never = set(JOINT) - reached
    # A start without a lease, a handover without an accept.
    assert never == {
        (HomePhase.CLAIMED, HostPhase.STARTED),
        (HomePhase.CLAIMED, HostPhase.ENDED),
        (HomePhase.RELEASED, HostPhase.STARTED),
        (HomePhase.RELEASED, HostPhase.ENDED),
        (HomePhase.HANDED, HostPhase.SILENT),
        (HomePhase.LOST, HostPhase.SILENT),
    }


@pytest.mark.parametrize("rule", Without.__dataclass_fields__)
def test_each_rule_closes_a_hole_that_opens_without_it(rule: str) -> None:
    without = replace(Without(), **{rule: True})
    assert any(breach(offset_ms, without) for offset_ms in (-S, 0, S))


@pytest.mark.parametrize("pair", JOINT, ids=lambda pair: f"{pair[0].value}-{pair[1].value}")
def test_from_every_state_the_home_alone_can_free_its_job(
    pair: tuple[HomePhase, HostPhase],
) -> None:
    home, host = pair
    ahead = [after for (before, _), after in HOME_MOVES.items() if before is home]
    free = FREES_JOB | {ClaimState.ENDED}
    assert JOINT[pair] in free or any(JOINT[after, host] in free for after in ahead)


def test_an_end_or_a_close_is_the_last_that_a_host_says() -> None:
    for phase in (HostPhase.ENDED, HostPhase.CLOSED):
        assert not [move for move in HOST_MOVES if move[0] is phase]


def test_what_was_handed_over_can_never_be_released() -> None:
    assert advance_home(HomePhase.HANDED, Release) is None
    assert advance_home(HomePhase.RELEASED, Handover) is None
