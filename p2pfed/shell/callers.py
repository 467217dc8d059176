"""Who is at the other end of the control socket, and what it may do there.

Two keys of `[control]` name two groups. The file system decides who may connect at all: the socket
belongs to `readers` if that is set, else to `group`. Whether a caller may change anything is then
decided by what the kernel says of it (SO_PEERCRED and SO_PEERGROUPS, unix(7)): its account and its
groups at the moment it connected, which nothing that it sends can alter.

| set | may connect | may change |
| --- | --- | --- |
| neither | the daemon's account | whoever may connect |
| `group` | its members too | whoever may connect |
| `readers` | its members too | root and the daemon's account |
| both | members of `readers` | members of `group` among them, root, the daemon's account |
"""

from __future__ import annotations

import grp
import os
import pwd
import socket
import struct
from dataclasses import dataclass
from typing import Final

import trio

from p2pfed.errors import InputError, StateError

_UCRED: Final = struct.Struct("iII")
"""`struct ucred`: process, user, group."""
_SO_PEERGROUPS: Final = 59
"""asm-generic/socket.h; Python has no name for it."""
_GROUPS_BYTES_MAX: Final = 1024
"""The most that Python asks of a socket: 256 groups of four bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """One end of a connection: the account's name (else its number), and what it may do."""

    name: str = "unknown"
    uid: int = -1
    pid: int = 0
    may_change: bool = False

    def require_change(self) -> None:
        """Raises unless this caller may change something.

        Raises:
            StateError: `control-read-only`.
        """
        if not self.may_change:
            raise StateError(
                "control-read-only",
                f"{self.name} may look at this centre, and change nothing",
                remedy="ask the centre's administrator: group under [control] in centre.toml",
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Groups:
    """The two groups of `[control]`, by name; empty: none."""

    group: str = ""
    readers: str = ""

    @property
    def owner(self) -> str:
        """The group that the socket belongs to; empty: none."""
        return self.readers or self.group

    def caller(self, sock: trio.socket.SocketType) -> Caller:
        """Who is at the other end of a connected Unix socket."""
        data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _UCRED.size)
        assert isinstance(data, bytes)
        pid, uid, gid = _UCRED.unpack(data)
        try:
            name = pwd.getpwuid(uid).pw_name
        except KeyError:
            name = str(uid)
        trusted = not self.readers or uid in (0, os.geteuid())
        may_change = trusted or self._in_group(sock, name, gid)
        return Caller(name=name, uid=uid, pid=pid, may_change=may_change)

    def _in_group(self, sock: trio.socket.SocketType, name: str, gid: int) -> bool:
        if not self.group:
            return False
        try:
            data = sock.getsockopt(socket.SOL_SOCKET, _SO_PEERGROUPS, _GROUPS_BYTES_MAX)
            assert isinstance(data, bytes)
            groups = struct.unpack(f"{len(data) // 4}I", data)
        except OSError:  # more groups than fit: as the account database has them
            groups = tuple(os.getgrouplist(name, gid))
        try:
            return group_id(self.group) in (gid, *groups)
        except InputError:
            return False


def group_id(name: str) -> int:
    """The number of a group of this machine.

    Raises:
        InputError: `control-socket`.
    """
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        raise InputError(
            "control-socket", f"there is no group {name!r}", remedy=GROUP_REMEDY
        ) from None


GROUP_REMEDY: Final = "name a group in [control] that the daemon's account belongs to"
