"""Contribution, usage and the balance between them, in integers.

Everything here derives from two sources: a set of usages keyed by claim id (so that none counts
twice, and a late receipt or dispute replaces what stood before) and the amounts offered per day.
Both are kept raw, in core-seconds or GPU-seconds; points appear only when a sum is asked for, so a
voted change of an exchange rate needs no new records.

A day's contribution of a centre in a resource class is what it delivered, in full, plus what it
offered beyond that, at `idle_rate_ppm`. A day's usage is what the centre's jobs consumed elsewhere.
Sums run from the oldest day that counts to today: before each next day's points are added, the sum
is multiplied by `decay_num`, divided by `decay_den` and rounded down. Rounding is thus defined by
the days alone, and a replay from the ledger gives the same integer as years of running.

Per centre, only the cells that changed are valued again, when a standing is asked for; it costs one
pass over at most `decay_days` integers after a change or at midnight, and a look-up otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from p2pfed.core.ids import CentreName, ClaimId
from p2pfed.core.rules import PPM, Rules


class Standing(NamedTuple):
    """Recent contribution and usage of a centre and its credit line, all in points."""

    contribution: int
    usage: int
    credit_line: int


class CounterKey(NamedTuple):
    """What one counter counts: a centre's amounts of a resource class on a day (UTC day number)."""

    writer: CentreName
    resource_class: str
    day: int


class Counter(NamedTuple):
    """Amounts in the unit of the resource class: delivered to others, consumed at others."""

    contributed: int
    consumed: int


Counters = dict[CounterKey, Counter]


class Usage(NamedTuple):
    """What one claim consumed: `amount` in the unit of its resource class, booked on one day."""

    home: CentreName
    host: CentreName
    resource_class: str
    day: int
    amount: int


def balance(standing: Standing, charged_points: int = 0) -> int:
    """The balance in ppm, -1_000_000 to 1_000_000, after `charged_points` more of usage.

    It is (contribution - usage) / (contribution + usage + credit line), rounded towards zero; 0 if
    all three are 0. The credit line keeps small amounts from mattering much: a newcomer starts at
    0 and moves slowly at first.
    """
    contribution, usage, credit_line = standing
    usage += charged_points
    total = contribution + usage + credit_line
    if total <= 0:
        return 0
    size = abs(contribution - usage) * PPM // total
    return size if contribution >= usage else -size


def days_in_debt(standing: Standing, gain_per_day: int, rules: Rules) -> int | None:
    """Days until contribution has caught up with usage, at a steady gain of points a day.

    0 without a debt; None if it takes longer than `decay_days`, or if nothing is gained: decay
    alone makes a debt small, but never settles it.
    """
    debt = standing.usage - standing.contribution
    if debt <= 0:
        return 0
    if gain_per_day <= 0:
        return None
    for day in range(1, rules.decay_days + 1):
        debt = debt * rules.decay_num // rules.decay_den - gain_per_day
        if debt <= 0:
            return day
    return None


def merge_counters(a: Mapping[CounterKey, Counter], b: Mapping[CounterKey, Counter]) -> Counters:
    """The join of two counter maps: for every key the greater of each amount.

    It is commutative, associative and idempotent. It is exact when, per key, one side knows all
    that the other knows and no amount was lowered in between; a settled dispute does lower one,
    which is why standings come from the set of usages and never from merged counters.
    """
    merged = dict(a)
    for key, counter in b.items():
        known = merged.get(key)
        if known is not None:
            counter = Counter(
                max(known.contributed, counter.contributed),
                max(known.consumed, counter.consumed),
            )
        merged[key] = counter
    return merged


class _Cell:
    """Raw amounts of one centre, resource class and day, and the points booked for them."""

    __slots__ = ("booked_contribution", "booked_usage", "consumed", "delivered", "offered")

    def __init__(self) -> None:
        self.offered = 0
        self.delivered = 0
        self.consumed = 0
        self.booked_contribution = 0
        self.booked_usage = 0

    def contribution(self, idle_rate_ppm: int) -> int:
        """The amount that counts as contributed; the idle part is rounded down."""
        idle = max(0, self.offered - self.delivered)
        return self.delivered + idle * idle_rate_ppm // PPM


