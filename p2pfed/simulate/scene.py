"""What a simulated federation is made of: time, chance, centres, their disks and native jobs."""

from __future__ import annotations

import hashlib
import heapq
from collections.abc import Callable
from dataclasses import dataclass, field
from random import Random

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.ids import CentreName, ClaimId, JobId, PublicKey
from p2pfed.core.records import Offer
from p2pfed.errors import P2pfedError
from p2pfed.node.effects import Effect
from p2pfed.node.events import Event, TransferId
from p2pfed.node.node import Node
from p2pfed.simulate.disk import Disk
from p2pfed.simulate.natives import Run

START_MS = 1_700_000_000_000
MIDNIGHT_MS = 1_700_006_400_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Faults:
    """How unkind the world is. Rates are per mille, times in milliseconds.

    Attributes:
        loss_per_mille: packets lost; each costs the message, and all behind it, a retransmission.
        bytes_per_ms: what a link carries; 0 is no limit.
        queue_ms: how long batch systems let a job wait before it begins.
        lie_per_mille: how often a batch system says something untrue of a job that ended.
    """

    delay_ms: tuple[int, int] = (1, 40)
    loss_per_mille: int = 0
    bytes_per_ms: int = 0
    crash_per_mille: int = 0
    cut_per_mille: int = 0
    down_ms: tuple[int, int] = (200, 8_000)
    clock_offset_ms: int = 0
    queue_ms: tuple[int, int] = (0, 500)
    lie_per_mille: int = 0


@dataclass(slots=True)
class Centre:
    """One simulated centre.

    Attributes:
        granted: what its administrator offered, by the node's answer to the offer.
        held_up: effects that wait for a disk which takes no writes, and events behind them.
        kind: what its daemon runs; a dishonest centre's is changed.
        honest: False for one that does what its owner likes.
        clock_told_wrong: somebody set its clock wrong while its daemon ran, which saw that.
        drift_ppm: how fast its clock runs away from the world's.
    """

    name: CentreName
    key: Ed25519PrivateKey
    public_key: PublicKey
    clock_offset_ms: int
    disk: Disk = field(default_factory=Disk)
    node: Node | None = None
    life: int = 0
    wake_ms: int = -1
    trusted: dict[CentreName, PublicKey] = field(default_factory=dict)
    fetches: dict[ClaimId, TransferId] = field(default_factory=dict)
    replies: dict[int, str | P2pfedError] = field(default_factory=dict)
    granted: dict[int, Offer] = field(default_factory=dict)
    held_up: list[Effect] = field(default_factory=list)
    held_events: list[Event] = field(default_factory=list)
    honest: bool = True
    clock_told_wrong: bool = False
    kind: type[Node] = Node
    drift_ppm: int = 0
    drift_since_ms: int = START_MS

    @property
    def up(self) -> bool:
        """True if the daemon runs and may write."""
        return self.node is not None and self.node.recovery.ready


class Scene:
    """Time and chance of one world, its centres, and what all its parts need of each other.

    Args:
        seed: everything random follows from it.
        faults: how unkind the world is; may be exchanged while it runs.
    """

    def __init__(self, seed: int, faults: Faults) -> None:
        self.seed = seed
        self.rng = Random(seed)
        self.faults = faults
        self.now_ms = self.start_ms = START_MS
        self.centres: dict[CentreName, Centre] = {}
        self.runs: dict[JobId, list[Run]] = {}
        self.trace = hashlib.sha256()
        self.listener: Callable[[str], None] | None = None
        self.deliver: Callable[[CentreName, tuple[Event, ...]], None] = _nobody
        self._queue: list[tuple[int, int, Callable[[], None]]] = []
        self._count = 0
        self._ids = 0

    def begin_at(self, now_ms: int) -> None:
        """Sets the world's clock, before anything happens."""
        self.now_ms = self.start_ms = now_ms

    def at(self, when_ms: int, action: Callable[[], None]) -> None:
        """Does something at a time of the world's clock."""
        self._count += 1
        heapq.heappush(self._queue, (max(when_ms, self.now_ms), self._count, action))

    def soon(self, action: Callable[[], None]) -> None:
        """Does something after a random delay of the network."""
        self.at(self.now_ms + self.delay_ms(), action)

    def delay_ms(self) -> int:
        """A delay of the network."""
        return self.rng.randint(*self.faults.delay_ms)

    def happens(self, per_mille: int) -> bool:
        """True as often as that."""
        return self.rng.randrange(1000) < per_mille

    def step(self, end_ms: int) -> bool:
        """Does what comes next, if it comes by then; False if nothing does."""
        if not self._queue or self._queue[0][0] > end_ms:
            self.now_ms = end_ms
            return False
        self.now_ms, _, action = heapq.heappop(self._queue)
        action()
        return True

    def hold(self, condition: bool, what: str) -> None:
        """Breaks the run unless the condition holds; the text says what is broken."""
        if not condition:
            raise AssertionError(f"seed {self.seed} at {self.now_ms - self.start_ms} ms: {what}")

    def honest(self) -> list[Centre]:
        """The centres that keep to the rules, by name."""
        return [centre for _, centre in sorted(self.centres.items()) if centre.honest]

    def new_id(self) -> int:
        """A number that was not used before."""
        self._ids += 1
        return self._ids

    def clock(self, centre: Centre) -> int:
        """What the centre's clock shows."""
        return self.now_ms + self.offset_ms(centre)

    def offset_ms(self, centre: Centre) -> int:
        """How far the centre's clock is ahead of the world's."""
        drifted = (self.now_ms - centre.drift_since_ms) * centre.drift_ppm // 1_000_000
        return centre.clock_offset_ms + drifted

    def log(self, *words: object) -> None:
        """Adds a line to the trace, whose hash tells whether two runs were the same."""
        line = f"{(self.now_ms - self.start_ms) / 1000:8.3f} {' '.join(map(str, words))}"
        self.trace.update(f"{line}\n".encode())
        if self.listener is not None:
            self.listener(line)

    def tell(self, name: CentreName, *events: Event) -> None:
        """Hands events to a node; one that is down never hears of them."""
        if self.centres[name].node is not None:
            self.deliver(name, events)

    def later(self, centre: Centre, event: Event) -> None:
        """Tells this life of a centre something after a delay."""
        life = centre.life

        def arrive() -> None:
            if centre.life == life:
                self.tell(centre.name, event)

        self.soon(arrive)


def _nobody(name: CentreName, events: tuple[Event, ...]) -> None:
    raise AssertionError(f"{name} is told {events} in a world without nodes")
