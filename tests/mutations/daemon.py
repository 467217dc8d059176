"""Deliberate bugs in the daemon, each of which simulated federations must catch.

A mutation names the faults under which it can show, and within how many seeds it must.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass

from p2pfed.core.accounting import Accounts
from p2pfed.core.ids import CentreName, Head
from p2pfed.core.matching_fit import Amount
from p2pfed.node import home
from p2pfed.node.court import ACCEPT, Court, Ruling
from p2pfed.node.effects import Effect, StoreBlocks
from p2pfed.node.home import Home
from p2pfed.node.host import Host
from p2pfed.node.ledger import Ledger
from p2pfed.node.node import Node
from p2pfed.node.recovery import Recovery
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn
from p2pfed.simulate.hardship.trial import Outcome, Plan, run_trial
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World
from tests.mutations.swap import swapped

Apply = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: what is wrong.
        kinds: the faults under which it shows.
        seeds: within how many seeds it must be caught.
        centres, jobs: how large the federations are.
        apply: puts it into the daemon while the stack is open.
    """

    name: str
    apply: Apply
    kinds: tuple[str, ...] = ()
    seeds: int = 4
    centres: int = 4
    jobs: int = 12

    def catch(self, first_seed: int = 1) -> tuple[int, Outcome] | None:
        """How many seeds it took, and what broke; None if nothing did."""
        for count in range(1, self.seeds + 1):
            plan = Plan(
                seed=first_seed + count - 1,
                centres=self.centres,
                jobs=self.jobs,
                minutes=1,
                kinds=self.kinds,
            )
            with ExitStack() as stack:
                self.apply(stack)
                outcome = run_trial(plan)
            if outcome.broken:
                return count, outcome
        return None


def _put(owner: object, name: str, value: object) -> Apply:
    def apply(stack: ExitStack) -> None:
        stack.enter_context(swapped(owner, name, value))

    return apply


def _lose_unsynced(stack: ExitStack) -> None:
    """The disk keeps the last own block in its cache only: a crash takes it, and the mark."""
    crash = World.crash

    def crashed(self: World, name: CentreName, *, down_ms: int | None = None) -> None:
        if self.centres[name].node is not None:
            _drop_newest(self.centres[name])
        crash(self, name, down_ms=down_ms)

    stack.enter_context(swapped(World, "crash", crashed))


def _drop_newest(centre: Centre) -> None:
    own = [b for b in centre.disk.blocks if b.feed.centre == centre.name]
    if len(own) > 2:
        at = centre.disk.blocks.index(own[-1])
        del centre.disk.blocks[at:]
        left = own[-2]
        centre.disk.mark = Head(left.seq_num, left.block_id)


def _reply_before_storing(stack: ExitStack) -> None:
    finish = Node._finish

    def finished(self: Node, turn: Turn) -> list[Effect]:
        return sorted(finish(self, turn), key=lambda effect: isinstance(effect, StoreBlocks))

    stack.enter_context(swapped(Node, "_finish", finished))


def _count_usage_twice(stack: ExitStack) -> None:
    set_usage = Accounts.set_usage
    seen: dict[int, int] = {}

    def doubled(self: Accounts, claim_id: object, **how: object) -> None:
        amount = how["amount"]
        seen[id(self)] = seen.get(id(self), 0) + 1
        if isinstance(amount, int) and seen[id(self)] % 2:
            how["amount"] = 2 * amount
        set_usage(self, claim_id, **how)  # type: ignore[arg-type]

    stack.enter_context(swapped(Accounts, "set_usage", doubled))


def _lose_early(stack: ExitStack) -> None:
    stack.enter_context(
        swapped(home, "may_declare_lost", lambda now_ms, until_ms: now_ms >= until_ms - 9_000)
    )


BUGS: tuple[Bug, ...] = (
    Bug(
        name="a crash takes what was stored and not synced",
        apply=_lose_unsynced,
        kinds=("kill", "isolate", "halve"),
        seeds=12,
    ),
    Bug(
        name="the reply leaves before the job is stored",
        apply=_reply_before_storing,
        kinds=("kill", "isolate", "halve"),
        seeds=24,
    ),
    Bug(
        name="a host does not look at its own accepts to date",
        apply=_put(Court, "_free", lambda *_: Amount(99, 99, 10**6, 99)),
        centres=5,
        jobs=40,
    ),
    Bug(
        name="every claim is accepted, whatever view it cites and whatever is free",
        apply=_put(Court, "rule", lambda *_: ACCEPT),
        jobs=40,
    ),
    Bug(
        name="a centre writes without taking its own blocks back",
        apply=_put(Recovery, "_may_write", lambda *_: True),
        kinds=("backup",),
        seeds=8,
    ),
    Bug(
        name="the high-water file is forgotten",
        apply=_put(Ledger, "_own_head", lambda *_: None),
        kinds=("kill", "backup", "halve"),
        seeds=8,
    ),
    Bug(
        name="a home gives its job away before the lease is over",
        apply=_lose_early,
        kinds=("isolate",),
    ),
    Bug(
        name="a wrong clock is trusted",
        apply=_put(Trust, "clock", lambda *_: True),
        kinds=("clock",),
        seeds=16,
    ),
    Bug(name="a usage record counts twice on some nodes", apply=_count_usage_twice),
    Bug(
        name="a restart forgets what it holds",
        apply=_put(Court, "book", lambda *_: None),
        kinds=("kill",),
        jobs=40,
    ),
    Bug(
        name="no claim is ever released",
        apply=_put(Home, "_keep_or_release", lambda *_: None),
        kinds=("kill", "isolate"),
        seeds=8,
    ),
    Bug(
        name="a host closes nothing that came to nothing",
        apply=_put(Host, "_close", lambda *_: None),
        kinds=("kill", "isolate", "cancel"),
        seeds=8,
    ),
    Bug(name="every claim is closed", apply=_put(Court, "rule", lambda *_: Ruling(close="policy"))),
)
