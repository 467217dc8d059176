"""The words of `p2pfed simulate`'s options, as a study.

Whatever belongs to a centre is written `[CENTRE=]VALUE`: without a centre it holds for all that
have no value of their own.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, tzinfo
from pathlib import Path
from typing import Final, TypeVar
from zoneinfo import ZoneInfo

from p2pfed.cli.rules_file import read_rules
from p2pfed.core.ids import CentreName, parse_centre_name
from p2pfed.core.rules import PPM
from p2pfed.errors import InputError
from p2pfed.shell.schema import parse_duration_s
from p2pfed.simulate.study import Study
from p2pfed.simulate.workload.lublin import synthetic_trace
from p2pfed.simulate.workload.options import PREEMPTIBLE, CentrePolicy, FederationOptions
from p2pfed.simulate.workload.reading import read_trace
from p2pfed.simulate.workload.trace import DAY_S, WEEK_S, Trace
from p2pfed.simulate.workload.workload import Alignment, Shaping

T = TypeVar("T")

_SYNTHETIC_JOBS: Final = 5_000
_SYNTHETIC_LOAD: Final = 0.7
_DAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_CLOCK: Final = re.compile(r"(?!24:(?!00))([01]?\d|2[0-4]):([0-5]\d)")


@dataclass(frozen=True, slots=True, kw_only=True)
class Words:
    """The options as they were written; the help of each says what it means."""

    traces: tuple[str, ...] = ()
    synthetic: tuple[str, ...] = ()
    procs: tuple[str, ...] = ()
    zone: tuple[str, ...] = ()
    only: str = ""
    align: str = "weekday"
    offset: tuple[str, ...] = ()
    load: float = 1.0
    jitter: str = "0"
    inflate: float = 1.0
    seed: int = 0
    warmup: str = ""
    rules: Path | None = None
    delay: str = "200ms"
    share: tuple[str, ...] = ()
    kept_free: tuple[str, ...] = ()
    window: tuple[str, ...] = ()
    after_wait: tuple[str, ...] = ()
    long_guests: tuple[str, ...] = ()
    long_share: tuple[str, ...] = ()
    min_balance: tuple[str, ...] = ()
    all_idle: bool = False
    credit_days: float | None = None
    preemptible: bool = False
    checkpoint: bool = False
    free_riders: tuple[str, ...] = ()
    leaves: tuple[str, ...] = ()
    speed: tuple[str, ...] = ()


def make_study(words: Words) -> Study:
    """The study that the options ask for; reads the traces and the rules.

    Raises:
        InputError: `simulate-option` for a word that can't be read, `file-unreadable`, `rules-*`,
            `workload-*`, `centre-name`.
    """
    traces = read_traces(words)
    names = [trace.name for trace in traces]
    return Study(
        traces=traces,
        shaping=Shaping(
            alignment=Alignment(words.align),
            offset_s=_offsets(words.offset, names),
            load=words.load,
            jitter_s=seconds(words.jitter),
            inflation=words.inflate,
            seed=words.seed,
        ),
        only=tuple(name for name in words.only.split(",") if name),
        federation=_federation(words, names),
        warmup_s=seconds(words.warmup) if words.warmup else None,
    )


def read_traces(words: Words) -> tuple[Trace, ...]:
    """The traces of the files, then the synthetic ones.

    Raises:
        InputError: as `make_study`; `simulate-option` if there is neither.
    """
    if not words.traces and not words.synthetic:
        raise InputError(
            "simulate-option",
            "there is nothing to replay",
            remedy="name a trace of each centre, or --synthetic NAME=PROCESSORS",
        )
    files = [_split_file(text) for text in words.traces]
    procs = _numbers(words.procs, [name for name, _ in files], len(files) == 1)
    zones = _by_centre(words.zone, [name for name, _ in files], _zone)
    found = [
        read_trace(path, name, procs=procs.get(name), zone=zones.get(name, zones.get(None, UTC)))
        for name, path in files
    ]
    found += [_synthetic(text, words.seed) for text in words.synthetic]
    return tuple(found)


def _zone(text: str) -> tzinfo:
    try:
        return ZoneInfo(text)
    except (KeyError, ValueError, OSError):  # unknown, not a name, a folder of names
        raise _bad("--zone", text, "write a name such as Europe/Stockholm") from None


def _split_file(text: str) -> tuple[CentreName, Path]:
    """`NAME=FILE`, or a file whose name up to the first dot is its centre's."""
    name, equals, file = text.partition("=")
    if equals and not Path(text).exists():
        return parse_centre_name(name, where=text), Path(file)
    path = Path(text)
    stem = re.sub(r"[^a-z0-9-]+", "-", path.name.split(".")[0].lower()).strip("-")
    if not stem[:1].isalpha():
        stem = f"centre-{stem}"
    return parse_centre_name(stem[:31], where=text), path


