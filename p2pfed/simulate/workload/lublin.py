"""A seeded synthetic workload, for those who have no trace.

Source: U. Lublin and D. G. Feitelson, "The workload on parallel supercomputers: modeling the
characteristics of rigid jobs", Journal of Parallel and Distributed Computing 63(11), 2003, in the
form that does not tell batch from interactive jobs; the constants are those of the authors' own
program (`m_lublin99.c` of the Parallel Workloads Archive).

The size of a parallel job is 2 to the power of a number from a two-stage uniform distribution, in
most cases rounded to a power of two. The logarithm of the run time is a mixture of two gamma
distributions whose weight depends on the size. The logarithm of the time between arrivals at rush
hour is a gamma distribution; over a day, arrivals follow 48 half-hours whose weights are those of
another gamma distribution that begins at 5:30.

The model says nothing about requested times. Requests are `run time x k`, k being 1 for a tenth of
the jobs and else uniform between 1 and 10, rounded up to the next of the round values that people
ask for (after Mu'alem and Feitelson, IEEE TPDS 12(6), 2001: estimates are bad, and round).
"""

from __future__ import annotations

from bisect import bisect_left
from math import exp, lgamma, log, log2
from random import Random

from p2pfed.core.ids import CentreName
from p2pfed.simulate.workload.trace import DAY_S, Trace, TraceJob, make_trace

_SERIAL, _POWER_OF_TWO = 0.244, 0.576
_LOG_SIZE_LOW, _STAGE_ONE = 0.8, 0.86
_MEDIUM_BELOW_HIGH = 2.5
_RUN_1, _RUN_2 = (4.2, 0.94), (312.0, 0.03)  # gamma (shape, scale) of log run time
_RUN_P_SLOPE, _RUN_P = -0.0054, 0.78
_ARRIVAL = (10.2303 * 1.0225, 0.4871)
_DAILY = (8.1737, 3.9631)
_BUCKETS, _BUCKET_S, _DAY_BEGINS = 48, 1_800, 11
_LOG_TIME_MAX = 12.0  # e^12 s, 45 hours: longer run times are drawn again
_LOG_GAP_MAX = 13.0
_PARTS = 64  # slices per bucket when the daily weights are integrated
_ROUND_S = tuple(60 * minutes for minutes in (5, 10, 15, 20, 30, 45, 60, 90)) + tuple(
    3_600 * hours for hours in (2, 3, 4, 6, 8, 12, 18, 24, 36, 48, 72, 120, 168)
)


def synthetic_trace(
    name: CentreName,
    *,
    procs: int,
    jobs: int,
    seed: int,
    load: float | None = None,
    start_unix_s: int | None = None,
) -> Trace:
    """A trace of `jobs` jobs from the model; the same arguments give the same trace.

    Args:
        name: the centre; it is part of the seed.
        procs: the machine's processors, which bound the size of jobs.
        jobs: how many.
        seed: any integer.
        load: if given, times between arrivals are scaled so that the work offered is this part of
            what the machine could do in the time; the daily cycle is then stretched with them.
        start_unix_s: what time 0 is; it is midnight to the model.

    Raises:
        InputError: as `make_trace`.
    """
    random = Random(f"{seed}:{name}:lublin-feitelson")
    arrivals = _arrivals(random, jobs)
    found = []
    for submit_s in arrivals:
        size = _size(random, procs)
        run_s = _run_s(random, size)
        found.append(TraceJob(submit_s, run_s, _walltime_s(random, run_s), size))
    if load is not None and found:
        work = sum(job.run_s * job.procs for job in found)
        span_s = max(1, arrivals[-1])
        factor = work / (procs * span_s * load)
        found = [job._replace(submit_s=int(job.submit_s * factor)) for job in found]
    return make_trace(name, found, procs=procs, start_unix_s=start_unix_s)


def _size(random: Random, procs: int) -> int:
    kind = random.random()
    if kind <= _SERIAL or procs < 2:
        return 1
    high = log2(procs)
    low = min(_LOG_SIZE_LOW, high)
    medium = max(low, high - _MEDIUM_BELOW_HIGH)
    first = random.random() <= _STAGE_ONE
    power = random.uniform(low, medium) if first else random.uniform(medium, high)
    if kind <= _SERIAL + _POWER_OF_TWO:
        power = float(int(power + 0.5))
    return min(procs, int(2**power + 0.5))


def _run_s(random: Random, size: int) -> int:
    first = min(1.0, max(0.0, _RUN_P_SLOPE * size + _RUN_P))
    while True:
        shape, scale = _RUN_1 if random.random() <= first else _RUN_2
        value = random.gammavariate(shape, scale)
        if value <= _LOG_TIME_MAX:
            return int(exp(value))


def _walltime_s(random: Random, run_s: int) -> int:
    exact = random.random() < 0.1
    asked_s = run_s * (1.0 if exact else random.uniform(1.0, 10.0))
    place = bisect_left(_ROUND_S, asked_s)
    return _ROUND_S[min(place, len(_ROUND_S) - 1)]


def _weights() -> list[float]:
    """What each half-hour of the day is worth; the mean is 1."""
    shape, scale = _DAILY
    norm = lgamma(shape) + shape * log(scale)
    weights = [0.0] * _BUCKETS
    for bucket in range(_DAY_BEGINS, _DAY_BEGINS + _BUCKETS):
        points = (bucket - 0.5 + (part + 0.5) / _PARTS for part in range(_PARTS))
        mass = sum(exp((shape - 1) * log(x) - x / scale - norm) for x in points) / _PARTS
        weights[(bucket - 1) % _BUCKETS] = mass
    mean = sum(weights) / _BUCKETS
    return [weight / mean for weight in weights]


def _arrivals(random: Random, count: int) -> list[int]:
    """Submit times: rush-hour gaps are paid out of what the half-hours are worth."""
    weights = _weights()
    shape, scale = _ARRIVAL
    time_s, bucket, left = 0.0, 0, 0.0  # `left` of this bucket's weight is already used
    found = []
    for _ in range(count):
        gap = _LOG_GAP_MAX + 1
        while gap > _LOG_GAP_MAX:
            gap = random.gammavariate(shape, scale)
        points = left + exp(gap) / _BUCKET_S
        start_s = _BUCKET_S * left / weights[bucket]
        passed_s = 0.0
        while points > weights[bucket]:
            points -= weights[bucket]
            bucket = (bucket + 1) % _BUCKETS
            passed_s += _BUCKET_S
        left = points
        time_s += passed_s + _BUCKET_S * left / weights[bucket] - start_s
        found.append(int(time_s))
    assert not found or found[-1] < 2**40 * DAY_S
    return found
