"""The rules: every number that all centres agreed on, with its range and its place on the wire.

The charter carries version 1; a later version exists only by votes. A rule decides what counts, so
every node must read the same rules from the same bytes: on the wire all of them are explicit
(a default that changes in a later release changes no federation that exists), and a rule that this
program does not know is refused, because it could not be followed. People write rules as a flat
mapping (`config/rules.toml`) and may leave out what they don't change.

Rules are values: the version that they stand under is not part of them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise
from typing import Final, NamedTuple, TypeVar, cast

from p2pfed.core.fields import CborItem
from p2pfed.core.kinds import WORD
from p2pfed.core.limits import LIST_ITEMS_MAX
from p2pfed.errors import InputError

PPM: Final = 1_000_000
"""Parts per million: the unit of rates, shares and balances."""

_POINTS_MAX: Final = 1_000_000_000
_DAY_MS: Final = 86_400_000
_YEAR_MS: Final = 366 * _DAY_MS
_UNITS: Final = ("core", "gpu")

T = TypeVar("T")


class Group(IntEnum):
    """The map of the wire form that a rule stands in (its key there)."""

    TIMING = 1
    SCORING = 2
    ACCOUNTING = 3
    LIMITS = 4
    GOVERNANCE = 7


_CLASSES_KEY: Final = 5
_RESOURCE_CLASSES_KEY: Final = 6


class RuleField(NamedTuple):
    """One integer rule, as the parsers, the wire and the documentation check see it."""

    name: str
    group: Group
    number: int
    low: int
    high: int
    default: int


def _rule(default: int, group: Group, number: int, low: int, high: int) -> int:
    """Declares a rule: its default, its key on the wire, its least and greatest value."""
    metadata = {"group": group, "number": number, "low": low, "high": high}
    return dataclasses.field(default=default, metadata=metadata)


def _check_range(name: str, value: object, low: int, high: int, where: str) -> None:
    if type(value) is not int:
        raise InputError("rules-value-type", f"{name} is {value!r}, not an integer", where=where)
    if not low <= value <= high:
        raise InputError(
            "rules-value-range",
            f"{name} is {value}, not within {low} to {high}",
            where=where,
        )


def _check_word(name: object, where: str) -> None:
    if type(name) is not str or WORD.parse(name) is None:
        raise InputError(
            "rules-value-type",
            f"{name!r} is not a class name",
            where=where,
            remedy="use lower-case letters, digits and . _ + -, at most 64 characters",
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkClass:
    """A class of work and the points that it gives a job.

    Attributes:
        name: the word that jobs and offers use.
        points: what the class adds to a job's score.
        share_max_ppm: the largest part of what a centre posts in a day that may be of this class; a
            job beyond it counts as the next class down. 1_000_000 means no limit.
    """

    name: str
    points: int
    share_max_ppm: int = PPM

    def __post_init__(self) -> None:
        _check_word(self.name, "classes")
        _check_range("points", self.points, 0, _POINTS_MAX, f"class {self.name}")
        _check_range("share_max_ppm", self.share_max_ppm, 0, PPM, f"class {self.name}")


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceClass:
    """A kind of hardware, the unit it is counted in, and what a second of it is worth.

    Attributes:
        name: the word that jobs and offers use.
        unit: `core` (amounts are core-seconds) or `gpu` (amounts are GPU-seconds).
        points_num: numerator of the points per core-second or GPU-second.
        points_den: its denominator.
    """

    name: str
    unit: str
    points_num: int = 1
    points_den: int = 1

    def __post_init__(self) -> None:
        _check_word(self.name, "resource_classes")
        if self.unit not in _UNITS:
            raise InputError(
                "rules-value-range",
                f"unit {self.unit!r} is neither core nor gpu",
                where=f"resource class {self.name}",
            )
        _check_range("points_num", self.points_num, 1, PPM, f"resource class {self.name}")
        _check_range("points_den", self.points_den, 1, PPM, f"resource class {self.name}")

    def amount(self, *, core_s: int, gpu_s: int) -> int:
        """What counts of a consumption: its core-seconds or its GPU-seconds."""
        return core_s if self.unit == "core" else gpu_s

    def points(self, amount: int) -> int:
        """The points of `amount` core-seconds or GPU-seconds, rounded down."""
        return amount * self.points_num // self.points_den


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """What all centres agreed; docs/reference/rules.md says what each rule decides.

    Raises:
        InputError: `rules-value-type`, `rules-value-range` for one value; `rules-conflict` for
            values that make no sense together.
    """

    round_ms: int = _rule(10_000, Group.TIMING, 1, 100, 3_600_000)
    settle_ms: int = _rule(3_000, Group.TIMING, 2, 0, 3_600_000)
    heartbeat_ms: int = _rule(10_000, Group.TIMING, 3, 100, 3_600_000)
    max_skew_ms: int = _rule(60_000, Group.TIMING, 4, 0, _DAY_MS)
    offer_lease_ms: int = _rule(60_000, Group.TIMING, 5, 200, _DAY_MS)
    clock_error_ms: int = _rule(5_000, Group.TIMING, 6, 1, 3_600_000)
    claim_wait_ms: int = _rule(30_000, Group.TIMING, 7, 100, _DAY_MS)
    approval_wait_ms: int = _rule(3_600_000, Group.TIMING, 8, 100, 30 * _DAY_MS)
    accept_wait_ms: int = _rule(120_000, Group.TIMING, 9, 100, _DAY_MS)
    fetch_ms: int = _rule(600_000, Group.TIMING, 10, 100, 30 * _DAY_MS)
    queue_ms: int = _rule(600_000, Group.TIMING, 11, 100, 30 * _DAY_MS)
    kill_grace_ms: int = _rule(30_000, Group.TIMING, 12, 0, 3_600_000)
    receipt_deadline_ms: int = _rule(604_800_000, Group.TIMING, 13, 1_000, _YEAR_MS)
    checkpoint_ms: int = _rule(3_600_000, Group.TIMING, 14, 1_000, _DAY_MS)
    objection_ms: int = _rule(_DAY_MS // 2, Group.TIMING, 15, 0, _YEAR_MS)

    urgency_points_per_hour: int = _rule(100, Group.SCORING, 1, 1, _POINTS_MAX)
    balance_points: int = _rule(500, Group.SCORING, 2, 0, _POINTS_MAX)
    reserve_depth: int = _rule(1, Group.SCORING, 3, 0, 100)

    idle_rate_ppm: int = _rule(100_000, Group.ACCOUNTING, 1, 0, PPM)
    decay_num: int = _rule(905_724, Group.ACCOUNTING, 2, 0, PPM)
    decay_den: int = _rule(1_000_000, Group.ACCOUNTING, 3, 1, PPM)
    decay_days: int = _rule(140, Group.ACCOUNTING, 4, 1, 3_660)
    min_balance: int = _rule(-500_000, Group.ACCOUNTING, 5, -PPM, PPM)
    credit_line: int = _rule(8_640_000, Group.ACCOUNTING, 6, 0, (1 << 56) - 1)

    walltime_max_s: int = _rule(604_800, Group.LIMITS, 1, 1, 366 * 86_400)
    max_attempts: int = _rule(5, Group.LIMITS, 2, 1, 1_000)
    live_jobs_max: int = _rule(100_000, Group.LIMITS, 3, 1, 10_000_000)
    evictions_max: int = _rule(3, Group.LIMITS, 4, 1, 1_000)
    objections_max: int = _rule(5_000, Group.LIMITS, 5, 0, 10_000_000)

    notice_rounds: int = _rule(30, Group.GOVERNANCE, 1, 1, 1_000_000)
    proposal_max_ms: int = _rule(30 * _DAY_MS, Group.GOVERNANCE, 2, 1_000, _YEAR_MS)
    dispute_settle_ms: int = _rule(7 * _DAY_MS, Group.GOVERNANCE, 3, 0, _YEAR_MS)
    dispute_vote_ms: int = _rule(14 * _DAY_MS, Group.GOVERNANCE, 4, 1_000, _YEAR_MS)
    admit_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 5, 0, PPM)
    remove_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 6, 0, PPM)
    readmit_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 7, 0, PPM)
    replace_key_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 8, 0, PPM)
    rules_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 9, 0, PPM)
    dispute_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 10, 0, PPM)
    new_epoch_above_ppm: int = _rule(500_000, Group.GOVERNANCE, 11, 0, PPM)
    thresholds_above_ppm: int = _rule(666_666, Group.GOVERNANCE, 12, 0, PPM)

    classes: tuple[WorkClass, ...] = (
        WorkClass(name="urgent", points=1_000, share_max_ppm=100_000),
        WorkClass(name="normal", points=500),
        WorkClass(name="low", points=0),
    )
    resource_classes: tuple[ResourceClass, ...] = (
        ResourceClass(name="cpu", unit="core"),
        ResourceClass(name="gpu", unit="gpu", points_num=50),
    )

    def __post_init__(self) -> None:
        for field in RULE_FIELDS:
            _check_range(field.name, getattr(self, field.name), field.low, field.high, "rules")
        _check_names(self)
        _check_conflicts(self)

    @property
    def lease_max_ms(self) -> int:
        """The longest that a lease can run from its handover."""
        run_ms = self.walltime_max_s * 1_000
        return self.fetch_ms + self.queue_ms + run_ms + self.kill_grace_ms + self.clock_error_ms

    def work_class(self, name: str) -> WorkClass | None:
        """The class of work of that name, or None."""
        return next((c for c in self.classes if c.name == name), None)

    def class_below(self, name: str) -> WorkClass | None:
        """The next class down: what a job counts as that exceeds its class's share."""
        names = [c.name for c in self.classes]
        below = names.index(name) + 1 if name in names else len(names)
        return self.classes[below] if below < len(names) else None

    def resource_class(self, name: str) -> ResourceClass | None:
        """The resource class of that name, or None."""
        return next((c for c in self.resource_classes if c.name == name), None)

    def to_mapping(self) -> dict[str, object]:
        """The rules as people write them; `Rules.from_mapping` takes it back."""
        mapping: dict[str, object] = {f.name: getattr(self, f.name) for f in RULE_FIELDS}
        mapping["classes"] = [dataclasses.asdict(c) for c in self.classes]
        mapping["resource_classes"] = [dataclasses.asdict(c) for c in self.resource_classes]
        return mapping

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, object]) -> Rules:
        """The rules that a person wrote; what the mapping leaves out stands at its default.

        Raises:
            InputError: `rules-key-unknown`, `rules-value-type`, `rules-value-range`,
                `rules-conflict`.
        """
        known = {f.name for f in dataclasses.fields(cls)}
        _refuse_unknown(mapping, known, "rules")
        values: dict[str, object] = dict(mapping)
        if "classes" in values:
            values["classes"] = _parse_tables(values["classes"], "classes", WorkClass)
        if "resource_classes" in values:
            values["resource_classes"] = _parse_tables(
                values["resource_classes"], "resource_classes", ResourceClass
            )
        return cast("Callable[..., Rules]", cls)(**values)

    def to_wire(self) -> dict[int, CborItem]:
        """The rules as a CBOR map, every rule explicit; equal rules give equal bytes."""
        wire: dict[int, CborItem] = {}
        for group in Group:
            members = sorted((f.number, f.name) for f in RULE_FIELDS if f.group == group)
            wire[int(group)] = {number: getattr(self, name) for number, name in members}
        wire[_CLASSES_KEY] = [[c.name, c.points, c.share_max_ppm] for c in self.classes]
        wire[_RESOURCE_CLASSES_KEY] = [
            [c.name, _UNITS.index(c.unit), c.points_num, c.points_den]
            for c in self.resource_classes
        ]
        return wire

    @classmethod
    def from_wire(cls, item: CborItem) -> Rules:
        """The rules of a decoded CBOR map.

        Raises:
            InputError: `rules-form` for a missing or unknown key or a wrong type, else as
                `from_mapping`.
        """
        wire = _wire_map(item, {*map(int, Group), _CLASSES_KEY, _RESOURCE_CLASSES_KEY}, "rules")
        values: dict[str, object] = {}
        for group in Group:
            names = {f.number: f.name for f in RULE_FIELDS if f.group == group}
            members = _wire_map(wire[group], set(names), f"rules group {group.name.lower()}")
            values.update((names[number], value) for number, value in members.items())
        values["classes"] = [
            {"name": name, "points": points, "share_max_ppm": share}
            for name, points, share in _wire_rows(wire[_CLASSES_KEY], 3, "classes")
        ]
        values["resource_classes"] = [
            {
                "name": name,
                "unit": _wire_unit(unit),
                "points_num": num,
                "points_den": den,
            }
            for name, unit, num, den in _wire_rows(
                wire[_RESOURCE_CLASSES_KEY], 4, "resource_classes"
            )
        ]
        return cls.from_mapping(values)


