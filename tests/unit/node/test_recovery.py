"""A centre writes nothing until its own feed is known to be whole, and nothing once it forked."""

from __future__ import annotations

import pytest

from p2pfed.core.blocks import Block, fork_proof
from p2pfed.core.ids import FeedKey, Head
from p2pfed.core.records import Accept, Contact, ForkProof, Job, NewEpoch
from p2pfed.core.units import HlcTime, hlc
from p2pfed.errors import InputError, P2pfedError
from p2pfed.node.effects import Note, Reply, StoreBlocks
from p2pfed.node.events import LinkBytes, OpenOffer, PayloadFailed, RequestId, SubmitJob
from p2pfed.node.ledger import ACKS_AT_ONCE_MAX
from p2pfed.node.recovery import Memory
from p2pfed.protocol.framing import frame_blocks
from tests.unit.node.benches import ALPHA, BETA, GAMMA, JOB, OFFER, Bench, of_type
from tests.writers import Writer, some_id

ALPHA_FEED = FeedKey(ALPHA, 0)


def refusal(bench: Bench) -> P2pfedError | None:
    """What a user who posts a job now is told."""
    (reply,) = of_type(bench.do(SubmitJob(request=RequestId(5), job=JOB)), Reply)
    return reply.error


def run_for_a_while(bench: Bench) -> list[Block]:
    """Alpha writes a dozen blocks; returns them."""
    bench.wait(10_000)
    return bench.blocks()


def fall_back(bench: Bench, kept: int) -> list[Block]:
    """Alpha's disk becomes an older copy of itself; returns the blocks that it lost."""
    blocks = bench.blocks()
    bench.disk = [block.data for block in blocks[:kept]]
    return blocks[kept:]


def forked(bench: Bench) -> tuple[Block, ForkProof]:
    """Another block for the place of alpha's newest, and the proof of both."""
    held = bench.newest()
    twin = Writer(ALPHA)
    before = bench.blocks()[-2]
    twin.head, twin.time = before.head, before.time
    other = twin.write(records=[Contact(address="other:1")])
    return other, fork_proof(held.header.cose, other.header.cose)


# Starting


def test_a_sure_centre_asks_first_and_then_writes_with_nobody_there() -> None:
    bench = Bench()
    assert bench.node.recovery.ready
    assert [type(r) for r in bench.written()] == [Contact]


def test_what_a_recovering_centre_is_asked_to_write_is_refused() -> None:
    bench = Bench()
    bench.restart(Memory.UNSURE)
    error = refusal(bench)
    assert error is not None
    assert error.code == "recovering"
    (reply,) = of_type(bench.do(OpenOffer(request=RequestId(6), offer=OFFER)), Reply)
    assert reply.error is not None


def test_a_recovering_centre_writes_nothing_however_long_it_waits() -> None:
    bench = Bench()
    run_for_a_while(bench)
    count = len(bench.blocks())
    bench.restart(Memory.UNSURE)
    bench.greet(BETA)
    bench.wait(120_000)
    assert len(bench.blocks()) == count
    bench.greet(GAMMA)
    assert len(bench.blocks()) == count + 1


def test_a_recovering_centre_writes_no_fork_proof_and_does_so_when_it_may() -> None:
    bench = Bench()
    bench.restart(Memory.UNSURE)
    bench.greet(BETA)
    twin = bench.beta.branch()
    bench.hear(bench.say(bench.beta), twin.write(records=[Contact(address="x:1")]))
    bench.wait(5_000)
    assert not bench.written(ForkProof)
    bench.greet(GAMMA)
    assert len(bench.written(ForkProof)) == 1


# Taking one's own blocks back


def test_blocks_taken_back_do_not_move_the_mark_that_says_how_many_there_are() -> None:
    bench = Bench()
    run_for_a_while(bench)
    mark = bench.mark
    assert mark is not None
    lost = fall_back(bench, 3)
    bench.node = bench._boot()
    bench._kept(bench.node.start(Memory.BEHIND, mark, bench.now_ms, bench.rows))
    bench.greet(BETA, heads=((ALPHA_FEED, lost[-1].head),))
    bench.arrive(*lost[:-1])
    assert (bench.node.recovery.ready, bench.mark) == (False, mark)
    bench.arrive(lost[-1])
    assert bench.newest().seq_num == mark.seq_num + 1


def test_a_centre_that_dies_while_it_is_unsure_is_unsure_again() -> None:
    bench = Bench()
    run_for_a_while(bench)
    lost = fall_back(bench, 3)
    bench.restart(Memory.UNSURE)
    bench.greet(BETA, heads=((ALPHA_FEED, lost[-1].head),))
    bench.arrive(lost[0])
    count = len(bench.blocks())
    # The store now agrees with a mark that somebody put back: only the stored row tells.
    bench.restart(Memory.SURE)
    bench.wait(60_000)
    assert len(bench.blocks()) == count


def test_a_centre_that_learns_that_it_was_rolled_back_stays_unsure_over_a_crash() -> None:
    bench = Bench()
    run_for_a_while(bench)
    lost = fall_back(bench, 3)
    bench.node = bench._boot()
    bench._kept(bench.node.start(Memory.SURE, bench.node.ledger.head, bench.now_ms, bench.rows))
    bench.greet(BETA, heads=((ALPHA_FEED, lost[-1].head),))
    bench.arrive(lost[0])
    assert "rolled-back" in {note.code for note in of_type(bench.effects, Note)}
    count = len(bench.blocks())
    bench.restart(Memory.SURE)
    assert len(bench.blocks()) == count


# Forks


