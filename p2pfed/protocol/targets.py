"""Whom to contact, and when.

In a federation of up to `active_peers` centres everybody is linked to everybody. In a larger one
each centre opens a random few links, which makes the graph connected with great probability, and
now and then replaces one of them, so that what a cut kept from a part of the graph gets there too.

Of a pair the lesser name dials at once and the greater a moment later, so that both rarely dial at
the same time; if they do, or a peer was restarted, `keep_new_link` says which link stays, and both
ends come to the same answer. Failed attempts back off exponentially with jitter. A peer that broke
the protocol is left alone for a penalty that doubles; one that takes us for no member rests for
long, since it dials us itself if the members let us in again. Chance comes in as an argument.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Final, Protocol

from p2pfed.core.ids import CentreName
from p2pfed.protocol.limits import (
    ACTIVE_PEERS,
    BACKOFF_MS_MAX,
    BACKOFF_MS_MIN,
    PENALTY_MS_MAX,
    PENALTY_MS_MIN,
    REST_MS,
    ROTATE_MS,
    SPARSE_LINKS,
    SPARSE_LINKS_MAX,
    YIELD_MS,
)

_WAIT_MS_MAX: Final = BACKOFF_MS_MAX + YIELD_MS


class Chance(Protocol):
    """Where random choices come from; `random.Random` is one."""

    def getrandbits(self, k: int, /) -> int:
        """An integer of `k` random bits."""
        ...

    def randrange(self, start: int, stop: int, /) -> int:
        """An integer from `start` to below `stop`."""
        ...


class _Target:
    """What is known of reaching one centre."""

    __slots__ = (
        "dialling", "failures", "linked", "next_ms", "penalties", "penalty_until_ms", "wait_ms_max"
    )  # fmt: skip

    def __init__(self) -> None:
        self.dialling = False
        self.linked = False
        self.failures = 0
        self.penalties = 0
        self.next_ms: int | None = None
        self.penalty_until_ms: int | None = None
        self.wait_ms_max = _WAIT_MS_MAX


class Targets:
    """Decides whom to dial; nothing is dialled here.

    Args:
        me: our name.
        rng: used for jitter and, in a large federation, for whom to link to.
        active_peers: up to this many centres, we included, everybody is linked to everybody.
    """

    def __init__(self, me: CentreName, rng: Chance, *, active_peers: int = ACTIVE_PEERS) -> None:
        self._me = me
        self._rng = rng
        self._active_peers = active_peers
        self._targets: dict[CentreName, _Target] = {}
        self._rotate_ms: int | None = None
        self._everybody = False

    def set_centres(self, centres: Iterable[CentreName]) -> None:
        """The centres that may be contacted; our own name is left out."""
        others = set(centres) - {self._me}
        for name in [name for name in self._targets if name not in others]:
            del self._targets[name]
        for name in sorted(others - self._targets.keys()):
            self._targets[name] = _Target()

    @property
    def full_mesh(self) -> bool:
        """Whether everybody is linked to everybody."""
        return self._everybody or len(self._targets) < self._active_peers

    def seek_everybody(self, wanted: bool) -> None:
        """Whether everybody is to be contacted whatever the size: recovery may need every word."""
        self._everybody = wanted

    # What happened

    def up(self, centre: CentreName) -> None:
        """A connection exists, whoever opened it."""
        target = self._targets.get(centre)
        if target is not None:
            target.linked, target.dialling = True, False

    def proved(self, centre: CentreName) -> None:
        """A session with the centre opened: it is well."""
        target = self._targets.get(centre)
        if target is not None:
            target.failures = target.penalties = 0
            target.penalty_until_ms = None

    def down(self, centre: CentreName, now_ms: int) -> None:
        """The last connection to the centre is gone."""
        target = self._targets.get(centre)
        if target is not None:
            target.linked = False
            self._back_off(centre, target, now_ms)

    def failed(self, centre: CentreName, now_ms: int) -> None:
        """Dialling did not lead to a connection."""
        target = self._targets.get(centre)
        if target is not None:
            target.dialling = False
            self._back_off(centre, target, now_ms)

    def rest(self, centre: CentreName, now_ms: int) -> None:
        """The centre told us not to come back: it is dialled again after a long while only."""
        target = self._targets.get(centre)
        if target is not None:
            target.wait_ms_max = REST_MS
            target.next_ms = now_ms + self._jitter(REST_MS)

    def penalise(self, centre: CentreName, now_ms: int) -> None:
        """The centre broke the protocol: leave it alone for a while."""
        target = self._targets.get(centre)
        if target is not None:
            wait_ms = min(PENALTY_MS_MAX, PENALTY_MS_MIN << min(target.penalties, 16))
            target.penalties += 1
            target.penalty_until_ms = now_ms + wait_ms

    def penalised(self, centre: CentreName, now_ms: int) -> bool:
        """Whether the centre's connections are refused now."""
        target = self._targets.get(centre)
        until_ms = target.penalty_until_ms if target else None
        return until_ms is not None and now_ms < until_ms

    # What to do

    def due(self, now_ms: int) -> list[CentreName]:
        """The centres to dial now; each counts as being dialled until `up` or `failed`."""
        ready: list[CentreName] = []
        for centre, target in sorted(self._targets.items()):
            if target.linked or target.dialling:
                continue
            if target.next_ms is None or target.next_ms > now_ms + target.wait_ms_max:
                # New, or our clock was set back since the time was chosen.
                target.next_ms = now_ms + (YIELD_MS if self._me > centre else 0)
            if now_ms >= self._ready_ms(target):
                ready.append(centre)
        if not self.full_mesh:
            ready = self._draw(ready, max(0, SPARSE_LINKS - self._busy()))
        for centre in ready:
            self._targets[centre].dialling = True
        return ready

    def accepts(self, linked: int) -> bool:
        """Whether one more inbound link is welcome besides `linked` others."""
        return self.full_mesh or linked < SPARSE_LINKS_MAX

    def rotate(self, linked: Collection[CentreName], now_ms: int) -> CentreName | None:
        """In a large federation, now and then: the link to give up for a random other one.

        Args:
            linked: the centres that we dialled and are linked to.
            now_ms: the local time.
        """
        if self.full_mesh or not linked:
            self._rotate_ms = None
            return None
        if self._rotate_ms is None or self._rotate_ms > now_ms + 2 * ROTATE_MS:
            self._rotate_ms = now_ms + self._jitter(2 * ROTATE_MS)
        if now_ms < self._rotate_ms:
            return None
        self._rotate_ms = now_ms + self._jitter(2 * ROTATE_MS)
        return self._draw(sorted(linked), 1)[0]

    def wake_ms(self) -> int | None:
        """When `due` or `rotate` should be asked next; None if only an event can change it."""
        times = [] if self._rotate_ms is None else [self._rotate_ms]
        if self.wants_more():
            times += [
                self._ready_ms(target)
                for target in self._targets.values()
                if not target.linked and not target.dialling
            ]
        return min(times, default=None)

    def wants_more(self) -> bool:
        """Whether links are missing."""
        return self.full_mesh or self._busy() < SPARSE_LINKS

    def next_dial_ms(self, centre: CentreName) -> int | None:
        """When the centre may be dialled next; None if it is linked, being dialled or unknown."""
        target = self._targets.get(centre)
        if target is None or target.linked or target.dialling:
            return None
        return self._ready_ms(target)

    def failures(self, centre: CentreName) -> int:
        """How many attempts failed in a row."""
        target = self._targets.get(centre)
        return target.failures if target else 0

    def _busy(self) -> int:
        return sum(target.linked or target.dialling for target in self._targets.values())

    def _ready_ms(self, target: _Target) -> int:
        return max(target.next_ms or 0, target.penalty_until_ms or 0)

    def _back_off(self, centre: CentreName, target: _Target, now_ms: int) -> None:
        wait_ms = min(BACKOFF_MS_MAX, BACKOFF_MS_MIN << min(target.failures, 16))
        target.failures += 1
        target.wait_ms_max = _WAIT_MS_MAX
        target.next_ms = now_ms + self._jitter(wait_ms) + (YIELD_MS if self._me > centre else 0)

    def _jitter(self, wait_ms: int) -> int:
        return self._rng.randrange(wait_ms // 2, wait_ms + 1)

    def _draw(self, names: list[CentreName], count: int) -> list[CentreName]:
        """`count` of the names, all equally likely."""
        left = list(names)
        drawn: list[CentreName] = []
        while left and len(drawn) < count:
            drawn.append(left.pop(self._rng.randrange(0, len(left))))
        return drawn


def keep_new_link(
    *, me: CentreName, peer: CentreName, old_outbound: bool, new_outbound: bool, same_run: bool
) -> bool:
    """Whether of two links to one peer the newer stays; both ends come to the same answer.

    Args:
        me: our name.
        peer: the other end's name.
        old_outbound: whether we dialled the older link.
        new_outbound: whether we dialled the newer one.
        same_run: whether both links lead to the same run of the peer's daemon.
    """
    if not same_run or old_outbound == new_outbound:
        return True  # the older one is dead, and its end has not reached us yet
    dialler = me if new_outbound else peer
    return dialler == min(me, peer)
