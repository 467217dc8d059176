"""Offers shrink at once and grow only into what was there for a while."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfed.shell.capacity.plan import Part
from p2pfed.shell.capacity.steady import Looks, Size, steady
from tests.unit.shell.capacity.worlds import NOW_MS, template

HOLD_MS = 30_000


@dataclass
class Follower:
    """Looks every ten seconds, and opens what it is told to."""

    now_ms: int = NOW_MS
    looks: Mapping[str, Looks] = field(default_factory=dict)
    offer: Size | None = None

    def look(self, nodes: int, until_ms: int = 0, walltime_s: int = 7200) -> int | None:
        """The size of the offer after a look that had so many nodes; None if it is closed."""
        part = Part(
            name="idle",
            template=template(),
            nodes=nodes,
            walltime_max_s=walltime_s,
            until_ms=until_ms,
        )
        sizes = {} if self.offer is None else {"idle": self.offer}
        self.looks, parts = steady(self.looks, [part], sizes, self.now_ms, HOLD_MS)
        self.offer = None
        for found in parts:
            self.offer = Size(found.nodes, found.walltime_max_s, found.until_ms)
        self.now_ms += 10_000
        return None if self.offer is None else self.offer.nodes


def test_it_grows_into_what_every_look_had() -> None:
    follower = Follower()
    assert [follower.look(n) for n in (4, 4, 4, 4, 5, 6, 6, 6, 6)] == [0, 0, 0, 4, 4, 4, 4, 5, 6]


def test_it_shrinks_at_once_and_waits_again() -> None:
    follower = Follower(offer=Size(6, 7200, 0))
    assert [follower.look(n) for n in (6, 2, 6, 6, 6, 6)] == [6, 2, 2, 2, 2, 6]


def test_what_comes_and_goes_is_never_promised() -> None:
    follower = Follower()
    assert {follower.look(n) for n in (4, 0, 4, 4, 0, 4, 4, 4, 0)} == {0}


def test_an_offer_that_was_open_before_the_daemon_started_stays() -> None:
    follower = Follower(offer=Size(3, 7200, 0))
    assert [follower.look(n) for n in (3, 5, 2)] == [3, 3, 2]


def test_an_offer_that_stays_empty_is_closed() -> None:
    follower = Follower(offer=Size(3, 7200, 0))
    sizes = [follower.look(0) for _ in range(32)]
    assert sizes[:30] == [0] * 30
    assert sizes[30:] == [None, None]


def test_an_end_comes_nearer_at_once_and_moves_away_only_by_steps() -> None:
    end_ms = NOW_MS + 7_200_000
    follower = Follower(offer=Size(3, 7200, 0))
    ends = []
    for until_ms in (end_ms, end_ms - 1000, *[end_ms + 30_000] * 5, *[end_ms + 90_000] * 4):
        follower.look(3, until_ms)
        assert follower.offer is not None
        ends.append(follower.offer.until_ms - end_ms)
    assert ends == [0, -1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000, -1000, 90_000]


def test_a_shorter_walltime_is_stated_at_once() -> None:
    follower = Follower(offer=Size(3, 7200, 0))
    follower.look(3, walltime_s=1800)
    assert follower.offer == Size(3, 1800, 0)
    follower.look(3)
    assert follower.offer == Size(3, 1800, 0)
