"""The offers of a round, indexed so that "which fit this job?" is a few operations on integers.

Theory of operation. Offers are numbered in the order of their ids, and a set of offers is one
integer, bit i for offer i. For every condition a job can meet there is such a *mask*: one per
feature, class or host name; and for every amount a job can need a ladder of masks, "offers with at
least x". The offers that fit a job are the AND of a dozen masks, whatever their number.

Conditions and per-node shapes hold for the whole round, so their ladders stand on the values that
occur. Free amounts go down as jobs are placed: their ladders stand on fixed steps (up to 16 exact,
then four per power of two), so a placement moves one bit on few steps and what remains in the mask
is checked exactly. Candidates are tried in the order of what they have free, least first: since a
job takes the same amount wherever it goes, least free is least left over.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right, insort
from collections.abc import Iterable, Iterator, Sequence
from hashlib import sha256
from itertools import accumulate
from operator import or_
from typing import Final

from p2pfed.core.ids import CentreName, JobId, Position
from p2pfed.core.matching_books import Books
from p2pfed.core.matching_fit import Amount, OfferState, end_ms
from p2pfed.core.queue import Corner, Kind, Shape
from p2pfed.core.rules import Rules

_STEPS: Final = (
    *range(17),
    *(quarter << shift for shift in range(2, 60) for quarter in (5, 6, 7, 8)),
)
_FEW: Final = 8
"""Up to so many candidates are compared one by one instead of walking the ordered list."""

_NEVER: Final = 1 << 64
"""The window of an offer that is open until closed."""

Conditions = tuple[object, ...]


def tie_hash(round_number: int, position: Position) -> int:
    """64 bits that nobody could choose: of SHA-256 over the round and a job's or offer's id."""
    text = f"{round_number} {position.centre} {position.epoch} {position.seq_num}"
    digest = sha256(f"{text} {position.record_index}".encode()).digest()
    return int.from_bytes(digest[:8])


def bits_of(mask: int) -> Iterator[int]:
    """The numbers of the set bits, ascending."""
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


class _Ladder:
    """Masks of the offers with at least x, for amounts that don't change in a round."""

    __slots__ = ("_masks", "_values")

    def __init__(self, values: list[int]) -> None:
        self._values = sorted(set(values))
        by_value = dict.fromkeys(self._values, 0)
        for number, value in enumerate(values):
            by_value[value] |= 1 << number
        masks, mask = [0], 0
        for value in reversed(self._values):
            mask |= by_value[value]
            masks.append(mask)
        self._masks = masks[::-1]

    def at_least(self, value: int) -> int:
        return self._masks[bisect_left(self._values, value)]


class _FallingLadder:
    """Masks of the offers with at least x, a superset between steps; values only go down."""

    __slots__ = ("_masks",)

    def __init__(self, values: list[int]) -> None:
        self._masks = [0] * len(_STEPS)
        for number, value in enumerate(values):
            steps = bisect_right(_STEPS, value)
            if steps:
                self._masks[steps - 1] |= 1 << number
        self._masks = list(accumulate(reversed(self._masks), or_))[::-1]

    def at_least(self, value: int) -> int:
        return self._masks[bisect_right(_STEPS, value) - 1]

    def lower(self, before: int, after: int, bit: int) -> None:
        for step in range(bisect_right(_STEPS, after), bisect_right(_STEPS, before)):
            self._masks[step] ^= bit


