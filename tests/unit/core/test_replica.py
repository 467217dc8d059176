"""The replica admits blocks in causal order, lets early ones wait, and proves forks."""

from __future__ import annotations

import hashlib
import random
import sys

import pytest

from p2pfed.core.admission import Admission
from p2pfed.core.blocks import Block, check_fork_proof
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head
from p2pfed.core.limits import PENDING_BLOCKS_MAX
from p2pfed.core.replica import Replica, view_digest
from p2pfed.core.units import HlcTime, hlc, hlc_cut
from p2pfed.core.waiting import BlockRef, SeqRange, block_ref
from p2pfed.errors import InputError, StateError
from tests.writers import CONTACT, FEDERATION, START_MS, Writer, keys_of, some_id

NOW = START_MS
SKEW = 60_000
KEYS = keys_of("alpha", "beta", "gamma")


def replica(**options: object) -> Replica:
    return Replica(FEDERATION, KEYS, SKEW, **options)  # type: ignore[arg-type]


def admit_all(target: Replica, *blocks: Block) -> None:
    for block in blocks:
        assert target.admit(block, NOW).admitted == (block,)


def chain(name: str, length: int) -> list[Block]:
    writer = Writer(name)
    return [writer.write() for _ in range(length)]


# Order


def test_admits_a_feed_in_order() -> None:
    held = replica()
    blocks = chain("alpha", 3)
    admit_all(held, *blocks)
    feed = blocks[0].feed
    assert held.frontier() == {feed: blocks[2].head}
    assert held.head(feed) == blocks[2].head
    assert held.block_id(feed, 1) == blocks[1].block_id
    assert held.time_of(feed, 1) == blocks[1].time
    assert held.holds(block_ref(blocks[1]))


def test_knows_nothing_of_what_it_does_not_hold() -> None:
    held = replica()
    feed = FeedKey(CentreName("alpha"), 0)
    assert held.head(feed) is None
    assert held.block_id(feed, 0) is None
    assert held.time_of(feed, 0) is None
    admit_all(held, *chain("alpha", 1))
    assert held.block_id(feed, 1) is None
    assert held.block_id(feed, -1) is None
    assert held.time_of(feed, -1) is None


def test_a_block_that_came_before_is_a_duplicate() -> None:
    held = replica()
    first, second = chain("alpha", 2)
    assert held.admit(second, NOW).waits
    assert held.admit(second, NOW) == Admission(duplicate=True)
    held.admit(first, NOW)
    assert held.admit(first, NOW) == Admission(duplicate=True)
    assert held.receive(second.data, NOW) == Admission(duplicate=True)


def test_receives_bytes_and_verifies_them() -> None:
    held = replica()
    block = Writer("alpha").write()
    assert held.receive(block.data, NOW).admitted == (block,)
    with pytest.raises(InputError) as caught:
        held.receive(Writer("mallory").write().data, NOW)
    assert caught.value.code == "block-key-unknown"
    held.set_keys(keys_of("mallory"))
    assert held.receive(Writer("mallory").write().data, NOW).admitted


def test_a_block_waits_for_those_before_it_and_says_which_to_ask_for() -> None:
    held = replica()
    blocks = chain("alpha", 4)
    feed = blocks[0].feed
    assert held.admit(blocks[3], NOW) == Admission(waits=True, lacks=(SeqRange(feed, 0, 2),))
    assert held.admit(blocks[1], NOW).lacks == (SeqRange(feed, 0, 0),)
    assert held.awaited() == (block_ref(blocks[0]), block_ref(blocks[2]))
    assert held.admit(blocks[0], NOW).admitted == (blocks[0], blocks[1])
    assert held.admit(blocks[2], NOW).admitted == (blocks[2], blocks[3])
    assert held.waiting() == (0, 0)
    assert held.awaited() == ()


def test_a_block_waits_for_every_block_that_it_acks() -> None:
    held = replica()
    alpha, beta = chain("alpha", 2), chain("beta", 1)
    block = Writer("gamma").write(alpha[1], beta[0])
    lacks = (SeqRange(alpha[0].feed, 0, 1), SeqRange(beta[0].feed, 0, 0))
    assert held.admit(block, NOW).lacks == lacks
    admit_all(held, alpha[0], alpha[1])
    assert held.admit(beta[0], NOW).admitted == (beta[0], block)