def test_a_fork_of_another_is_proven_once_and_suspends_only_its_author() -> None:
    bench = Bench()
    twin = bench.beta.branch()
    one, two = bench.say(bench.beta, JOB), twin.write(records=[Contact(address="x:1")])
    bench.hear(one, two)
    bench.hear(two)
    bench.wait(5_000)
    assert len(bench.written(ForkProof)) == 1
    live = bench.node.ledger.live
    assert live.suspended == {BETA}
    bench.hear(bench.say(bench.gamma, knows=[bench.newest()]))
    bench.wait(2_000)
    view = bench.node.ledger.view
    alive = view.state.alive(view.cut_ms)
    assert BETA not in alive
    assert {ALPHA, GAMMA} <= alive


def test_a_proof_that_another_wrote_is_not_written_again() -> None:
    bench = Bench()
    twin = bench.beta.branch()
    one, two = bench.say(bench.beta), twin.write(records=[Contact(address="x:1")])
    proof = fork_proof(one.header.cose, two.header.cose)
    bench.hear(bench.say(bench.gamma, proof))
    bench.hear(one, two)
    assert not bench.written(ForkProof)


def test_a_centre_that_sees_its_own_fork_writes_nothing_more() -> None:
    bench = Bench()
    run_for_a_while(bench)
    other, _ = forked(bench)
    bench.greet(BETA, heads=((ALPHA_FEED, other.head),))
    bench.arrive(other)
    count = len(bench.blocks())
    bench.wait(30_000)
    assert len(bench.blocks()) == count
    assert refusal(bench) is not None


def test_a_centre_that_is_convicted_by_others_writes_nothing_more_also_after_a_restart() -> None:
    bench = Bench()
    run_for_a_while(bench)
    bench.greet()
    _, proof = forked(bench)
    bench.arrive(bench.say(bench.beta, proof))
    count = len(bench.blocks())
    bench.wait(30_000)
    bench.restart()
    bench.wait(30_000)
    assert len(bench.blocks()) == count
    assert bench.node.ledger.live.suspended == {ALPHA}


def test_a_centre_that_forked_sleeps_with_claims_at_hand_and_writes_nothing_of_them() -> None:
    bench = Bench()
    claim_id, _ = bench.claim_on(bench.open_offer())
    assert len(bench.written(Accept)) == 1
    other, _ = forked(bench)
    bench.greet(BETA, heads=((ALPHA_FEED, other.head),))
    bench.arrive(other)
    count = len(bench.blocks())
    bench.do(PayloadFailed(claim_id=claim_id, why="gone", final=True))
    bench.wait(60_000)  # `wait` also holds that the node does not wake without end
    assert len(bench.blocks()) == count
    assert not bench.node.ledger.unsealed


def test_what_was_promised_before_a_fork_came_to_light_is_stored() -> None:
    bench = Bench()
    run_for_a_while(bench)
    other, _ = forked(bench)
    bench.greet(BETA, heads=((ALPHA_FEED, other.head),))
    data = frame_blocks([other.data])
    effects = bench.do(
        SubmitJob(request=RequestId(1), job=JOB), LinkBytes(link=bench.links[BETA], data=data)
    )
    (reply,) = of_type(effects, Reply)
    assert reply.error is None
    assert len(bench.written(Job)) == 1
    assert isinstance(effects[0], StoreBlocks)


# Limits


def test_acks_that_do_not_fit_one_header_stand_in_the_next() -> None:
    bench = Bench()
    feeds = ACKS_AT_ONCE_MAX + 50
    replica = bench.node.ledger.replica
    for epoch in range(1, feeds + 1):
        feed = FeedKey(BETA, epoch)
        replica.restore(feed, 0, some_id(str(epoch)), HlcTime(hlc(bench.now_ms)))
    bench.wait(3_000)
    acked = [len(block.header.acks) for block in bench.blocks()]
    assert max(acked) == ACKS_AT_ONCE_MAX
    assert sum(acked) == feeds


def test_an_epoch_that_nobody_voted_is_not_admitted() -> None:
    bench = Bench()
    stray = Writer(BETA, 7)
    with pytest.raises(InputError) as caught:
        bench.hear(bench.say(stray, JOB, OFFER))
    assert caught.value.code == "block-epoch-not-granted"


def test_of_three_members_none_can_begin_an_epoch_alone() -> None:
    bench = Bench()
    bench.say(bench.beta)
    stray = Writer(BETA, 1)
    bench.hear(bench.say(stray, NewEpoch(reason="alone"), JOB, OFFER))
    bench.wait(2_000)
    live, state = bench.node.ledger.live, bench.node.ledger.view.state
    assert not live.jobs
    assert not live.offers
    assert BETA not in state.heard
    assert state.inert_count == 3


def test_a_turn_with_more_records_than_a_block_holds_writes_several() -> None:
    bench = Bench()
    jobs = [SubmitJob(request=RequestId(i), job=JOB) for i in range(9_000)]
    effects = bench.do(*jobs)
    assert len(bench.written(Job)) == 9_000
    stores = of_type(effects, StoreBlocks)
    own = [[b for b in store.blocks if b.feed == ALPHA_FEED] for store in stores]
    assert [len(blocks) for blocks in own] == [1, 1, 1]
    assert all(
        store.own_head == (ALPHA_FEED, Head(blocks[-1].seq_num, blocks[-1].block_id))
        for store, blocks in zip(stores, own, strict=True)
    )
    first_reply = next(i for i, effect in enumerate(effects) if isinstance(effect, Reply))
    assert all(effects.index(store) < first_reply for store in stores)