RULE_FIELDS: Final[tuple[RuleField, ...]] = tuple(
    RuleField(name=f.name, default=cast(int, f.default), **f.metadata)
    for f in dataclasses.fields(Rules)
    if f.metadata
)
"""The integer rules in the order of their declaration."""


def _check_names(rules: Rules) -> None:
    """Class lists are non-empty, bounded, without doubles; work classes go down in points."""
    lists: tuple[tuple[str, list[str]], ...] = (
        ("classes", [c.name for c in rules.classes]),
        ("resource_classes", [c.name for c in rules.resource_classes]),
    )
    for where, names in lists:
        if not 1 <= len(names) <= LIST_ITEMS_MAX:
            raise InputError(
                "rules-value-range",
                f"{len(names)} entries, not within 1 to {LIST_ITEMS_MAX}",
                where=where,
            )
        if len(set(names)) != len(names):
            raise InputError("rules-conflict", "two entries have the same name", where=where)
    points = [c.points for c in rules.classes]
    if any(a <= b for a, b in pairwise(points)):
        raise InputError(
            "rules-conflict",
            "classes do not stand in descending order of points",
            where="classes",
            remedy="list the class with the most points first; no two may have the same",
        )


def _check_conflicts(rules: Rules) -> None:
    """Refuses rules under which nothing could ever be accepted, or the living look dead."""
    conflicts = (
        (
            rules.heartbeat_ms >= rules.offer_lease_ms,
            "heartbeat_ms is not below offer_lease_ms: every centre would look dead between beats",
        ),
        (
            rules.clock_error_ms >= rules.claim_wait_ms,
            "clock_error_ms is not below claim_wait_ms: no claim could be accepted in time",
        ),
        (
            rules.clock_error_ms >= rules.accept_wait_ms,
            "clock_error_ms is not below accept_wait_ms: no payload could be handed over in time",
        ),
        (
            rules.approval_wait_ms < rules.claim_wait_ms,
            "approval_wait_ms is below claim_wait_ms: asking a human would be the faster way",
        ),
        (
            rules.objection_ms > rules.receipt_deadline_ms,
            "objection_ms is above receipt_deadline_ms: a dispute would come too late to count",
        ),
        (
            rules.decay_num > rules.decay_den,
            "decay_num is above decay_den: old contribution would grow",
        ),
    )
    for broken, what in conflicts:
        if broken:
            raise InputError("rules-conflict", what, where="rules")


