"""A new feed of our own: when the members gave us one, or we declare it without a vote.

Whoever can't go on in its feed (its disk is lost, it forked, its key is lost) begins a new epoch.
It is a feed of its own, so nothing that was forgotten can be contradicted; what the former feed
promised still binds us, and there may be promises in it that nobody here knows of. So for a whole
lease and ε nothing is accepted, released or declared lost; no claim of the former feed is handed
over; its offers are closed; and jobs that were posted in it are held until their users say that
they are to run.
"""

from __future__ import annotations

from p2pfed.core.constitution import Member
from p2pfed.core.governance import LONE_MEMBERS_MAX
from p2pfed.core.ids import FeedKey
from p2pfed.core.keyring import LONE_EPOCHS_MAX
from p2pfed.core.keys import key_id
from p2pfed.core.records import Hold, NewEpoch, OfferClose
from p2pfed.errors import InputError, StateError
from p2pfed.node.effects import WARNING
from p2pfed.node.gossip import Gossip
from p2pfed.node.ledger import Ledger
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn

CAREFUL_ROW = "node/careful-until-ms"


class Epochs:
    """What is known of our own epochs, and the first block of a new one."""

    def __init__(self, ledger: Ledger, gossip: Gossip, trust: Trust) -> None:
        self._ledger = ledger
        self._gossip = gossip
        self._trust = trust

    def membership(self, now_ms: int) -> Member | None:
        """Us as a member now; None if we are none."""
        return self._ledger.live.governance.members_at(now_ms).get(self._ledger.me.name)

    def granted(self, now_ms: int) -> int | None:
        """The epoch beyond ours that the members gave us, if its key is the one that we have."""
        member, me = self.membership(now_ms), self._ledger.me
        if member is None or member.epoch <= me.epoch:
            return None
        kept = self._ledger.replica.keyring.newest(me.feed)
        keys = {key_id(key) for key in (member.public_key, kept) if key is not None}
        return member.epoch if me.kid in keys else None

    def key_fits(self, now_ms: int) -> bool:
        """Whether our key is the one that signs the next block of our feed, as far as we know."""
        me, member = self._ledger.me, self.membership(now_ms)
        key = self._ledger.replica.keyring.newest(me.feed)
        if key is None and member is not None and member.feed == me.feed:
            key = member.public_key
        return key is None or key_id(key) == me.kid

    def begun(self, epoch: int) -> bool:
        """Whether we, or a peer, hold blocks that we wrote in this epoch."""
        feed = FeedKey(self._ledger.me.name, epoch)
        return self._ledger.replica.head(feed) is not None or (
            self._gossip.best_head(feed) is not None
        )

    def next_alone(self, now_ms: int, wanted: int | None) -> int:
        """The epoch that we may begin without a vote.

        Raises:
            StateError: `epoch-needs-vote`: there are more than two members, or we are none.
            InputError: `epoch-number`: it was used before, or is too great.
        """
        members = self._ledger.live.governance.members_at(now_ms)
        me = self._ledger.me
        if me.name not in members or len(members) > LONE_MEMBERS_MAX:
            raise StateError(
                "epoch-needs-vote",
                f"the federation has {len(members)} members: they decide on a new epoch",
                remedy=f"ask a member to run: p2pfed propose new-epoch {me.name}",
            )
        used = [feed.epoch for feed in self._ledger.replica.frontier() if feed.centre == me.name]
        lowest = max(me.epoch, members[me.name].epoch, *used, 0) + 1
        epoch = lowest if wanted is None else wanted
        if not lowest <= epoch <= LONE_EPOCHS_MAX:
            raise InputError(
                "epoch-number",
                f"epoch {epoch} can't be begun alone",
                remedy=f"use a number from {lowest} to {LONE_EPOCHS_MAX}",
            )
        return epoch

    def begin(self, epoch: int, turn: Turn, *, alone: str | None = None) -> None:
        """Writes the first block of the epoch; `alone` is the reason if nobody voted."""
        ledger = self._ledger
        ledger.begin_epoch(epoch)
        if alone is not None:
            ledger.live.governance.declare(ledger.me.feed, ledger.next_time(turn.now_ms))
            ledger.write(NewEpoch(reason=alone), turn.now_ms)
        rules = ledger.rules
        self._trust.careful_until_ms = turn.now_ms + rules.lease_max_ms + rules.clock_error_ms
        ledger.keep(CAREFUL_ROW, str(self._trust.careful_until_ms).encode())
        for offer_id, offer in sorted(ledger.live.offers.items()):
            if offer.host == ledger.me.name and not offer.closed:
                ledger.write(OfferClose(offer_id=offer_id, reason="new epoch"), turn.now_ms)
        held = 0
        for job_id, entry in sorted(ledger.live.jobs.items()):
            ours = job_id.centre == ledger.me.name and not entry.held
            if ours and not ledger.live.judge(entry).state.final:
                ledger.write(Hold(job_id=job_id), turn.now_ms)
                held += 1
        ledger.seal(turn.now_ms)
        how = "declared alone" if alone is not None else "granted by the members"
        turn.note(
            WARNING,
            "new-epoch",
            f"epoch {epoch} begins, {how}; {held} jobs of the former one are held",
        )
