"""What a federated replay is told: who takes part and how, and the rules.

The defaults are the offer template and the rules that p2pfed ships; how they were found is told in
docs/explanation/experiments.md.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from p2pfed.core.rules import PPM, Rules
from p2pfed.errors import InputError
from p2pfed.simulate.workload.trace import WEEK_S


@dataclass(frozen=True, slots=True, kw_only=True)
class CentrePolicy:
    """What one centre offers and what it sends out.

    Attributes:
        share: guests hold at most this part of the machine together.
        kept_free: so many idle processors are never offered.
        windows: when it offers, as (begin, end) in seconds of the week from Monday 00:00 UTC;
            empty means always. A guest must be done by the end of the window.
        to_shadow: idle processors are offered only till the first waiting local job could surely
            start (EASY's shadow), so that guests never delay it.
        beyond_shadow: processors that this job will leave over are offered without that limit.
        long_s: guests that ask for more than this are long.
        long_share: long guests hold at most this part of the machine.
        preemptible: guests are cut short as soon as a local job would start in their place.
        min_balance: guests of homes below it (ppm) are refused; None for what the rules say.
        exports: its waiting jobs may go elsewhere.
        after_wait_s: only those that have waited so long.
        leaves_s: from this time on it neither offers nor exports; what runs goes on.
        speed: how fast its processors are; a job takes `run time / speed`.
    """

    share: float = 1.0
    kept_free: int = 0
    windows: tuple[tuple[int, int], ...] = ()
    to_shadow: bool = True
    beyond_shadow: bool = True
    long_s: int = 3_600
    long_share: float = 0.5
    preemptible: bool = False
    min_balance: int | None = None
    exports: bool = True
    after_wait_s: int = 0
    leaves_s: int | None = None
    speed: float = 1.0

    def __post_init__(self) -> None:
        """Raises InputError `workload-option` for a value that makes no sense."""
        for what, value, low, high in (
            ("share", self.share, 0.0, 1.0),
            ("kept_free", self.kept_free, 0, 1 << 32),
            ("long_s", self.long_s, 0, 1 << 32),
            ("long_share", self.long_share, 0.0, 1.0),
            ("after_wait_s", self.after_wait_s, 0, 1 << 32),
            ("leaves_s", self.leaves_s or 0, 0, 1 << 40),
            ("speed", self.speed, 0.01, 100.0),
            ("min_balance", self.min_balance or 0, -PPM, PPM),
        ):
            if not low <= value <= high:
                raise InputError(
                    "workload-option", f"{what} is {value}, not within {low} to {high}"
                )
        before = 0
        for begin, end in self.windows:
            if not before <= begin < end <= WEEK_S:
                raise InputError(
                    "workload-option",
                    "windows overlap, are not in order, or are not within a week",
                    remedy="give (begin, end) in seconds from Monday 00:00 UTC, ascending",
                )
            before = end

    @classmethod
    def free_rider(cls) -> CentrePolicy:
        """A centre that only consumes."""
        return cls(share=0.0)


PREEMPTIBLE = CentrePolicy(long_share=1.0, preemptible=True, min_balance=-PPM)
"""The preemptible template: guests give way, so no local job ever waits for one, be they of those
who owe: there is no debt limit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FederationOptions:
    """Everything else about a federated replay.

    Attributes:
        policy: of every centre that `policies` does not name.
        policies: by centre.
        rules: the rules; `credit_line` is replaced if `credit_days` is not None.
        credit_days: credit line of each centre, in days of its machine.
        delay_ms: how long a message takes from one centre to another. From a claim to the start of
            its job four go back and forth: claim, accept, handover, payload.
        checkpoints: a guest that is cut short goes on later where it was; else it starts again.
        sample_s: how often balances are noted.
    """

    policy: CentrePolicy = field(default_factory=CentrePolicy)
    policies: Mapping[str, CentrePolicy] = field(default_factory=dict)
    rules: Rules = field(default_factory=Rules)
    credit_days: float | None = 0.25
    delay_ms: int = 200
    checkpoints: bool = False
    sample_s: int = 21_600

    def __post_init__(self) -> None:
        """Raises InputError `workload-option` for a value that makes no sense."""
        for what, value, low, high in (
            ("delay_ms", self.delay_ms, 0, 3_600_000),
            ("sample_s", self.sample_s, 60, WEEK_S),
            ("credit_days", self.credit_days or 0.0, 0.0, 10_000.0),
        ):
            if not low <= value <= high:
                raise InputError(
                    "workload-option", f"{what} is {value}, not within {low} to {high}"
                )

    def of(self, centre: str) -> CentrePolicy:
        """The policy of a centre."""
        return self.policies.get(centre, self.policy)