def _refuse_unknown(mapping: Mapping[str, object], known: set[str], where: str) -> None:
    for key in mapping:
        if key not in known:
            raise InputError(
                "rules-key-unknown",
                f"unknown rule {key!r}",
                where=where,
                remedy=f"known are {', '.join(sorted(known))}",
            )


def _parse_tables(value: object, where: str, table_class: Callable[..., T]) -> tuple[T, ...]:
    """The classes that a list of tables describes."""
    fields = dataclasses.fields(cast("type[WorkClass]", table_class))
    known = {f.name for f in fields}
    required = {f.name for f in fields if f.default is dataclasses.MISSING}
    if not isinstance(value, list | tuple):
        raise InputError("rules-value-type", f"{where} is not a list of tables", where=where)
    found: list[T] = []
    for table in value:
        if not isinstance(table, Mapping):
            raise InputError("rules-value-type", f"{table!r} is not a table", where=where)
        _refuse_unknown(table, known, where)
        missing = sorted(required - table.keys())
        if missing:
            raise InputError("rules-value-type", f"an entry lacks {missing[0]}", where=where)
        found.append(table_class(**table))
    return tuple(found)


def _wire_map(item: CborItem, keys: Iterable[int], where: str) -> dict[int, CborItem]:
    if type(item) is not dict or item.keys() != set(keys):
        raise InputError(
            "rules-form",
            "not a map of exactly the keys that this version knows",
            where=where,
            remedy="a federation whose rules are newer than this program needs a newer program",
        )
    return item


def _wire_rows(item: CborItem, width: int, where: str) -> list[list[CborItem]]:
    if type(item) is not list:
        raise InputError("rules-form", "not a list", where=where)
    rows = [row for row in item if type(row) is list and len(row) == width]
    if len(rows) != len(item):
        raise InputError("rules-form", f"an entry is not a list of {width}", where=where)
    return rows


def _wire_unit(item: CborItem) -> str:
    if type(item) is not int or not 0 <= item < len(_UNITS):
        raise InputError("rules-form", f"unknown unit {item!r}", where="resource_classes")
    return _UNITS[item]
