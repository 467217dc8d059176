"""A replay as one value, from what was asked for to the report.

A study holds everything that its report depends on, chance included (a seed), so equal studies give
equal reports, in any process. `vary` makes its neighbours for sweeps.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Final

from p2pfed.core.rules import RULE_FIELDS, Rules
from p2pfed.draw.svg import duration
from p2pfed.errors import InputError
from p2pfed.simulate.report.collect import make_report
from p2pfed.simulate.report.model import Report
from p2pfed.simulate.workload.federated import run_federated
from p2pfed.simulate.workload.ideal import run_ideal, run_isolated
from p2pfed.simulate.workload.options import CentrePolicy, FederationOptions
from p2pfed.simulate.workload.trace import WEEK_S, Trace
from p2pfed.simulate.workload.workload import Shaping, Workload, make_workload

Watch = Callable[[float], None]
"""Called now and then with the part that is done, 0 to 1."""

_WARMUP_PART: Final = 10
_EASY_PARTS: Final = 0.05
"""About what the worlds without a federation take of the time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Study:
    """What is to be replayed, and how.

    Attributes:
        traces: one for each centre.
        shaping: how they are aligned and changed.
        only: the centres that take part; all if empty.
        federation: policies, rules, delays.
        warmup_s: jobs of the replay's first seconds are not counted; None takes a week, or a tenth
            of the replay if that is less.
    """

    traces: tuple[Trace, ...]
    shaping: Shaping = field(default_factory=Shaping)
    only: tuple[str, ...] = ()
    federation: FederationOptions = field(default_factory=FederationOptions)
    warmup_s: int | None = None


def run_study(study: Study, watch: Watch = lambda _part: None) -> Report:
    """Replays the three worlds and reports.

    Raises:
        InputError: `workload-*`: the traces can't be aligned, or an option names an unknown centre.
    """
    workload = make_workload(study.traces, study.shaping)
    if study.only:
        workload = workload.only(study.only)
    federation = _restricted(study.federation, study.traces, workload)
    speeds = [federation.of(centre).speed for centre in workload.centres]
    watch(0.0)
    isolated = run_isolated(workload, speeds)
    watch(_EASY_PARTS / 2)
    ideal = run_ideal(workload, speeds)

    def progress(done: int, jobs: int) -> None:
        watch(_EASY_PARTS + (1 - _EASY_PARTS) * done / max(1, jobs))

    federated = run_federated(workload, federation, progress)
    report = make_report(
        {"isolated": isolated, "federated": federated, "ideal": ideal},
        title=_title(workload),
        options=describe(study),
        warmup_s=_warmup_s(study.warmup_s, workload),
    )
    watch(1.0)
    return report


def _restricted(
    federation: FederationOptions, traces: tuple[Trace, ...], workload: Workload
) -> FederationOptions:
    """The options without the policies of centres that were left out on purpose."""
    left_out = {trace.name for trace in traces} - set(workload.centres)
    kept = {name: p for name, p in federation.policies.items() if name not in left_out}
    return dataclasses.replace(federation, policies=kept)


