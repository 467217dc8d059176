"""Local jobs first, exactly: preemptible guests change no scheduling pass of their host."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.simulate.workload.machine import Machine
from p2pfed.simulate.workload.options import PREEMPTIBLE, CentrePolicy

PROCS = 10
COUNT = 30
steps_st = st.lists(
    st.tuples(st.sampled_from(["local", "guest", "end", "end guest", "wait"]), st.integers(0, 99)),
    max_size=80,
)
jobs_st = st.lists(
    st.tuples(st.integers(1, PROCS), st.integers(1, 20)), min_size=COUNT, max_size=COUNT
)


def play(
    policy: CentrePolicy, jobs: list[tuple[int, int]], steps: list[tuple[str, int]], guests: bool
) -> list[tuple[int, list[int]]]:
    """Every pass of a machine: (time, local jobs started). Guests come only if told so."""
    width = [procs for procs, _ in jobs]
    walltime_ms = [asked * 1_000 for _, asked in jobs]
    machine = Machine(PROCS, policy, width, walltime_ms)
    now, coming = 0, iter(range(COUNT))
    passes: list[tuple[int, list[int]]] = []
    ends: dict[int, int] = {}  # of local jobs
    for kind, number in steps:
        if kind in ("local", "guest"):
            job = next(coming, None)
            if job is None:
                continue
            if kind == "local":
                machine.submit(job)
            elif guests and machine.takes(now, job, 0):
                machine.admit_guest(job, now + walltime_ms[job], long=machine.is_long(job))
        elif kind == "end" and ends:
            job = sorted(ends)[number % len(ends)]
            machine.end_local(ends.pop(job), job)
        elif kind == "end guest":
            if machine.guests:
                job = sorted(machine.guests)[number % len(machine.guests)]
                machine.end_guest(job, long=machine.is_long(job))
        else:
            now += number * 100
            for job in sorted(job for job, end in ends.items() if end <= now):
                machine.end_local(ends.pop(job), job)
        decided = machine.schedule(now)
        for job in decided.preempted:
            machine.end_guest(job, long=machine.is_long(job))
        for job in decided.started:
            ends[job] = now + walltime_ms[job]
        assert 0 <= machine.idle <= PROCS
        assert machine.guest_procs == sum(guest.procs for guest in machine.guests.values())
        passes.append((now, decided.started))
    return passes


@settings(max_examples=300)
@given(jobs_st, steps_st)
def test_each_pass_starts_the_same_local_jobs_as_without_guests(
    jobs: list[tuple[int, int]], steps: list[tuple[str, int]]
) -> None:
    assert play(PREEMPTIBLE, jobs, steps, guests=True) == play(
        PREEMPTIBLE, jobs, steps, guests=False
    )


@settings(max_examples=300)
@given(jobs_st, steps_st)
def test_no_machine_ever_holds_more_than_it_has(
    jobs: list[tuple[int, int]], steps: list[tuple[str, int]]
) -> None:
    play(CentrePolicy(), jobs, steps, guests=True)


def test_guests_that_came_last_give_way_first() -> None:
    machine = Machine(10, PREEMPTIBLE, [4, 4, 5], [1_000] * 3)
    machine.admit_guest(0, 1_000, long=False)
    machine.admit_guest(1, 1_000, long=False)
    machine.submit(2)
    decided = machine.schedule(0)
    assert (decided.started, decided.preempted) == ([2], [1])
