"""The control API on its Unix socket.

Who may connect is decided by the file system alone: the socket has mode 0600, or 0660 and a group;
who may change anything, then, by `p2pfed.shell.callers`.
It is bound, given its mode and owner, and only then listened on, so there is no moment in which
somebody else could slip in. The socket of a daemon that was killed is replaced: the lock on the
state folder, taken before, proves that its daemon is gone.

Who calls is what the kernel says of the other end of the connection (SO_PEERCRED, unix(7)): every
order is logged with that account, and no account holds more than `CONNECTIONS_MAX` connections, so
that none can use up the daemon's file descriptors or keep the others out. hypercorn does not tell
an application about its connection, so connections are accepted here, and each gets the application
under a scope of its own.
"""

from __future__ import annotations

import logging
import os
import socket
import stat
from collections import Counter
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, Final, cast

import trio
from hypercorn.config import Config
from hypercorn.trio.tcp_server import TCPServer
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState, Framework
from hypercorn.utils import wrap_app
from starlette.applications import Starlette

from p2pfed.errors import InputError, StorageError
from p2pfed.shell.api import make_app
from p2pfed.shell.api.gate import CALLER, Gate
from p2pfed.shell.callers import GROUP_REMEDY, Groups, group_id
from p2pfed.shell.calllog import CallLog
from p2pfed.shell.door import Door

log = logging.getLogger("p2pfed.control")

EVERYBODY: Final = Groups()
"""No groups: whoever may connect, which is the daemon's account, may do all."""
BACKLOG: Final = 512
"""Connections that the system holds ready for us to accept."""
GRACE_S: Final = 2
"""How long answers that are under way may take when the daemon stops."""
CONNECTIONS_MAX: Final = 128
"""Connections of one account at a time; one more is closed at once."""


def open_control_socket(path: Path, *, group: str = "") -> socket.socket:
    """A bound socket at `path` that nobody but the owner (and `group`) can use; not yet listening.

    Raises:
        InputError: `control-socket`: the path is too long, taken by another kind of file, or the
            group is unknown or not ours to give.
        StorageError: `control-socket-failed`: the folder can't be written.
    """
    where = str(path)
    try:
        path.parent.mkdir(mode=0o700 if not group else 0o750, parents=True, exist_ok=True)
        if stat.S_ISSOCK(path.lstat().st_mode):
            path.unlink()
        else:
            raise InputError("control-socket", "the path is taken by another file", where=where)
    except FileNotFoundError:
        pass
    except OSError as error:
        raise _failed(where, error) from error
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.bind(where)
        path.chmod(0o600 if not group else 0o660)
        if group:
            _give(path, group)
        return sock
    except OSError as error:
        sock.close()
        if "too long" in str(error):
            raise InputError(
                "control-socket",
                f"the path of the control socket has {len(os.fsencode(where))} bytes, too many",
                where=where,
                remedy="choose a shorter path: [control] socket = ... in centre.toml",
            ) from error
        raise _failed(where, error) from error
    except BaseException:
        sock.close()
        raise


def _failed(where: str, error: OSError) -> StorageError:
    return StorageError(
        "control-socket-failed",
        f"the control socket can't be made: {error.strerror or error}",
        where=where,
        remedy="check that the folder exists and belongs to the daemon's account",
    )


def _give(path: Path, group: str) -> None:
    """Lets the group use the socket, and enter the folder that it lies in."""
    try:
        gid = group_id(group)
        os.chown(path, -1, gid)
        if path.parent.stat().st_mode & 0o050 == 0o050:
            os.chown(path.parent, -1, gid)
    except PermissionError:
        raise InputError(
            "control-socket",
            f"the daemon's account may not give files to the group {group!r}",
            where=str(path),
            remedy=GROUP_REMEDY,
        ) from None


async def serve_control_until(
    door: Door,
    stop: trio.Event,
    *,
    path: Path,
    calls: CallLog,
    groups: Groups = EVERYBODY,
    task_status: trio.TaskStatus[list[str]] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Serves the control API at `path`; `started` when it accepts connections.

    When `stop` is set no new connections are taken, and answers under way get `GRACE_S` seconds. On
    cancellation open connections are dropped. The socket is removed in both cases.

    Raises:
        InputError, StorageError: as `open_control_socket`.
    """
    sock = open_control_socket(path, group=groups.owner)
    config = Config()
    config.accesslog = None
    config.errorlog = logging.getLogger("p2pfed.control.http")
    config.include_server_header = False
    context = WorkerContext(None)
    try:
        sock.setblocking(False)
        sock.listen(BACKLOG)
        listener = trio.SocketListener(trio.socket.from_stdlib_socket(sock))
        app = make_app(door, Gate(calls))
        handler = partial(_serve_connection, app, config, context, groups, Counter())
        async with trio.open_nursery() as answering:
            async with trio.open_nursery() as accepting:
                serve = partial(trio.serve_listeners, handler_nursery=answering)
                await accepting.start(serve, handler, [listener])
                task_status.started([str(path)])
                await stop.wait()
                accepting.cancel_scope.cancel()
            await context.terminated.set()
            answering.cancel_scope.deadline = trio.current_time() + GRACE_S
    finally:
        sock.close()
        _remove(path)


class _Server(TCPServer):
    """hypercorn's, which keeps a connection that its caller closed for as long as an idle one."""

    async def _read_data(self) -> None:
        await super()._read_data()
        await self.idle_task.stop()


async def _serve_connection(
    app: Starlette,
    config: Config,
    context: WorkerContext,
    groups: Groups,
    connections: Counter[int],
    stream: trio.SocketStream,
) -> None:
    """Serves one connection; `connections` counts those that are open, by account."""
    caller = groups.caller(stream.socket)
    if connections[caller.uid] >= CONNECTIONS_MAX:
        log.warning("%s has %d connections to the control socket", caller.name, CONNECTIONS_MAX)
        await trio.aclose_forcefully(stream)
        return

    async def stamped(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, CALLER: caller}, receive, send)

    wrapped = wrap_app(cast(Framework, stamped), config.wsgi_max_body_size, "asgi")
    connections[caller.uid] += 1
    try:
        await _Server(wrapped, config, context, ConnectionState({}), cast(Any, stream))
    except* Exception as errors:  # noqa: BLE001 - hypercorn's own, as when a caller hangs up
        log.info("lost a connection of %s: %r", caller.name, errors.exceptions[0])
        await trio.aclose_forcefully(stream)
    finally:
        connections[caller.uid] -= 1


def _remove(path: Path) -> None:
    with suppress(FileNotFoundError):
        path.unlink()
