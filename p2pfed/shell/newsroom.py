"""Turns what the node did into notices for the live feed: jobs that moved, offers, peers, notes."""

from __future__ import annotations

from collections.abc import Callable

from p2pfed.core.ids import CentreName, ClaimId, JobId, OfferId
from p2pfed.node.effects import Effect, Note
from p2pfed.node.events import DialFailed, Event, LinkDown, LinkId, LinkUp
from p2pfed.node.node import Node
from p2pfed.shell.answers import JobView, Notice
from p2pfed.shell.brain import wall_ms
from p2pfed.shell.notices import Notices


class Newsroom:
    """Publishes a notice for every change that somebody may be watching for."""

    def __init__(
        self, node: Node, notices: Notices, job_view: Callable[[JobId], JobView | None]
    ) -> None:
        self._node = node
        self._notices = notices
        self._job_view = job_view
        self._states: dict[JobId, tuple[str, str | None]] = {}
        self._links: dict[LinkId, CentreName] = {}
        self._round = -1

    def report(self, events: list[Event], effects: list[Effect]) -> None:
        """Looks at one call of the node and its effects."""
        for event in events:
            self._peer(event)
        if len(self._notices):
            self._moved()
            self._round_done()
            for effect in effects:
                if isinstance(effect, Note):
                    self._publish("note", effect.code, effect.text, level=effect.level)

    def _publish(
        self,
        kind: str,
        code: str,
        text: str,
        *,
        level: int = 0,
        job: JobView | None = None,
    ) -> None:
        notice: Notice = {
            "kind": kind,  # type: ignore[typeddict-item]
            "at_ms": wall_ms(),
            "level": level,
            "code": code,
            "text": text,
            "job": job,
        }
        self._notices.publish(notice)

    def _peer(self, event: Event) -> None:
        match event:
            case LinkUp():
                self._links[event.link] = event.centre
                self._publish("peer", "linked", f"{event.centre} is connected")
            case LinkDown():
                centre = self._links.pop(event.link, None)
                self._publish("peer", "unlinked", f"{centre} is disconnected")
            case DialFailed():
                self._publish("peer", "unreachable", f"{event.centre}: {event.why}")
            case _:
                pass

    def _moved(self) -> None:
        live = self._node.ledger.live
        jobs: set[JobId] = set()
        for position in sorted(self._node.ledger.news):
            claim = live.claims.get(ClaimId(position))
            if JobId(position) in live.jobs:
                jobs.add(JobId(position))
            elif claim is not None and claim.claim is not None:
                jobs.add(JobId(claim.claim.job_id))
            elif OfferId(position) in live.offers:
                self._offer(OfferId(position))
        for job_id in sorted(jobs):
            self._job(job_id)

    def _offer(self, offer_id: OfferId) -> None:
        entry = self._node.ledger.live.offers[offer_id]
        word = "closed" if entry.closed else "open"
        text = f"{entry.host} offer {entry.terms.name}: {word}, {entry.nodes} nodes"
        self._publish("offer", word, text)

    def _job(self, job_id: JobId) -> None:
        view = self._job_view(job_id)
        if view is None:
            return
        now = view["state"], view["host"]
        if self._states.get(job_id) == now:
            return
        self._states[job_id] = now
        if view["final"]:
            del self._states[job_id]
        at = f" at {view['host']}" if view["host"] else ""
        self._publish("job", view["state"], f"job {job_id}: {view['state']}{at}", job=view)

    def _round_done(self) -> None:
        rounds = self._node.rounds
        if rounds.last == self._round or rounds.last_matching is None:
            return
        self._round = rounds.last
        placed = len(rounds.last_matching.placements)
        if placed:
            self._publish("round", "matched", f"round {rounds.last}: {placed} jobs matched")