def test_admitted_blocks_follow_what_they_name() -> None:
    held = replica()
    alpha, beta = Writer("alpha"), Writer("beta")
    first = alpha.write()
    second = beta.write(first)
    third = alpha.write(second)
    for early in (third, second):
        assert held.admit(early, NOW).waits
    assert held.admit(first, NOW).admitted == (first, second, third)


@pytest.mark.parametrize("named", ["backlink", "ack"])
def test_refuses_a_block_that_is_not_later_than_what_it_names(named: str) -> None:
    held = replica()
    alpha, beta = Writer("alpha"), Writer("beta")
    first = alpha.write()
    if named == "backlink":
        late = alpha.write(time=first.time)
    else:
        late = beta.write(acks={first.feed: first.head}, time=first.time)
    admit_all(held, first)
    with pytest.raises(InputError) as caught:
        held.admit(late, NOW)
    assert caught.value.code == f"block-time-{named}"
    assert held.frontier() == {first.feed: first.head}


def test_a_waiting_block_that_proves_wrong_is_refused_when_its_turn_comes() -> None:
    held = replica()
    alpha, beta = Writer("alpha"), Writer("beta")
    first = alpha.write()
    wrong = beta.write(acks={first.feed: first.head}, time=first.time)
    assert held.admit(wrong, NOW).waits
    found = held.admit(first, NOW)
    assert found.admitted == (first,)
    assert [(r.block, r.error.code) for r in found.refused] == [(wrong, "block-time-ack")]
    assert held.waiting() == (0, 0)


def test_a_block_already_proven_wrong_by_one_ack_may_still_wait_for_another() -> None:
    held = replica()
    alpha, beta, gamma = Writer("alpha"), Writer("beta"), Writer("gamma")
    first, second = alpha.write(), beta.write()
    acks = {block.feed: block.head for block in (first, second)}
    wrong = gamma.write(acks=acks, time=second.time)
    assert held.admit(wrong, NOW).waits
    admit_all(held, second)
    assert held.awaited() == (block_ref(first),)
    assert [r.error.code for r in held.admit(first, NOW).refused] == ["block-time-ack"]


# Time


def test_a_block_from_the_future_waits_until_its_time() -> None:
    held = replica()
    alpha = Writer("alpha")
    early = alpha.write(time=hlc(NOW + SKEW + 1))
    follower = alpha.write(time=hlc(NOW + SKEW + 2))
    assert held.admit(early, NOW) == Admission(waits=True)
    assert held.admit(follower, NOW).waits
    assert held.release_ms() == NOW + 1
    assert held.release(NOW) == Admission()
    assert held.release(NOW + 1).admitted == (early,)
    assert held.release_ms() == NOW + 2
    assert held.release(NOW + 2).admitted == (follower,)
    assert held.release_ms() is None


def test_a_block_at_the_edge_of_the_skew_is_admitted_at_once() -> None:
    admit_all(replica(), Writer("alpha").write(time=hlc(NOW + SKEW, 65535)))


def test_the_cut_holds_the_blocks_up_to_its_time() -> None:
    held = replica()
    alpha, beta = Writer("alpha"), Writer("beta")
    blocks = [alpha.write(time=hlc(NOW + 10 * n)) for n in range(4)]
    late = beta.write(time=hlc(NOW + 25, 3))
    admit_all(held, *blocks, late)
    assert held.cut_frontier(hlc_cut(NOW - 1)) == {}
    assert held.cut_frontier(hlc_cut(NOW + 20)) == {blocks[0].feed: blocks[2].head}
    assert held.cut_frontier(hlc_cut(NOW + 25)) == {
        blocks[0].feed: blocks[2].head,
        late.feed: late.head,
    }
    assert held.cut_frontier(hlc(NOW + 25, 2)) == {blocks[0].feed: blocks[2].head}


# What to ask for


def test_lacks_what_the_other_frontier_has_more() -> None:
    held = replica()
    alpha = chain("alpha", 5)
    feed, other = alpha[0].feed, FeedKey(CentreName("beta"), 0)
    admit_all(held, alpha[0], alpha[1])
    theirs = {feed: alpha[4].head, other: Head(2, some_id("b"))}
    assert held.lacking(theirs) == (SeqRange(feed, 2, 4), SeqRange(other, 0, 2))
    held.admit(alpha[3], NOW)
    assert held.lacking({feed: alpha[4].head}) == (SeqRange(feed, 2, 2), SeqRange(feed, 4, 4))
    assert held.lacking({feed: alpha[1].head}) == ()
    assert held.lacking({feed: alpha[0].head}) == ()


