"""What can befall a federation: every kind of fault, and how often it strikes.

A fault strikes at moments drawn from the world's own chance, some times a minute on average; how
often is drawn for each run. Every fault ends by itself, or when the run heals the world.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from p2pfed.simulate.hardship import council, links, machines, rogues, sites
from p2pfed.simulate.hardship.strikes import Strike
from p2pfed.simulate.world import World


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of fault, and how often it strikes in the worst run: times a minute.

    Attributes:
        rogue: it takes a member that does what it likes.
    """

    name: str
    strike: Strike
    most_a_minute: int
    rogue: bool = False


def _nothing(world: World) -> None:
    """What lasts for the whole run, and is set up with it (`trial.weather_of`)."""


KINDS: Final = (
    # Machines
    Kind("kill", machines.kill, 6),
    Kind("away", machines.away, 3),
    Kind("again", machines.kill_again, 3),
    Kind("backup", machines.restore_backup, 2),
    Kind("mark", machines.lose_mark, 2),
    Kind("disk", machines.lose_disk, 1),
    Kind("full", machines.fill_disk, 4),
    Kind("torn", machines.tear_snapshot, 3),
    Kind("clock", machines.set_clock, 3),
    Kind("drift", machines.drift, 3),
    # Networks
    Kind("loss", _nothing, 1),
    Kind("slow", _nothing, 1),
    Kind("cut", links.cut_links, 6),
    Kind("isolate", links.isolate, 3),
    Kind("halve", links.halve, 3),
    Kind("bridge", links.bridge, 4),
    Kind("flap", links.flap, 3),
    Kind("oneway", links.one_way, 4),
    Kind("silence", links.silence, 4),
    Kind("weather", links.bad_weather, 2),
    # Batch systems and people
    Kind("queue", _nothing, 1),
    Kind("lies", _nothing, 1),
    Kind("forget", sites.drop_native, 6),
    Kind("fail", sites.end_native, 6),
    Kind("pause", sites.pause, 3),
    Kind("policy", sites.change_policy, 3),
    Kind("withdraw", sites.withdraw, 2),
    Kind("resize", sites.resize, 4),
    Kind("cancel", sites.cancel, 4),
    Kind("hold", sites.hold, 4),
    # Members
    Kind("rules", council.change_rules, 3),
    Kind("older", _nothing, 1),
    # A member that does what it likes
    Kind("claims", rogues.claim_anything, 12, rogue=True),
    Kind("nonsense", rogues.talk_nonsense, 12, rogue=True),
    Kind("dispute", rogues.dispute_everything, 20, rogue=True),
    Kind("dishonour", rogues.dishonour, 1, rogue=True),
    Kind("backdate", rogues.backdate, 1, rogue=True),
    Kind("grind", rogues.grind, 6, rogue=True),
    Kind("forge", rogues.forge, 12, rogue=True),
    Kind("replay", rogues.replay, 12, rogue=True),
    Kind("flood", rogues.flood, 6, rogue=True),
    Kind("twin", rogues.twin, 3, rogue=True),
    Kind("fork", rogues.fork, 2, rogue=True),
    Kind("withhold", rogues.withhold, 4, rogue=True),
)
"""Every kind of fault. A run draws some of them, and the rate of each."""

ONCE: Final = ("join", "leave", "remove", "epoch")
"""Kinds that happen once in a run, at a moment of its own: changes of who is a member."""

NAMES: Final = (*(kind.name for kind in KINDS), *ONCE)
