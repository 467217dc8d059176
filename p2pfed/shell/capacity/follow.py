"""Watches the batch system, and opens, resizes and closes the offers that follow it.

Each look asks the batch system, plans (`plan`), holds the plan still (`steady`), and writes what
differs from the offers that are open. What people order wins: while the centre takes no guests,
offers are left as that order made them, and an offer closed by hand stays closed. If the batch
system has not answered for a while, nothing is known of what is idle, and the offers are closed.

Guests that can be preempted are sent away when a local job waits for their nodes
(`evict`): at once if the batch system never takes nodes back itself, else only when it had its
chance and did not.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

import trio

from p2pfed.core.entries import OfferEntry
from p2pfed.core.ids import OfferId
from p2pfed.core.records import Offer
from p2pfed.errors import ExecutorError, P2pfedError
from p2pfed.execute.observation import Observation
from p2pfed.node.events import CloseOffer, OpenOffer, ResizeOffer
from p2pfed.shell.brain import Brain, wall_ms
from p2pfed.shell.capacity.books import evictable, own_offers, read_books
from p2pfed.shell.capacity.evict import to_evict
from p2pfed.shell.capacity.plan import Books, Part, Site, part_names, plan
from p2pfed.shell.capacity.reasons import why_nothing
from p2pfed.shell.capacity.steady import Looks, Size, steady
from p2pfed.shell.config import CentreConfig
from p2pfed.shell.natives import Natives
from p2pfed.shell.sections import OfferTemplate

log = logging.getLogger("p2pfed.capacity")

LOOK_S_MAX: Final = 10.0
"""Between two looks at most."""
EVICT_LOOK_S: Final = 2.0
"""Between two looks while guests run that the daemon itself must send away."""
HOLD_ROUNDS: Final = 3
"""Rounds for which capacity must have been there before it is offered."""
SILENT_ROUNDS: Final = 6
"""Rounds without an answer of the batch system after which offers are closed."""
PATIENCE_S: Final = 15
"""What a batch system that takes nodes back itself is given to do it."""
TRY_S: Final = 60.0
"""Between two questions when a job of an offer's size would begin."""
SOON_S: Final = 120
"""A job that would begin later than that would not begin now."""


