"""What the state of a federation holds beside its registers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple

from p2pfed.core.accounting import Usage
from p2pfed.core.ids import CentreName, ClaimId, FeedKey, JobId
from p2pfed.core.posting import Witness
from p2pfed.core.units import HlcTime


class Books(NamedTuple):
    """What a state holds beside its registers and does not follow from them.

    Attributes:
        heard: the time of each centre's newest block.
        rests: what idle amounts left over below one unit, by centre and resource class.
        classes: the work class that each job counts as.
        witnesses: what others' acks say of each of these jobs.
        posted: see `Shares.posted`.
        cells: see `Accounts.cells`.
        usages: those of claims that are not closed; they are part of the cells, too.
    """

    heard: Mapping[CentreName, HlcTime]
    rests: Mapping[tuple[CentreName, str], int]
    classes: Mapping[JobId, str]
    witnesses: Mapping[JobId, Witness]
    posted: list[tuple[FeedKey, int, int, list[tuple[str, int]]]]
    cells: list[tuple[CentreName, str, int, int, int, int]]
    usages: Mapping[ClaimId, Usage]