# The waiting room


def test_a_full_waiting_room_costs_the_centre_that_filled_it() -> None:
    held = replica()
    flood = chain("alpha", PENDING_BLOCKS_MAX + 2)
    beta = chain("beta", 2)
    assert held.admit(beta[1], NOW).waits
    dropped: list[BlockId] = []
    for block in flood[1:]:
        dropped += held.admit(block, NOW).dropped
    assert held.waiting()[0] == PENDING_BLOCKS_MAX
    assert dropped == [flood[-2].block_id, flood[-1].block_id]
    assert held.admit(beta[0], NOW).admitted == (beta[0], beta[1])


def test_a_block_dropped_at_once_does_not_wait() -> None:
    held = replica()
    flood = chain("alpha", PENDING_BLOCKS_MAX + 2)
    for block in flood[1:-1]:
        held.admit(block, NOW)
    assert held.admit(flood[-1], NOW) == Admission(dropped=(flood[-1].block_id,))


# Restart


def test_restores_what_was_admitted() -> None:
    held, again = replica(), replica()
    blocks = chain("alpha", 3)
    admit_all(held, *blocks)
    for block in blocks:
        again.restore(block.feed, block.seq_num, block.block_id, block.time)
    assert again.frontier() == held.frontier()
    assert again.cut_frontier(blocks[1].time) == held.cut_frontier(blocks[1].time)


def test_refuses_to_restore_a_damaged_feed() -> None:
    held = replica()
    first, second = chain("alpha", 2)
    held.restore(first.feed, 0, first.block_id, first.time)
    for seq_num, time in ((0, second.time), (2, second.time), (1, first.time)):
        with pytest.raises(StateError) as caught:
            held.restore(first.feed, seq_num, second.block_id, time)
        assert caught.value.code == "replica-restore"


def test_a_million_blocks_take_little_memory() -> None:
    held = replica()
    feeds = [FeedKey(CentreName(f"c{n}"), 0) for n in range(10)]
    for seq_num in range(1000):
        for feed in feeds:
            held.restore(feed, seq_num, some_id("any"), HlcTime(seq_num + 1))
    bytes_held = sum(
        sys.getsizeof(chain.ids) + sys.getsizeof(chain.times) for chain in held._feeds.values()
    )
    assert bytes_held < 50 * 10_000


# Forks


def forked() -> tuple[list[Block], list[Block]]:
    """Two branches of alpha's feed with a common block: `[a0, a1, a2]`, `[a0, b1, b2]`."""
    writer = Writer("alpha")
    first = writer.write()
    other = writer.branch()
    return (
        [first, writer.write(), writer.write()],
        [first, other.write(records=[CONTACT]), other.write()],
    )


def test_the_branch_seen_first_stays_and_the_other_proves_the_fork() -> None:
    held = replica()
    mine, theirs = forked()
    admit_all(held, *mine)
    (fork,) = held.admit(theirs[1], NOW).forks
    assert (fork.feed, fork.seq_num, fork.held) == (mine[0].feed, 1, mine[1].block_id)
    assert fork.proof is not None
    assert check_fork_proof(fork.proof, FEDERATION, KEYS) == (mine[0].feed, 1)
    assert held.frontier() == {mine[0].feed: mine[2].head}
    assert held.forked() == (mine[0].feed,)


def test_a_fork_is_told_once() -> None:
    held = replica()
    mine, theirs = forked()
    admit_all(held, *mine)
    assert held.admit(theirs[1], NOW).forks
    assert held.admit(theirs[1], NOW) == Admission()
    assert held.admit(theirs[2], NOW) == Admission()


def test_the_next_block_of_another_branch_asks_for_the_block_that_proves_it() -> None:
    held = replica()
    mine, theirs = forked()
    admit_all(held, mine[0], mine[1])
    assert held.admit(theirs[2], NOW).lacks == (SeqRange(mine[0].feed, 1, 1),)
    assert held.admit(theirs[1], NOW).forks
    assert held.waiting() == (0, 0)


def test_a_frontier_with_another_head_at_our_height_is_asked_for_proof() -> None:
    held = replica()
    mine, theirs = forked()
    admit_all(held, mine[0], mine[1])
    frontier = {mine[0].feed: theirs[1].head}
    assert held.lacking(frontier) == (SeqRange(mine[0].feed, 1, 1),)
    held.admit(theirs[1], NOW)
    assert held.lacking(frontier) == ()


