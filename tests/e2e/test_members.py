"""The members decide, daemon by daemon: who comes, goes, is removed and comes back; epochs, keys.

Every act is the command that an administrator types. One federation serves many acts: each leaves
it as it found it, four members that write.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator
from typing import Any

import pytest

from p2pfed.errors import StateError
from p2pfed.shell.client import Client
from tests.conformance.executor import Bench, is_alive
from tests.e2e.federation import LOOK_S, Centre, Federation, Shared, call
from tests.unit.execute.test_local import new_executor
from tests.waiting import wait_until

NAMES = ("alpha", "beta", "gamma", "delta")
HELLO = "#!/bin/bash\necho hello\n"
SLEEPER = '#!/bin/bash\nwhile [ ! -e "$1" ]; do sleep 0.1; done\necho done\n'


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    made = Shared(lambda: Federation.found(*NAMES, cores=2, rules={"notice_rounds": 2}))
    yield made
    made.close()


@pytest.fixture
def federation(shared: Shared) -> Iterator[Federation]:
    with shared.lend() as made:
        yield made


def proposed(centre: Centre, *arguments: str) -> str:
    """Proposes by the command line; the proposal's id."""
    answer: str = centre.cli(*arguments, "--json").json["proposal"]["proposal_id"]
    return answer


def vote(centre: Centre, proposal_id: str, *, in_favour: bool = True) -> None:
    """Votes as soon as the proposal is known there."""

    def known(client: Client) -> bool:
        return any(p["proposal_id"] == proposal_id for p in client.proposals())

    centre.until(known, f"the proposal {proposal_id}")
    with centre.client() as client:
        client.vote(proposal_id, in_favour=in_favour)


def until_proposal(centres: Iterable[Centre], proposal_id: str, state: str) -> None:
    """Waits until each of the centres tells this state of the proposal."""
    for centre in centres:
        centre.until(
            lambda c: any(
                (p["proposal_id"], p["state"]) == (proposal_id, state) for p in c.proposals()
            ),
            f"{proposal_id} {state}",
        )


def decided(federation: Federation, proposal_id: str, *voters: str) -> None:
    """The voters vote in favour, and every running founder lives by the decision."""
    decided_by(federation, proposal_id, voters)
    asked = [federation[name] for name in NAMES if federation[name].running]
    until_proposal(asked, proposal_id, "in force")


def decided_by(federation: Federation, proposal_id: str, voters: Iterable[str]) -> None:
    """The voters vote in favour, and they and the proposer live by the decision."""
    for name in voters:
        vote(federation[name], proposal_id)
    until_proposal([federation[name] for name in voters], proposal_id, "in force")


def federation_agrees(federation: Federation) -> bool:
    """Waits until the founders' daemons tell the same of every member."""
    asked = [federation[name] for name in NAMES]

    def alike() -> bool:
        told = []
        for centre in asked:
            with centre.client() as client:
                told.append(client.members())
        return all(other == told[0] for other in told)

    return wait_until(alike, "the same members everywhere", look_s=LOOK_S)


def member(client: Client, name: str) -> Any:
    """What a daemon tells of a centre; an empty mapping if it lists none of that name."""
    return next((m for m in client.members() if m["centre"] == name), {})


def until_member(federation: Federation, name: str, **wanted: object) -> None:
    """Waits until every running daemon tells this of the centre."""
    for centre in federation:
        if centre.running:
            centre.until(
                lambda c: {**wanted, **member(c, name)} == {**member(c, name), **wanted},
                f"{wanted} of {name}",
            )


