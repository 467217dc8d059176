"""A replay's accounts: the daemon's own, fed by what happens in simulated time.

What a centre offers is added up as it changes and booked by the hour, since each booking makes the
accounts decay 140 days of points anew.
"""

from __future__ import annotations

from collections.abc import Sequence

from p2pfed.core.accounting import Accounts, Standing, balance
from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.rules import Rules
from p2pfed.core.units import DAY_MS
from p2pfed.simulate.workload.outcome import BalanceSample

RESOURCE_CLASS = "cpu"
_HOUR_MS = 3_600_000


class ReplayAccounts:
    """Accounts of the centres of a replay, each known by its index.

    Args:
        rules: rates and decay.
        centres: their names.
        procs: per centre, its processors.
        credit_days: credit line in days of the machine; None for that of the rules.
        origin_ms: what time 0 of the replay is, in ms since 1970.
    """

    def __init__(
        self,
        rules: Rules,
        centres: Sequence[CentreName],
        procs: Sequence[int],
        credit_days: float | None,
        origin_ms: int,
    ) -> None:
        self._centres = centres
        self._origin_ms = origin_ms
        lines = {}
        if credit_days is not None:
            resource = rules.resource_class(RESOURCE_CLASS)
            assert resource is not None  # the world has checked it
            for name, size in zip(centres, procs, strict=True):
                lines[name] = resource.points(int(size * 86_400 * credit_days))
        self._accounts = Accounts(rules, lines)
        self._committed = [0] * len(centres)
        self._offered = [0] * len(centres)  # processors that stand as offered
        self._since_ms = [0] * len(centres)
        self._sum_ms = [0] * len(centres)  # processor-ms not yet booked
        self.samples: list[BalanceSample] = []

    def set_offered(self, centre: int, procs: int, now_ms: int) -> None:
        """From now on the centre makes so many processors available, those in use included."""
        if procs == self._offered[centre]:
            return
        self._add_up(centre, now_ms)
        self._offered[centre] = procs

    def _add_up(self, centre: int, now_ms: int) -> None:
        self._sum_ms[centre] += self._offered[centre] * (now_ms - self._since_ms[centre])
        self._since_ms[centre] = now_ms

    def book_offered(self, now_ms: int) -> None:
        """Books what was offered since the last booking, on the day that ends or goes on now."""
        day = (self._origin_ms + now_ms - 1) // DAY_MS
        for centre, name in enumerate(self._centres):
            self._add_up(centre, now_ms)
            amount_s, self._sum_ms[centre] = divmod(self._sum_ms[centre], 1_000)
            self._accounts.add_offered(name, RESOURCE_CLASS, day, amount_s)

    def commit(self, home: int, points: int) -> None:
        """A job of the home holds capacity elsewhere (or, if negative, no more)."""
        self._committed[home] += points

    def book_usage(self, number: int, home: int, host: int, amount_s: int, now_ms: int) -> None:
        """A guest used processor-seconds; `number` tells its claim from all others."""
        name = self._centres[home]
        self._accounts.set_usage(
            ClaimId(Position(name, 0, number, 0)),
            home=name,
            host=self._centres[host],
            resource_class=RESOURCE_CLASS,
            day=(self._origin_ms + now_ms) // DAY_MS,
            amount=amount_s,
        )

    def standing(self, centre: int, now_ms: int) -> Standing:
        """The centre's standing now, what its jobs hold included."""
        today = (self._origin_ms + now_ms) // DAY_MS
        return self._accounts.standing(self._centres[centre], today, self._committed[centre])

    def sample(self, now_ms: int) -> None:
        """Notes every centre's account."""
        for centre in range(len(self._centres)):
            standing = self.standing(centre, now_ms)
            self.samples.append(
                BalanceSample(
                    now_ms // 1_000,
                    centre,
                    standing.contribution,
                    standing.usage,
                    balance(standing),
                )
            )
