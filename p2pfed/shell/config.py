"""`centre.toml`: everything that one centre decides alone.

The file lies in the centre's folder, and every path in it counts from there. It holds where the
daemon listens, what hardware it commands, the templates of its offers and its admission policy.
None of it is replicated, except what an opened offer states. It is read strictly
(`p2pfed.shell.schema`): nothing that is misspelt is silently left at its default. The tables and
their keys stand in `p2pfed.shell.sections`.
"""

from __future__ import annotations

import ipaddress
import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast

from p2pfed.core.ids import CentreName
from p2pfed.errors import InputError
from p2pfed.node.admission import AdmissionPolicy
from p2pfed.shell.capacity.plan import part_names
from p2pfed.shell.schema import Source, read_section, split_address
from p2pfed.shell.sections import (
    LISTS,
    SECTIONS,
    AdmissionConfig,
    AdmitRule,
    ControlConfig,
    ExecutorConfig,
    ExportConfig,
    KeyConfig,
    LoggingConfig,
    OfferTemplate,
    RetentionConfig,
    SlurmConfig,
    TopConfig,
)

T = TypeVar("T")

SOCKET_PATH_BYTES_MAX: Final = 107
"""What `sockaddr_un` holds on Linux, its closing zero left out."""
CONFIG_BYTES_MAX: Final = 1 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class CentreConfig:
    """One centre's configuration; every path is absolute.

    Attributes:
        path: the file it was read from.
        name, listen, advertise: `advertise` is never empty: without one it is `listen`.
        charter, state, highwater, spool: see `TopConfig`.
        peers: addresses by centre that override the announced ones.
    """

    path: Path
    name: CentreName
    listen: str
    advertise: str
    charter: Path
    state: Path
    highwater: Path
    spool: Path
    peers: Mapping[CentreName, str]
    key: KeyConfig
    control: ControlConfig
    executor: ExecutorConfig
    slurm: SlurmConfig
    offers: tuple[OfferTemplate, ...]
    admission: AdmissionConfig
    admit: tuple[AdmitRule, ...]
    export: ExportConfig
    retention: RetentionConfig
    logging: LoggingConfig

    @property
    def folder(self) -> Path:
        """The centre's folder: the one that `centre.toml` lies in."""
        return self.path.parent

    @property
    def ledger(self) -> Path:
        """The database file."""
        return self.state / "ledger.sqlite"

    @property
    def snapshot(self) -> Path:
        """The folded state that a start begins with."""
        return self.state / "snapshot"

    @property
    def calls(self) -> Path:
        """The log of what was asked of the daemon that may change something."""
        return self.state / "calls.log"

    @property
    def bearings(self) -> Path:
        """The newest cosigned checkpoint, for newcomers."""
        return self.state / "bearings"

    @property
    def base(self) -> Path:
        """The checkpoint that the ledger began with, until the history is here."""
        return self.state / "base"

    @property
    def lock(self) -> Path:
        """The file that a running daemon keeps locked."""
        return self.state / "lock"

    @property
    def policy(self) -> AdmissionPolicy:
        """The admission policy as the node takes it."""
        return AdmissionPolicy(
            paused=self.admission.paused,
            deny_centres=frozenset(self.admission.deny_centres),
            deny_classes=frozenset(self.admission.deny_classes),
            rules=tuple(rule.rule(n) for n, rule in enumerate(self.admit, start=1)),
        )

    def following(self, name: str) -> OfferTemplate | None:
        """The template that follows the batch system and whose offers may have this name."""
        mine = (t for t in self.offers if t.follow and name in part_names(t))
        return next(mine, None)

    def template(self, name: str) -> OfferTemplate:
        """The offer template of this name.

        Raises:
            InputError: `offer-template-unknown`.
        """
        for template in self.offers:
            if template.name == name:
                return template
        known = ", ".join(t.name for t in self.offers) or "none"
        raise InputError(
            "offer-template-unknown",
            f"there is no offer template {name!r}",
            where=str(self.path),
            remedy=f"add an [[offer]] of that name; the templates are: {known}",
        )