def test_a_newcomer_joins_offers_leaves_and_comes_back_by_a_new_admission(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    zeta = federation.add("zeta", cores=2)
    card, invitation = str(zeta.folder / "card.json"), str(zeta.folder / "invitation.json")
    proposal = proposed(alpha, "invite", card, "-o", invitation, "--reason", "a new cluster")
    assert "compare that id" in zeta.cli("join", invitation).out
    zeta.start()
    zeta.until(lambda c: c.status()["recovering"], "that it waits")
    decided(federation, proposal, "beta", "gamma")
    zeta.until_writing()
    assert "votes" in beta.cli("members").out
    zeta.open_offer()
    job = beta.submit(HELLO)
    assert beta.until_over([job])[job]["host"] == "zeta"
    # It leaves while a guest runs there and a job of its own waits.
    go = federation.root / "go"
    guest = beta.submit(SLEEPER, str(go))
    beta.until_state(guest, "started")
    waiting = zeta.submit(HELLO)
    left = zeta.cli("leave", "--drain", "--yes", "--reason", "end of lease").out
    assert "1 waiting jobs come home, 1 guests run on" in left
    until_member(federation, "zeta", state="left")
    zeta.until_state(waiting, "cancelled")
    assert "only a vote brings it back" in zeta.cli("status").out
    go.touch()
    view = beta.until_over([guest])[guest]
    assert (view["state"], beta.output(guest)) == ("completed", "done\n")
    with pytest.raises(StateError) as refused:
        zeta.submit(HELLO)
    assert refused.value.code == "not-a-member"
    # Coming back is a new admission, and nothing less.
    (zeta.folder / "invitation.json").unlink()
    again = proposed(alpha, "invite", "--again", card, "-o", invitation)
    decided(federation, again, "beta", "gamma")
    until_member(federation, "zeta", state="member", epoch=1)
    zeta.until(lambda c: c.status()["epoch"] == 1 and not c.status()["recovering"], "epoch 1")
    zeta.cli("leave", "--now", "--yes")
    until_member(federation, "zeta", state="left")
    assert zeta.stop() == 0
    federation.proven = True


def test_a_removed_member_is_told_so_stops_dialling_and_comes_back_by_vote(
    federation: Federation,
) -> None:
    alpha, beta, delta = federation["alpha"], federation["beta"], federation["delta"]
    removal = proposed(alpha, "propose", "remove", "delta", "--reason", "switched off")
    decided(federation, removal, "beta")
    until_member(federation, "delta", state="removed")
    delta.until(lambda c: c.status()["standing"] == "removed", "its removal")
    delta.until(lambda c: c.status()["peers_linked"] == 0, "no links")
    shown = delta.cli("status").out
    assert "the members removed this centre" in shown
    assert ["state", "removed"] in [line.split() for line in shown.splitlines()]
    # One that was away when it was removed learns of it from whom it dials.
    assert delta.stop() == 0
    delta.start()
    delta.until(
        lambda c: all("[not-a-member]" in (p["error"] or "") for p in c.peers()), "their answers"
    )
    with delta.client() as client:
        peers, now_ms = client.peers(), client.status()["now_ms"]
    assert all((p["next_dial_ms"] or 0) > now_ms + 120_000 for p in peers)
    delta.until_writing()
    with pytest.raises(StateError) as refused:
        delta.open_offer()
    assert refused.value.code == "not-a-member"
    again = proposed(beta, "propose", "readmit", str(delta.folder / "card.json"))
    decided_by(federation, again, ("alpha", "gamma"))
    until_member(federation, "delta", state="member")
    delta.until(lambda c: c.status()["epoch"] > 0 and not c.status()["recovering"], "its epoch")
    assert "proposal" in alpha.cli("why", "member", "delta").out
    federation.proven = True


def test_proposals_that_come_to_nothing_are_told_alike_everywhere(federation: Federation) -> None:
    alpha, beta, gamma = federation["alpha"], federation["beta"], federation["gamma"]
    change = federation.root / "change.toml"
    change.write_text("balance_points = 321\n")
    rules = ("rules", "propose", str(change))
    withdrawn = proposed(alpha, *rules)
    beta.until(lambda c: any(p["proposal_id"] == withdrawn for p in c.proposals()), "the proposal")
    foreign = beta.cli("propose", "withdraw", withdrawn, code=3)
    assert "[proposal-foreign]" in foreign.err
    alpha.cli("propose", "withdraw", withdrawn)
    refused = proposed(alpha, *rules, "--reason", "once more")
    for name in ("beta", "gamma"):
        vote(federation[name], refused, in_favour=False)
    expired = proposed(gamma, *rules, "--deadline", "1s")
    for proposal_id, state in (
        (withdrawn, "withdrawn"),
        (refused, "refused"),
        (expired, "expired"),
    ):
        until_proposal(federation, proposal_id, state)
    late = beta.cli("vote", withdrawn, "yes", code=3)
    assert "[proposal-decided]" in late.err
    assert "rules version 1 holds" in gamma.cli("why", "rules").out
    federation.proven = True


def test_a_rotated_key_is_known_at_once_also_to_a_member_that_was_away(
    federation: Federation,
) -> None:
    alpha, beta, gamma = federation["alpha"], federation["beta"], federation["gamma"]
    assert beta.stop() == 0
    before = alpha.cli("members", "--json").json["members"]
    rotated = alpha.cli("key", "rotate", "--yes", "--json").json["key"]
    assert rotated["public_key"] not in {m["public_key"] for m in before}
    gamma.until(lambda c: member(c, "alpha")["public_key"] == rotated["public_key"], "the key")
    # Links are made anew: beta knows the old key only, and dials alpha by it.
    assert gamma.stop() == 0
    gamma.start()
    gamma.until_linked(2)
    assert gamma.stop() == 0
    beta.start()
    beta.until(lambda c: member(c, "alpha")["public_key"] == rotated["public_key"], "the key")
    assert alpha.stop() == 0
    alpha.start()
    gamma.start()
    for centre in (alpha, beta, gamma):
        centre.until_linked(3)
    job = alpha.submit(HELLO)
    alpha.cli("cancel", job)
    federation.proven = True


def test_a_centre_that_lost_everything_begins_the_epoch_that_the_members_vote(
    federation: Federation,
) -> None:
    alpha, gamma = federation["alpha"], federation["gamma"]
    before = gamma.status()["epoch"]
    gamma.kill()
    for lost in ("state", "spool"):
        shutil.rmtree(gamma.folder / lost)
    (gamma.folder / "highwater").unlink()
    # A guest that runs on, of whose start no peer ever heard.
    bench = Bench(folder=gamma.folder / "spool" / "claims", start=new_executor)
    guest = bench.job("echo $$ > script\nsleep 600")
    bench.start().submit(guest)
    process = int(bench.file(guest, "script"))
    epoch = proposed(alpha, "propose", "new-epoch", "gamma", "--reason", "its disk was lost")
    for name in ("beta", "delta"):
        vote(federation[name], epoch)
    until_proposal([alpha], epoch, "in force")
    gamma.start()
    gamma.until(lambda c: c.status()["epoch"] > before, "the new epoch")
    gamma.until_writing()
    until_member(federation, "gamma", epoch=gamma.status()["epoch"])
    wait_until(lambda: not is_alive(process), "the end of the forgotten guest")
    gamma.until(lambda c: any(d["action"] == "end stray" for d in c.decisions()), "a decision")
    assert federation_agrees(federation)
    federation.proven = True


def test_a_lost_key_is_replaced_by_vote_and_the_old_one_opens_no_door(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    assert beta.stop() == 0
    fresh = federation.root / "fresh"
    call("init", str(fresh), "--name", "beta", "--listen", f"127.0.0.1:{beta.port}")
    (beta.folder / "key.pem").rename(federation.root / "lost.pem")
    shutil.copy(fresh / "key.pem", beta.folder / "key.pem")
    card = str(fresh / "card.json")
    replacing = proposed(alpha, "propose", "replace-key", card, "--reason", "lost")
    beta.start()
    beta.until(lambda c: c.status()["recovering"], "that it may not write")
    decided(federation, replacing, "gamma", "delta")
    beta.until_writing()
    key = json.loads((fresh / "card.json").read_text())["public_key"]
    until_member(federation, "beta", public_key=key)
    beta.until_linked(3)
    # Whoever holds the old key is nobody any more.
    assert beta.stop() == 0
    shutil.copy(federation.root / "lost.pem", beta.folder / "key.pem")
    beta.begin()
    beta.until(lambda c: c.status()["recovering"] and c.status()["peers_linked"] == 0, "no link")
    beta.until(lambda c: any(p["error"] for p in c.peers()), "a refusal")
    beta.kill()
    shutil.copy(fresh / "key.pem", beta.folder / "key.pem")
    beta.start()
    beta.until_writing()
    federation.proven = True


def test_what_was_decided_is_what_an_audit_finds(federation: Federation) -> None:
    for centre in (federation[name] for name in NAMES):
        centre.until_linked(3)
    report = federation["alpha"].audit()
    assert report.ok and not report.findings, report.findings
    federation.proven = True