def _warmup_s(asked_s: int | None, workload: Workload) -> int:
    if asked_s is not None:
        return asked_s
    first, last = workload.submit_s[0], workload.submit_s[-1]
    return first + min(WEEK_S, (last - first) // _WARMUP_PART)


def _title(workload: Workload) -> str:
    length_s = workload.submit_s[-1] - workload.submit_s[0]
    return (
        f"{len(workload.centres)} centres, {sum(workload.procs):,} processors,"
        f" {len(workload):,} jobs submitted within {duration(length_s)}"
    )


def describe(study: Study) -> dict[str, object]:
    """Everything that was asked for, for the report; rules only where they are not the defaults."""
    shaping, federation = study.shaping, study.federation
    defaults = Rules().to_mapping()
    found: dict[str, object] = {
        "traces": {
            trace.name: f"{len(trace.jobs):,} jobs, {trace.procs:,} processors"
            f"{f', {trace.skipped:,} lines left out' if trace.skipped else ''}"
            for trace in study.traces
        },
        "only": list(study.only),
        "align": shaping.alignment.value,
        "offset_s": dict(shaping.offset_s),
        "load": shaping.load,
        "jitter_s": shaping.jitter_s,
        "inflation": shaping.inflation,
        "seed": shaping.seed,
        "delay_ms": federation.delay_ms,
        "checkpoints": federation.checkpoints,
        "credit_days": federation.credit_days,
        "policy": dataclasses.asdict(federation.policy),
        "policies": {
            name: _differences(policy, federation.policy)
            for name, policy in sorted(federation.policies.items())
        },
        "rules": {
            name: value
            for name, value in federation.rules.to_mapping().items()
            if value != defaults[name]
        },
    }
    return found


def _differences(policy: CentrePolicy, general: CentrePolicy) -> dict[str, object]:
    usual = dataclasses.asdict(general)
    return {name: v for name, v in dataclasses.asdict(policy).items() if v != usual[name]}


def _count(text: str) -> int:
    return int(text.replace("_", ""))


def _flag(text: str) -> bool:
    return {"yes": True, "no": False}[text]


_SHAPING: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "load": ("load", float),
    "jitter": ("jitter_s", _count),
    "inflate": ("inflation", float),
    "seed": ("seed", _count),
}
_POLICY: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "share": ("share", float),
    "kept-free": ("kept_free", _count),
    "after-wait": ("after_wait_s", _count),
    "long-guests": ("long_s", _count),
    "long-share": ("long_share", float),
    "preemptible": ("preemptible", _flag),
    "all-idle": ("to_shadow", lambda text: not _flag(text)),
}
_FEDERATION: Final[Mapping[str, tuple[str, Callable[[str], object]]]] = {
    "delay": ("delay_ms", _count),
    "credit-days": ("credit_days", float),
    "checkpoint": ("checkpoints", _flag),
}
_RULES: Final = {rule.name for rule in RULE_FIELDS}
VARIABLES: Final = (*_SHAPING, *_POLICY, *_FEDERATION, *sorted(_RULES))
"""What `vary` can change: options by name in their base unit (s, ms, parts), and every rule."""


def vary(study: Study, name: str, text: str) -> Study:
    """The same study with one value changed.

    A policy's value changes for all centres but those that had a value of their own.

    Raises:
        InputError: `workload-variable` if there is no such name, `workload-option` for a value that
            it can't take; a rule's as `Rules.from_mapping`.
    """
    try:
        return _vary(study, name, text)
    except (ValueError, KeyError):
        raise InputError(
            "workload-option", f"{text!r} is no value of {name}", remedy="see --help"
        ) from None


def _vary(study: Study, name: str, text: str) -> Study:
    federation = study.federation
    if name in _SHAPING:
        attribute, convert = _SHAPING[name]
        shaping = dataclasses.replace(study.shaping, **{attribute: convert(text)})  # type: ignore[arg-type]
        return dataclasses.replace(study, shaping=shaping)
    if name in _POLICY:
        attribute, convert = _POLICY[name]
        federation = _with_policy(federation, attribute, convert(text))
    elif name in _FEDERATION:
        attribute, convert = _FEDERATION[name]
        federation = dataclasses.replace(federation, **{attribute: convert(text)})  # type: ignore[arg-type]
    elif name in _RULES:
        rules = Rules.from_mapping(federation.rules.to_mapping() | {name: _count(text)})
        federation = dataclasses.replace(federation, rules=rules)
    else:
        raise InputError(
            "workload-variable",
            f"nothing is called {name!r}",
            remedy=f"known are {', '.join(VARIABLES)}",
        )
    return dataclasses.replace(study, federation=federation)


def _with_policy(federation: FederationOptions, name: str, value: object) -> FederationOptions:
    before = getattr(federation.policy, name)

    def changed(policy: CentrePolicy) -> CentrePolicy:
        own = getattr(policy, name) != before
        return policy if own else dataclasses.replace(policy, **{name: value})  # type: ignore[arg-type]

    return dataclasses.replace(
        federation,
        policy=changed(federation.policy),
        policies={centre: changed(p) for centre, p in federation.policies.items()},
    )