def test_two_rivals_that_waited_prove_the_fork_when_one_is_admitted() -> None:
    held = replica()
    mine, theirs = forked()
    assert held.admit(mine[1], NOW).waits
    assert held.admit(theirs[1], NOW).waits
    assert held.admit(theirs[2], NOW).waits
    found = held.admit(mine[0], NOW)
    assert found.admitted == (mine[0], mine[1])
    assert [fork.other for fork in found.forks] == [theirs[1]]
    assert held.waiting() == (0, 0)


def test_an_old_fork_is_proven_with_the_block_read_back() -> None:
    mine, theirs = forked()
    stored = {(block.feed, block.seq_num): block.data for block in mine}
    held = replica(stored=lambda feed, seq_num: stored.get((feed, seq_num)))
    for block in mine:
        held.restore(block.feed, block.seq_num, block.block_id, block.time)
    (fork,) = held.admit(theirs[1], NOW).forks
    assert fork.proof is not None


def test_a_fork_that_cannot_be_proven_yet_is_told_again() -> None:
    mine, theirs = forked()
    held = replica()
    for block in mine:
        held.restore(block.feed, block.seq_num, block.block_id, block.time)
    assert [fork.proof for fork in held.admit(theirs[1], NOW).forks] == [None]
    assert [fork.proof for fork in held.admit(theirs[1], NOW).forks] == [None]


def test_an_honest_centre_that_acked_the_lost_branch_is_not_cut_off() -> None:
    held = replica()
    mine, theirs = forked()
    admit_all(held, *mine)
    beta = Writer("beta")
    witness = beta.write(theirs[2])
    after = beta.write()
    feed = mine[0].feed
    assert held.admit(witness, NOW).lacks == (SeqRange(feed, 2, 2),)
    assert held.admit(after, NOW).waits
    found = held.admit(theirs[2], NOW)
    assert found.waits
    assert found.lacks == (SeqRange(feed, 1, 1),)
    assert held.admit(theirs[1], NOW).admitted == (theirs[1], theirs[2], witness, after)
    assert [held.is_side(block) for block in (*theirs, witness)] == [False, True, True, False]
    assert held.branched() == (feed,)
    assert held.frontier() == {feed: mine[2].head, witness.feed: after.head}
    assert held.holds(BlockRef(feed, 2, theirs[2].block_id))
    assert held.admit(beta.write(theirs[1]), NOW).admitted


def test_a_fork_is_told_although_the_second_block_breaks_a_rule_too() -> None:
    held = replica()
    writer, beta = Writer("alpha"), Writer("beta")
    first = writer.write()
    other = writer.branch()
    mine = writer.write()
    wrong = other.write(records=[CONTACT], time=first.time)
    admit_all(held, first, mine)
    held.admit(beta.write(acks={wrong.feed: wrong.head}, time=HlcTime(mine.time + 9)), NOW)
    found = held.admit(wrong, NOW)
    assert [refusal.error.code for refusal in found.refused] == ["block-time-backlink"]
    assert found.forks


# The view


def test_the_view_digest_is_the_hash_of_the_sorted_frontier() -> None:
    feeds = {FeedKey(CentreName("beta"), 0): Head(1, BlockId(bytes(32)))}
    more = {**feeds, FeedKey(CentreName("alpha"), 1): Head(0, BlockId(b"\x01" * 32))}
    expected = bytes.fromhex("82" + "84" + "65616c706861" + "01" + "00" + "5820") + b"\x01" * 32
    expected += bytes.fromhex("84" + "6462657461" + "00" + "01" + "5820") + bytes(32)
    assert view_digest(more) == hashlib.sha256(expected).digest()
    assert view_digest(dict(reversed(more.items()))) == view_digest(more)
    assert view_digest(feeds) != view_digest(more)


def test_a_shuffled_ledger_of_three_centres_is_admitted_whole() -> None:
    writers = [Writer(name) for name in ("alpha", "beta", "gamma")]
    rng = random.Random(7)
    blocks: list[Block] = []
    for _ in range(120):
        writer = rng.choice(writers)
        heads = [b for b in blocks if b.feed != writer.feed]
        blocks.append(writer.write(*({b.feed: b for b in heads}.values())))
    rng.shuffle(blocks)
    held = replica()
    admitted = [b for block in blocks for b in held.admit(block, NOW).admitted]
    assert len(admitted) == 120
    assert held.waiting() == (0, 0)
