"""What a home may gain by how it posts: nothing. Waiting time needs witnesses, classes have shares.

Two rules keep a centre from writing itself an advantage (design sections 3 and 5):

- A job's waiting time counts from its block's time, but not from earlier than a heartbeat before
  the first block of another centre that acks it. A chain that was written today with last week's
  times therefore gains nothing. A job that nobody acked within a heartbeat has no witness at all;
  nobody else can know it, so it takes no part until somebody acks it.
- A class of work may have a greatest share of what a centre posts in a day. A job that exceeds it
  when it is posted counts as the next class down, for good, so the order of a home's jobs never
  moves. So that the first job of a day can have a class at all, the share is taken of what was
  posted that day or of the centre's credit line (hours of its machine), whichever is more.

Both are functions of the set of blocks: `Witnesses` takes the minimum over all acks, whatever order
they come in, and `Shares` reads one feed in its own order.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from itertools import groupby
from typing import NamedTuple

from p2pfed.core.ids import CentreName, FeedKey, JobId
from p2pfed.core.records import Job
from p2pfed.core.rules import PPM, ResourceClass, Rules, WorkClass
from p2pfed.core.units import day_of

_NEVER = 1 << 62


@dataclass(slots=True)
class _Posts:
    """The blocks of one feed that hold jobs, ascending by `seq_num`."""

    seq_nums: list[int] = field(default_factory=list)
    posted_ms: list[int] = field(default_factory=list)
    wait_ms: list[int] = field(default_factory=list)
    first_ack_ms: list[int] = field(default_factory=list)
    overdue: list[bool] = field(default_factory=list)
    jobs: list[tuple[JobId, ...]] = field(default_factory=list)


class Witness(NamedTuple):
    """What is known of a block with jobs: its time, its first ack by others, if that is overdue."""

    posted_ms: int
    first_ack_ms: int | None
    overdue: bool


def _block_of(posted: tuple[JobId, Witness]) -> tuple[FeedKey, int]:
    job_id = posted[0]
    return FeedKey(job_id.centre, job_id.epoch), job_id.seq_num


class Witnesses:
    """Since when each job waits, by the acks of others.

    Attributes:
        heartbeat_ms: how long a block may take to be acked, of what is posted from now on.
    """

    def __init__(self, heartbeat_ms: int) -> None:
        self.heartbeat_ms = heartbeat_ms
        self._posts: dict[FeedKey, _Posts] = {}
        self._unseen: list[tuple[int, FeedKey, int]] = []  # (overdue at, feed, seq_num)
        self._open: dict[tuple[FeedKey, int], int] = {}

    def post(self, feed: FeedKey, seq_num: int, now_ms: int, jobs: tuple[JobId, ...]) -> None:
        """A block of `feed` with these jobs was folded; its time is `now_ms`."""
        posts = self._posts.setdefault(feed, _Posts())
        posts.seq_nums.append(seq_num)
        posts.posted_ms.append(now_ms)
        posts.wait_ms.append(self.heartbeat_ms)
        posts.first_ack_ms.append(_NEVER)
        posts.overdue.append(False)
        posts.jobs.append(jobs)
        self._open[feed, seq_num] = len(jobs)
        heappush(self._unseen, (now_ms + self.heartbeat_ms, feed, seq_num))

    def forget(self, job_id: JobId) -> None:
        """A job that was posted is closed; a block all of whose jobs are closed is dropped."""
        feed, seq_num = FeedKey(job_id.centre, job_id.epoch), job_id.seq_num
        left = self._open[feed, seq_num] - 1
        if left:
            self._open[feed, seq_num] = left
            return
        del self._open[feed, seq_num]
        posts = self._posts[feed]
        index = bisect_left(posts.seq_nums, seq_num)
        for column in (
            posts.seq_nums,
            posts.posted_ms,
            posts.wait_ms,
            posts.first_ack_ms,
            posts.overdue,
        ):
            del column[index]
        del posts.jobs[index]
        if not posts.jobs:
            del self._posts[feed]

    def witness(self, job_id: JobId) -> Witness:
        """What is known of the block that a job, posted and not forgotten, stands in."""
        posts = self._posts[FeedKey(job_id.centre, job_id.epoch)]
        index = bisect_left(posts.seq_nums, job_id.seq_num)
        first_ack_ms = posts.first_ack_ms[index]
        return Witness(
            posts.posted_ms[index],
            None if first_ack_ms == _NEVER else first_ack_ms,
            posts.overdue[index],
        )

    def restore(
        self, jobs: Iterable[tuple[JobId, Witness]], heartbeat_at: Callable[[int], int]
    ) -> None:
        """Takes back what `witness` told of jobs, which ascend; nothing else was posted yet.

        `heartbeat_at` tells the `heartbeat_ms` of the time that a block was posted at.
        """
        for (feed, seq_num), group in groupby(jobs, key=_block_of):
            found = list(group)
            witness = found[0][1]
            self.heartbeat_ms = heartbeat_at(witness.posted_ms)
            self.post(feed, seq_num, witness.posted_ms, tuple(job_id for job_id, _ in found))
            posts = self._posts[feed]
            posts.overdue[-1] = witness.overdue
            if witness.first_ack_ms is not None:
                posts.first_ack_ms[-1] = witness.first_ack_ms

    def ack(self, feed: FeedKey, seq_num: int, ack_ms: int) -> Iterator[tuple[JobId, ...]]:
        """Another centre's block of time `ack_ms` acks `feed` up to `seq_num`.

        Yields:
            The jobs, block by block, of which `since_ms` tells something else now. First acks never
            descend along a feed, so only the blocks that change are visited.
        """
        posts = self._posts.get(feed)
        if posts is None:
            return
        index = bisect_right(posts.seq_nums, seq_num) - 1
        while index >= 0 and posts.first_ack_ms[index] > ack_ms:
            posts.first_ack_ms[index] = ack_ms
            yield posts.jobs[index]
            index -= 1

    def since_ms(self, job_id: JobId) -> int | None:
        """Since when a job that was posted waits; None while it is overdue for a witness."""
        posts = self._posts[FeedKey(job_id.centre, job_id.epoch)]
        index = bisect_left(posts.seq_nums, job_id.seq_num)
        first_ack_ms = posts.first_ack_ms[index]
        if first_ack_ms != _NEVER:
            return max(posts.posted_ms[index], first_ack_ms - posts.wait_ms[index])
        return None if posts.overdue[index] else posts.posted_ms[index]

    def overdue(self, cut_ms: int) -> Iterator[tuple[JobId, ...]]:
        """The jobs, block by block, that have no witness a heartbeat later, at `cut_ms`."""
        while self._unseen and self._unseen[0][0] < cut_ms:
            _, feed, seq_num = heappop(self._unseen)
            if (feed, seq_num) not in self._open:
                continue
            posts = self._posts[feed]
            index = bisect_left(posts.seq_nums, seq_num)
            first_time = not posts.overdue[index]
            posts.overdue[index] = True
            if posts.first_ack_ms[index] == _NEVER and first_time:
                yield posts.jobs[index]


@dataclass(slots=True)
class _Posted:
    """What one feed posted on one day, in points."""

    day: int = -1
    total: int = 0
    by_class: dict[str, int] = field(default_factory=dict)


class Shares:
    """The class that each job counts as."""

    def __init__(self, rules: Rules, credit_lines: Mapping[CentreName, int]) -> None:
        self._posted: dict[FeedKey, _Posted] = {}
        self.judge_by(rules, credit_lines)

    def judge_by(self, rules: Rules, credit_lines: Mapping[CentreName, int]) -> None:
        """What is posted from now on is judged by these rules and credit lines."""
        self._resources = {resource.name: resource for resource in rules.resource_classes}
        self._classes = {work_class.name: work_class for work_class in rules.classes}
        self._below = {c.name: rules.class_below(c.name) for c in rules.classes}
        self._credit_lines = credit_lines

    def posted(self) -> list[tuple[FeedKey, int, int, list[tuple[str, int]]]]:
        """Each feed's newest day of posting: (feed, day, points in all, points by class)."""
        return [
            (feed, posted.day, posted.total, sorted(posted.by_class.items()))
            for feed, posted in sorted(self._posted.items())
        ]

    def restore(
        self, posted: Iterable[tuple[FeedKey, int, int, Iterable[tuple[str, int]]]]
    ) -> None:
        """Takes back what `posted` told."""
        for feed, day, total, by_class in posted:
            self._posted[feed] = _Posted(day, total, dict(by_class))

    def classify(self, feed: FeedKey, job: Job, now_ms: int) -> WorkClass | None:
        """The class of the next job of `feed`; None if the rules don't know its classes."""
        resource = self._resources.get(job.resource_class)
        wanted = self._classes.get(job.work_class)
        if resource is None or wanted is None:
            return None
        amount = points_of(job, resource)
        posted = self._posted.get(feed)
        if posted is None:
            posted = self._posted[feed] = _Posted()
        day = day_of(now_ms)
        if day != posted.day:
            posted.day, posted.total, posted.by_class = day, 0, {}
        posted.total += amount
        base = max(posted.total, self._credit_lines.get(feed.centre, 0))
        while True:
            taken = posted.by_class.get(wanted.name, 0) + amount
            below = self._below[wanted.name]
            if below is None or taken * PPM <= wanted.share_max_ppm * base:
                posted.by_class[wanted.name] = taken
                return wanted
            wanted = below


def points_of(job: Job, resource: ResourceClass) -> int:
    """What the job's whole claim is worth: its resources for its walltime, in points."""
    return resource.points(claimed_amount(job, resource))


def claimed_amount(job: Job, resource: ResourceClass) -> int:
    """Core-seconds or GPU-seconds of the job's resources for its walltime."""
    return resource.amount(
        core_s=job.nodes * job.cores_per_node * job.walltime_s,
        gpu_s=job.nodes * job.gpus_per_node * job.walltime_s,
    )
