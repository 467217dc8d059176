"""Making the centres of a demonstration: keys, configurations, cards, and the signed charter.

What `p2pfed init`, `p2pfed charter new` and `p2pfed charter sign` do, for all centres at once. The
folders can be used by hand afterwards: `p2pfed daemon --config FOLDER/alpha`.
"""

from __future__ import annotations

import os
import random
import secrets
import socket
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from p2pfed.core.charter import Card, draft_charter, encode_charter, sign_charter, write_card
from p2pfed.core.ids import FederationId
from p2pfed.errors import InputError
from p2pfed.shell.config import SOCKET_PATH_BYTES_MAX, CentreConfig, load_config
from p2pfed.shell.config_template import centre_toml
from p2pfed.shell.demo.plan import CREDIT_S, MEMORY_MIB_PER_CORE, CentrePlan, Plan
from p2pfed.shell.sections import HIGHWATER_FILE, ExecutorConfig
from p2pfed.store.files import disk_errors, make_folder, write_durable
from p2pfed.store.highwater import HighWater
from p2pfed.store.keyfile import CentreKey, generate_key

FEDERATION: Final = "demo"
_PORTS: Final = range(20_000, 32_000)
"""Below those that systems give to outgoing connections: a daemon that is restarted finds its own
port free again."""
_PORT_TRIES: Final = 1000
_SOCKET: Final = Path("run", "control.sock")


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A centre that stands on disk."""

    plan: CentrePlan
    config: CentreConfig

    @property
    def log(self) -> Path:
        """Where its daemon's messages go."""
        return self.config.folder / "daemon.log"


@dataclass(frozen=True, slots=True, kw_only=True)
class Founded:
    """A founded federation; `sites` in the order of the plan."""

    federation: FederationId
    sites: tuple[Site, ...]


@contextmanager
def demo_folder(keep: Path | None, plan: Plan) -> Iterator[Path]:
    """A fresh folder: `keep`, or a temporary one that is removed at the end.

    Raises:
        InputError: `demo-folder`: it is in use already, or its path is too long for the sockets.
        StorageError: `disk-full`, `disk-error`.
    """
    longest = max((centre.name for centre in plan.centres), key=len)
    if keep is None:
        base = _temporary_base(longest)
        with tempfile.TemporaryDirectory(
            prefix="p2pfed-demo-", dir=base, ignore_cleanup_errors=True
        ) as path:
            yield Path(path)
        return
    folder = Path(os.path.abspath(keep))
    if _too_long(folder / longest):
        raise InputError(
            "demo-folder",
            "the folder's path is too long for the sockets below it",
            where=str(folder),
            remedy="name a shorter one, such as /tmp/demo",
        )
    with disk_errors(folder):
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise InputError(
                "demo-folder",
                "the folder is not empty",
                where=str(folder),
                remedy="name a folder that does not exist yet",
            )
        folder.mkdir(parents=True, exist_ok=True)
    yield folder


def _temporary_base(longest: str) -> str:
    usual = tempfile.gettempdir()
    return "/tmp" if _too_long(Path(usual, "p2pfed-demo-xxxxxxxx", longest)) else usual  # noqa: S108


def _too_long(centre: Path) -> bool:
    return len(os.fsencode(centre / _SOCKET)) > SOCKET_PATH_BYTES_MAX


def found_federation(folder: Path, plan: Plan) -> Founded:
    """Makes every centre of the plan below `folder`, and the charter that all have signed.

    Raises:
        StorageError: `disk-full`, `disk-error`.
    """
    keys: list[CentreKey] = []
    cards: list[Card] = []
    for centre, port in zip(plan.centres, free_ports(len(plan.centres)), strict=True):
        key, card = _make_centre(folder / centre.name, centre, f"127.0.0.1:{port}")
        keys.append(key)
        cards.append(card)
    charter = draft_charter(cards, plan.rules, FEDERATION, time.time_ns() // 1_000_000)
    for centre, key in zip(plan.centres, keys, strict=True):
        charter = sign_charter(charter, centre.name, key)
    data = encode_charter(charter)
    write_durable(folder / "charter.cbor", data, mode=0o644)
    sites = []
    for centre in plan.centres:
        write_durable(folder / centre.name / "charter.cbor", data, mode=0o644)
        sites.append(Site(plan=centre, config=load_config(folder / centre.name)))
    return Founded(federation=charter.federation_id, sites=tuple(sites))


def join_federation(folder: Path, plan: CentrePlan, founded: Founded) -> Site:
    """Makes a centre that is no founder, with the charter in its folder.

    Raises:
        StorageError: `disk-full`, `disk-error`.
    """
    place = folder / plan.name
    _make_centre(place, plan, f"127.0.0.1:{free_ports(1)[0]}")
    charter = (founded.sites[0].config.charter).read_bytes()
    write_durable(place / "charter.cbor", charter, mode=0o644)
    config = load_config(place)
    make_folder(config.state)
    return Site(plan=plan, config=config)


def renew_key(site: Site) -> str:
    """Puts a new key in the place of a lost one; the text of the centre's new card.

    Raises:
        StorageError: `disk-full`, `disk-error`.
    """
    path = site.config.key.file
    path.rename(path.with_suffix(".lost"))
    key = generate_key(path)
    card = Card(
        name=site.plan.name,
        public_key=key.public_key,
        address=site.config.advertise,
        credit_line=site.plan.cores * CREDIT_S,
    )
    text = write_card(card, key)
    write_durable(site.config.folder / "card.json", text.encode(), mode=0o644)
    return text


def _make_centre(folder: Path, plan: CentrePlan, address: str) -> tuple[CentreKey, Card]:
    with disk_errors(folder):
        make_folder(folder)
    key = generate_key(folder / "key.pem")
    executor = ExecutorConfig(
        nodes=plan.nodes,
        cores_per_node=plan.cores_per_node,
        memory_mib_per_node=plan.cores_per_node * MEMORY_MIB_PER_CORE,
    )
    text = centre_toml(name=plan.name, listen=address, executor=executor)
    write_durable(folder / "centre.toml", text.encode())
    HighWater(folder / HIGHWATER_FILE).begin(plan.name, key.public_key)
    card = Card(
        name=plan.name,
        public_key=key.public_key,
        address=address,
        credit_line=plan.cores * CREDIT_S,
    )
    write_durable(folder / "card.json", write_card(card, key).encode(), mode=0o644)
    return key, card


def free_ports(count: int) -> list[int]:
    """So many different TCP ports that nobody on this machine listens on.

    Raises:
        InputError: `demo-ports`.
    """
    chance = random.Random(secrets.randbits(64))  # noqa: S311 - any free port will do
    found: list[int] = []
    for _ in range(_PORT_TRIES):
        if len(found) == count:
            return found
        port = chance.choice(_PORTS)
        with socket.socket() as sock:
            try:
                sock.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in found:
            found.append(port)
    raise InputError("demo-ports", f"no {count} free TCP ports were found on 127.0.0.1")
