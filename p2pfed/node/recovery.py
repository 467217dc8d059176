"""Before the first append: is our own feed as new as what ever left us?

A store cannot prove from its own contents that it never wrote more, so the shell compares it with
the high-water file, and the node asks the peers in every case (design section 3). Until this module
says so, nothing is written and nothing is reviewed; gossip goes on, and what peers hold of our own
feed comes back like any other block. Killing native jobs and withdrawing never wait for it.

- `SURE`: the store is as new as the high-water file. We still wait until each member has answered
  or `ASK_MS` has passed: peers that know more show that store and file were rolled back together.
- `BEHIND`: the file is ahead. We take our blocks back up to it; only then do we write.
- `UNSURE`: the file is missing. Every member must answer, those too whose admission we read on the
  way; we take back all that anyone has. Peers prove blocks, not effects, so we then stay careful
  for a whole lease. Only if nobody holds any block of ours did we never write one.
- `BROKEN`: file and store contradict each other, or we forked. Only a new epoch helps.

Whatever it waits for, a new epoch ends the waiting: one that the members grant as soon as it takes
effect, and where there are at most two members also one that an administrator declares
(`p2pfed.node.epochs`).

What must outlive a second crash stands in two local rows, each stored before anything rests on it:
that our memory is unsure, and until when we are careful. Without them a centre that is restarted
half-way would find file and store in agreement, and think that all is well.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum
from typing import Final

from p2pfed.core.ids import CentreName, Head
from p2pfed.errors import P2pfedError, StateError
from p2pfed.node.company import Company
from p2pfed.node.effects import ERROR, INFO, WARNING, Reply
from p2pfed.node.epochs import CAREFUL_ROW, Epochs
from p2pfed.node.events import DeclareEpoch
from p2pfed.node.gossip import Gossip
from p2pfed.node.ledger import Ledger
from p2pfed.node.trust import Trust
from p2pfed.node.turn import Turn

ASK_MS: Final = 2_000
"""How long a centre whose memory is sure waits for its peers' word before it writes."""
PROOF_MS: Final = 30_000
"""How long a peer's mere word that it has newer blocks of ours is waited on; a block is proof."""

ROWS: Final = "node/"
"""Prefix of the local rows that a node wants back when it starts."""
_UNSURE: Final = ROWS + "memory-unsure"


class Memory(Enum):
    """What the high-water file and the store say together."""

    SURE = "sure"
    BEHIND = "behind"
    UNSURE = "unsure"
    BROKEN = "broken"


