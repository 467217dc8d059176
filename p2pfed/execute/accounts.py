"""The system account that guests' jobs run as."""

from __future__ import annotations

import os
import pwd
import stat
from dataclasses import dataclass
from pathlib import Path

from p2pfed.errors import ExecutorError


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """A system account that jobs run as, in numbers."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]


def find_account(name: str) -> Account:
    """The unprivileged account of this name.

    Raises:
        ExecutorError: `executor-account`: there is none, or it is root.
    """
    remedy = "set run_as to an unprivileged system account made for guests' jobs"
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        raise ExecutorError(
            "executor-account", f"there is no account {name!r} on this machine", remedy=remedy
        ) from None
    if entry.pw_uid == 0:
        raise ExecutorError("executor-account", f"{name!r} is root", remedy=remedy)
    groups = tuple(sorted(set(os.getgrouplist(name, entry.pw_gid))))
    return Account(name=name, uid=entry.pw_uid, gid=entry.pw_gid, groups=groups)


def own_name() -> str:
    """The name of the daemon's own account; its number if it has none."""
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())


def check_reach(account: Account, folder: Path) -> None:
    """Returns if the account can reach what lies in `folder`.

    Raises:
        ExecutorError: `executor-closed-folder`: a folder on the way is closed to it; the remedy
            names the command that opens all of them.
    """
    way = (folder.absolute(), *folder.absolute().parents)
    closed = [str(parent) for parent in way if not _may_pass(account, parent.stat())]
    if closed:
        raise ExecutorError(
            "executor-closed-folder",
            f"the account {account.name!r} can't pass through {closed[0]!r}",
            where=str(folder),
            remedy=f"chmod o+x {' '.join(closed)}",
        )


def give(account: Account, top: Path) -> None:
    """Makes the account the owner of a folder and of everything in it; links are not followed."""
    for _, folders, files, folder_fd in os.fwalk(top):
        os.fchown(folder_fd, account.uid, account.gid)
        for name in (*folders, *files):
            os.chown(name, account.uid, account.gid, dir_fd=folder_fd, follow_symlinks=False)


def _may_pass(account: Account, folder: os.stat_result) -> bool:
    """True if the account may search the folder, as the kernel judges without ACLs."""
    if folder.st_uid == account.uid:
        return bool(folder.st_mode & stat.S_IXUSR)
    if folder.st_gid in account.groups:
        return bool(folder.st_mode & stat.S_IXGRP)
    return bool(folder.st_mode & stat.S_IXOTH)
