"""The daemon: everything that one centre runs, put together.

Start-up order carries the guarantees. The folder is locked before anything is read; the ledger is
replayed and compared with the high-water file before anything is written; the node then asks its
peers, and only when it may write does the daemon open the offers that its configuration names. The
order of the end is the reverse: no new requests, what is waiting is handled, peers are told, the
database is closed. Guests' jobs run on: the next start finds them.
"""

from __future__ import annotations

import logging
import os
import random
import signal
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import trio
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.bearings import Bearings, check_bearings
from p2pfed.core.charter import Charter, check_charter, decode_charter
from p2pfed.core.constitution import founders
from p2pfed.core.ids import BlockId, FeedKey, Head
from p2pfed.core.keys import key_id
from p2pfed.errors import InputError, P2pfedError
from p2pfed.execute.interface import Executor
from p2pfed.node.effects import (
    AnswerTransfer,
    FetchPayload,
    FetchResult,
    ForgetClaim,
    NameHandover,
    SendCheckpoint,
    SendPayload,
    SendResult,
)
from p2pfed.node.identity import Federation, Identity
from p2pfed.node.node import Node
from p2pfed.node.recovery import Memory
from p2pfed.node.starting import begin
from p2pfed.protocol.framing import frame_blocks
from p2pfed.shell.archivist import Archivist
from p2pfed.shell.bearings_file import unpack_bearings
from p2pfed.shell.brain import Brain
from p2pfed.shell.bulk_client import BulkClient
from p2pfed.shell.bulk_server import BulkServer
from p2pfed.shell.callers import Groups
from p2pfed.shell.calllog import CallLog
from p2pfed.shell.capacity.follow import Follower
from p2pfed.shell.capacity.plan import part_names
from p2pfed.shell.collector import keep_all, rarely_collecting
from p2pfed.shell.config import CentreConfig, read_passphrase, require_file
from p2pfed.shell.connections import Acceptor, open_listeners
from p2pfed.shell.control import serve_control_until
from p2pfed.shell.door import OfferRequest
from p2pfed.shell.doorkeeper import Doorkeeper
from p2pfed.shell.executors import (
    declared_capacity,
    guest_uid,
    local_queue,
    make_executor,
    stray_finder,
)
from p2pfed.shell.exports import Exports
from p2pfed.shell.invitation import read_contacts
from p2pfed.shell.links import Links, stored_reader
from p2pfed.shell.localcontrol import LocalControl
from p2pfed.shell.logs import begin_logging
from p2pfed.shell.natives import Natives, Place
from p2pfed.shell.newsroom import Newsroom
from p2pfed.shell.notices import Notices
from p2pfed.shell.rekeying import Rekeying
from p2pfed.shell.reloading import Reloader
from p2pfed.shell.strays import Strays
from p2pfed.shell.tls import Tls
from p2pfed.store.database import Database
from p2pfed.store.highwater import HighWater, Mark, Restart, begun, judge_restart
from p2pfed.store.keyfile import CentreKey, load_key
from p2pfed.store.keyfiles import former_keys, settle
from p2pfed.store.lock import FolderLock
from p2pfed.store.spool import Spool

log = logging.getLogger("p2pfed.daemon")

