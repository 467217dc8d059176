"""The members decide while jobs run: rules change, centres come, go and lose keys, disputes end.

Each step is what an administrator would do by hand, through the same control API, and
ends when every daemon says the same of it. A step that did not come to its end is a failure of the
demonstration, not an error: the others go on.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

from p2pfed.core.ids import CentreName
from p2pfed.core.rules import Rules
from p2pfed.errors import P2pfedError, StateError
from p2pfed.shell.answers import JobView
from p2pfed.shell.client import Client
from p2pfed.shell.council_answers import DisputeView
from p2pfed.shell.demo.board import Board, CentreLine, Stage
from p2pfed.shell.demo.daemons import Daemons
from p2pfed.shell.demo.founding import Founded, join_federation, renew_key
from p2pfed.shell.demo.plan import RULES, CentrePlan
from p2pfed.shell.demo.report import DecisionLine

NEWCOMER: Final = CentrePlan(name=CentreName("zeta"), nodes=2, cores_per_node=2, offers=True)
GOVERNED: Final[Rules] = Rules.from_mapping(
    {
        **RULES.to_mapping(),
        "notice_rounds": 4,
        "dispute_settle_ms": 6_000,
        "dispute_vote_ms": 15_000,
    }
)
"""The demonstration's rules with short times for decisions, too."""
GOVERNED_CENTRES: Final = 5
_PATIENCE_S: Final = 60
_LOOK_S: Final = 0.2
_VOTE_MS: Final = 60_000


