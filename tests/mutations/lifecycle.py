"""The rules of a claim's life and of a restart, each left out in turn.

A mutation changes the daemon's own code (or, where a rule is kept by the wrapper or the batch
system, the model's), and names the smallest setting in which the search must then find something
broken. docs/explanation/reliability.md lists them.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from p2pfed.core.entries import ClaimEntry, JobEntry
from p2pfed.core.lifecycle import HOST_MOVES, ClaimState, HostPhase, lease_until
from p2pfed.core.matching_fit import Amount
from p2pfed.core.records import Handover, Outcome, Start
from p2pfed.node import court, home, host
from p2pfed.node.court import Court
from p2pfed.node.effects import Effect, SendPayload, StoreBlocks
from p2pfed.node.events import PayloadAsked, PayloadFetched
from p2pfed.node.home import Home
from p2pfed.node.host import Host
from p2pfed.node.node import Node
from p2pfed.node.recovery import Recovery
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn
from p2pfed.simulate.model.situation import Environment, Faults, Setting
from tests.mutations.swap import added, swapped

Apply = Callable[[ExitStack], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutation:
    """One rule left out.

    Attributes:
        rule: the rule, as a statement that no longer holds.
        setting: where that shows.
        apply: leaves the rule out of the daemon's code while the stack is open.
        breach: a part of what the search must say.
        healed: whether it shows only once all faults are over.
    """

    rule: str
    setting: Setting
    breach: str
    healed: bool = False
    apply: Apply = lambda stack: None

    @contextmanager
    def applied(self) -> Iterator[None]:
        """The daemon without the rule."""
        with ExitStack() as stack:
            self.apply(stack)
            yield


def _put(owner: object, name: str, value: object) -> Apply:
    def apply(stack: ExitStack) -> None:
        stack.enter_context(swapped(owner, name, value))

    return apply


# What is left out, where it takes more than a constant


def _hand_over_at_once(stack: ExitStack) -> None:
    review = Home.review

    def reviewed(self: Home, entry: ClaimEntry, turn: Turn) -> None:
        if entry.state is ClaimState.ACCEPTED and entry.claim is not None:
            until_ms = lease_until(turn.now_ms, 1, self._rules)
            record = Handover(claim_id=entry.claim_id, lease_until_ms=until_ms)
            self._ledger.write(record, turn.now_ms)
        review(self, entry, turn)

    stack.enter_context(swapped(Home, "review", reviewed))


def _hand_over_late(stack: ExitStack) -> None:
    stack.enter_context(swapped(home, "may_hand_over", lambda *_: True))
    stack.enter_context(swapped(Home, "_keep_or_release", lambda *_: None))


def _send_at_once(stack: ExitStack) -> None:
    asked = Home.payload_asked

    def answered(self: Home, event: PayloadAsked, turn: Turn) -> None:
        asked(self, event, turn)
        job = self._ledger.live.job_of(event.claim_id)
        if job is not None:
            turn.do(
                SendPayload(
                    transfer=event.transfer,
                    job_id=job.job_id,
                    payload_digest=job.job.payload_digest,
                )
            )

    stack.enter_context(swapped(Home, "payload_asked", answered))


def _start_what_was_closed(stack: ExitStack) -> None:
    fetched = Host.payload_fetched

    def started(self: Host, event: PayloadFetched, turn: Turn) -> None:
        entry = self._ledger.live.claims[event.claim_id]
        job = self._ledger.live.job_of(event.claim_id)
        if job is not None and entry.state is ClaimState.CLOSED:
            self._write(Start(claim_id=entry.claim_id, native_name="again"), entry, turn)
            self._run(entry, job, turn)
        fetched(self, event, turn)

    stack.enter_context(swapped(Host, "payload_fetched", started))
    stack.enter_context(added(HOST_MOVES, (HostPhase.CLOSED, Start), HostPhase.STARTED))


def _submit_before_start_is_stored(stack: ExitStack) -> None:
    finish = Node._finish

    def finished(self: Node, turn: Turn) -> list[Effect]:
        effects = finish(self, turn)
        return sorted(effects, key=lambda effect: isinstance(effect, StoreBlocks))

    stack.enter_context(swapped(Node, "_finish", finished))


def _end_when_asked_to_kill(stack: ExitStack) -> None:
    def cancelled(self: Host, entry: ClaimEntry, turn: Turn) -> None:
        self._end_without_run(entry.claim_id, Outcome.CANCELLED, turn)

    stack.enter_context(swapped(Host, "_cancel", cancelled))


def _never_expire_accepts(stack: ExitStack) -> None:
    wait = Host._await_lease

    def awaited(self: Host, entry: ClaimEntry, job: JobEntry, turn: Turn) -> None:
        if turn.now_ms < entry.host_side.accept_until_ms:
            wait(self, entry, job, turn)

    stack.enter_context(swapped(Host, "_await_lease", awaited))


def _never_give_up_payload(stack: ExitStack) -> None:
    def never(lease_until_ms: int, walltime_s: int, rules: object) -> int:
        return lease_until_ms + 10**9

    stack.enter_context(swapped(host, "begin_before", never))


ONE = Setting(steps=6)

MUTATIONS: tuple[Mutation, ...] = (
    Mutation(
        rule="a host checks its own accepts to date before it accepts",
        setting=Setting(homes=2, steps=2),
        breach="promised its room twice",
        apply=_put(Court, "_free", lambda *_: Amount(9, 9, 9, 9)),
    ),
    Mutation(
        rule="no Accept after claim_until - ε",
        setting=dataclasses.replace(ONE, steps=3, one_by_one=True),
        breach="was accepted after its home had let it expire",
        apply=_put(court, "may_accept", lambda *_: True),
    ),
    Mutation(
        rule="no Handover after accept_until - ε",
        setting=ONE,
        breach="was handed over after its host had let it expire",
        apply=_hand_over_late,
    ),
    Mutation(
        rule="Close is final",
        setting=Setting(steps=1, faults=Faults(cancels=1)),
        breach="runs, and its home may give the job away",
        apply=_start_what_was_closed,
    ),
    Mutation(
        rule="Handover is written when the host asks for the payload, not before",
        setting=ONE,
        breach="handed over and nobody had asked",
        apply=_hand_over_at_once,
    ),
    Mutation(
        rule="no payload byte leaves before the host, holding the lease, names it",
        setting=ONE,
        breach="left before its host knew the lease",
        apply=_send_at_once,
    ),
    Mutation(
        rule="Lost is written only at lease_until or later",
        setting=ONE,
        breach="runs, and its home may give the job away",
        apply=_put(home, "may_declare_lost", lambda now_ms, until_ms: now_ms >= until_ms - 2_000),
    ),
    Mutation(
        rule="all native processes are dead ε before the lease ends",
        setting=dataclasses.replace(ONE, offsets_ms=(0, -1000)),
        breach="runs, and its home may give the job away",
        apply=_put(host, "kill_at", lambda lease_until_ms, rules: lease_until_ms),
    ),
    Mutation(
        rule="the batch system itself ends the job",
        setting=dataclasses.replace(ONE, environment=Environment(enforced_end=False)),
        breach="runs, and its home may give the job away",
    ),
    Mutation(
        rule="the wrapper begins only while the whole walltime fits into the lease",
        setting=dataclasses.replace(ONE, environment=Environment(begin_before=False)),
        breach="runs, and its home may give the job away",
    ),
    Mutation(
        rule="the wrapper first creates its start marker",
        setting=dataclasses.replace(ONE, environment=Environment(marker=False)),
        breach="runs, and its host counts its room as free",
    ),
    Mutation(
        rule="the daemon takes the start marker before it writes End on 'not found'",
        setting=dataclasses.replace(ONE, environment=Environment(not_found_bars=False)),
        breach="runs, and its host counts its room as free",
    ),
    Mutation(
        rule="Start is durable before anything is submitted",
        setting=dataclasses.replace(ONE, faults=Faults(crashes=1)),
        breach="runs, and its host counts its room as free",
        apply=_submit_before_start_is_stored,
    ),
    Mutation(
        rule="End is written when the batch system shows the job terminal",
        setting=dataclasses.replace(ONE, faults=Faults(cancels=1)),
        breach="runs, and its host counts its room as free",
        apply=_end_when_asked_to_kill,
    ),
    Mutation(
        rule="a centre whose clock is wrong hands nothing over, starts nothing, declares no loss",
        setting=dataclasses.replace(ONE, faults=Faults(clock_steps=1)),
        breach="runs, and its ",
        apply=_put(Trust, "clock", lambda *_: True),
    ),
    Mutation(
        rule="home: Release at claim_until or accept_until",
        setting=dataclasses.replace(ONE, faults=Faults(deaths=1)),
        breach="held for ever",
        healed=True,
        apply=_put(Home, "_keep_or_release", lambda *_: None),
    ),
    Mutation(
        rule="host: Close at accept_until",
        setting=dataclasses.replace(ONE, faults=Faults(deaths=1)),
        breach="holds its room for ever",
        healed=True,
        apply=_never_expire_accepts,
    ),
    Mutation(
        rule="host: Close what can't be begun in time any more",
        setting=dataclasses.replace(ONE, faults=Faults(deaths=1)),
        breach="holds its room for ever",
        healed=True,
        apply=_never_give_up_payload,
    ),
    Mutation(
        rule="home: Lost when the lease is over and the host is silent",
        setting=dataclasses.replace(ONE, faults=Faults(deaths=1)),
        breach="held for ever",
        healed=True,
        apply=_put(Home, "_keep_or_lose", lambda *_: None),
    ),
    Mutation(
        rule="mark ahead of the head: take one's own blocks back first",
        setting=dataclasses.replace(ONE, faults=Faults(restores=1)),
        breach="forked its feed",
        apply=_put(Recovery, "_may_write", lambda *_: True),
    ),
    Mutation(
        rule="mark missing: every member must answer first",
        setting=dataclasses.replace(ONE, faults=Faults(marks_lost=1)),
        breach="forked its feed",
        apply=_put(Recovery, "_may_write", lambda *_: True),
    ),
    Mutation(
        rule="mark missing: a host starts nothing, closes nothing, accepts nothing for a lease",
        setting=Setting(steps=2, faults=Faults(marks_lost=1)),
        breach="runs, and its home may give the job away",
        apply=_put(Trust, "careful", lambda *_: False),
    ),
    Mutation(
        rule="what was stored is synced before anything rests on it",
        setting=dataclasses.replace(
            ONE, faults=Faults(crashes=1), environment=Environment(synced=False)
        ),
        breach="forked its feed",
    ),
)