_MEMORY = {
    Restart.START: Memory.SURE,
    Restart.RECOVER: Memory.BEHIND,
    Restart.ASK_ALL: Memory.UNSURE,
    Restart.NEW_EPOCH: Memory.BROKEN,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parts:
    """What is opened before the loop runs."""

    config: CentreConfig
    key: CentreKey
    former: tuple[Ed25519PrivateKey, ...]
    charter: Charter
    charter_bytes: bytes
    database: Database
    highwater: HighWater
    spool: Spool
    leftovers: frozenset[Path]
    node: Node
    memory: Memory
    target: Head | None
    executor: Executor


def run(config: CentreConfig) -> None:
    """Runs the daemon of one centre until SIGTERM or SIGINT.

    Raises:
        P2pfedError: it can't start, or can't go on; nothing that was acknowledged is lost.
    """
    begin_logging(config.logging.level)
    with ExitStack() as stack:
        stack.enter_context(FolderLock(config.lock))
        parts = _open(config, stack)
        try:
            trio.run(_main, parts)
        except* P2pfedError as group:
            raise _first(group) from None


def _first(group: BaseExceptionGroup[P2pfedError]) -> P2pfedError:
    """One error speaks for all: the tasks of a daemon fail together."""
    for error in group.exceptions:
        if isinstance(error, BaseExceptionGroup):
            return _first(error)
        return error
    raise AssertionError("a group is never empty")


# Opening


def _open(config: CentreConfig, stack: ExitStack) -> _Parts:
    passphrase = read_passphrase(config.key, os.environ)
    key = load_key(config.key.file, passphrase=passphrase)
    charter_bytes = _read_charter(config.charter)
    charter = decode_charter(charter_bytes, where=str(config.charter))
    _check_member(config, key, charter)
    database = stack.enter_context(
        Database.open(
            config.ledger,
            federation=charter.federation_id,
            archive=config.retention.folder,
        )
    )
    highwater = HighWater(config.highwater)
    stack.enter_context(rarely_collecting())
    node = _begin(config, key, charter, database)
    keep_all()
    key = _key_in_force(config, node, key, passphrase)
    memory, target = _judge(key, node, database, highwater)
    spool = Spool(config.spool)
    return _Parts(
        config=config,
        key=key,
        former=tuple(k.private for k in former_keys(config.key.file, passphrase)),
        charter=charter,
        charter_bytes=charter_bytes,
        database=database,
        highwater=highwater,
        spool=spool,
        leftovers=spool.contents(),
        node=node,
        memory=memory,
        target=target,
        executor=make_executor(config),
    )


def _key_in_force(
    config: CentreConfig, node: Node, key: CentreKey, passphrase: bytes | None
) -> CentreKey:
    """The key to sign with: what a rotation left half done is brought to its end."""
    in_force = node.ledger.replica.keyring.newest(node.me.feed)
    found = settle(config.key.file, key, passphrase, in_force)
    if found is not key:
        node.ledger.use_key(found, key_id(found.public_key))
    return found


def _begin(config: CentreConfig, key: CentreKey, charter: Charter, database: Database) -> Node:
    try:
        snapshot: bytes | None = config.snapshot.read_bytes()
    except OSError:
        snapshot = None
    bearings = _base(config, charter)
    make = partial(make_node, config, key, charter, database, bearings)
    node, refusal = begin(make, database, snapshot, bearings)
    if refusal is not None:
        log.warning("the snapshot was not used, all blocks were folded: %s", refusal)
    return node


def _base(config: CentreConfig, charter: Charter) -> Bearings | None:
    """The checkpoint that the ledger began with, while the history is not here."""
    try:
        packed = config.base.read_bytes()
    except FileNotFoundError:
        return None
    return check_bearings(unpack_bearings(packed, str(config.base)), charter)


def _read_charter(path: Path) -> bytes:
    require_file(
        path,
        "the charter",
        "make one with 'p2pfed charter new', have every founder sign it, and put it here",
    )
    try:
        return path.read_bytes()
    except OSError as error:
        raise InputError(
            "charter-unreadable", f"can't read the charter: {error.strerror}", where=str(path)
        ) from None


def _check_member(config: CentreConfig, key: CentreKey, charter: Charter) -> None:
    where = str(config.charter)
    check = check_charter(charter)
    if not check.complete:
        raise InputError(
            "charter-unsigned",
            f"the charter is not signed by {', '.join(check.missing)}",
            where=where,
            remedy="each founder signs it with 'p2pfed charter sign'",
        )
    card = charter.founder(config.name)
    if card is None and read_contacts(config.state):
        log.info("not a founder of %s: nothing is written before a vote admits us", charter.name)
        return
    if card is None:
        names = ", ".join(c.name for c in charter.founders)
        raise InputError(
            "charter-no-founder",
            f"{config.name} is not a founder of the federation {charter.name} ({names})",
            where=where,
            remedy="use the charter that this centre's card is in, or take up an invitation "
            "with 'p2pfed join'",
        )
    # A key that was rotated or replaced stands in the ledger, which only peers may hold by now.
    begun = config.ledger.exists() or bool(read_contacts(config.state))
    if card.public_key != key.public_key and not begun:
        raise InputError(
            "charter-key",
            f"the charter names another key for {config.name} than {config.key.file} holds",
            where=where,
            remedy="use the key that the card was made from; if that is lost, have it replaced by "
            "vote and take up an invitation with 'p2pfed join'",
        )


def make_node(
    config: CentreConfig,
    key: CentreKey,
    charter: Charter,
    database: Database,
    base: Bearings | None = None,
) -> Node:
    """The node, with nothing replayed yet; `base` is the checkpoint that the ledger began with."""
    feeds = [*database.frontier(), *(tree.feed for tree in (base.trees if base else ()))]
    addresses = {card.name: card.address for card in charter.founders}
    for told in (read_contacts(config.state), config.peers):
        addresses.update((c, a) for c, a in told.items() if c in addresses)
    federation = Federation(
        id=charter.federation_id,
        keys=charter.keys(),
        rules=charter.rules,
        rules_version=1,
        credit_lines={card.name: card.credit_line for card in charter.founders},
        addresses=addresses,
        members=founders(charter),
        pinned=frozenset(config.peers),
    )
    me = Identity(
        name=config.name,
        signer=key,
        kid=key_id(key.public_key),
        address=config.advertise,
        epoch=max((f.epoch for f in feeds if f.centre == config.name), default=0),
    )
    return Node(me, federation, config.policy, random.Random(), database)  # noqa: S311


def _judge(
    key: CentreKey, node: Node, database: Database, highwater: HighWater
) -> tuple[Memory, Head | None]:
    """What the high-water file and the ledger allow; design section 3's table."""
    head = node.ledger.head
    own = None if head is None else Mark(node.me.feed, head)
    mark = highwater.read()
    beginning = begun(node.me.name, key.public_key)

    def held(feed: FeedKey, seq_num: int) -> BlockId | None:
        # The newest block under a checkpoint that the ledger began with may not be stored yet.
        found = node.ledger.replica.block_id(feed, seq_num)
        return database.block_id(feed, seq_num) if found is None else found

    verdict = judge_restart(mark, own, held, beginning)
    return _MEMORY[verdict], None if mark is None else mark.head


def _sweep(parts: _Parts) -> None:
    """Removes what a crash left in the spool and nothing can need any more.

    The ledger must be complete: one that came out of a backup does not know of the jobs that were
    posted since, nor of the guests that run.
    """
    node, spool = parts.node, parts.spool
    live, me = node.ledger.live, node.me.name
    keep: set[Path] = set((spool.root / "results").iterdir())
    for job in live.jobs.values():
        if job.job_id.centre == me and not live.judge(job).state.final:
            keep.add(spool.payload(job.job.payload_digest))
    names = set()
    for entry in live.claims.values():
        hosted = entry.claim is not None and entry.claim.offer_id.centre == me
        if hosted and entry.kept_by_host:
            keep.add(spool.claim(entry.claim_id))
        if (hosted or entry.home == me) and entry.kept_by_host:
            names.add(str(entry.claim_id))
    for path in (spool.root / "staging").iterdir():
        if any(path.name.endswith(name) for name in names):
            keep.add(path)
    for path in spool.sweep(keep, parts.leftovers):
        log.info("removed %s, which nothing needs any more", path)


# Running


class _Bulk:
    """Hands bulk effects to the asking and the giving side."""

    def __init__(self, client: BulkClient, server: BulkServer) -> None:
        self._client = client
        self._server = server

    def perform(self, effect: object) -> None:
        match effect:
            case FetchPayload():
                self._client.fetch_payload(effect)
            case FetchResult():
                self._client.fetch_result(effect)
            case NameHandover():
                self._client.name_handover(effect)
            case ForgetClaim():
                self._client.forget(effect.claim_id)
            case AnswerTransfer() | SendPayload() | SendResult() | SendCheckpoint():
                self._server.answer(effect)


async def _main(parts: _Parts) -> None:
    notices = Notices()
    room: list[Newsroom] = []
    brain = Brain(
        parts.node,
        parts.database,
        parts.highwater,
        parts.config.snapshot,
        parts.config.base,
        lambda events, effects: room[0].report(events, effects),  # noqa: PLW0108 - made below
        tidy=lambda: _sweep(parts),
    )
    natives = _make_natives(parts, brain, lambda: keeper.config)
    orders = LocalControl(
        brain,
        parts.database,
        parts.executor,
        guests=lambda: strays.guests,
        reload=lambda who: reloader.reload(who),  # noqa: PLW0108 - made below
        resumed=lambda: _open_offers(brain, keeper, parts),
    )
    finder = stray_finder(parts.config, parts.spool.claims)
    strays = Strays(finder, brain, parts.spool.claim, lambda: natives.alive)
    tls = Tls(parts.key.private, dict(parts.charter.keys()), parts.former)
    rekeying = Rekeying(brain, parts.config, parts.key, tls)
    archivist = _make_archivist(parts)
    keeper = _make_keeper(parts, brain, notices, orders, lambda: follower, rekeying, archivist)
    follower = Follower(brain, natives, config=lambda: keeper.config, finish=keeper.with_orders)

    def take(config: CentreConfig) -> None:
        keeper.reload(config)
        archivist.reload(config.retention)
        if exports is not None:
            exports.reload(config.export)

    reloader = Reloader(parts.config, brain, take)
    room.append(Newsroom(parts.node, notices, keeper.job_view))
    links = Links(tls, brain.events, stored_reader(parts.database.read_range, frame_blocks))
    client = BulkClient(tls, parts.spool, brain.events)
    server = BulkServer(parts.spool, brain.events, parts.config.bearings)
    queue = local_queue(parts.config)
    exports = None if queue is None else Exports(queue, brain, keeper, parts.config.export)
    brain.connect(links, _Bulk(client, server), natives, archivist.perform, exports)
    listeners = await open_listeners(parts.config.listen)
    acceptor = Acceptor(tls, links=links.handler, transfers=server.handler)
    stop = trio.Event()
    async with trio.open_nursery() as nursery:
        await nursery.start(links.run)
        await nursery.start(client.run)
        for task in (natives.run, strays.run, archivist.run):
            nursery.start_soon(task)
        if exports is not None:
            nursery.start_soon(exports.run)
        nursery.start_soon(acceptor.serve, listeners)
        running = trio.CancelScope()
        nursery.start_soon(_run_brain, brain, parts, running)
        await nursery.start(_watch_signals, stop, reloader)  # who sees us answer may end us
        await nursery.start(_serve_control, keeper, stop, parts.config)
        nursery.start_soon(_open_offers, brain, keeper, parts)
        nursery.start_soon(follower.run)
        log.info("%s listens on %s", parts.config.name, parts.config.listen)
        await stop.wait()
        log.info("stopping")
        running.cancel()
        await _take_leave(brain, links, notices)
        nursery.cancel_scope.cancel()
    log.info("stopped")


async def _take_leave(brain: Brain, links: Links, notices: Notices) -> None:
    """Handles what is waiting, then says goodbye."""
    notices.close()
    await brain.finish()
    with trio.move_on_after(2):
        await links.wait_closed()


def _make_archivist(parts: _Parts) -> Archivist:
    config = parts.config
    return Archivist(
        parts.database,
        parts.charter_bytes,
        parts.charter.federation_id,
        config.retention,
        config.bearings,
    )


def _make_natives(parts: _Parts, brain: Brain, config: Callable[[], CentreConfig]) -> Natives:
    def place(offer: str) -> Place:
        return _place_of(config(), offer)

    return Natives(parts.executor, parts.spool, brain.events, place, guest_uid(parts.config))


def _make_keeper(
    parts: _Parts,
    brain: Brain,
    notices: Notices,
    orders: LocalControl,
    follower: Callable[[], Follower],
    rekeying: Rekeying,
    archivist: Archivist,
) -> Doorkeeper:
    return Doorkeeper(
        brain=brain,
        config=parts.config,
        charter=parts.charter_bytes,
        federation=parts.charter.name,
        database=parts.database,
        spool=parts.spool,
        capacity=declared_capacity(parts.config),
        notices=notices,
        control=orders,
        follower=follower,
        rekeying=rekeying,
        archivist=archivist,
    )


def _place_of(config: CentreConfig, offer: str) -> Place:
    """Where guests run who came by an offer of this name."""
    for template in config.offers:
        if offer in part_names(template):
            return Place(template.partition, template.gpu_gres)
    return Place()


async def _run_brain(brain: Brain, parts: _Parts, scope: trio.CancelScope) -> None:
    with scope:
        await brain.run(parts.memory, parts.target)


async def _serve_control(
    keeper: Doorkeeper,
    stop: trio.Event,
    config: CentreConfig,
    *,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    await serve_control_until(
        keeper,
        stop,
        path=config.control.socket,
        groups=Groups(group=config.control.group, readers=config.control.readers),
        calls=CallLog(config.calls),
        task_status=task_status,
    )


async def _watch_signals(
    stop: trio.Event,
    reloader: Reloader,
    *,
    task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
) -> None:
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        task_status.started()
        async for number in signals:
            if number != signal.SIGHUP:
                stop.set()
                return
            with suppress(P2pfedError):  # logged, and nothing changed
                await reloader.reload("SIGHUP")


async def _open_offers(brain: Brain, keeper: Doorkeeper, parts: _Parts) -> None:
    """Opens the offers that the configuration names, unless one of that name is open already.

    Called at the start and whenever guests are wanted again; while they are not, nothing opens.
    """
    await brain.ready.wait()
    if not brain.node.control.open:
        return
    open_names = {offer["name"] for offer in keeper.offers(own=True) if offer["open"]}
    for template in parts.config.offers:
        if not template.open or template.name in open_names:
            continue
        try:
            view = await keeper.open_offer(OfferRequest(template=template.name))
        except P2pfedError as error:
            log.error("can't open the offer %s: %s", template.name, error)
        else:
            log.info("offer %s is open as %s", template.name, view["offer_id"])