def load_config(path: Path) -> CentreConfig:
    """The configuration in the file `path`.

    Only the file itself is read: whether the key and the charter exist is asked by those who need
    them (`require_file`, `read_passphrase`).

    Raises:
        InputError: `config-file-missing`, `config-file-unreadable`, `config-syntax`,
            `config-key-unknown`, `config-key-missing`, `config-type`, `config-unit`,
            `config-value`, `config-address`, `config-offer`; `where` holds file, line and key.
    """
    path = Path(os.path.abspath(path))
    if path.is_dir():
        path /= "centre.toml"
    return parse_config(_read(path), path)


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(CONFIG_BYTES_MAX + 1)
        if len(data) > CONFIG_BYTES_MAX:
            raise InputError(
                "config-file-unreadable", "the file is too large for a centre.toml", where=str(path)
            )
        return data.decode()
    except FileNotFoundError:
        raise InputError(
            "config-file-missing",
            "there is no such configuration file",
            where=str(path),
            remedy="make a centre's folder with 'p2pfed init', or name the file with --config",
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(
            "config-file-unreadable", f"can't read the file: {error}", where=str(path)
        ) from None


def parse_config(text: str, path: Path) -> CentreConfig:
    """The configuration that `text` states, as if read from `path` (absolute).

    Raises:
        InputError: as `load_config`.
    """
    source = Source(path, text)
    try:
        items = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InputError("config-syntax", f"not valid TOML: {error}", where=str(path)) from None
    tables = tuple(name for name in SECTIONS if name)
    top = read_section(TopConfig, items, source, others=tables)
    read = {
        name: read_section(section, _table(items, name, source), source, table=name)
        for name, section in SECTIONS.items()
        if name and name not in LISTS
    }
    config = CentreConfig(
        path=path,
        name=CentreName(top.name),
        listen=top.listen,
        advertise=top.advertise or top.listen,
        charter=top.charter,
        state=top.state,
        highwater=top.highwater,
        spool=top.spool,
        peers=MappingProxyType(dict(top.peers)),
        key=cast(KeyConfig, read["key"]),
        control=cast(ControlConfig, read["control"]),
        executor=cast(ExecutorConfig, read["executor"]),
        slurm=cast(SlurmConfig, read["slurm"]),
        offers=_read_offers(items, source),
        admission=cast(AdmissionConfig, read["admission"]),
        admit=_read_list(AdmitRule, "admit", items, source),
        export=cast(ExportConfig, read["export"]),
        retention=cast(RetentionConfig, read["retention"]),
        logging=cast(LoggingConfig, read["logging"]),
    )
    _check_paths(config, top, source)
    _check_slurm(config, source)
    _check_offers(config, source)
    return config


def _table(items: Mapping[str, object], name: str, source: Source) -> Mapping[str, object]:
    table = items.get(name, {})
    if not isinstance(table, dict):
        raise InputError(
            "config-type",
            f"{name!r} is a table",
            where=source.place("", 0, name),
            remedy=f"write [{name}] on a line of its own and its keys below",
        )
    return table


def _read_list(
    section: type[T], name: str, items: Mapping[str, object], source: Source
) -> tuple[T, ...]:
    found = items.get(name, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(
            "config-type",
            f"{name!r} is a list of tables",
            where=source.place(name),
            remedy=f"write [[{name}]], with two brackets, before each of them",
        )
    return tuple(
        read_section(section, item, source, table=name, index=index)
        for index, item in enumerate(found)
    )


def _read_offers(items: Mapping[str, object], source: Source) -> tuple[OfferTemplate, ...]:
    offers = _read_list(OfferTemplate, "offer", items, source)
    for index, template in enumerate(offers):
        if template.name in {other.name for other in offers[:index]}:
            raise InputError(
                "config-offer",
                f"two offer templates are named {template.name!r}",
                where=source.place("offer", index, "name"),
                remedy="give each template a name of its own",
            )
    return offers


def _is_wildcard(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_unspecified
    except ValueError:
        return False


def _check_paths(config: CentreConfig, top: TopConfig, source: Source) -> None:
    host, port = split_address(config.listen)
    if _is_wildcard(host) and not top.advertise:
        raise InputError(
            "config-value",
            f"listen = {config.listen!r} names no machine that peers could connect to",
            where=source.place("", 0, "listen"),
            remedy=f'add advertise = "this-machine.example.org:{port}"',
        )
    if config.highwater.is_relative_to(config.state):
        raise InputError(
            "config-value",
            "the high-water file lies inside the state folder",
            where=source.place("", 0, "highwater"),
            remedy="keep it elsewhere, so that restoring a backup of the folder can't roll it back",
        )
    socket = config.control.socket
    if len(os.fsencode(socket)) > SOCKET_PATH_BYTES_MAX:
        raise InputError(
            "config-value",
            f"the path of the control socket has more than {SOCKET_PATH_BYTES_MAX} bytes",
            where=source.place("control", 0, "socket"),
            remedy="name a shorter one, such as /run/p2pfed/control.sock",
        )
    if config.key.passphrase_file and config.key.passphrase_env:
        raise InputError(
            "config-value",
            "both passphrase_file and passphrase_env are set",
            where=source.place("key", 0, "passphrase_env"),
            remedy="keep one of them",
        )


def _check_slurm(config: CentreConfig, source: Source) -> None:
    if config.export.partitions and config.executor.kind != "slurm":
        raise InputError(
            "config-value",
            "only jobs of a Slurm queue can go out, and the executor is another",
            where=source.place("export", 0, "partitions"),
            remedy='set kind = "slurm" under [executor], or leave [export] out',
        )
    if config.executor.kind != "slurm" or config.slurm.partition:
        return
    raise InputError(
        "config-value",
        "the executor is Slurm, but no partition is named that guests run in",
        where=source.place("slurm", 0, "partition"),
        remedy='add partition = "..." under [slurm]',
    )


def _check_following(config: CentreConfig, source: Source) -> None:
    """What only offers that follow the batch system have, and what they can't have."""
    default = OfferTemplate(name="x", nodes=1, cores_per_node=1, memory_mib_per_node=1)
    only = (
        "windows",
        "zone",
        "cores",
        "share",
        "keep_free",
        "walltime_min_s",
        "long_share",
        "gaps",
    )
    names: set[str] = set()
    for index, template in enumerate(config.offers):
        changed = [n for n in only if getattr(template, n) != getattr(default, n)]
        if changed and not template.follow:
            raise InputError(
                "config-offer",
                f"{changed[0].removesuffix('_s')} has no meaning for the offer {template.name!r}, "
                "which does not follow the batch system",
                where=source.place("offer", index, changed[0].removesuffix("_s")),
                remedy="add follow = true",
            )
        if template.follow and template.open:
            raise InputError(
                "config-offer",
                f"the offer {template.name!r} opens by itself: it can't be opened at start, too",
                where=source.place("offer", index, "open"),
                remedy="leave out open",
            )
        mine = set(part_names(template))
        if names & mine or any(len(name) > 64 for name in mine):
            raise InputError(
                "config-offer",
                f"the parts of the offer {template.name!r} ({', '.join(sorted(mine))}) have names "
                "that are too long or another template's",
                where=source.place("offer", index, "name"),
                remedy="name it otherwise",
            )
        names |= mine


def _check_offers(config: CentreConfig, source: Source) -> None:
    _check_following(config, source)
    has = config.executor
    for index, template in enumerate(config.offers):
        for name in ("nodes", "cores_per_node", "gpus_per_node", "memory_mib_per_node"):
            granted, there_is = getattr(template, name), getattr(has, name)
            if granted > there_is:
                raise InputError(
                    "config-offer",
                    f"the offer {template.name!r} grants {name} = {granted}, "
                    f"the executor has {there_is}",
                    where=source.place("offer", index, name),
                    remedy=f"lower it, or correct {name} under [executor]",
                )
    cores = sum(t.nodes * t.cores_per_node for t in config.offers if t.open)
    if cores > has.nodes * has.cores_per_node:
        raise InputError(
            "config-offer",
            f"the offers that open at start grant {cores} cores together, "
            f"the executor has {has.nodes * has.cores_per_node}",
            where=source.place("executor"),
            remedy="grant less, or set open = false in some of them",
        )


def require_file(path: Path, what: str, remedy: str) -> Path:
    """The path, if a file is there.

    Raises:
        InputError: `config-file-missing`.
    """
    if path.is_file():
        return path
    raise InputError("config-file-missing", f"{what} is not there", where=str(path), remedy=remedy)


def read_passphrase(config: KeyConfig, environment: Mapping[str, str]) -> bytes | None:
    """The passphrase of the private key; None if the configuration names none.

    Raises:
        InputError: `config-file-missing`, `config-file-unreadable`, `config-value`.
    """
    if config.passphrase_env:
        found = environment.get(config.passphrase_env, "")
        if not found:
            raise InputError(
                "config-value",
                f"the environment variable {config.passphrase_env} holds no passphrase",
                where="key.passphrase_env",
                remedy="set it in the daemon's environment",
            )
        return found.encode()
    if config.passphrase_file is None:
        return None
    path = require_file(config.passphrase_file, "the passphrase file", "create it with mode 0600")
    try:
        lines = path.read_bytes().splitlines()
    except OSError as error:
        raise InputError(
            "config-file-unreadable", f"can't read the passphrase: {error}", where=str(path)
        ) from None
    if not lines or not lines[0]:
        raise InputError("config-value", "the passphrase file is empty", where=str(path))
    return lines[0]
