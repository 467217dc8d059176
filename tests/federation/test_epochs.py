"""Centres that begin anew: after a loss, alone or by vote, and with another key."""

from __future__ import annotations

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.ids import CentreName, FeedKey, PublicKey, parse_position
from p2pfed.core.keyring import write_rotation
from p2pfed.core.records import ProposalKind, Propose, Record, Vote
from p2pfed.errors import P2pfedError
from p2pfed.node.events import ChangeKey, DeclareEpoch, Govern, RequestId
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World
from tests.federation.scenarios import CALM, RULES, job, offer, settled

FIRST, SECOND, THIRD = (CentreName(f"c00{number}") for number in range(3))


def founded(seed: int, centres: int) -> World:
    world = World(seed, centres, RULES, CALM)
    assert world.run(30_000, world.all_up)
    return world


def say(world: World, name: CentreName, record: Record) -> str:
    """An administrator decides something; returns the record's id."""
    request = world.new_id()
    world.tell(name, Govern(request=RequestId(request), record=record))  # type: ignore[arg-type]
    answer = world.centres[name].replies[request]
    assert isinstance(answer, str), answer
    return answer


def written(centre: Centre, epoch: int) -> int:
    """How many blocks the centre wrote in an epoch, as far as its own disk knows."""
    return sum(b.feed == FeedKey(centre.name, epoch) for b in centre.disk.blocks)


def same_everywhere(world: World) -> bool:
    nodes = [c.node for c in world.centres.values() if c.node is not None]
    return len({(n.rounds.last, n.rounds.last_digest) for n in nodes}) == 1


def test_a_centre_that_waits_in_vain_declares_an_epoch_and_the_other_takes_it() -> None:
    world = founded(2, 2)
    world.open_offer(FIRST, offer())
    world.run(5_000)
    victim = world.centres[FIRST]
    world.crash(FIRST, down_ms=1_000)
    kept = len(victim.disk.blocks) // 2
    victim.disk.blocks, victim.disk.mark = victim.disk.blocks[:kept], None
    world.crash(SECOND, down_ms=60_000)
    world.run(20_000)
    assert not victim.up
    request = world.new_id()
    world.tell(FIRST, DeclareEpoch(request=RequestId(request), reason="the disk is lost"))
    assert victim.replies[request] == "1"
    assert victim.node is not None
    assert victim.node.trust.careful(world.clock(victim))
    assert world.run(120_000, lambda: world.all_up() and same_everywhere(world))
    world.run(5_000)
    other = world.centres[SECOND].node
    assert other is not None
    state = other.ledger.view.state
    assert state.governance.members_at(other.ledger.view.cut_ms)[FIRST].epoch == 1
    assert FIRST in state.alive(other.ledger.view.cut_ms)
    # What it had forgotten came back from the other, and counts.
    assert written(victim, 0) > kept // 2
    world.open_offer(FIRST, offer())
    world.submit(SECOND, job(1))
    assert world.run(120_000, lambda: settled(world) and bool(world.runs))


def test_of_three_none_declares_an_epoch_alone() -> None:
    world = founded(3, 3)
    world.run(5_000)
    victim = world.centres[FIRST]
    world.crash(FIRST, down_ms=1_000)
    kept = len(victim.disk.blocks) // 2
    victim.disk.blocks, victim.disk.mark = victim.disk.blocks[:kept], None
    world.crash(SECOND, down_ms=60_000)
    world.run(15_000)
    request = world.new_id()
    world.tell(FIRST, DeclareEpoch(request=RequestId(request), reason="the disk is lost"))
    answer = victim.replies[request]
    assert isinstance(answer, P2pfedError)
    assert answer.code == "epoch-needs-vote"


def test_a_centre_that_writes_needs_no_epoch() -> None:
    world = founded(4, 2)
    request = world.new_id()
    world.tell(FIRST, DeclareEpoch(request=RequestId(request), reason="why not"))
    answer = world.centres[FIRST].replies[request]
    assert isinstance(answer, P2pfedError)
    assert answer.code == "epoch-not-needed"


def test_a_voted_epoch_ends_the_waiting_and_holds_the_jobs_of_the_former() -> None:
    world = founded(5, 4)
    world.open_offer(SECOND, offer())
    victim = world.centres[FIRST]
    for number in range(3):
        world.submit(FIRST, job(number, cores=32))  # fit nowhere: they wait
    world.run(5_000)
    world.crash(FIRST, down_ms=1_000)
    victim.disk.mark = None
    world.crash(CentreName("c003"), down_ms=10**9)
    world.run(10_000)
    assert not victim.up
    proposal = say(
        world,
        SECOND,
        Propose(
            kind=int(ProposalKind.NEW_EPOCH),
            deadline_ms=world.now_ms + 600_000,
            reason="its disk is lost",
            subject=FIRST,
            epoch=1,
        ),
    )
    world.run(3_000)
    say(world, THIRD, Vote(proposal_id=parse_position(proposal), in_favour=True))
    world.run(120_000, lambda: written(victim, 1) > 0)
    assert written(victim, 1) == 0, "one member has not answered: it may hold blocks of epoch 1"
    world.boot(CentreName("c003"))
    assert world.run(120_000, lambda: written(victim, 1) > 0)
    assert victim.node is not None
    live = victim.node.ledger.live
    assert all(entry.held for entry in live.jobs.values())
    assert world.run(60_000, lambda: same_everywhere(world))
    world.run(5_000)
    assert same_everywhere(world)


def test_a_rotated_key_signs_the_next_block_and_everybody_goes_on() -> None:
    world = founded(6, 3)
    world.open_offer(SECOND, offer())
    for number in range(6):
        world.submit(FIRST, job(number))
    world.run(3_000)
    centre = world.centres[FIRST]
    assert centre.node is not None
    fresh = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
    public = PublicKey(fresh.public_key().public_bytes_raw())
    request = world.new_id()
    record = write_rotation(world.federation.id, centre.node.me.feed, public, fresh)
    world.tell(FIRST, ChangeKey(request=RequestId(request), record=record, signer=fresh))
    assert isinstance(centre.replies[request], str)
    centre.key, centre.public_key = fresh, public
    world.run(5_000)
    for other in (SECOND, THIRD):
        assert world.centres[other].trusted[FIRST] == public
    world.crash(THIRD, down_ms=500)
    world.crash(FIRST, down_ms=500)
    assert world.run(60_000, lambda: world.all_up() and settled(world))
    assert len(world.runs) == 6
    assert all(len(runs) == 1 for runs in world.runs.values())
    assert world.run(20_000, lambda: same_everywhere(world))
