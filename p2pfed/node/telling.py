"""The blocks that show who the members are and with which keys, found from what was folded.

They are those that hold decisions, those in which members first acked one, those that rotate a key,
and the first of each feed that the charter does not name (`p2pfed.core.authority`). All of them
follow from the state at a cut and the keyring, so nothing has to be remembered of them.
"""

from __future__ import annotations

from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.replica import Replica
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime

Place = tuple[HlcTime, FeedKey, int]
"""Time, feed and `seq_num` of a block; in this order each follows what it names."""


def telling_places(state: State, replica: Replica) -> list[Place]:
    """Where those blocks stand, ascending."""
    found: set[tuple[FeedKey, int]] = set()
    folded = state.registers.folded
    governance = state.governance
    for position in governance.said:
        found.add((FeedKey(position.centre, position.epoch), position.seq_num))
    for _, centre, time in governance.seen():
        found |= _written_at(centre, time, replica, state)
    founders = {member.feed for member in governance.versions()[0].members.values()}
    for feed in folded:
        if feed not in founders:
            found.add((feed, 0))
    for feed, seq_num, _ in replica.keyring.dump():
        if seq_num:  # the block before holds the rotation
            found.add((feed, seq_num - 1))
    places = []
    for feed, seq_num in sorted(found):
        when = replica.time_of(feed, seq_num)
        if when is not None and seq_num <= folded.get(feed, -1):
            places.append((when, feed, seq_num))
    return sorted(places)


def _written_at(
    centre: CentreName, time: HlcTime, replica: Replica, state: State
) -> set[tuple[FeedKey, int]]:
    """The block of that time in one of the centre's feeds."""
    return {
        (feed, seq_num)
        for feed in state.registers.folded
        if feed.centre == centre and (seq_num := replica.seq_at(feed, time)) is not None
    }
