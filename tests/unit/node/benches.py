"""One real node among centres whose blocks are written by hand.

The node is alpha. Beta and gamma are `tests.writers.Writer`s: they can say anything at any time,
in any order, true or not, and alpha has to live with it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from random import Random
from typing import TypeVar

from p2pfed.core.blocks import Block, decode_block
from p2pfed.core.entries import ClaimEntry
from p2pfed.core.ids import CentreName, ClaimId, Head, JobId, OfferId, Place, Position, ViewDigest
from p2pfed.core.keys import VerifyKeys, key_id
from p2pfed.core.lifecycle import claim_until, lease_until
from p2pfed.core.records import (
    Accept,
    Claim,
    End,
    Handover,
    Job,
    Offer,
    Outcome,
    Record,
    Start,
)
from p2pfed.core.rules import Rules
from p2pfed.core.units import HlcTime, hlc
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.node.effects import CloseLink, Effect, Reply, StoreBlocks
from p2pfed.node.events import (
    Event,
    LinkBytes,
    LinkId,
    LinkUp,
    OpenOffer,
    RequestId,
    SubmitJob,
    Tick,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.node import Node
from p2pfed.node.recovery import ASK_MS, Memory
from p2pfed.protocol.framing import frame_blocks
from p2pfed.protocol.messages import FrontierMessage, Heads, Hello, encode_message
from tests.writers import FEDERATION, START_MS, Writer, private_key, public_key

ALPHA, BETA, GAMMA = (CentreName(name) for name in ("alpha", "beta", "gamma"))
NAMES = (ALPHA, BETA, GAMMA)
RULES = Rules(
    objection_ms=0,
    round_ms=1_000,
    settle_ms=300,
    heartbeat_ms=1_000,
    offer_lease_ms=600_000,
    max_skew_ms=5_000,
    clock_error_ms=500,
    claim_wait_ms=5_000,
    approval_wait_ms=10_000,
    accept_wait_ms=5_000,
    fetch_ms=5_000,
    queue_ms=3_000,
    kill_grace_ms=1_000,
    walltime_max_s=60,
)
OFFER = Offer(
    resource_class="cpu",
    nodes=2,
    cores_per_node=4,
    memory_mib_per_node=4_000,
    walltime_max_s=50,
)
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=4,
    memory_mib_per_node=500,
    walltime_s=5,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)
E = TypeVar("E", bound=Effect)


def federation(rules: Rules = RULES) -> Federation:
    """Alpha, beta and gamma."""
    return Federation(
        id=FEDERATION,
        keys=VerifyKeys((name, public_key(name)) for name in NAMES),
        rules=rules,
        rules_version=1,
        credit_lines=dict.fromkeys(NAMES, 100_000),
        addresses={name: f"{name}:1" for name in NAMES},
    )


def of_type(effects: Iterable[Effect], kind: type[E]) -> list[E]:
    """The effects of one kind, in order."""
    return [effect for effect in effects if isinstance(effect, kind)]


class Bench:
    """Alpha, up and ready to write unless `start` is False; time passes only when it is told to."""

    def __init__(
        self,
        *,
        rules: Rules = RULES,
        policy: AdmissionPolicy | None = None,
        pinned: frozenset[CentreName] = frozenset(),
    ) -> None:
        self.rules = rules
        self.federation = replace(federation(rules), pinned=pinned)
        self.policy = policy or AdmissionPolicy()
        self.now_ms = START_MS
        self.beta, self.gamma = Writer(BETA), Writer(GAMMA)
        self.disk: list[bytes] = []
        self.rows: dict[str, bytes] = {}
        self.mark: Head | None = None
        self.effects: list[Effect] = []
        self._request = 0
        self._link = 0
        self.links: dict[CentreName, LinkId] = {}
        self.node = self._boot()
        self.start(Memory.SURE)

    # Life

    def _boot(self) -> Node:
        me = Identity(
            name=ALPHA,
            signer=private_key(ALPHA),
            kid=key_id(public_key(ALPHA)),
            address="alpha:1",
        )
        node = Node(me, self.federation, self.policy, Random(1), self)
        for data in self.disk:
            node.replay(data)
        return node

    def index(self) -> Iterable[Place]:
        """Where they stand."""
        found = [self.decode(data) for data in self.disk]
        return [Place(n, b.feed, b.seq_num, b.block_id, b.time, False) for n, b in enumerate(found)]

    def data(self, admission: int) -> bytes:
        """The block with this number."""
        return self.disk[admission]

    def stored(self) -> Iterable[bytes]:
        """All blocks on disk, for the node to read again."""
        return list(self.disk)

    def block(self, feed: object, seq_num: int) -> bytes | None:
        """One of them."""
        for data in self.disk:
            block = self.decode(data)
            if (block.feed, block.seq_num) == (feed, seq_num):
                return data
        return None

    def start(self, memory: Memory) -> list[Effect]:
        """Starts the node; if its memory is sure it waits for its peers' word in vain."""
        target = self.node.ledger.head
        found = self._kept(self.node.start(memory, target, self.now_ms, self.rows))
        return found + self.wait(ASK_MS) if memory is Memory.SURE else found

    def restart(self, memory: Memory = Memory.SURE) -> list[Effect]:
        """`kill -9`, and a new process on what was stored."""
        self.node = self._boot()
        return self.start(memory)

    # Time and events

    def do(self, *events: Event) -> list[Effect]:
        """What these events lead to now."""
        return self._kept(self.node.handle(events, self.now_ms))

    def wait(self, for_ms: int) -> list[Effect]:
        """Lets time pass, with a `Tick` whenever the node wants one, and one at the end."""
        found: list[Effect] = []
        end_ms = self.now_ms + for_ms
        while (wake_ms := self.node.wake_ms()) < end_ms:
            self.now_ms = max(self.now_ms, wake_ms)
            found += self.do(Tick())
            assert self.node.wake_ms() > self.now_ms, "the node wakes without end at one time"
        self.now_ms = end_ms
        return found + self.do(Tick())

    def hear(self, *blocks: Block) -> list[Effect]:
        """Others' blocks arrive, and the node looks at them."""
        for block in blocks:
            self.node.ledger.receive(block.data, self.now_ms)
        return self.do(Tick())

    def _kept(self, effects: list[Effect]) -> list[Effect]:
        for effect in of_type(effects, StoreBlocks):
            self.disk += [block.data for block in effect.blocks]
            self.rows.update(effect.local)
            if effect.own_head is not None:
                self.mark = effect.own_head[1]
        self.effects += effects
        return effects

    # What alpha says

    def decode(self, data: bytes) -> Block:
        """A block of this federation."""
        return decode_block(data, self.federation.id, self.federation.keys)

    def blocks(self) -> list[Block]:
        """Alpha's own stored blocks, in order."""
        return [b for b in map(self.decode, self.disk) if b.feed.centre == ALPHA]

    def newest(self) -> Block:
        """Alpha's newest block."""
        return self.blocks()[-1]

    def written(self, *kinds: type[Record]) -> list[Record]:
        """All records that alpha wrote, or those of some kinds, in order."""
        found = [r for block in self.blocks() for r in block.records]
        return [r for r in found if not kinds or isinstance(r, kinds)]  # type: ignore[misc]

    def ask(self, event: type[SubmitJob | OpenOffer], record: Record) -> str:
        """A user's wish; the reply, which must be a success."""
        self._request += 1
        request = RequestId(self._request)
        if event is OpenOffer:
            assert isinstance(record, Offer)
            effects = self.do(OpenOffer(request=request, offer=record))
        else:
            assert isinstance(record, Job)
            effects = self.do(SubmitJob(request=request, job=record))
        (reply,) = of_type(effects, Reply)
        assert reply.error is None, reply.error
        return reply.result

    def open_offer(self, offer: Offer = OFFER) -> OfferId:
        """Alpha makes capacity available."""
        self.ask(OpenOffer, offer)
        (offer_id,) = [
            o.offer_id for o in self.node.ledger.live.offers.values() if o.host == ALPHA
        ][-1:]
        return offer_id

    def submit(self, job: Job = JOB) -> JobId:
        """Alpha posts a job."""
        self.ask(SubmitJob, job)
        return max(j for j in self.node.ledger.live.jobs if j.centre == ALPHA)

    def claim_entry(self, claim_id: Position) -> ClaimEntry:
        """A claim as alpha sees it now."""
        return self.node.ledger.live.claims[ClaimId(claim_id)]

    # What others say

    def greet(self, *names: CentreName, heads: Heads = ()) -> list[Effect]:
        """Peers connect and tell what they hold (by default nothing), by default all of them."""
        found: list[Effect] = []
        for name in names or (BETA, GAMMA):
            self._link += 1
            link = self.links[name] = LinkId(self._link)
            hello = Hello(federation=FEDERATION, centre=name, software="test", instance=self._link)
            data = encode_message(hello) + encode_message(FrontierMessage(heads))
            found += self.do(
                LinkUp(link=link, centre=name, outbound=False), LinkBytes(link=link, data=data)
            )
        return found

    def arrive(self, *blocks: Block, sender: CentreName = BETA) -> list[Effect]:
        """Blocks that alpha asked for come over the link of a peer."""
        data = frame_blocks([block.data for block in blocks])
        found = self.do(LinkBytes(link=self.links[sender], data=data))
        assert not of_type(found, CloseLink), of_type(found, CloseLink)
        return found

    def say(self, writer: Writer, *records: Record, knows: Sequence[Block] = ()) -> Block:
        """A block of beta or gamma, written now and not yet heard; it acks `knows`."""
        later = max([writer.time, *(b.time for b in knows), HlcTime(hlc(self.now_ms) - 1)]) + 1
        return writer.write(*knows, records=records, time=HlcTime(later))

    def claim_on(
        self,
        offer_id: OfferId,
        *,
        writer: Writer | None = None,
        job: Job = JOB,
        **changed: object,
    ) -> tuple[ClaimId, Block]:
        """Beta (or another) posts a job and claims alpha's offer for it, from a view of its own."""
        writer = writer or self.beta
        posted = self.say(writer, job, knows=[self.newest()])
        fields: dict[str, object] = {
            "job_id": JobId(posted.position(0)),
            "offer_id": offer_id,
            "attempt": 1,
            "round": self.node.rounds.last,
            "rules_version": 1,
            "view_digest": ViewDigest(bytes(32)),
            "claim_until_ms": claim_until(self.now_ms, self.rules, may_ask=False),
        }
        claimed = self.say(writer, Claim(**{**fields, **changed}))  # type: ignore[arg-type]
        self.hear(posted, claimed)
        return ClaimId(claimed.position(0)), claimed

    def hand_over(self, claim_id: ClaimId, *, writer: Writer | None = None) -> Block:
        """Beta (or another) hands alpha the lease of a claim."""
        until_ms = lease_until(self.now_ms, JOB.walltime_s, self.rules)
        record = Handover(claim_id=claim_id, lease_until_ms=until_ms)
        block = self.say(writer or self.beta, record, knows=[self.newest()])
        self.hear(block)
        return block

    def claimed_by_alpha(self, *, offer: Offer = OFFER, job: Job = JOB) -> ClaimId:
        """Beta offers, alpha posts a job, and the rounds make alpha claim."""
        self.hear(self.say(self.beta, offer))
        self.submit(job)
        for _ in range(6):
            self.wait(1_000)
            self.hear(self.say(self.beta, knows=[self.newest()]))
            mine = [c for c in self.node.ledger.live.claims.values() if c.home == ALPHA and c.claim]
            if mine:
                return mine[-1].claim_id
        raise AssertionError("alpha made no claim")

    def accept(self, claim_id: ClaimId, until_ms: int = 0) -> Block:
        """Beta accepts alpha's claim."""
        until_ms = until_ms or self.now_ms + 10_000
        record = Accept(claim_id=claim_id, accept_until_ms=until_ms)
        block = self.say(self.beta, record, knows=[self.newest()])
        self.hear(block)
        return block

    def run_at_beta(
        self, claim_id: ClaimId, outcome: Outcome, *, result: bytes = bytes(32)
    ) -> Block:
        """Beta starts alpha's claim and, a second later, ends it."""
        name = f"native-{claim_id.seq_num}"
        self.hear(self.say(self.beta, Start(claim_id=claim_id, native_name=name)))
        self.wait(1_000)
        end = End(
            claim_id=claim_id,
            outcome=int(outcome),
            started_ms=self.now_ms - 1_000,
            ended_ms=self.now_ms,
            core_s=4,
            result_digest=result,
            result_bytes=10 if any(result) else 0,
        )
        block = self.say(self.beta, end)
        self.hear(block)
        return block
