"""Whose jobs a centre takes, by its own policy: accept, ask a person, or decline.

The policy is private and never replicated; what follows from it is a record (Accept or Close). It
is a list of rules, and the first rule whose conditions all hold decides; a job that no rule fits is
accepted. A condition that states nothing holds for every job. Rules are values: the shell reads
them from `centre.toml` and hands them over whole, so that a node never sees half a policy.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from p2pfed.core.ids import CentreName
from p2pfed.core.records import Job, Offer


class Decision(Enum):
    """What a rule says of a job that it fits."""

    ACCEPT = "accept"
    ASK = "ask"
    DECLINE = "decline"


class Mode(Enum):
    """What becomes of guests, by order of this centre's administrators."""

    OPEN = "open"
    PAUSED = "paused"
    DRAINING = "draining"
    WITHDRAWN = "withdrawn"


class Times(Protocol):
    """Times of day at which a rule holds; `p2pfed.node.windows.Windows` is one."""

    def holds(self, now_ms: int) -> bool:
        """True if `now_ms` lies within them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionRule:
    """One rule; it fits a job if every condition holds.

    Attributes:
        decision: what then happens.
        name: how the rule is called in the log of decisions and in requests.
        centres, classes, data_classes: the job's home, work class, data class is one of these;
            empty: any.
        features: the job asks for one of these (a container runtime, software); empty: any.
        lacks: the job asks for none of these.
        cores_from, gpus_from: the job asks for at least so many in all.
        walltime_from_s: the job asks for at least this time.
        times: the rule holds only then; None: always.
    """

    decision: Decision
    name: str
    centres: frozenset[str] = frozenset()
    classes: frozenset[str] = frozenset()
    data_classes: frozenset[str] = frozenset()
    features: frozenset[str] = frozenset()
    lacks: frozenset[str] = frozenset()
    cores_from: int = 0
    gpus_from: int = 0
    walltime_from_s: int = 0
    times: Times | None = None

    def fits(self, home: CentreName, job: Job, now_ms: int) -> bool:
        """True if all conditions hold for a job of `home` at `now_ms`."""
        asked = frozenset(job.features)
        return (
            (not self.centres or home in self.centres)
            and (not self.classes or job.work_class in self.classes)
            and (not self.data_classes or job.data_class in self.data_classes)
            and (not self.features or bool(asked & self.features))
            and not asked & self.lacks
            and job.nodes * job.cores_per_node >= self.cores_from
            and job.nodes * job.gpus_per_node >= self.gpus_from
            and job.walltime_s >= self.walltime_from_s
            and (self.times is None or self.times.holds(now_ms))
        )

    def could_fit(self, offer: Offer) -> bool:
        """False if no job that the offer's terms take can meet the conditions."""
        takes = (
            (self.centres, offer.allow),
            (self.classes, offer.classes),
            (self.data_classes, offer.data_classes),
        )
        return (
            all(not mine or not its or bool(mine & set(its)) for mine, its in takes)
            and (not self.centres or bool(self.centres - set(offer.deny)))
            and (not self.features or bool(self.features & set(offer.features)))
        )


DEFAULT = AdmissionRule(decision=Decision.ACCEPT, name="default")
"""What decides if no rule fits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AdmissionPolicy:
    """What this centre alone decides about guests.

    Attributes:
        paused: take no new guests.
        deny_centres, deny_classes: declined, before any rule is asked.
        rules: in the order in which they are asked.
    """

    paused: bool = False
    deny_centres: frozenset[str] = field(default_factory=frozenset)
    deny_classes: frozenset[str] = field(default_factory=frozenset)
    rules: tuple[AdmissionRule, ...] = ()

    def may_ask(self, offer: Offer) -> bool:
        """True if a job on the offer may come to wait for a person's word: it then says so.

        Sizes are not looked at, since an offer's own changes while its terms stay.
        """
        return any(rule.decision is Decision.ASK and rule.could_fit(offer) for rule in self.rules)

    def judge(self, home: CentreName, job: Job, now_ms: int) -> AdmissionRule:
        """The rule that decides about a job of `home` at `now_ms`."""
        if home in self.deny_centres:
            return AdmissionRule(decision=Decision.DECLINE, name="deny_centres")
        if job.work_class in self.deny_classes:
            return AdmissionRule(decision=Decision.DECLINE, name="deny_classes")
        return next((rule for rule in self.rules if rule.fits(home, job, now_ms)), DEFAULT)