class Recovery:
    """Decides when the node may write."""

    def __init__(self, ledger: Ledger, gossip: Gossip, trust: Trust, company: Company) -> None:
        self._ledger = ledger
        self._company = company
        self._gossip = gossip
        self._trust = trust
        self._memory = Memory.SURE
        self._target: Head | None = None
        self._ask_until_ms = 0
        self._proof_until_ms = 0
        self._now_ms = 0
        self._seq_num: int | None = None
        self._epochs = Epochs(ledger, gossip, trust)
        self.ready = False

    def begin(
        self, memory: Memory, target: Head | None, rows: Mapping[str, bytes], turn: Turn
    ) -> None:
        """Starts to ask; `target` is the head that the high-water file names, if it does.

        `rows` are the local rows under `ROWS`.
        """
        if memory is Memory.SURE and rows.get(_UNSURE):
            memory = Memory.UNSURE
        self._memory, self._target = memory, target
        self._trust.careful_until_ms = int(rows.get(CAREFUL_ROW, b"0"))
        if memory is Memory.UNSURE:
            self._ledger.keep(_UNSURE, b"1")
        if self._ledger.me.feed in self._ledger.live.convicted:
            self.own_fork(turn)
        self._ask_until_ms = turn.now_ms + ASK_MS
        self._proof_until_ms = self._ask_until_ms + PROOF_MS
        self._seq_num = self._own_seq_num()
        self._gossip.seek_everybody(memory is Memory.UNSURE)
        if memory is not Memory.SURE:
            turn.note(WARNING, "recovering", self.explain())
        self.step(turn)

    def wake_ms(self) -> int | None:
        """When waiting for something ends by itself; None if no time ends it."""
        if self.ready or self._memory is Memory.BROKEN:
            return None
        deadlines = (self._ask_until_ms, self._proof_until_ms)
        return min((d for d in deadlines if d > self._now_ms), default=None)

    def _own_seq_num(self) -> int:
        head = self._ledger.head
        return -1 if head is None else head.seq_num

    def step(self, turn: Turn) -> None:
        """Looks whether the node may write now; call after anything that peers said."""
        self._now_ms = turn.now_ms
        self._follow_grant(turn)
        if self.ready or self._memory is Memory.BROKEN:
            return
        seq_num = self._own_seq_num()
        if seq_num != self._seq_num:
            self._seq_num = seq_num
            self._proof_until_ms = turn.now_ms + PROOF_MS
            if self._memory is Memory.SURE:
                self._memory = Memory.UNSURE
                self._ledger.keep(_UNSURE, b"1")
                self._gossip.seek_everybody(True)
                turn.note(
                    WARNING,
                    "rolled-back",
                    "peers gave us blocks of ours that neither our store nor its mark knew",
                )
        known = self._gossip.best_head(self._ledger.me.feed)
        ahead = known is not None and known.seq_num > seq_num
        if ahead and turn.now_ms < self._proof_until_ms:
            return
        if self._may_write(seq_num, turn.now_ms):
            self.ready = True
            self._gossip.seek_everybody(False)
            if self._memory is Memory.UNSURE:
                if not self._never_wrote():
                    self._be_careful(turn)
                self._ledger.keep(_UNSURE, b"")
            if self._memory is not Memory.SURE:
                turn.note(INFO, "recovered", f"own feed complete up to block {seq_num}")

    def _never_wrote(self) -> bool:
        """Whether neither we nor any member holds a block of ours: then nothing came of any."""
        me = self._ledger.me
        return me.epoch == 0 and self._own_seq_num() < 0

    def _be_careful(self, turn: Turn) -> None:
        rules = self._ledger.rules
        self._trust.careful_until_ms = turn.now_ms + rules.lease_max_ms + rules.clock_error_ms
        self._ledger.keep(CAREFUL_ROW, str(self._trust.careful_until_ms).encode())

    def _follow_grant(self, turn: Turn) -> None:
        """Goes over to the epoch that the members gave us, once it takes effect."""
        epoch = self._epochs.granted(turn.now_ms)
        if epoch is None:
            return
        if self._epochs.begun(epoch):
            # We had begun it and forgot: it is taken back like any feed of ours.
            self._ledger.begin_epoch(epoch)
            self.ready, self._memory, self._seq_num = False, Memory.UNSURE, None
            self._ledger.keep(_UNSURE, b"1")
            self._gossip.seek_everybody(True)
        elif self._memory is not Memory.UNSURE or self._all_answered():
            if self.ready and self._ledger.unsealed:
                self._ledger.seal(turn.now_ms)
            self._start_epoch(epoch, turn)

    def _start_epoch(self, epoch: int, turn: Turn, *, alone: str | None = None) -> None:
        self._epochs.begin(epoch, turn, alone=alone)
        self._ledger.keep(_UNSURE, b"")
        self._gossip.seek_everybody(False)
        self._memory, self._seq_num, self.ready = Memory.SURE, self._own_seq_num(), True

    def declare_epoch(self, event: DeclareEpoch, turn: Turn) -> None:
        """An administrator begins a new epoch without a vote, where there are at most two members.

        The other member may hold blocks of ours that we forgot; what they promise still binds us.
        """
        try:
            if self.ready:
                raise StateError(
                    "epoch-not-needed",
                    "this centre writes its feed: there is no need for a new epoch",
                    remedy="see: p2pfed status",
                )
            epoch = self._epochs.next_alone(turn.now_ms, event.epoch)
        except P2pfedError as error:
            turn.do(Reply(request=event.request, error=error))
            return
        self._start_epoch(epoch, turn, alone=event.reason)
        turn.do(Reply(request=event.request, result=str(epoch)))

    def _away(self) -> list[CentreName]:
        """The members that have not told what they hold since we started."""
        others = self._company.members() - {self._ledger.me.name}
        return sorted((others | self._company.addresses.keys()) - self._gossip.answered())

    def _all_answered(self) -> bool:
        return not self._away()

    def _may_write(self, seq_num: int, now_ms: int) -> bool:
        if seq_num < 0 and not self._admitted():
            return False
        if not self._epochs.key_fits(now_ms):
            return False
        heard = self._all_answered()
        if self._memory is Memory.SURE:
            return heard or now_ms >= self._ask_until_ms
        if self._memory is Memory.BEHIND:
            return self._target is not None and seq_num >= self._target.seq_num
        # What is on its way may tell of members that were not asked yet.
        return heard and not self._gossip.lacking_blocks()

    def _admitted(self) -> bool:
        """Whether our newest round has us as a member who writes this feed."""
        view, me = self._ledger.view, self._ledger.me
        member = view.state.governance.members_at(view.cut_ms).get(me.name)
        return member is not None and member.feed == me.feed

    def own_fork(self, turn: Turn) -> None:
        """We signed two blocks for one place, as a peer showed or proved: stop writing.

        What this turn has written before is sealed; it may have been promised to somebody.
        """
        if self._memory is Memory.BROKEN:
            return
        if self.ready and self._ledger.unsealed:
            self._ledger.seal(turn.now_ms)
        self.ready = False
        self._memory = Memory.BROKEN
        turn.note(ERROR, "own-fork", self.explain())

    def explain(self) -> str:
        """What the node waits for, for people."""
        head = self._ledger.head
        at = "no block" if head is None else f"block {head.seq_num}"
        if self.ready:
            return "ready"
        member = self._epochs.membership(self._now_ms)
        if member is not None and member.epoch > self._ledger.me.epoch:
            return f"the members gave this centre epoch {member.epoch}, with another key than ours"
        if not self._epochs.key_fits(self._now_ms):
            return (
                "the key of this daemon is not the one that signs our feed; if that is lost, a "
                "member proposes the new one (p2pfed propose replace-key CARD)"
            )
        if head is None and not self._admitted():
            return "no decision that made this centre a member is known here yet"
        if self._memory is Memory.SURE:
            return "asking peers whether they hold newer blocks of ours"
        if self._memory is Memory.BEHIND and self._target is not None:
            return (
                f"our store ends at {at}, but block {self._target.seq_num} has left us: "
                "taking our blocks back from peers"
            )
        if self._memory is Memory.UNSURE:
            away = self._away()
            return (
                f"nothing proves that {at} is our newest: every member must answer first, and "
                f"{', '.join(away)} has not; else a new epoch is needed"
                if away
                else f"nothing proves that {at} is our newest: taking our blocks back from peers"
            )
        return f"our feed contradicts itself or what has left us: {self._way_out()}"

    def _way_out(self) -> str:
        return (
            "only a new epoch helps; a member proposes it (p2pfed propose new-epoch "
            f"{self._ledger.me.name}), of two members one may begin it (p2pfed epoch declare)"
        )

    def refuse(self) -> StateError:
        """The error for whoever wants something written now."""
        return StateError(
            "recovering",
            f"this centre may not write yet: {self.explain()}",
            remedy="see p2pfed status; start the other centres, or check their addresses; if what "
            "is missing is lost for good, begin a new epoch",
        )