class Follower:
    """Keeps the offers of one daemon in step with its batch system.

    Args:
        brain: runs the node.
        natives: talks to the batch system.
        config: the configuration as it was last read.
        finish: what our people's orders make of an offer's terms.
    """

    def __init__(
        self,
        brain: Brain,
        natives: Natives,
        *,
        config: Callable[[], CentreConfig],
        finish: Callable[[Offer], Offer],
    ) -> None:
        self._brain = brain
        self._node = brain.node
        self._natives = natives
        self._config = config
        self._finish = finish
        self._looks: dict[str, Looks] = {}
        self._names: set[str] = set()
        self._limits_s: dict[str, int] = {}
        self._tried_at: dict[str, float] = {}
        self._leaving: dict[str, int] = {}
        self._wished_at: dict[str, float] = {}
        self._planned: tuple[Part, ...] = ()
        self._waiting = 0
        self._answered_ms = 0
        self._problem = ""
        self._poke = trio.Event()
        self._looked = trio.Event()

    @property
    def warnings(self) -> list[str]:
        """What keeps offers from following, for people."""
        found = [self._problem] if self._problem else []
        following = {template.name for template in self._config().offers if template.follow}
        held = sorted(following & self._node.offers.closed_by_hand)
        found += [f"offer {name} was closed by hand: p2pfed offer open {name}" for name in held]
        return found

    def why_nothing(self, template: OfferTemplate) -> str:
        """Why a template offers nothing right now, for people; empty if it does."""
        node, names = self._node, part_names(template)
        opened = [o for o in own_offers(node) if not o.closed and o.terms.name in names]
        reasons = (
            (any(offer.nodes for offer in opened), ""),
            (not node.recovery.ready, "the daemon may not write yet"),
            (not node.control.open, f"the centre is {node.control.mode.value}: p2pfed resume"),
            (node.host.policy.paused, "paused = true in centre.toml"),
            (not template.follow, f"it is closed: p2pfed offer open {template.name}"),
            (
                template.name in node.offers.closed_by_hand,
                f"it was closed by hand: p2pfed offer open {template.name}",
            ),
            (bool(self._problem), self._problem),
        )
        for holds, why in reasons:
            if holds:
                return why
        return why_nothing(template, self._planned, self._waiting, wall_ms(), self._site())

    def look_soon(self) -> None:
        """Something changed that a plan depends on."""
        self._poke.set()

    async def run(self) -> None:
        """Looks until cancelled."""
        await self._brain.ready.wait()
        self._answered_ms = wall_ms()
        while True:
            pause_s = await self._look()
            self._looked.set()
            self._looked = trio.Event()
            with trio.move_on_after(pause_s):
                await self._poke.wait()
            self._poke = trio.Event()

    async def _look(self) -> float:
        """Looks once; returns the pause until the next look."""
        templates = [template for template in self._config().offers if template.follow]
        self._names |= {name for template in templates for name in part_names(template)}
        if not self._names:
            return float("inf")
        round_ms = self._node.ledger.rules.round_ms
        pause_s = min(LOOK_S_MAX, max(1.0, round_ms / 1000))
        seen = await self._observe(SILENT_ROUNDS * round_ms)
        if not self._node.control.open or not self._node.recovery.ready:
            return pause_s
        try:
            await self._follow(templates, seen, round_ms)
            if seen is not None and await self._make_room(seen):
                pause_s = min(pause_s, EVICT_LOOK_S)
        except P2pfedError as error:
            log.warning("offers can't follow the batch system now: %s", error)
        return pause_s

    async def _observe(self, silent_ms: int) -> Observation | None:
        """What the batch system shows; the last look's problem is a warning until it answers."""
        try:
            seen = await self._natives.observe()
        except ExecutorError as error:
            if not self._problem:
                log.warning("%s", error)
            silent_s = (wall_ms() - self._answered_ms) // 1000
            self._problem = f"the batch system does not answer since {silent_s} s: {error.what}"
            return None
        self._answered_ms, self._problem = wall_ms(), ""
        return seen

    # Offers

    async def _follow(
        self, templates: Sequence[OfferTemplate], seen: Observation | None, round_ms: int
    ) -> None:
        offers = self._open_parts()
        if seen is None:
            if wall_ms() - self._answered_ms > SILENT_ROUNDS * round_ms:
                self._looks.clear()
                await self._close(list(offers.values()), "the batch system does not answer")
            return
        site = self._site()
        by_name = self._by_name()
        ids = {offer.offer_id: name for name, offer in offers.items()}
        books = read_books(self._node, ids, by_name, site, self._limits_s)
        paused = self._node.host.policy.paused
        closed = self._node.offers.closed_by_hand
        wanted = [t for t in templates if t.name not in closed and not paused]
        planned = self._planned = plan(wanted, seen, books, wall_ms(), site)
        self._waiting = len(seen.wishes)
        sizes = {n: Size(o.nodes, o.walltime_max_s, o.until_ms) for n, o in offers.items()}
        hold_ms = HOLD_ROUNDS * round_ms
        self._looks, parts = steady(self._looks, planned, sizes, wall_ms(), hold_ms)
        await self._apply(parts, offers)
        await self._try_walltimes([part for part in planned if _has_room(part, books)])

    def _by_name(self) -> dict[str, OfferTemplate]:
        """The templates by the names that their offers may have."""
        return {name: t for t in self._config().offers for name in part_names(t)}

    def _open_parts(self) -> dict[str, OfferEntry]:
        """The open offers that are ours to change, by name; of two of one name the older."""
        found: dict[str, OfferEntry] = {}
        for offer in own_offers(self._node):
            if not offer.closed and offer.terms.name in self._names:
                found.setdefault(offer.terms.name, offer)
        return found

    def _site(self) -> Site:
        config, rules = self._config(), self._node.ledger.rules
        slurm = config.executor.kind == "slurm"
        return Site(
            queue=config.slurm.partition if slurm else "",
            gpu_gres=config.slurm.gpu_gres if slurm else "gpu",
            cores_max=config.executor.nodes * config.executor.cores_per_node,
            overhead_ms=rules.claim_wait_ms + rules.kill_grace_ms,
        )

    async def _apply(self, parts: Sequence[Part], offers: dict[str, OfferEntry]) -> None:
        """Writes what differs; what takes capacity away comes first."""
        names = {part.name for part in parts}
        await self._close([o for n, o in offers.items() if n not in names], "nothing to offer now")
        grows: list[tuple[Part, OfferEntry | None]] = []
        for part in parts:
            offer = offers.get(part.name)
            if offer is not None and not self._is_of(offer, part):
                await self._close([offer], "its terms in centre.toml changed")
                offer = None
            if offer is not None and part.nodes <= offer.nodes:
                await self._resize(part, offer)
            else:
                grows.append((part, offer))
        for part, offer in grows:
            if offer is not None:
                await self._resize(part, offer)
            elif part.nodes:
                await self._open(part)

    def _is_of(self, offer: OfferEntry, part: Part) -> bool:
        """True if nothing but the offer's size differs from what its template says now."""
        was = replace(offer.terms, nodes=1, walltime_max_s=1, until_ms=0)
        return was == replace(self._terms(part), nodes=1, walltime_max_s=1, until_ms=0)

    def _terms(self, part: Part) -> Offer:
        rules = self._node.ledger.rules
        offer = part.template.offer(min_balance=rules.min_balance, until_ms=part.until_ms)
        offer = replace(
            offer,
            name=part.name,
            nodes=max(1, part.nodes),
            walltime_max_s=part.walltime_max_s,
        )
        return self._finish(offer)

    async def _open(self, part: Part) -> None:
        terms = self._terms(part)
        offer_id = await self._brain.ask(lambda n: OpenOffer(request=n, offer=terms))
        log.info("offer %s opens as %s, %d nodes: %s", part.name, offer_id, part.nodes, part.why)

    async def _resize(self, part: Part, offer: OfferEntry) -> None:
        size = part.nodes, part.walltime_max_s, part.until_ms
        if size == (offer.nodes, offer.walltime_max_s, offer.until_ms):
            return
        nodes, walltime_max_s, until_ms = size
        log.info("offer %s has %d nodes now, not %d: %s", part.name, nodes, offer.nodes, part.why)
        await self._brain.ask(
            lambda n: ResizeOffer(
                request=n,
                offer_id=offer.offer_id,
                nodes=nodes,
                walltime_max_s=walltime_max_s,
                until_ms=until_ms,
            )
        )

    async def _close(self, offers: Sequence[OfferEntry], reason: str) -> None:
        for offer in offers:
            log.info("offer %s closes: %s", offer.terms.name, reason)
            offer_id = OfferId(offer.offer_id)
            await self._brain.ask(
                lambda n: CloseOffer(request=n, offer_id=offer_id, reason=reason)  # noqa: B023
            )

    async def _try_walltimes(self, parts: Sequence[Part]) -> None:
        """Asks whether a job of one node and of the longest walltime would begin now.

        If it would not and a shorter one would, there is a reservation or a job in its way that
        leaves only the shorter time: found by halving, offered from the next look on. If none
        would, something has just begun, and the next look shows it.
        """
        now = trio.current_time()
        for part in parts:
            if now < self._tried_at.get(part.name, -TRY_S) + TRY_S:
                continue
            self._tried_at[part.name] = now
            self._limits_s.pop(part.name, None)
            longest_s = min(part.template.walltime_max_s, _left_s(part))
            walltime_s = longest_s
            while walltime_s >= part.template.walltime_min_s:
                start_s = await self._natives.expected_start_s(
                    queue=part.template.partition,
                    nodes=1,
                    cores_per_node=part.template.cores_per_node,
                    walltime_s=walltime_s,
                )
                if start_s is not None and start_s <= wall_ms() // 1000 + SOON_S:
                    break
                walltime_s //= 2
            if part.template.walltime_min_s <= walltime_s < longest_s:
                self._limits_s[part.name] = walltime_s

    async def next_open(self, template: OfferTemplate) -> OfferEntry:
        """An open offer of the template, as soon as there is one."""
        while True:
            offers = self._open_parts()
            found = [offers[name] for name in part_names(template) if name in offers]
            if found:
                return found[0]
            await self._looked.wait()

    # Local jobs first

    async def _make_room(self, seen: Observation) -> bool:
        """Sends guests away for local jobs; True if some are here that could be."""
        gpu_gres = self._site().gpu_gres
        guests = evictable(self._node, self._leaving, self._by_name(), gpu_gres)
        self._leaving = {n: at for n, at in self._leaving.items() if n in guests}
        now = trio.current_time()
        waiting = {wish.job_id for wish in seen.wishes}
        self._wished_at = {j: at for j, at in self._wished_at.items() if j in waiting}
        for job_id in waiting:
            self._wished_at.setdefault(job_id, now)
        patience_s = PATIENCE_S if seen.takes_back else 0
        due = [w for w in seen.wishes if self._wished_at[w.job_id] + patience_s <= now]
        going = to_evict(replace(seen, wishes=tuple(due)), [guest for guest, _ in guests.values()])
        for name in going:
            notice_s = guests[name][1]
            log.info("%s goes for a local job, %d s from now", name, notice_s)
            if await self._natives.evict(name, notice_s):
                self._leaving[name] = wall_ms()
        return bool(guests) and not seen.takes_back


def _has_room(part: Part, books: Books) -> bool:
    """True if a whole node of the part is free."""
    cores = sum(h.nodes * h.shape.cores for h in books.held if h.part == part.name)
    return (part.nodes - 1) * part.template.cores_per_node >= cores


def _left_s(part: Part) -> int:
    """The walltime that an offer's end leaves."""
    return (part.until_ms - wall_ms()) // 1000 if part.until_ms else part.template.walltime_max_s
