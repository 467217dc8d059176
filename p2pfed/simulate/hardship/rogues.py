"""Members that do what they like: with their own key, their own feed and their own batch system.

A rogue runs the daemon's own node, changed. All that it can do is what its key and its connections
let it do, which is also all that the others need to withstand; what they still guarantee among
themselves is judged, nothing of what the rogue holds.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import ClassVar, Final, NamedTuple

from p2pfed.core.blocks import seal_block
from p2pfed.core.clock import next_time
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, Head, JobId, OfferId, Position, ViewDigest
from p2pfed.core.lifecycle import ClaimState
from p2pfed.core.records import (
    Accept,
    Cancel,
    Claim,
    Close,
    Dispute,
    End,
    Handover,
    Lost,
    OfferClose,
    Outcome,
    Receipt,
    Record,
    Release,
    Start,
)
from p2pfed.core.units import HlcTime
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import (
    AnswerTransfer,
    Effect,
    FetchPayload,
    FetchResult,
    SendPayload,
    SubmitNative,
)
from p2pfed.node.events import Event, Tick
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.ledger import Ledger
from p2pfed.node.node import Node
from p2pfed.node.rounds import Rounds
from p2pfed.node.shelf import Shelf
from p2pfed.node.turn import Turn
from p2pfed.protocol.framing import frame_blocks
from p2pfed.simulate.hardship.strikes import for_a_while
from p2pfed.simulate.scene import Centre
from p2pfed.simulate.world import World

_HONOURING: Final = (SubmitNative, FetchPayload, AnswerTransfer, SendPayload)
"""What it takes to do what was promised."""


class RogueLedger(Ledger):
    """A feed in which its author may write anything."""

    backdates: ClassVar[bool] = False

    def say(self, record: Record) -> None:
        """Writes a record of which its author does not look at the sense."""
        self._records.append(record)

    def next_time(self, now_ms: int) -> HlcTime:
        """As early as its own feed allows, if it backdates."""
        if not self.backdates or self.head is None:
            return super().next_time(now_ms)
        before = self.replica.time_of(self.me.feed, self.head.seq_num)
        return next_time(0, before or HlcTime(0))

    def _new_acks(self) -> dict[FeedKey, Head]:
        return {} if self.backdates else super()._new_acks()


class BackdatingLedger(RogueLedger):
    """A feed whose blocks are as old as they can be."""

    backdates = True


class _NeverClaims(Rounds):
    """Rounds of which their node makes nothing: it claims as it likes."""

    def _claim(self, job_id: JobId, offer_id: OfferId, digest: ViewDigest, turn: Turn) -> None:
        pass


class RogueNode(Node):
    """A node that keeps to the protocol, until it is made not to."""

    ledger_type: ClassVar[type[Ledger]] = RogueLedger
    refuses: ClassVar[tuple[type, ...]] = ()
    claims_anything: ClassVar[bool] = False

    def __init__(
        self,
        me: Identity,
        federation: Federation,
        policy: AdmissionPolicy,
        rng: Random,
        shelf: Shelf,
    ) -> None:
        super().__init__(me, federation, policy, rng, shelf)
        if self.claims_anything:
            self.rounds.__class__ = _NeverClaims

    def handle(self, events: Sequence[Event], now_ms: int) -> list[Effect]:
        """As `Node.handle`, without what it refuses to do."""
        done = super().handle(events, now_ms)
        return [effect for effect in done if not isinstance(effect, self.refuses)]


def rogue_kind(kinds: Sequence[str]) -> type[RogueNode]:
    """What the daemon of a rogue runs that behaves in these ways."""

    class Kind(RogueNode):
        ledger_type = BackdatingLedger if "backdate" in kinds else RogueLedger
        claims_anything = "claims" in kinds
        refuses = (
            *(_HONOURING if "dishonour" in kinds else ()),
            *((FetchResult,) if "dispute" in kinds else ()),
        )

    return Kind


class Rogue(NamedTuple):
    """The rogue of a world, as long as it runs."""

    centre: Centre
    node: Node
    ledger: RogueLedger


def _rogue(world: World) -> Rogue | None:
    """The rogue, if there is one and it may write."""
    for _, centre in sorted(world.centres.items()):
        node = centre.node
        if not centre.honest and node is not None and node.recovery.ready:
            ledger = node.ledger
            return Rogue(centre, node, ledger) if isinstance(ledger, RogueLedger) else None
    return None


def _say(world: World, records: Callable[[Node], list[Record]]) -> None:
    found = _rogue(world)
    if found is None:
        return
    centre, node, ledger = found
    for record in records(node):
        ledger.say(record)
    world.tell(centre.name, Tick())


# In its own feed


def claim_anything(world: World) -> None:
    """It claims what it did not win: any open offer, for any job of its own, by any view."""

    def records(node: Node) -> list[Record]:
        live, me = node.ledger.live, node.me.name
        waiting = [j for j in sorted(live.jobs) if live.judge(live.jobs[j]).state.value == "queued"]
        jobs = [j for j in waiting if j.centre == me]
        offers = [o for o in sorted(live.offers) if o.centre != me]
        if not jobs or not offers:
            return []
        last, digest = node.rounds.last, node.rounds.last_digest or ViewDigest(bytes(32))
        if world.rng.random() < 0.5:
            last, digest = max(0, last - world.rng.randint(1, 3)), ViewDigest(bytes(32))
        return [
            Claim(
                job_id=world.rng.choice(jobs),
                offer_id=world.rng.choice(offers),
                attempt=1,
                round=last,
                rules_version=1,
                view_digest=digest,
                claim_until_ms=world.now_ms + world.rng.choice((4_000, 4_500, 10**9)),
            )
            for _ in range(2)
        ]

    _say(world, records)


def talk_nonsense(world: World) -> None:
    """It says valid things of what is not its own, or not so."""

    def records(node: Node) -> list[Record]:
        live, rng = node.ledger.live, world.rng
        claims = [ClaimId(Position(node.me.name, 0, 10**6, 0)), *sorted(live.claims)]
        jobs = [JobId(Position(node.me.name, 0, 10**6, 1)), *sorted(live.jobs)]
        offers = [OfferId(Position(node.me.name, 0, 10**6, 2)), *sorted(live.offers)]
        claim, job, offer = rng.choice(claims), rng.choice(jobs), rng.choice(offers)
        now_ms = world.now_ms
        said: list[Record] = [
            Accept(claim_id=claim, accept_until_ms=now_ms + 10**9),
            Close(claim_id=claim, reason="because"),
            Start(claim_id=claim, native_name="mine"),
            End(
                claim_id=claim,
                outcome=int(Outcome.COMPLETED),
                started_ms=now_ms - 1,
                ended_ms=now_ms,
                core_s=10**9,
            ),
            Handover(claim_id=claim, lease_until_ms=now_ms + 10**9),
            Lost(claim_id=claim),
            Release(claim_id=claim, reason="because"),
            Receipt(claim_id=claim, core_s=10**9),
            Dispute(claim_id=claim, core_s=0, reason="because"),
            Cancel(job_id=job),
            OfferClose(offer_id=offer, reason="because"),
        ]
        return rng.sample(said, 4)

    _say(world, records)


def dispute_everything(world: World) -> None:
    """It disputes whatever ended, down to nothing."""

    def records(node: Node) -> list[Record]:
        return [
            Dispute(claim_id=claim_id, core_s=0, reason="never")
            for claim_id, entry in sorted(node.ledger.live.claims.items())
            if claim_id.centre == node.me.name
            and entry.state is ClaimState.ENDED
            and entry.dispute is None
        ]

    _say(world, records)


def grind(world: World) -> None:
    """It writes one block after another, as if to pick the frontier that suits it."""
    found = _rogue(world)
    if found is not None:
        for _ in range(world.rng.randint(5, 40)):
            found[2].say(Cancel(job_id=JobId(Position(found[0].name, 0, 10**6, 0))))
            world.tell(found[0].name, Tick())


def backdate(world: World) -> None:
    """Nothing to be done: its blocks are as old as its feed allows (`BackdatingLedger`)."""


def dishonour(world: World) -> None:
    """Nothing to be done: it promises, and never does (`RogueNode.refuses`)."""


# On its connections


def _inject(world: World, make: Callable[[Rogue], bytes]) -> None:
    found = _rogue(world)
    if found is None:
        return
    links = world.network.links_of(found.centre.name)
    if links:
        link_id, _ = world.rng.choice(links)
        world.network.send(found.centre.name, link_id, make(found))


def forge(world: World) -> None:
    """It sends a block of another centre that this one never signed."""

    def made(rogue: Rogue) -> bytes:
        centre, node = rogue.centre, rogue.node
        others = [b for b in centre.disk.blocks if b.feed.centre != centre.name]
        if not others:
            return b""
        true = world.rng.choice(others)
        if world.rng.random() < 0.5:
            data = bytearray(true.data)
            data[world.rng.randrange(len(data))] ^= 1 << world.rng.randrange(8)
            return frame_blocks([bytes(data)])
        head = node.ledger.replica.head(true.feed)
        assert head is not None
        forged = _sealed(node, true.feed, head, next_time(world.now_ms, HlcTime(true.time)), {})
        return frame_blocks([forged])

    _inject(world, made)


def _sealed(
    node: Node, feed: FeedKey, head: Head, time: HlcTime, acks: Mapping[FeedKey, Head]
) -> bytes:
    """A block after `head`, signed with the rogue's key whoever's feed it is."""
    return seal_block(
        federation=node.federation.id,
        signer=node.me.signer,
        kid=node.me.kid,
        centre=feed.centre,
        epoch=feed.epoch,
        seq_num=head.seq_num + 1,
        backlink=head.block_id,
        time=time,
        acks=acks,
        records=(),
    ).data


def replay(world: World) -> None:
    """It sends old blocks once more, of anybody."""

    def made(rogue: Rogue) -> bytes:
        blocks = rogue.centre.disk.blocks
        return frame_blocks(b.data for b in world.rng.sample(blocks, min(20, len(blocks))))

    _inject(world, made)


def flood(world: World) -> None:
    """It sends as much as it can: noise, or frames that begin and never end."""

    def made(_: Rogue) -> bytes:
        noise = world.rng.randbytes(world.rng.randint(1, 4_000))
        return world.rng.choice((noise, b"\xff\xff\xff\xff", b"\x00\x00\x00\x00" * 500))

    for _ in range(10):
        _inject(world, made)


def twin(world: World) -> None:
    """It signs two blocks for one place, and shows the second to one of the others."""

    def made(rogue: Rogue) -> bytes:
        node = rogue.node
        head = node.ledger.head
        if head is None or not head.seq_num:
            return b""
        before = node.ledger.replica.block_id(node.me.feed, head.seq_num - 1)
        assert before is not None
        time = node.ledger.replica.time_of(node.me.feed, head.seq_num) or HlcTime(0)
        place = Head(head.seq_num - 1, before)
        later = next_time(world.now_ms, time)
        return frame_blocks([_sealed(node, node.me.feed, place, later, {})])

    _inject(world, made)


def fork(world: World) -> None:
    """Its machine is set back, high-water file and all, while nobody is asked; then it goes on."""
    found = _rogue(world)
    if found is None:
        return
    centre = found[0]
    others = {name for name in world.centres if name != centre.name}
    pairs = {frozenset((centre.name, other)) for other in sorted(others)}
    saved = copy.deepcopy((centre.disk.blocks, centre.disk.local, centre.disk.mark))

    def set_back() -> None:
        world.network.part({centre.name}, others)
        world.crash(centre.name, down_ms=500)
        centre.disk.blocks, centre.disk.local, centre.disk.mark = saved
        centre.disk.snapshot = None
        for_a_while(world, 5_000, 8_000, join)

    def join() -> None:
        world.network.severed -= pairs

    for_a_while(world, 2_000, 8_000, set_back)


def withhold(world: World) -> None:
    """It keeps its newest blocks from one of the others, who hears of them by the rest."""
    found = _rogue(world)
    if found is None:
        return
    rogue = found[0].name
    victim: CentreName = world.rng.choice([c.name for c in world.honest()])
    world.network.open_hole(rogue, victim)
    for_a_while(world, 2_000, 25_000, lambda: world.network.close_hole(rogue, victim))
