"""The search: breadth first, so that what is broken is told by the shortest way to it.

After the search every situation that was reached is *healed*: no more faults, everything hears of
everything, times run out. Then every job of a living home must come to its end, and no living host
may hold room for anybody. So a rule that keeps capacity or a job from being held for ever shows,
too, when it is left out.
"""

from __future__ import annotations

from collections.abc import Container, Iterator
from dataclasses import dataclass
from itertools import islice

from p2pfed.simulate.model.moves import Move, Moves
from p2pfed.simulate.model.situation import STEP_MS, Faults, Setting, Situation, Way

HEAL_STEPS = 40
"""Seconds within which a healed federation comes to rest."""

HEAL_CLAIMS = 8
"""Claims that a home may write in all, then, one a second."""


@dataclass(frozen=True, slots=True)
class Found:
    """What a search found.

    Attributes:
        breach: what is broken, empty if nothing is.
        story: how it came to that, one thing after another.
        situations: how many were examined.
        calls: how often a real node was called for it.
        complete: True if nothing was left to examine.
    """

    breach: str
    story: tuple[str, ...]
    situations: int
    calls: int
    complete: bool

    def tell(self) -> str:
        """The finding in words."""
        if not self.breach:
            whole = "every" if self.complete else "no more than the first"
            return f"nothing is broken in {whole} {self.situations} situations"
        steps = "\n".join(f"{i:3}. {words}" for i, words in enumerate(self.story, 1))
        return f"{self.breach}, after {len(self.story)} steps:\n{steps}"


class Search:
    """Examines a setting."""

    def __init__(
        self, setting: Setting, *, situations_max: int = 10**9, heal_every: int = 1
    ) -> None:
        """Takes bounds for a quick look: how many situations, and which part of them is healed."""
        self._moves = Moves(setting)
        self._max = situations_max
        self._heal_every = heal_every
        self._from: dict[Situation, tuple[Situation, str] | None] = {}
        self._healthy: set[Situation] = set()

    def run(self) -> Found:
        """Searches until something is broken, or nothing is left."""
        start = self._moves.start()
        self._from[start] = None
        frontier = [start]
        while frontier and len(self._from) < self._max:
            reached: list[Situation] = []
            for now in frontier:
                for move in self._moves.of(now):
                    if move.after in self._from:
                        continue
                    self._from[move.after] = now, move.words
                    breach = move.breach or self._moves.laws.breach(move.after)
                    if breach:
                        return self._tell(breach, self._story(move.after))
                    reached.append(move.after)
            frontier = reached
        return self._heal_all(complete=not frontier)

    def _tell(self, breach: str, story: list[str], *, complete: bool = False) -> Found:
        calls = self._moves.centres.calls
        return Found(breach, tuple(story), len(self._from), calls, complete)

    def _story(self, reached: Situation) -> list[str]:
        words: list[str] = []
        came = self._from[reached]
        while came is not None:
            words.append(came[1])
            came = self._from[came[0]]
        return words[::-1]

    # Healing

    def _heal_all(self, *, complete: bool) -> Found:
        for reached in islice(self._from, 0, None, self._heal_every):
            breach, ways = self._heal(reached)
            if breach:
                return self._tell(breach, [*self._story(reached), "all faults end", *ways])
        return self._tell("", [], complete=complete)

    def _heal(self, reached: Situation) -> tuple[str, list[str]]:
        now = reached._replace(faults=Faults())
        seen: dict[Situation, None] = {}
        words: list[str] = []
        last = reached.step + HEAL_STEPS
        while now not in self._healthy:
            seen[now] = None
            move = self._next(now, seen)
            if move is None:
                if self._at_rest(now):
                    break
                if now.step >= last:
                    return self._unrest(now), words
                move = self._moves.tick(now)
            breach = move.breach or self._moves.laws.breach(move.after)
            words.append(move.words)
            if breach:
                return breach, words
            now = move.after
        self._healthy.update(seen)
        return "", []

    def _next(self, now: Situation, seen: Container[Situation]) -> Move | None:
        """What happens at once where nothing fails, but for going round in circles."""
        return next((move for move in self._prompt(now) if move.after not in seen), None)

    def _prompt(self, now: Situation) -> Iterator[Move]:
        moves = self._moves
        alive = [who for who, dead in enumerate(now.dead) if not dead]
        for who in alive:
            facts = moves.facts(now, who)
            if not facts.up:
                yield from moves.boot(now, who)
                continue
            yield from moves.mend(now, who)
            for other in alive:
                if other != who and moves.facts(now, other).up:
                    yield from moves.hear(now, who, other, facts)
        for fetch in now.fetches:
            if not (now.dead[moves.laws.home_of(fetch.claim_id)] and fetch.way is not Way.COMES):
                yield from moves.transfer(now, fetch)
        for native in now.natives:
            yield from moves.settle(now, native)
        for who in alive:
            yield from moves.look(now, who)
            for claim_id in moves.facts(now, who).started:
                yield from moves.miss(now, who, claim_id)
        for who in alive:
            facts = moves.facts(now, who)
            if abs(moves.clock(now, who) - facts.claimed_ms) >= STEP_MS:
                yield from moves.claim(now, who, facts, limit=HEAL_CLAIMS)

    def _at_rest(self, now: Situation) -> bool:
        return not self._unrest(now)

    def _unrest(self, now: Situation) -> str:
        moves, homes = self._moves, self._moves.setting.homes
        hosts_live = any(moves.facts(now, who).ready for who in range(homes, len(now.dead)))
        for who, dead in enumerate(now.dead):
            facts, name = moves.facts(now, who), moves.names[who]
            if dead:
                continue
            if not facts.ready and moves.laws.may_be_whole(now, who):
                return f"{name} may not write, though everybody that lives answers"
            if who >= homes and facts.held:
                return f"{name} holds its room for ever"
            if not facts.ready:
                continue
            if who < homes and facts.bound:
                return f"a job of {name} is held for ever"
            if who < homes and not facts.done and hosts_live:
                return f"a job of {name} never comes to its end"
        return ""