class Assembly:
    """Leads the members through their decisions.

    Args:
        founded: the federation; five centres.
        daemons: theirs, running.
        board: gets a line for who joins.
        stage: who watches.
        folder: where the centres stand.
        open_offer: opens a centre's offer.
    """

    def __init__(
        self,
        founded: Founded,
        daemons: Daemons,
        board: Board,
        stage: Stage,
        folder: Path,
        open_offer: Callable[[Client], None],
    ) -> None:
        self._founded = founded
        self._daemons = daemons
        self._board = board
        self._stage = stage
        self._folder = folder
        self._open_offer = open_offer
        names = [site.plan.name for site in founded.sites]
        self._home, self._second, self._third, self._leaving, self._losing = names
        self.decisions: list[DecisionLine] = []

    def while_jobs_run(self) -> None:
        """The rules change, a centre joins, one loses its key, one leaves."""
        self._step("the rules change by vote", self._change_rules)
        self._step(f"{NEWCOMER.name} joins by vote", self._admit)
        self._step(f"{self._losing} loses its key and is back", self._replace_key)
        self._step(f"{self._leaving} leaves, its guests go on to their end", self._leave)

    def when_jobs_are_over(self, jobs: Sequence[JobView]) -> None:
        """Three disputes about runs of the first centre's jobs, each with another end."""
        hosts = {self._second, self._third, NEWCOMER.name}
        ran = [job for job in jobs if job["home"] == self._home and job["host"] in hosts]
        for job, (what, lead) in zip(
            ran,
            (
                ("a dispute is settled by its parties", self._settle),
                ("a dispute is decided by the others", self._decide),
                ("a dispute lapses, the lesser measure stands", self._lapse),
            ),
            strict=False,
        ):
            self._step(what, lambda job=job, lead=lead: lead(job))  # type: ignore[misc]
        if len(ran) < 3:
            self._note("disputes", f"only {len(ran)} jobs to dispute", ok=False)

    def _step(self, what: str, lead: Callable[[], str]) -> None:
        try:
            how = lead()
        except P2pfedError as error:
            self._note(what, error.diagnostics().replace("\n", " "), ok=False)
        else:
            self._note(what, how, ok=True)

    def _note(self, what: str, how: str, *, ok: bool) -> None:
        self.decisions.append(DecisionLine(what=what, how=how, ok=ok))
        self._stage.say(f"{what}: {how}" if ok else f"{what}: FAILED: {how}")

    # Decisions

    def _decided(
        self, proposer: CentreName, voters: Sequence[CentreName], kind: str, **wanted: Any
    ) -> str:
        """Proposes, lets the voters vote, and waits until every daemon lives by the decision."""

        def propose(client: Client) -> str:
            for found in client.proposals():
                same = found["kind"] == kind and found["reason"] == wanted["reason"]
                if same and found["state"] in ("open", "carried", "adopted", "in force"):
                    return found["proposal_id"]
            return client.propose(kind, deadline_ms=_VOTE_MS, **wanted)["proposal_id"]

        proposal_id = self._daemons.ask(proposer, propose)
        self._stage.say(f"{proposer} proposes {proposal_id} ({kind}): {wanted['reason']}")
        for name in voters:
            self._until(name, lambda client: _knows(client, proposal_id), "the proposal")
            self._daemons.ask(name, lambda client: _vote(client, proposal_id))
        for daemon in self._daemons.all:
            self._until(
                daemon.name,
                lambda client: _state(client, proposal_id) == "in force",
                f"the decision on {proposal_id}",
            )
        found = self._daemons.ask(proposer, lambda client: client.proposal(proposal_id))
        return f"{proposal_id} with {len(found['ballots'])} votes, {found['why']}"

    def _until(self, name: CentreName, condition: Callable[[Client], bool], what: str) -> None:
        give_up_s = time.monotonic() + _PATIENCE_S
        while not self._daemons.ask(name, condition):
            if time.monotonic() > give_up_s:
                raise StateError("demo-timeout", f"{name}: {what} did not come")
            self._daemons.supervise()
            time.sleep(_LOOK_S)

    def _change_rules(self) -> str:
        rules = {**GOVERNED.to_mapping(), "balance_points": 300, "claim_wait_ms": 12_000}
        return self._decided(
            self._home,
            (self._second, self._third),
            "rules",
            rules=rules,
            reason="let balance count for less",
        )

    def _admit(self) -> str:
        site = join_federation(self._folder, NEWCOMER, self._founded)
        card = (site.config.folder / "card.json").read_text()
        how = self._decided(
            self._second,
            (self._home, self._third, self._losing),
            "admit",
            card=card,
            reason="a new cluster",
        )
        invitation = self._daemons.ask(self._second, lambda client: client.invitation())
        (site.config.state / "contacts.json").write_text(json.dumps(invitation["contacts"]))
        self._board.centres[site.plan.name] = CentreLine(name=site.plan.name, cores=NEWCOMER.cores)
        self._daemons.add(site)
        self._until(site.plan.name, lambda c: not c.status()["recovering"], "its membership")
        self._daemons.ask(site.plan.name, self._open_offer)
        self._board.centres[site.plan.name].offered_cores = NEWCOMER.cores
        for daemon in self._daemons.all:
            self._until(
                daemon.name,
                lambda client: any(o["host"] == NEWCOMER.name for o in client.offers()),
                f"the offer of {NEWCOMER.name}",
            )
        return how

    def _replace_key(self) -> str:
        site = self._daemons[self._losing].site
        self._daemons.pause(self._losing)
        card = renew_key(site)
        try:
            how = self._decided(
                self._home,
                (self._second, self._third),
                "replace-key",
                card=card,
                reason=f"{self._losing} lost its key",
            )
        finally:
            self._daemons.resume(self._losing)
        self._until(self._losing, lambda c: not c.status()["recovering"], "the right to write")
        key = json.loads(card)["public_key"]
        for daemon in self._daemons.all:
            self._until(
                daemon.name,
                lambda client: (
                    (self._losing, key)
                    in {(m["centre"], m["public_key"]) for m in client.members()}
                ),
                f"the new key of {self._losing}",
            )
        self._until(self._losing, lambda c: c.status()["peers_linked"] > 0, "a link to a member")
        return how

    def _leave(self) -> str:
        guests = self._daemons.ask(self._leaving, lambda client: client.control()["guests"])

        def leave(client: Client) -> str:
            client.set_mode("draining", reason="leaving")
            states = {m["centre"]: m["state"] for m in client.members()}
            return "" if states[self._leaving] == "left" else client.leave(reason="end of lease")

        self._daemons.ask(self._leaving, leave)
        for daemon in self._daemons.all:
            self._until(
                daemon.name,
                lambda client: (
                    "left" in {m["state"] for m in client.members() if m["centre"] == self._leaving}
                ),
                f"that {self._leaving} left",
            )
        self._until(self._leaving, lambda client: not client.status()["hosted"], "its last guest")
        self._daemons.retire(self._leaving)
        return f"it asked nobody; {guests} guests ran on to their end"

    # Disputes

    def _disputed(self, job: JobView) -> DisputeView:
        def dispute(client: Client) -> DisputeView:
            for found in client.disputes():
                if found["job_id"] == job["job_id"]:
                    return found
            return client.dispute(job["job_id"], core_s=0, reason="the demonstration disputes it")

        found = self._daemons.ask(self._home, dispute)
        claim_id = found["claim_id"]
        self._until(
            CentreName(found["host"]),
            lambda client: any(d["claim_id"] == claim_id for d in client.disputes()),
            "the dispute",
        )
        return found

    def _ends(self, claim_id: str, state: str, core_s: int) -> None:
        for daemon in self._daemons.all:
            self._until(
                daemon.name,
                lambda client: any(
                    (d["state"], d["counts_core_s"]) == (state, core_s)
                    for d in client.disputes()
                    if d["claim_id"] == claim_id
                ),
                f"that the dispute about {claim_id} is {state}",
            )

    def _settle(self, job: JobView) -> str:
        found = self._disputed(job)
        claim_id, core_s = found["claim_id"], found["stated_core_s"]
        for name in (self._home, CentreName(found["host"])):
            self._daemons.ask(name, lambda client: client.settle(claim_id, core_s=core_s))
        self._ends(claim_id, "settled", core_s)
        return f"{claim_id} at {core_s} core-s"

    def _decide(self, job: JobView) -> str:
        found = self._disputed(job)
        claim_id, core_s = found["claim_id"], found["stated_core_s"]
        self._until(
            self._home,
            lambda client: any(
                d["claim_id"] == claim_id and d["state"] == "to be decided"
                for d in client.disputes()
            ),
            "the end of the time to settle",
        )
        parties = {self._home, CentreName(found["host"])}
        others = [d.name for d in self._daemons.all if d.name not in parties]
        how = self._decided_dispute(others, claim_id, core_s)
        self._ends(claim_id, "decided", core_s)
        return how

    def _decided_dispute(self, others: Sequence[CentreName], claim_id: str, core_s: int) -> str:
        def propose(client: Client) -> str:
            for found in client.proposals():
                if found["claim_id"] == claim_id:
                    return found["proposal_id"]
            made = client.propose(
                "dispute", claim_id=claim_id, core_s=core_s, deadline_ms=8_000, reason="it ran"
            )
            return made["proposal_id"]

        proposal_id = self._daemons.ask(others[0], propose)
        for name in others[1:]:
            self._until(name, lambda client: _knows(client, proposal_id), "the proposal")
            self._daemons.ask(name, lambda client: _vote(client, proposal_id))
        return f"{proposal_id} lets {core_s} core-s count of {claim_id}"

    def _lapse(self, job: JobView) -> str:
        found = self._disputed(job)
        self._ends(found["claim_id"], "lapsed", 0)
        return f"{found['claim_id']}: 0 core-s count instead of {found['stated_core_s']}"


def _state(client: Client, proposal_id: str) -> str | None:
    """How far a proposal has come; None while it is not known there."""
    found = (p["state"] for p in client.proposals() if p["proposal_id"] == proposal_id)
    return next(found, None)


def _knows(client: Client, proposal_id: str) -> bool:
    return _state(client, proposal_id) is not None


def _vote(client: Client, proposal_id: str) -> None:
    """Votes in favour, unless that was done or is not needed any more."""
    me = client.status()["centre"]
    found = client.proposal(proposal_id)
    if found["state"] in ("open", "carried") and all(b["centre"] != me for b in found["ballots"]):
        client.vote(proposal_id, in_favour=True)
