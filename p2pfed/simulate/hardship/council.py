"""Decisions of the members under hardship: rules change, centres come, go and begin anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Final

from p2pfed.core.charter import card_signature, write_card
from p2pfed.core.ids import CentreName, FeedKey, Position, parse_position
from p2pfed.core.proposals import encode_rules
from p2pfed.core.records import Leave, ProposalKind, Propose, Vote
from p2pfed.node.events import Govern, RequestId
from p2pfed.simulate.hardship.machines import kept_elsewhere, lose_disk_of
from p2pfed.simulate.hardship.strikes import somebody_up
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World

VOTE_AGAIN_MS: Final = 2_000
VOTES_TRIED: Final = 30
DEADLINE_MS: Final = 900_000


def _say(world: World, name: CentreName, record: Propose | Vote | Leave) -> Position | None:
    """Lets an administrator say something; the record's position, None if it was not taken."""
    request = world.new_id()
    world.tell(name, Govern(request=RequestId(request), record=record))
    answer = world.centres[name].replies.get(request)
    return parse_position(answer) if isinstance(answer, str) else None


def propose(world: World, proposal: Propose, but: CentreName | None = None) -> None:
    """Some member proposes this, and every honest one votes for it as soon as it can."""
    up = [centre for centre in world.honest() if centre.up and centre.name != but]
    if not up:
        return
    proposer = world.rng.choice(up)
    position = _say(world, proposer.name, proposal)
    if position is None:
        return
    for centre in world.honest():
        if centre is not proposer and centre.name != but:
            _vote_later(world, centre, position, VOTES_TRIED)


def _vote_later(world: World, centre: Centre, proposal: Position, tries: int) -> None:
    def vote() -> None:
        node = centre.node
        known = node is not None and proposal in node.ledger.live.governance.proposals
        said = known and _say(world, centre.name, Vote(proposal_id=proposal, in_favour=True))
        if not said and tries:
            _vote_later(world, centre, proposal, tries - 1)

    world.at(world.now_ms + world.rng.randint(300, VOTE_AGAIN_MS), vote)


def _deadline_ms(world: World) -> int:
    return world.now_ms + DEADLINE_MS


def change_rules(world: World) -> None:
    """The members agree on other rules."""
    centre = somebody_up(world)
    if centre is None or centre.node is None:
        return
    rng, rules = world.rng, centre.node.ledger.rules
    changed = rng.choice(
        (
            replace(rules, urgency_points_per_hour=rng.randint(1, 500)),
            replace(rules, balance_points=rng.randint(0, 900), reserve_depth=rng.randint(0, 3)),
            replace(rules, idle_rate_ppm=rng.randint(0, 1_000_000)),
            replace(rules, round_ms=rng.choice((1_000, 1_500, 2_000))),
            replace(rules, claim_wait_ms=rng.randint(4_000, 7_000)),
            replace(rules, max_attempts=rng.randint(3, 8)),
        )
    )
    if changed != rules:
        propose(
            world,
            Propose(
                kind=int(ProposalKind.RULES),
                deadline_ms=_deadline_ms(world),
                rules=encode_rules(changed),
            ),
        )


def join(world: World, opened: Callable[[CentreName], None]) -> None:
    """A newcomer is voted in, and offers its capacity once it is."""
    name = CentreName(f"n{len(world.centres):03d}")
    centre = world.join(name)
    card = world.card_of(name)
    admission = Propose(
        kind=int(ProposalKind.ADMIT),
        deadline_ms=_deadline_ms(world),
        subject=name,
        public_key=card.public_key,
        address=card.address,
        credit_line=card.credit_line,
        card_signature=card_signature(write_card(card, centre.key)),
    )
    propose(world, admission, but=name)
    opened(name)


def leave(world: World, name: CentreName) -> None:
    """A centre leaves, and needs nobody's leave for it."""
    if world.centres[name].up:
        _say(world, name, Leave(reason="moving"))


def remove(world: World, name: CentreName) -> None:
    """The others decide that a centre is no member any more."""
    removal = Propose(kind=int(ProposalKind.REMOVE), deadline_ms=_deadline_ms(world), subject=name)
    propose(world, removal, but=name)


def lose_all(world: World, name: CentreName) -> None:
    """A centre's disk and high-water file are gone, and the others grant it a new epoch."""
    centre = world.centres[name]
    if centre.node is None or not kept_elsewhere(world, centre):
        return
    epoch = max(b.feed.epoch for b in centre.disk.blocks if b.feed.centre == name) + 1
    lose_disk_of(world, centre)
    world.log("grant", FeedKey(name, epoch))
    grant = Propose(
        kind=int(ProposalKind.NEW_EPOCH),
        deadline_ms=_deadline_ms(world),
        subject=name,
        epoch=epoch,
        reason="its disk is lost",
    )
    propose(world, grant, but=name)