class _Book:
    """One centre's cells, and per day the points that they are worth but for `changed` ones."""

    __slots__ = ("cells", "changed", "contribution_points", "decayed", "usage_points")

    def __init__(self) -> None:
        self.cells: dict[tuple[str, int], _Cell] = {}
        self.changed: dict[tuple[str, int], _Cell] = {}
        self.contribution_points: dict[int, int] = {}
        self.usage_points: dict[int, int] = {}
        self.decayed: tuple[int, int, int] | None = None  # (today, contribution, usage)


class Accounts:
    """All centres' amounts, and the standing of each on a given day.

    Args:
        rules: rates, exchange and decay; `set_rules` replaces them.
        credit_lines: points per centre; a centre that is not in it has the rules' `credit_line`.
    """

    def __init__(self, rules: Rules, credit_lines: Mapping[CentreName, int] | None = None) -> None:
        self._rules = rules
        self._resource_classes = {c.name: c for c in rules.resource_classes}
        self._credit_lines = dict(credit_lines or {})
        self._usages: dict[ClaimId, Usage] = {}
        self._books: dict[CentreName, _Book] = {}

    def set_rules(self, rules: Rules) -> None:
        """Values every amount by other rules; costs one pass over all cells."""
        self._rules = rules
        self._resource_classes = {c.name: c for c in rules.resource_classes}
        for book in self._books.values():
            book.changed.update(book.cells)

    def set_credit_line(self, centre: CentreName, points: int) -> None:
        """Replaces the credit line that the centre was admitted with."""
        self._credit_lines[centre] = points

    def set_usage(
        self,
        claim_id: ClaimId,
        *,
        home: CentreName,
        host: CentreName,
        resource_class: str,
        day: int,
        amount: int | None,
    ) -> None:
        """States what a claim consumed, in place of anything stated for it before.

        Saying the same twice changes nothing; None takes the usage back.
        """
        usage = None if amount is None else Usage(home, host, resource_class, day, amount)
        before = self._usages.get(claim_id)
        if usage == before:
            return
        if before is not None:
            self._add(before.host, before.resource_class, before.day, delivered=-before.amount)
            self._add(before.home, before.resource_class, before.day, consumed=-before.amount)
        if usage is None:
            del self._usages[claim_id]
            return
        self._usages[claim_id] = usage
        self._add(host, resource_class, day, delivered=usage.amount)
        self._add(home, resource_class, day, consumed=usage.amount)

    def forget_usage(self, claim_id: ClaimId) -> None:
        """What the claim counts now, it counts for good; it can't be told apart any more."""
        self._usages.pop(claim_id, None)

    @property
    def usages(self) -> Mapping[ClaimId, Usage]:
        """What counts now, by claim, but for claims that were forgotten."""
        return self._usages

    def usage(self, claim_id: ClaimId) -> Usage | None:
        """What counts for a claim now."""
        return self._usages.get(claim_id)

    def add_offered(self, centre: CentreName, resource_class: str, day: int, amount: int) -> None:
        """Adds to what the centre made available on a day (a negative amount corrects it)."""
        self._add(centre, resource_class, day, offered=amount)

    def standing(self, centre: CentreName, today: int, committed_points: int = 0) -> Standing:
        """The decayed sums up to `today`; `committed_points` count as usage.

        Days of `decay_days` or more ago count no more. A day after `today` counts as today: a
        stamp from a clock that runs ahead neither hides an amount nor makes it worth more.
        """
        credit_line = self._credit_lines.get(centre, self._rules.credit_line)
        book = self._books.get(centre)
        if book is None:
            return Standing(0, committed_points, credit_line)
        if book.changed:
            self._book_changed(book)
        if book.decayed is None or book.decayed[0] != today:
            contribution = self._decayed(book.contribution_points, today)
            usage = self._decayed(book.usage_points, today)
            book.decayed = (today, contribution, usage)
        _, contribution, usage = book.decayed
        return Standing(contribution, usage + committed_points, credit_line)

    def gain_per_day(self, centre: CentreName, today: int, days: int) -> int:
        """Points that the centre gave more than it took, per day, over its last `days` days."""
        book = self._books.get(centre)
        if book is None:
            return 0
        if book.changed:
            self._book_changed(book)
        known = [*book.contribution_points, *book.usage_points]
        first = max(today - days + 1, min(known, default=today))
        net = sum(
            book.contribution_points.get(day, 0) - book.usage_points.get(day, 0)
            for day in range(first, today + 1)
        )
        return net // (today - first + 1)

    def counters(self) -> Counters:
        """The raw delivered and consumed amounts as counters, in ascending order of their keys."""
        return {
            CounterKey(centre, resource_class, day): Counter(cell.delivered, cell.consumed)
            for centre, book in sorted(self._books.items())
            for (resource_class, day), cell in sorted(book.cells.items())
            if cell.delivered or cell.consumed
        }

    def totals(self) -> list[tuple[CentreName, str, int, int, int]]:
        """Raw (centre, resource class, delivered, offered, consumed) over all days, ascending."""
        found = []
        for centre, book in sorted(self._books.items()):
            by_class: dict[str, list[int]] = {}
            for (resource_class, _), cell in sorted(book.cells.items()):
                sums = by_class.setdefault(resource_class, [0, 0, 0])
                sums[0] += cell.delivered
                sums[1] += cell.offered
                sums[2] += cell.consumed
            for resource_class, (delivered, offered, consumed) in sorted(by_class.items()):
                found.append((centre, resource_class, delivered, offered, consumed))
        return found

    def cells(self) -> list[tuple[CentreName, str, int, int, int, int]]:
        """Raw (centre, resource class, day, offered, delivered, consumed), ascending."""
        return [
            (centre, resource_class, day, cell.offered, cell.delivered, cell.consumed)
            for centre, book in sorted(self._books.items())
            for (resource_class, day), cell in sorted(book.cells.items())
            if cell.offered or cell.delivered or cell.consumed
        ]

    def restore(
        self,
        cells: Iterable[tuple[CentreName, str, int, int, int, int]],
        usages: Mapping[ClaimId, Usage],
    ) -> None:
        """Takes back what `cells` told, and the usages that are part of it and may still change."""
        for centre, resource_class, day, offered, delivered, consumed in cells:
            self._add(
                centre,
                resource_class,
                day,
                offered=offered,
                delivered=delivered,
                consumed=consumed,
            )
        self._usages.update(usages)

    def centres(self) -> tuple[CentreName, ...]:
        """Every centre that offered, delivered or consumed anything, in ascending order."""
        return tuple(sorted(self._books))

    def _add(
        self,
        centre: CentreName,
        resource_class: str,
        day: int,
        *,
        offered: int = 0,
        delivered: int = 0,
        consumed: int = 0,
    ) -> None:
        """Changes one cell."""
        if not (offered or delivered or consumed):
            return
        book = self._books.get(centre)
        if book is None:
            book = self._books[centre] = _Book()
        key = resource_class, day
        cell = book.cells.get(key)
        if cell is None:
            cell = book.cells[key] = _Cell()
        cell.offered += offered
        cell.delivered += delivered
        cell.consumed += consumed
        book.changed[key] = cell

    def _book_changed(self, book: _Book) -> None:
        """Books what the changed cells are worth now; an unknown class is worth nothing."""
        for (resource_class, day), cell in book.changed.items():
            exchange = self._resource_classes.get(resource_class)
            contribution = usage = 0
            if exchange is not None:
                contribution = exchange.points(cell.contribution(self._rules.idle_rate_ppm))
                usage = exchange.points(cell.consumed)
            points = book.contribution_points
            points[day] = points.get(day, 0) + contribution - cell.booked_contribution
            points = book.usage_points
            points[day] = points.get(day, 0) + usage - cell.booked_usage
            cell.booked_contribution, cell.booked_usage = contribution, usage
        book.changed.clear()
        book.decayed = None

    def _decayed(self, points_by_day: Mapping[int, int], today: int) -> int:
        """The points of all days that count, each day's decay rounded down."""
        if not points_by_day:
            return 0
        num, den = self._rules.decay_num, self._rules.decay_den
        first = max(min(points_by_day), today - self._rules.decay_days + 1)
        total = 0
        for day in range(first, today + 1):
            total = total * num // den + points_by_day.get(day, 0)
        return total + sum(points for day, points in points_by_day.items() if day > today)