def _numbers(words: Iterable[str], names: Sequence[str], single: bool) -> dict[str, int]:
    """`--procs`: a number for each centre; a bare one if there is only one centre."""
    found = {}
    for text in words:
        centre, value = _split(text, names)
        if centre is None and not single:
            raise _bad("--procs", text, "write CENTRE=PROCESSORS for each")
        found[centre or names[0]] = _whole("--procs", value, least=1)
    return found


def _synthetic(text: str, seed: int) -> Trace:
    """`NAME=PROCESSORS[:JOBS[:LOAD]]`."""
    name, _, rest = text.partition("=")
    parts = rest.split(":")
    if not rest or len(parts) > 3:
        raise _bad("--synthetic", text, "write NAME=PROCESSORS[:JOBS[:LOAD]], alpha=128:10000:0.8")
    return synthetic_trace(
        parse_centre_name(name, where="--synthetic"),
        procs=_whole("--synthetic", parts[0], least=1),
        jobs=_whole("--synthetic", parts[1], least=1) if len(parts) > 1 else _SYNTHETIC_JOBS,
        seed=seed,
        load=_part("--synthetic", parts[2], 10.0) if len(parts) > 2 else _SYNTHETIC_LOAD,
        start_unix_s=0,
    )


def _offsets(words: Iterable[str], names: Sequence[str]) -> dict[str, int]:
    found = {}
    for text in words:
        centre, value = _split(text, names)
        if centre is None:
            raise _bad("--offset", text, "write CENTRE=DURATION")
        found[centre] = -seconds(value[1:]) if value.startswith("-") else seconds(value)
    return found


def _federation(words: Words, names: Sequence[str]) -> FederationOptions:
    general = PREEMPTIBLE if words.preemptible else CentrePolicy()
    general = dataclasses.replace(general, to_shadow=not words.all_idle)
    own: dict[str, dict[str, object]] = {name: {} for name in names}
    for attribute, found in _policy_words(words, names):
        for centre, value in found.items():
            if centre is None:
                general = dataclasses.replace(general, **{attribute: value})  # type: ignore[arg-type]
            else:
                own[centre][attribute] = value
    for name in words.free_riders:
        own[_known(name, names)]["share"] = 0.0
    for text in words.leaves:
        name, _, day = text.partition("@")
        own[_known(name, names)]["leaves_s"] = _whole("--leaves", day, least=0) * DAY_S
    policies = {
        name: dataclasses.replace(general, **values)  # type: ignore[arg-type]
        for name, values in own.items()
        if values
    }
    options = FederationOptions(
        policy=general,
        policies=policies,
        rules=read_rules(words.rules),
        delay_ms=milliseconds(words.delay),
        checkpoints=words.checkpoint,
    )
    if words.credit_days is None:
        return options
    return dataclasses.replace(options, credit_days=words.credit_days)


def _policy_words(
    words: Words, names: Sequence[str]
) -> Iterator[tuple[str, Mapping[str | None, object]]]:
    """Every attribute of a policy that the options set: its values by centre, None for all."""
    yield "share", _by_centre(words.share, names, lambda text: _part("--share", text))
    yield "kept_free", _by_centre(words.kept_free, names, lambda t: _whole("--kept-free", t))
    yield "after_wait_s", _by_centre(words.after_wait, names, seconds)
    yield "long_s", _by_centre(words.long_guests, names, seconds)
    yield "long_share", _by_centre(words.long_share, names, lambda t: _part("--long-share", t))
    yield "min_balance", _by_centre(words.min_balance, names, _ppm)
    yield "speed", _by_centre(words.speed, names, lambda text: _part("--speed", text, 100.0))
    yield "windows", _windows(words.window, names)


def _by_centre(
    words: Iterable[str], names: Sequence[str], convert: Callable[[str], T]
) -> dict[str | None, T]:
    """Values by centre; None for the one of all others."""
    split = [_split(text, names) for text in words]
    return {centre: convert(value) for centre, value in split}


def _split(text: str, names: Sequence[str]) -> tuple[str | None, str]:
    """The centre, if one is named, and the value."""
    name, equals, value = text.partition("=")
    return (_known(name, names), value) if equals else (None, text)


def _known(name: str, names: Sequence[str]) -> str:
    if name not in names:
        raise InputError(
            "workload-centre",
            f"no centre of the replay is called {name!r}",
            remedy=f"known are {', '.join(names)}",
        )
    return name


_Window = tuple[int, int]


