"""Network namespaces: one for each centre, joined to this machine's by a pair of virtual cards.

The centre's card has 10.R.N.2, ours has 10.R.N.1, and nothing is forwarded between the pairs: a
daemon reaches another only through a relay that listens on our side of its own pair
(`scripts.networks.hub`). R and the names follow from our process's number, so that
two runs don't meet.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
from dataclasses import dataclass
from types import TracebackType
from typing import Final, Self

_CLONE_NEWNET: Final = 0x40000000
_LIBC: Final = ctypes.CDLL(None, use_errno=True)
_RUN: Final = os.getpid()
"""Of the run, not of a child that enters a namespace of it."""
_NET: Final = f"10.{64 + _RUN % 128}"
_BURST: Final = "16kb"
_LATENCY: Final = "400ms"


@dataclass(frozen=True, slots=True)
class Space:
    """The namespace of one centre; `number` from 1 to 254."""

    number: int

    @property
    def name(self) -> str:
        """As `ip netns` lists it."""
        return f"p2pfed{_RUN}-{self.number}"

    @property
    def inside(self) -> str:
        """The centre's address."""
        return f"{_NET}.{self.number}.2"

    @property
    def outside(self) -> str:
        """Our address, as the centre sees it."""
        return f"{_NET}.{self.number}.1"

    @property
    def _card(self) -> str:
        return f"p2p{_RUN % 100_000}n{self.number}"

    def __enter__(self) -> Self:
        _ip("netns", "add", self.name)
        _ip("link", "add", self._card, "type", "veth", "peer", "name", "eth0", "netns", self.name)
        _ip("addr", "add", f"{self.outside}/24", "dev", self._card)
        _ip("link", "set", self._card, "up")
        _ip("-n", self.name, "addr", "add", f"{self.inside}/24", "dev", "eth0")
        _ip("-n", self.name, "link", "set", "eth0", "up")
        _ip("-n", self.name, "link", "set", "lo", "up")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _ip("link", "del", self._card)  # the namespace itself goes when its last process has gone
        _ip("netns", "del", self.name)

    def enter(self) -> None:
        """Puts the calling process into the namespace: for a child before its program begins."""
        descriptor = os.open(f"/run/netns/{self.name}", os.O_RDONLY)
        if _LIBC.setns(descriptor, _CLONE_NEWNET) != 0:
            raise OSError(ctypes.get_errno(), "setns")
        os.close(descriptor)

    def limit(self, rate: str | None) -> None:
        """Lets no more than `rate` (as `1mbit`) pass in either direction; None: all."""
        for where in ((self._card,), ("eth0",)):
            prefix = ("-n", self.name) if where == ("eth0",) else ()
            if rate is None:
                _run("tc", *prefix, "qdisc", "del", "dev", *where, "root")
            else:
                shape = ("rate", rate, "burst", _BURST, "latency", _LATENCY)
                _run("tc", *prefix, "qdisc", "replace", "dev", *where, "root", "tbf", *shape)


def refusal() -> str:
    """Why namespaces can't be had here; empty if they can."""
    if os.geteuid() != 0:
        return "only root can make network namespaces"
    if shutil.which("ip") is None or shutil.which("tc") is None:
        return "there are no ip and tc (iproute2)"
    try:
        with Space(254) as probe:
            probe.limit("1mbit")
    except RuntimeError as error:
        return str(error)
    return ""


def _ip(*arguments: str) -> None:
    _run("ip", *arguments)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
