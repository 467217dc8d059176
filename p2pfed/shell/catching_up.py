"""Taking up a cosigned checkpoint in place of the history: what `p2pfed catchup` does.

With the daemon stopped, the newest cosigned checkpoint is asked of one member after the other until
one gives it, checked with the charter (`p2pfed.core.bearings`), and laid where the daemon begins
with it at its next start. The order makes a crash harmless: first the database learns that new
blocks stand above what it holds, then the checkpoint is made durable.
"""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

import trio

from p2pfed.core.bearings import Bearings, check_bearings
from p2pfed.core.charter import Charter
from p2pfed.core.ids import CentreName
from p2pfed.core.limits import BEARINGS_BYTES_MAX, CHUNK_BYTES
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.shell.bearings_file import unpack_bearings
from p2pfed.shell.bulk_wire import AskBearings, BearingsCome, Done, Wire, expected
from p2pfed.shell.config import CentreConfig
from p2pfed.shell.connections import TRANSPORT_ERRORS, connect
from p2pfed.shell.tls import BULK_PROTOCOL, Tls
from p2pfed.store.database import Database
from p2pfed.store.files import write_durable

log = logging.getLogger("p2pfed.catchup")

ANSWER_S: Final = 30.0


@dataclass(frozen=True, slots=True)
class CaughtUp:
    """What was taken up, and from whom; `shipped_bytes` as they crossed the wire."""

    giver: CentreName
    bearings: Bearings
    shipped_bytes: int
    lacking_blocks: int


def catch_up(
    config: CentreConfig, charter: Charter, tls: Tls, peers: Mapping[CentreName, str]
) -> CaughtUp:
    """Fetches, checks and lays down a checkpoint. The folder must be locked.

    Raises:
        StateError: `catchup-begun`, `catchup-not-needed`, `catchup-nobody`.
        InputError, StorageError: the checkpoint, or the disk, is not right.
    """
    if config.base.exists():
        raise StateError(
            "catchup-begun",
            "this centre has taken up a checkpoint already",
            where=str(config.base),
            remedy="start the daemon: it fetches the history by itself",
        )
    giver, packed = trio.run(_ask_all, tls, peers)
    bearings = check_bearings(unpack_bearings(packed, giver), charter)
    with Database.open(
        config.ledger, federation=charter.federation_id, archive=config.retention.folder
    ) as database:
        held = _check_held(database, bearings)
        with suppress(FileNotFoundError):
            config.snapshot.unlink()
        database.begin_above()
        write_durable(config.base, packed)
    under = sum(tree.size for tree in bearings.trees)
    return CaughtUp(giver, bearings, len(packed), under - held)


def _check_held(database: Database, bearings: Bearings) -> int:
    """How many blocks are held under the checkpoint; all that are held must lie there."""
    trees = {tree.feed: tree for tree in bearings.trees}
    held = 0
    for feed, head in database.frontier().items():
        tree = trees.get(feed)
        if tree is None or head.seq_num >= tree.size or database.has_branches():
            raise StateError(
                "catchup-not-needed",
                f"this centre holds blocks of {feed.centre} that are newer than the newest "
                "checkpoint, or a fork",
                remedy="start the daemon: it fetches what it lacks",
            )
        held += head.seq_num + 1
    return held


async def _ask_all(tls: Tls, peers: Mapping[CentreName, str]) -> tuple[CentreName, bytes]:
    reasons = []
    for centre, address in sorted(peers.items()):
        try:
            return centre, await _ask(tls, centre, address)
        except (P2pfedError, *TRANSPORT_ERRORS) as error:
            why = error.what if isinstance(error, P2pfedError) else str(error)
            log.info("%s gives no checkpoint: %s", centre, why)
            reasons.append(f"{centre}: {why or type(error).__name__}")
    raise StateError(
        "catchup-nobody",
        f"no member gives a checkpoint ({'; '.join(reasons) or 'none is known'})",
        remedy="a member gives it once a vote has made this centre a member; without it, start the "
        "daemon, which fetches the whole history",
    )


async def _ask(tls: Tls, centre: CentreName, address: str) -> bytes:
    stream = await connect(tls, BULK_PROTOCOL, centre, address)
    try:
        wire = Wire(stream)
        await wire.send(AskBearings())
        told = expected(await wire.receive(within_s=ANSWER_S), BearingsCome)
        if told.size > BEARINGS_BYTES_MAX:
            raise InputError("bearings-form", f"{centre} announces {told.size} bytes")
        parts = []
        left = told.size
        while left:
            part = await wire.receive_exactly(min(left, CHUNK_BYTES))
            parts.append(part)
            left -= len(part)
        data = b"".join(parts)
        if hashlib.sha256(data).digest() != told.digest:
            raise InputError("bearings-form", f"{centre} sent other bytes than it announced")
        with suppress(*TRANSPORT_ERRORS):
            await wire.send(Done())
        return data
    finally:
        await trio.aclose_forcefully(stream)
