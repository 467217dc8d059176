"""The waiting room finds blocks again, knows what they name, and stays within its bounds."""

from __future__ import annotations

from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.limits import PENDING_BYTES_MAX
from p2pfed.core.records import Contact
from p2pfed.core.waiting import (
    BlockRef,
    SeqRange,
    WaitingRoom,
    backlink_ref,
    block_ref,
    block_refs,
    merge_ranges,
)
from tests.writers import Writer, some_id

FEED = FeedKey(CentreName("alpha"), 0)
ELSEWHERE = BlockRef(FeedKey(CentreName("zeta"), 0), 9, some_id("missing"))


def chain(name: str, length: int) -> list[Block]:
    writer = Writer(name)
    return [writer.write() for _ in range(length)]


def test_ranges_that_touch_are_one() -> None:
    other = FeedKey(CentreName("beta"), 0)
    ranges = [
        SeqRange(other, 0, 0),
        SeqRange(FEED, 4, 5),
        SeqRange(FEED, 0, 3),
        SeqRange(FEED, 2, 2),
        SeqRange(FEED, 7, 8),
    ]
    assert merge_ranges(ranges) == (
        SeqRange(FEED, 0, 5),
        SeqRange(FEED, 7, 8),
        SeqRange(other, 0, 0),
    )


def test_gaps_are_where_nothing_waits() -> None:
    room = WaitingRoom()
    blocks = chain("alpha", 5)
    for block in (blocks[1], blocks[4]):
        room.add(block, watched=ELSEWHERE)
    assert room.gaps(FEED, 0, 6) == [
        SeqRange(FEED, 0, 0),
        SeqRange(FEED, 2, 3),
        SeqRange(FEED, 5, 6),
    ]
    assert room.gaps(FEED, 1, 1) == []
    assert room.gaps(FEED, 3, 2) == []
    assert room.at(FEED, 4) == [blocks[4]]
    assert room.at(FEED, 3) == []


def test_those_who_wait_for_a_block_leave_with_it() -> None:
    room = WaitingRoom()
    first, second, third = chain("alpha", 3)
    room.add(second, watched=block_ref(first))
    room.add(third, watched=block_ref(second))
    assert room.take_watchers(block_ref(first)) == [second]
    assert room.take_watchers(block_ref(first)) == []
    assert (room.holds(second.block_id), room.holds(third.block_id)) == (False, True)


def test_a_block_names_its_acks_and_only_if_it_is_named_its_backlink() -> None:
    room = WaitingRoom()
    first, second, third = chain("alpha", 3)
    room.add(third, watched=block_ref(second))
    assert not room.is_named(block_ref(second))
    room.add(second, watched=block_ref(first))
    witness = Writer("beta").write(third)
    room.add(witness, watched=ELSEWHERE)
    assert all(room.is_named(block_ref(block)) for block in (first, second, third))
    room.take(witness.block_id)
    assert not room.is_named(block_ref(third))
    room.take(third.block_id)
    room.take(second.block_id)
    assert not room.is_named(block_ref(first))
    assert (len(room), room.total_bytes) == (0, 0)


def test_a_block_that_is_named_already_names_its_backlink_on_arrival() -> None:
    room = WaitingRoom()
    first, second = chain("alpha", 2)
    room.add(Writer("beta").write(second), watched=ELSEWHERE)
    room.add(second, watched=block_ref(first))
    assert room.is_named(block_ref(first))


def test_blocks_come_due_in_the_order_of_their_times() -> None:
    room = WaitingRoom()
    one, two, three = (chain(name, 1)[0] for name in ("alpha", "beta", "gamma"))
    for block, due_ms in ((one, 30), (two, 10), (three, 20)):
        room.add(block, due_ms=due_ms)
    room.take(two.block_id)
    assert room.due_ms() == 20
    assert room.take_due(30) == [three, one]
    assert room.due_ms() is None


def test_too_many_bytes_cost_the_heaviest_centre_its_newest_block() -> None:
    room = WaitingRoom()
    small = chain("zeta", 2)[1]
    room.add(small, watched=ELSEWHERE)
    writer = Writer("alpha")
    records = [Contact(address=f"{'h' * 200}:1")] * 4096
    flood = [writer.write(records=records)]
    while not (dropped := room.add(flood[-1], watched=ELSEWHERE)):
        flood.append(writer.write(records=records))
    assert dropped == [flood[-1].block_id]
    assert len(flood) == PENDING_BYTES_MAX // len(flood[-1].data) + 1
    assert room.holds(small.block_id)
    assert room.total_bytes <= PENDING_BYTES_MAX


def test_a_block_names_the_one_before_and_those_it_acks() -> None:
    first, second = chain("alpha", 2)
    other = chain("beta", 1)[0]
    writer = Writer("gamma")
    start = writer.write(first, other)
    assert backlink_ref(start) is None
    assert block_refs(start) == [block_ref(first), block_ref(other)]
    assert block_refs(writer.write(second)) == [block_ref(start), block_ref(second)]