def _windows(words: Iterable[str], names: Sequence[str]) -> dict[str | None, tuple[_Window, ...]]:
    """Windows by centre, None for all others; several of one centre are joined."""
    found: dict[str | None, list[_Window]] = {}
    for text in words:
        centre, value = _split(text, names)
        found.setdefault(centre, []).extend(parse_window(value))
    return {centre: _joined(windows) for centre, windows in found.items()}


def parse_window(text: str) -> list[_Window]:
    """The windows of `mon-fri 18:00-08:00`, `sat,sun 00:00-24:00`, in seconds of the week.

    One that ends no later than it begins ends on the next day.

    Raises:
        InputError: `simulate-option`.
    """
    days, _, times = text.strip().partition(" ")
    begin, dash, end = times.strip().partition("-")
    clocks = [_CLOCK.fullmatch(begin), _CLOCK.fullmatch(end)]
    numbers = _weekdays(days)
    if not dash or not numbers or None in clocks:
        raise _bad("--window", text, "write DAYS HH:MM-HH:MM: 'mon-fri 18:00-08:00'")
    first, last = (int(c[1]) * 3_600 + int(c[2]) * 60 for c in clocks if c is not None)
    length_s = (last - first) if last > first else last - first + DAY_S
    found = []
    for day in numbers:
        at = (day * DAY_S + first) % WEEK_S
        found.append((at, min(at + length_s, WEEK_S)))
        if at + length_s > WEEK_S:
            found.append((0, at + length_s - WEEK_S))
    return found


def _weekdays(text: str) -> list[int]:
    """The numbers of `mon-fri`, `sat,sun`, `daily`; none if that is not what it is."""
    if text == "daily":
        return list(range(7))
    found: list[int] = []
    for part in text.lower().split(","):
        first, dash, last = part.partition("-")
        if first not in _DAYS or (dash and last not in _DAYS):
            return []
        begin = _DAYS.index(first)
        count = (_DAYS.index(last) - begin) % 7 + 1 if dash else 1
        found += [(begin + step) % 7 for step in range(count)]
    return found


def _joined(windows: Iterable[_Window]) -> tuple[_Window, ...]:
    """The same seconds as ascending windows that don't touch."""
    found: list[_Window] = []
    for begin, end in sorted(windows):
        if found and begin <= found[-1][1]:
            found[-1] = (found[-1][0], max(end, found[-1][1]))
        else:
            found.append((begin, end))
    return tuple(found)


def seconds(text: str) -> int:
    """The seconds of `300`, `5m`, `1h30m`, `2d`, `0`.

    Raises:
        InputError: `simulate-option`.
    """
    if text.isdecimal():
        return int(text)
    try:
        return parse_duration_s(text)
    except InputError:
        raise _bad("a duration", text, "write 300, 5m, 1h30m or 2d") from None


def milliseconds(text: str) -> int:
    """The milliseconds of `200ms`, or of a duration in seconds.

    Raises:
        InputError: `simulate-option`.
    """
    number = text.removesuffix("ms")
    return int(number) if number != text and number.isdecimal() else seconds(text) * 1_000


def parse_sweep(text: str) -> tuple[str, tuple[str, ...]]:
    """The name and the values of `name=v1,v2`.

    Raises:
        InputError: `simulate-option`.
    """
    name, _, values = text.partition("=")
    found = tuple(value for value in values.split(",") if value)
    if not name or not found:
        raise _bad("--sweep", text, "write NAME=VALUE,VALUE,…")
    return name, found


def _whole(option: str, text: str, *, least: int = 0) -> int:
    if not text.isdecimal() or int(text) < least:
        raise _bad(option, text, f"write a whole number, {least} or more")
    return int(text)


def _ppm(text: str) -> int:
    """A balance: `-500000`, from -1 000 000 to 1 000 000."""
    try:
        value = int(text)
    except ValueError:
        raise _bad("--min-balance", text, "write a whole number, such as -500000") from None
    if not -PPM <= value <= PPM:
        raise _bad("--min-balance", text, f"write a number from {-PPM} to {PPM}")
    return value


def _part(option: str, text: str, high: float = 1.0) -> float:
    """`0.5` or `50%`."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        raise _bad(option, text, "write a number, such as 0.5 or 50%") from None
    if not 0 <= value <= high:
        raise _bad(option, text, f"write a number from 0 to {high:g}")
    return value


def _bad(option: str, text: str, remedy: str) -> InputError:
    return InputError("simulate-option", f"{text!r} can't be read", where=option, remedy=remedy)


def check_page(path: Path | None) -> None:
    """Raises if no file can be written at `path`: better now than after a long replay.

    Raises:
        InputError: `simulate-option`.
    """
    if path is None or (not path.is_dir() and path.parent.is_dir()):
        return
    what = "is a folder" if path.is_dir() else "lies in a folder that is not there"
    raise InputError("simulate-option", f"{str(path)!r} {what}", where="--html")
