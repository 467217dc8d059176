"""Names and positions.

A record's identity is its *position*: the centre that wrote it, the epoch and `seq_num` of its
block, and its index in the block. A position can't be chosen freely (a hash could be ground until
it wins a tie), sorts, and tells at a glance who is accountable for it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import repeat
from typing import Any, Final, NamedTuple, NewType, cast

from p2pfed.errors import InputError

CentreName = NewType("CentreName", str)
"""`[a-z][a-z0-9-]{0,30}`: unique in a federation."""

BlockId = NewType("BlockId", bytes)
"""SHA-256 of a block's signed payload (32 bytes)."""

FederationId = NewType("FederationId", bytes)
"""SHA-256 of the charter's payload (32 bytes)."""

ViewDigest = NewType("ViewDigest", bytes)
"""SHA-256 over the frontier at a cut (32 bytes)."""

PublicKey = NewType("PublicKey", bytes)
"""A raw Ed25519 public key (32 bytes), canonical and not of small order."""

CENTRE_NAME = re.compile(r"[a-z][a-z0-9-]{0,30}\Z")


# Positions are made by the million; this skips the Python of a NamedTuple's own constructor.
_new_tuple = cast(Callable[[type[Any], Sequence[Any]], Any], tuple.__new__)


class FeedKey(NamedTuple):
    """One append-only chain: a centre has one for each of its epochs."""

    centre: CentreName
    epoch: int


class Head(NamedTuple):
    """The newest block of a feed that someone holds."""

    seq_num: int
    block_id: BlockId


class Position(NamedTuple):
    """Where a record stands: sorts by centre, then in the order its author wrote."""

    centre: CentreName
    epoch: int
    seq_num: int
    record_index: int

    @classmethod
    def run(cls, centre: CentreName, epoch: int, seq_num: int, count: int) -> Iterator[Position]:
        """The positions of a block's first `count` records."""
        parts = zip(repeat(centre), repeat(epoch), repeat(seq_num), range(count), strict=False)
        return map(_new_tuple, repeat(cls), parts)

    @classmethod
    def each(cls, items: Iterable[Sequence[Any]]) -> Iterator[Position]:
        """The positions that lists of four checked items stand for."""
        return map(_new_tuple, repeat(cls), items)

    def __deepcopy__(self, memo: dict[int, object]) -> Position:
        """Itself: states are copied, and hold positions by the thousand."""
        return self

    def __str__(self) -> str:
        """`alpha.12.3` in epoch 0, `alpha.1.12.3` in epoch 1; on a lost branch `alpha~1f….12.3`."""
        branch, written = divmod(self.epoch, _BRANCH)
        epoch = f"{written}." if written else ""
        if branch:
            return f"{self.centre}~{branch:x}.{epoch}{self.seq_num}.{self.record_index}"
        return f"{self.centre}.{epoch}{self.seq_num}.{self.record_index}"


_BRANCH: Final = 1 << 20
"""Greater than any epoch on the wire: what lies above it in an id marks a branch."""
_BRANCH_MARK_BYTES: Final = 5


def on_branch(position: Position, block_id: BlockId) -> Position:
    """The id of a record on a branch that does not count, whose block has this id.

    It stands for the record within one node's state, is the same on every node, and can't be
    written into a record.
    """
    mark = (int.from_bytes(block_id[:_BRANCH_MARK_BYTES], "big") << 1) | 1
    return position._replace(epoch=mark * _BRANCH + position.epoch)


def is_on_branch(position: Position) -> bool:
    """Whether it is an id that `on_branch` gave."""
    return position.epoch >= _BRANCH


FIRST_LIVE: Final = 1 << 40
"""In a store that began with a checkpoint, blocks under it are numbered below this, others above.

So in the order of admission history stands first, though it came later.
"""


class Place(NamedTuple):
    """Where a stored block stands.

    Attributes:
        admission: its number in the order in which its holder admitted it.
        side: whether it stands beside its feed, on a branch that came second.
    """

    admission: int
    feed: FeedKey
    seq_num: int
    block_id: BlockId
    time: int
    side: bool


JobId = NewType("JobId", Position)
OfferId = NewType("OfferId", Position)
ClaimId = NewType("ClaimId", Position)

Frontier = dict[FeedKey, Head]


def parse_centre_name(text: str, *, where: str = "") -> CentreName:
    """The name if it has the agreed form.

    Raises:
        InputError: `centre-name`.
    """
    if not CENTRE_NAME.match(text):
        raise InputError(
            "centre-name",
            f"{text!r} is not a centre name",
            where=where,
            remedy="use a lower-case letter, then up to 30 lower-case letters, digits and hyphens",
        )
    return CentreName(text)


def parse_position(text: str) -> Position:
    """The position that `str(position)` printed.

    Raises:
        InputError: `position`.
    """
    parts = text.split(".")
    numbers = parts[1:]
    if (
        len(parts) in (3, 4)
        and CENTRE_NAME.match(parts[0])
        and all(re.match(r"(0|[1-9][0-9]{0,18})\Z", n) for n in numbers)
    ):
        values = [int(n) for n in numbers]
        if len(values) == 2:
            values.insert(0, 0)
        elif values[0] == 0:
            values = []
        if values:
            return Position(CentreName(parts[0]), *values)
    raise InputError(
        "position",
        f"{text!r} is not a job, offer or claim id",
        remedy="use the form that the listings print, such as alpha.12.0",
    )
