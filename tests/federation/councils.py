"""People of simulated federations: they propose, vote and leave, and we wait for what follows."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from p2pfed.core.governance import Governance
from p2pfed.core.ids import CentreName, Position, parse_position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import Leave, ProposalKind, Propose, Vote, WithdrawProposal
from p2pfed.core.rules import Rules
from p2pfed.errors import P2pfedError
from p2pfed.node.events import Govern, RequestId
from p2pfed.node.node import Node
from p2pfed.simulate.world import World

NAMES = tuple(CentreName(f"c{i:03d}") for i in range(6))


def node_of(world: World, name: CentreName) -> Node:
    """The running node of a centre."""
    node = world.centres[name].node
    assert node is not None, f"seed {world.seed}: {name} is down"
    return node


def governance_of(world: World, name: CentreName) -> Governance:
    """What the centre's newest round knows of the decisions."""
    return node_of(world, name).ledger.view.state.governance


def say(
    world: World, name: CentreName, record: Propose | Vote | WithdrawProposal | Leave
) -> str | P2pfedError:
    """Lets a centre's administrator say something; returns the node's answer."""
    request = world.new_id()
    world.tell(name, Govern(request=RequestId(request), record=record))
    return world.centres[name].replies[request]


def propose(world: World, name: CentreName, kind: ProposalKind, **fields: object) -> Position:
    """A proposal, with a minute's deadline unless told."""
    fields.setdefault("deadline_ms", world.now_ms + 60_000)
    answer = say(world, name, Propose(kind=int(kind), **fields))  # type: ignore[arg-type]
    assert isinstance(answer, str), f"seed {world.seed}: {answer}"
    return parse_position(answer)


def propose_rules(world: World, name: CentreName, **changes: object) -> Position:
    """A proposal of the rules in force with these changes."""
    rules = node_of(world, name).ledger.rules
    changed: Rules = replace(rules, **changes)  # type: ignore[arg-type]
    return propose(world, name, ProposalKind.RULES, rules=encode_rules(changed))


def vote(world: World, proposal_id: Position, *names: CentreName, in_favour: bool = True) -> None:
    """Votes of these centres, as soon as they know of the proposal."""
    for name in names:
        known = node_of(world, name).ledger.live.governance.proposals
        assert world.run(20_000, partial(known.__contains__, proposal_id)), name
        answer = say(world, name, Vote(proposal_id=proposal_id, in_favour=in_favour))
        assert isinstance(answer, str), f"seed {world.seed}: {answer}"


def versions(world: World, *names: CentreName) -> list[tuple[int, tuple[CentreName, ...], Rules]]:
    """What holds at each centre: version, members and rules."""
    states = [node_of(world, name).ledger.view.state for name in names or world.centres]
    return [(state.version.number, state.members, state.rules) for state in states]


def agreed(world: World, number: int) -> bool:
    """True if every centre lives by this version, and by the same members and rules."""
    found = versions(world)
    return found[0][0] == number and all(other == found[0] for other in found)
