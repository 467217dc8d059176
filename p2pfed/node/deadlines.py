"""When the node must look at something again, if nothing happens before."""

from __future__ import annotations

from heapq import heappop, heappush

from p2pfed.core.ids import ClaimId


class Deadlines:
    """Claims to be looked at, by time. A claim may stand here more than once: a look is cheap."""

    def __init__(self) -> None:
        self._heap: list[tuple[int, ClaimId]] = []
        self._set: set[tuple[int, ClaimId]] = set()

    def at(self, when_ms: int, claim_id: ClaimId) -> None:
        """Looks at the claim at `when_ms`, or at the first moment after."""
        entry = when_ms, claim_id
        if entry not in self._set:
            self._set.add(entry)
            heappush(self._heap, entry)

    def next_ms(self) -> int | None:
        """The earliest time that anything is due."""
        return self._heap[0][0] if self._heap else None

    def due(self, now_ms: int) -> list[ClaimId]:
        """Takes out the claims whose time has come, in order."""
        found: list[ClaimId] = []
        while self._heap and self._heap[0][0] <= now_ms:
            entry = heappop(self._heap)
            self._set.discard(entry)
            found.append(entry[1])
        return found