class OfferIndex:
    """The offers of a round whose hosts are alive.

    Args:
        offers: the open offers, in any order.
        round_number: enters the choice among equals.
        cut_ms: windows are reckoned from it.
        rules: for times and for `reserve_depth`.
    """

    def __init__(
        self, offers: Iterable[OfferState], round_number: int, cut_ms: int, rules: Rules
    ) -> None:
        self.offers = sorted(offers, key=lambda offer: offer.offer_id)
        self.books = [Books(offer) for offer in self.offers]
        self._round = round_number
        self._cut_ms = cut_ms
        self._rules = rules
        self._bits = [1 << number for number in range(len(self.offers))]
        self._every = (1 << len(self.offers)) - 1
        self._hashes = [tie_hash(round_number, offer.offer_id) for offer in self.offers]
        self._number = {offer.offer_id: number for number, offer in enumerate(self.offers)}
        self._conditions: dict[Conditions, int] = {}
        self._with_capacity: dict[Corner, int] = {}
        self._index_conditions()
        self._index_amounts()

    def _index_conditions(self) -> None:
        """Masks by name: of those who name it, and of those who name nothing (and take all)."""
        self._of_host: dict[str, int] = {}
        self._of_resource: dict[str, int] = {}
        self._of_feature: dict[str, int] = {}
        self._denying: dict[str, int] = {}
        self._allowing: dict[str, int] = {}
        self._of_class: dict[str, int] = {}
        self._of_data_class: dict[str, int] = {}
        self._allowing_all = self._all_classes = self._all_data_classes = self._capped = 0
        self._preemptible = 0
        for bit, offer in zip(self._bits, self.offers, strict=True):
            terms = offer.terms
            _mark(self._of_host, (offer.offer_id.centre,), bit)
            _mark(self._of_resource, (terms.resource_class,), bit)
            _mark(self._of_feature, terms.features, bit)
            _mark(self._denying, terms.deny, bit)
            _mark(self._allowing, terms.allow, bit)
            _mark(self._of_class, terms.classes, bit)
            _mark(self._of_data_class, terms.data_classes, bit)
            self._allowing_all |= 0 if terms.allow else bit
            self._all_classes |= 0 if terms.classes else bit
            self._all_data_classes |= 0 if terms.data_classes else bit
            self._capped |= bit if terms.per_centre_cores else 0
            self._preemptible |= bit if terms.preemptible else 0

    def _index_amounts(self) -> None:
        offers, books = self.offers, self.books
        self._width = _Ladder([offer.nodes for offer in offers])
        self._cores_per_node = _Ladder([offer.terms.cores_per_node for offer in offers])
        self._gpus_per_node = _Ladder([offer.terms.gpus_per_node for offer in offers])
        self._memory_per_node = _Ladder([offer.terms.memory_mib_per_node for offer in offers])
        self._walltime = _Ladder([self._longest_s(offer) for offer in offers])
        self._min_balance = _Ladder([-offer.terms.min_balance for offer in offers])
        self._total_cores = _Ladder([o.nodes * o.terms.cores_per_node for o in offers])
        self._cores = _FallingLadder([book.cores for book in books])
        self._gpus = _FallingLadder([book.gpus for book in books])
        self._memory = _FallingLadder([book.memory_mib for book in books])
        self._tightest: dict[str, list[tuple[int, int, int, int]]] = {}
        self._first_ends: list[tuple[int, int]] = []
        self._reservable = 0
        for number, (offer, book) in enumerate(zip(offers, books, strict=True)):
            ordered = self._tightest.setdefault(offer.terms.resource_class, [])
            ordered.append((book.gpus, book.cores, book.memory_mib, number))
            if book.returns and self._rules.reserve_depth:
                self._reservable |= self._bits[number]
                self._first_ends.append((min(book.returns)[0], number))
        for ordered in self._tightest.values():
            ordered.sort()
        self._first_ends.sort()
        self._first_end = {number: ends_ms for ends_ms, number in self._first_ends}
        slack_ms = end_ms(0, 0, self._rules)
        self._last_end = [o.until_ms - slack_ms if o.until_ms else _NEVER for o in offers]

    def _longest_s(self, offer: OfferState) -> int:
        """The longest walltime that the offer takes at the cut."""
        if not offer.until_ms:
            return offer.walltime_max_s
        left_ms = offer.until_ms - end_ms(self._cut_ms, 0, self._rules)
        return min(offer.walltime_max_s, left_ms // 1_000)

    # Which offers may be asked

    def within_balance(self, balance: int) -> int:
        """The offers that a home of this balance (ppm) may use."""
        return self._min_balance.at_least(-balance)

    def admitting(self, shape: Shape, need: Amount, payable: int) -> int:
        """The offers in `payable` whose terms the shape meets; caps are looked at apart.

        0 also if none of them has `need` free or could keep a place for it: then a job of this
        shape gets nothing.
        """
        conditions = shape[:2] + shape[7:]
        mask = self._conditions.get(conditions)
        if mask is None:
            mask = self._conditions[conditions] = self._meeting(shape)
        mask &= payable
        free = self._cores.at_least(need[1]) & self._memory.at_least(need[3])
        if not mask & (free | self._reservable):
            return 0
        return (
            mask
            & self._width.at_least(shape.nodes)
            & self._cores_per_node.at_least(shape.cores_per_node)
            & self._gpus_per_node.at_least(shape.gpus_per_node)
            & self._memory_per_node.at_least(shape.memory_mib_per_node)
            & self._walltime.at_least(shape.walltime_s)
        )

    def _meeting(self, shape: Shape) -> int:
        mask = self._open_to(shape.home, shape.resource_class)
        mask &= self._taking(*shape.kind)
        if shape.allow:
            allowed = 0
            for host in shape.allow:
                allowed |= self._of_host.get(host, 0)
            mask &= allowed
        for host in shape.deny:
            mask &= ~self._of_host.get(host, 0)
        for offer_id in shape.declined:
            number = self._number.get(offer_id)
            if number is not None:
                mask &= ~self._bits[number]
        return mask & ~self._preemptible if shape.no_preempt else mask

    def _open_to(self, home: CentreName, resource_class: str) -> int:
        """The offers of the resource class that jobs of the home may use at all."""
        mask = self._of_resource.get(resource_class, 0) & ~self._of_host.get(home, 0)
        mask &= self._allowing_all | self._allowing.get(home, 0)
        return mask & ~self._denying.get(home, 0)

    def exhausted(
        self, home: CentreName, corner: Corner, payable: int, kind: Kind | None = None
    ) -> bool:
        """True if no job of the home that needs at least `corner` can be placed or reserved.

        With `kind`, no job of this kind; once true, it stays true for the rest of the round.
        """
        mask = self._with_capacity.get(corner)
        if mask is None:
            mask = self._with_capacity[corner] = self._left_for(corner)
        if not mask:
            return True
        key = (home, corner.resource_class)
        open_to = self._conditions.get(key)
        if open_to is None:
            open_to = self._conditions[key] = self._open_to(*key)
        mask &= open_to & payable
        if kind is None or not mask:
            return not mask
        taking = self._conditions.get(kind)
        if taking is None:
            taking = self._conditions[kind] = self._taking(*kind)
        return not mask & taking

    def _taking(self, features: Sequence[str], work_class: str, data_class: str) -> int:
        """The offers that take jobs of the kind, whoever's they are."""
        mask = self._all_classes | self._of_class.get(work_class, 0)
        mask &= self._all_data_classes | self._of_data_class.get(data_class, 0)
        for feature in features:
            mask &= self._of_feature.get(feature, 0)
        return mask

    def _left_for(self, corner: Corner) -> int:
        """The offers that have what `corner` needs free now, or could keep a place for it."""
        free = self._cores.at_least(corner.cores) & self._gpus.at_least(corner.gpus)
        free &= self._memory.at_least(corner.memory_mib)
        free |= self._reservable & self._total_cores.at_least(corner.cores)
        return free & self._walltime.at_least(corner.walltime_s)

    def of_hosts(self, hosts: Iterable[CentreName]) -> int:
        """The mask of all offers of these hosts."""
        mask = 0
        for host in hosts:
            mask |= self._of_host.get(host, 0)
        return mask

    # Placing

    def choose(self, shape: Shape, need: Amount, ends_ms: int, mask: int, job: JobId) -> int | None:
        """The number of the offer in `mask` that fits best now, None if none does.

        Best is the least left over: GPUs first, then cores, then memory; then the least
        `tie_hash(job) XOR tie_hash(offer)`; then the least offer id.
        """
        _, cores, gpus, memory_mib = need
        mask &= self._cores.at_least(cores) & self._memory.at_least(memory_mib)
        if gpus:
            mask &= self._gpus.at_least(gpus)
        if not mask:
            return None
        ordered = self._tightest[shape.resource_class]
        if mask.bit_count() <= _FEW:
            books = self.books
            candidates: Iterable[tuple[int, int, int, int]] = sorted(
                (books[n].gpus, books[n].cores, books[n].memory_mib, n) for n in bits_of(mask)
            )
        else:
            candidates = ordered[bisect_left(ordered, (gpus, cores, memory_mib, -1)) :]
        best: tuple[int, int, int, int] | None = None
        equals: list[int] = []
        bits = self._bits
        for candidate in candidates:
            number = candidate[3]
            if not bits[number] & mask:
                continue
            if best is not None and candidate[:3] != best[:3]:
                break
            if self._takes(number, shape, need, ends_ms):
                best = candidate
                equals.append(number)
        if len(equals) <= 1:
            return equals[0] if equals else None
        own, hashes = tie_hash(self._round, job), self._hashes
        return min(equals, key=lambda number: (own ^ hashes[number], number))

    def _takes(self, number: int, shape: Shape, need: Amount, ends_ms: int) -> bool:
        book = self.books[number]
        if need[1] > book.cores or need[3] > book.memory_mib or need[2] > book.gpus:
            return False
        if self._capped and self._over_cap(number, shape, need[1]):
            return False
        return not book.reserved or book.passes(need, ends_ms)

    def _over_cap(self, number: int, shape: Shape, cores: int) -> bool:
        cap = self.offers[number].terms.per_centre_cores
        return bool(cap) and self.books[number].held_cores.get(shape.home, 0) + cores > cap

    def place(self, number: int, home: CentreName, amount: Amount, ends_ms: int) -> None:
        """Takes a placed job's amount from the offer, until `ends_ms`."""
        self._with_capacity.clear()
        book, bit = self.books[number], self._bits[number]
        _, cores, gpus, memory_mib = book.free
        book.take(amount, ends_ms)
        if bit & self._capped:
            book.held_cores = {
                **book.held_cores,
                home: book.held_cores.get(home, 0) + amount.cores,
            }
        self._cores.lower(cores, book.cores, bit)
        self._memory.lower(memory_mib, book.memory_mib, bit)
        if amount.gpus:
            self._gpus.lower(gpus, book.gpus, bit)
        ordered = self._tightest[self.offers[number].terms.resource_class]
        del ordered[bisect_left(ordered, (gpus, cores, memory_mib, number))]
        if book.cores > 0:
            insort(ordered, (book.gpus, book.cores, book.memory_mib, number))
        self._note_return(number, ends_ms)

    def _note_return(self, number: int, ends_ms: int) -> None:
        """Keeps the list of first returns, which holds all offers that may be reserved."""
        if len(self.books[number].reserved) >= self._rules.reserve_depth:
            return
        known = self._first_end.get(number)
        if known is not None:
            if ends_ms >= known:
                return
            del self._first_ends[bisect_left(self._first_ends, (known, number))]
        self._first_end[number] = ends_ms
        insort(self._first_ends, (ends_ms, number))
        self._reservable |= self._bits[number]

    # Reserving

    def reserve(self, shape: Shape, need: Amount, mask: int, job: JobId) -> int | None:
        """Keeps a place for the job where it can start first, and returns the offer's number.

        Only offers in `mask` that hold fewer than `reserve_depth` reservations, where the job is
        within the cap and would end within the window if it starts then. Ties go to the least
        offer id. None if there is no such offer.
        """
        mask &= self._reservable
        if not mask:
            return None
        bits, books, last_end = self._bits, self.books, self._last_end
        run_ms = shape.walltime_s * 1_000
        best: tuple[int, int] | None = None
        for first_ms, number in self._by_first_end(mask):
            if best is not None and first_ms > best[0]:
                break
            if not bits[number] & mask or first_ms + run_ms > last_end[number]:
                continue
            if self._capped and self._over_cap(number, shape, need[1]):
                continue
            starts_ms = books[number].start_of(need)
            if starts_ms is None or starts_ms + run_ms > last_end[number]:
                continue
            if best is None or (starts_ms, number) < best:
                best = starts_ms, number
        if best is None:
            return None
        starts_ms, number = best
        book = self.books[number]
        self._with_capacity.clear()
        book.reserve(job, starts_ms, need)
        if len(book.reserved) >= self._rules.reserve_depth:
            self._reservable &= ~self._bits[number]
            ends_ms = self._first_end.pop(number)
            del self._first_ends[bisect_left(self._first_ends, (ends_ms, number))]
        return number

    def _by_first_end(self, mask: int) -> Iterable[tuple[int, int]]:
        """At least the reservable offers in `mask`, in the order of their first return."""
        if mask.bit_count() > _FEW:
            return self._first_ends
        return sorted((self._first_end[number], number) for number in bits_of(mask))


def _mark(masks: dict[str, int], names: Iterable[str], bit: int) -> None:
    for name in names:
        masks[name] = masks.get(name, 0) | bit
