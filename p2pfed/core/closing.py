"""When a job is closed: nothing that anyone may still write can change what it counts for.

Theory of operation. The state would grow with every job that ever was, if it could not let go of
those that are over. But a block may come late, from a centre that was cut off for a month, and must
then lead every node to the same state, whether it has let go of the job or not (invariant 5). So a
job is let go only when each record that could still name it is without effect:

- its home has written Done. From there on, whatever the home writes about it is inert, by the order
  of the home's own feed, in which nothing can come late;
- each of its claims is released before a handover (then no word of the host moves anything), or
  closed by its host (final), or ended with its usage fixed: settled in time, or past the deadline
  at this cut. The host's machine has no move left there.

Both stay true once they are. So *closed* is a property of the blocks and the cut, not of when a
node looks, and the state can be defined without closed jobs: a node that forgets them, one that
keeps them, and one that never knew them agree. The same holds for offers that were closed
`OFFER_KEPT_MS` before the cut: nothing is matched with a closed offer.

What stays is work that its home never finished with, claims whose host never spoke again, and
claims in dispute: the parties may still agree, or the members decide.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from p2pfed.core.entries import ClaimEntry, JobEntry, OfferEntry
from p2pfed.core.lifecycle import HomePhase, HostPhase
from p2pfed.core.registers import Registers
from p2pfed.core.units import DAY_MS, hlc_ms

OFFER_KEPT_MS: Final = 14 * DAY_MS
"""How long a closed offer is kept: a host looks up the terms of what still runs on it."""


def settled_in_time(entry: ClaimEntry, deadline_ms: int) -> bool:
    """True if the home settled the usage between the End and its deadline.

    Nobody can countersign what was not stated yet, and after the deadline the End stands.
    """
    after_end = entry.settled > entry.host_side.ended
    return entry.settlement is not None and after_end and hlc_ms(entry.settled) <= deadline_ms


def disputed_in_time(entry: ClaimEntry, deadline_ms: int) -> bool:
    """True if the home disputed the usage between the End and its deadline."""
    after_end = entry.disputed > entry.host_side.ended
    return entry.dispute is not None and after_end and hlc_ms(entry.disputed) <= deadline_ms


def claim_is_fixed(
    entry: ClaimEntry, cut_ms: int, deadline_ms: Callable[[ClaimEntry], int]
) -> bool:
    """True if no record but one of a home that has not written Done could change the claim."""
    if entry.phase is HomePhase.RELEASED or entry.host_side.phase is HostPhase.CLOSED:
        return True
    if entry.host_side.phase is not HostPhase.ENDED or entry.phase is HomePhase.CLAIMED:
        return False
    if entry.dispute is not None:
        return False
    until_ms = deadline_ms(entry)
    return cut_ms >= until_ms or settled_in_time(entry, until_ms)


def is_closed(
    job: JobEntry, registers: Registers, cut_ms: int, deadline_ms: Callable[[ClaimEntry], int]
) -> bool:
    """True if nothing that anyone may still write can change what the job counts for.

    `deadline_ms` tells until when the usage of a claim that ended can be settled.
    """
    return job.done and all(
        claim_is_fixed(registers.claims[claim_id], cut_ms, deadline_ms) for claim_id in job.claims
    )


def offer_is_past(offer: OfferEntry, cut_ms: int) -> bool:
    """True if the offer was closed so long ago that nothing on it can still run."""
    return offer.closed and offer.closed_ms + OFFER_KEPT_MS <= cut_ms


def may_be_done(job: JobEntry, registers: Registers) -> bool:
    """True if its home has nothing more to say of a job that is over: when to write Done.

    A claim that was declared lost may still end, and its home will want to countersign that.
    """
    return all(
        entry.phase is HomePhase.RELEASED
        or entry.host_side.phase is HostPhase.CLOSED
        or (entry.host_side.phase is HostPhase.ENDED and entry.settlement is not None)
        for entry in map(registers.claims.__getitem__, job.claims)
    )
