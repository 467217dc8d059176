"""`centre.toml`: everything that one centre decides alone.

The file lies in the centre's folder, and every path in it counts from there. It holds where the
daemon listens, what hardware it commands, the templates of its offers and its admission policy.
None of it is replicated, except what an opened offer states. It is read strictly
(`p2pfed.shell.schema`): nothing that is misspelt is silently left at its default.

docs/reference/centre-toml.md lists every key and is checked against these classes.
"""

from __future__ import annotations

import os
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Final, TypeVar, cast, dataclass_transform

from p2pfed.core.ids import CentreName
from p2pfed.core.records import Offer
from p2pfed.errors import InputError
from p2pfed.node.events import AdmissionPolicy
from p2pfed.shell.schema import (
    ADDRESS,
    ADDRESSES,
    CENTRE,
    DURATION,
    FLAG,
    LINE,
    OPTIONAL_ADDRESS,
    OPTIONAL_PATH,
    PATH,
    WORD,
    Kind,
    Source,
    integer,
    key,
    keys_of,
    list_of,
    one_of,
    read_section,
    split_address,
)

T = TypeVar("T")

SOCKET_PATH_BYTES_MAX: Final = 107
"""What `sockaddr_un` holds on Linux, its closing zero left out."""
CONFIG_BYTES_MAX: Final = 1 << 20

COUNT = integer("a number", 1, 1 << 24)
COUNT_OR_0 = integer("a number", 0, 65535)
CORES_OR_0 = integer("a number of cores", 0, (1 << 32) - 1)
MIB = integer("a number of MiB", 1, (1 << 32) - 1)
_BALANCE = integer("a balance", -1_000_000, 1_000_000)
BALANCE: Kind[int | None] = Kind(
    "a number from -1000000 to 1000000", _BALANCE.parse, lambda value: str(value or 0)
)


@dataclass_transform(frozen_default=True, kw_only_default=True, field_specifiers=(key,))
def _section(cls: type[T]) -> type[T]:
    return dataclass(frozen=True, slots=True, kw_only=True)(cls)


@_section
class KeyConfig:
    """`[key]`: where the private key is and what opens it."""

    file: Path = key("Private key, PKCS#8 PEM, mode 0600", PATH, default=Path("key.pem"))
    passphrase_file: Path | None = key(
        "File whose first line is the key's passphrase", OPTIONAL_PATH, default=None
    )
    passphrase_env: str = key(
        "Environment variable that holds the key's passphrase", LINE, default=""
    )


@_section
class ControlConfig:
    """`[control]`: the door for the command line and local tools."""

    socket: Path = key(
        "Unix socket of the control API (its path has at most 107 bytes)",
        PATH,
        default=Path("run/control.sock"),
    )
    group: str = key("Group that may use the socket; empty: only the owner", LINE, default="")


@_section
class ExecutorConfig:
    """`[executor]`: what runs guests' jobs here, and on what hardware."""

    kind: str = key("What runs the jobs: local processes", one_of("local"), default="local")
    nodes: int = key("Nodes that it commands", COUNT, default=1)
    cores_per_node: int = key("Cores of each node", COUNT, default=1)
    gpus_per_node: int = key("GPUs of each node", COUNT_OR_0, default=0)
    memory_mib_per_node: int = key("Memory of each node in MiB", MIB, default=1024)
    run_as: str = key(
        "Account that jobs run under (the daemon must be root); empty: the daemon's own",
        LINE,
        default="",
    )


@_section
class AdmissionConfig:
    """`[admission]`: whose jobs are declined, whatever the offers say."""

    paused: bool = key("Decline every new guest job", FLAG, default=False)
    deny_centres: tuple[str, ...] = key(
        "Decline jobs of these centres", list_of(CENTRE), default=()
    )
    deny_classes: tuple[str, ...] = key(
        "Decline jobs of these work classes", list_of(WORD), default=()
    )


@_section
class LoggingConfig:
    """`[logging]`: what the daemon tells on standard error."""

    level: str = key(
        "Least severity that is logged",
        one_of("debug", "info", "warning", "error"),
        default="info",
    )


@_section
class OfferTemplate:
    """`[[offer]]`: terms under which capacity can be opened by name."""

    name: str = key("Name of the template and of the offers made from it", WORD)
    open: bool = key("Open it whenever the daemon starts", FLAG, default=False)
    resource_class: str = key("Resource class of the federation's rules", WORD, default="cpu")
    nodes: int = key("Nodes granted", COUNT)
    cores_per_node: int = key("Cores granted on each node", COUNT)
    gpus_per_node: int = key("GPUs granted on each node", COUNT_OR_0, default=0)
    memory_mib_per_node: int = key("Memory granted on each node in MiB", MIB)
    walltime_max_s: int = key(
        "Longest job that it takes", DURATION, toml="walltime_max", default=86_400
    )
    features: tuple[str, ...] = key(
        "What the nodes have (container runtime, software)", list_of(WORD), default=()
    )
    classes: tuple[str, ...] = key("Work classes taken; empty: all", list_of(WORD), default=())
    data_classes: tuple[str, ...] = key("Data classes taken; empty: all", list_of(WORD), default=())
    allow: tuple[str, ...] = key(
        "Only jobs of these centres; empty: of all", list_of(CENTRE), default=()
    )
    deny: tuple[str, ...] = key("No jobs of these centres", list_of(CENTRE), default=())
    per_centre_cores: int = key(
        "Cores that one centre may hold at a time; 0: no cap", CORES_OR_0, default=0
    )
    min_balance: int | None = key(
        "Least balance (-1000000 to 1000000) of a job's centre; unset: as the rules say",
        BALANCE,
        default=None,
    )

    def offer(self, *, min_balance: int, until_ms: int = 0) -> Offer:
        """The record that opens this capacity.

        Args:
            min_balance: what the rules say, for a template that states none.
            until_ms: when the capacity ends; 0: when it is closed.
        """
        return Offer(
            resource_class=self.resource_class,
            nodes=self.nodes,
            cores_per_node=self.cores_per_node,
            gpus_per_node=self.gpus_per_node,
            memory_mib_per_node=self.memory_mib_per_node,
            walltime_max_s=self.walltime_max_s,
            until_ms=until_ms,
            features=self.features,
            classes=self.classes,
            data_classes=self.data_classes,
            allow=self.allow,
            deny=self.deny,
            per_centre_cores=self.per_centre_cores,
            min_balance=min_balance if self.min_balance is None else self.min_balance,
            name=self.name,
        )


@_section
class TopConfig:
    """The keys before the first table."""

    name: str = key("This centre's name, as in the federation's charter", CENTRE)
    listen: str = key("Address that peers connect to, as this machine sees it", ADDRESS)
    advertise: str = key(
        "Address that peers shall use, if it is another", OPTIONAL_ADDRESS, default=""
    )
    charter: Path = key("The federation's charter", PATH, default=Path("charter.cbor"))
    state: Path = key("Folder of the ledger database", PATH, default=Path("state"))
    highwater: Path = key(
        "High-water file: never inside the state folder, never in a backup",
        PATH,
        default=Path("highwater"),
    )
    spool: Path = key("Folder of payloads, running claims and results", PATH, default=Path("spool"))
    peers: tuple[tuple[CentreName, str], ...] = key(
        "Addresses that override what the centres themselves announce", ADDRESSES, default=()
    )


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
    offers: tuple[OfferTemplate, ...]
    admission: AdmissionConfig
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
        )

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


SECTIONS: Final[Mapping[str, type[object]]] = {
    "": TopConfig,
    "key": KeyConfig,
    "control": ControlConfig,
    "executor": ExecutorConfig,
    "offer": OfferTemplate,
    "admission": AdmissionConfig,
    "logging": LoggingConfig,
}
"""The tables of the file and their classes; the docs' table is checked against it."""


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
        if name not in ("", "offer")
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
        offers=_read_offers(items, source),
        admission=cast(AdmissionConfig, read["admission"]),
        logging=cast(LoggingConfig, read["logging"]),
    )
    _check_paths(config, top, source)
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


def _read_offers(items: Mapping[str, object], source: Source) -> tuple[OfferTemplate, ...]:
    found = items.get("offer", [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise InputError(
            "config-type",
            "'offer' is a list of tables",
            where=source.place("offer"),
            remedy="write [[offer]], with two brackets, before each template",
        )
    offers = tuple(
        read_section(OfferTemplate, item, source, table="offer", index=index)
        for index, item in enumerate(found)
    )
    for index, template in enumerate(offers):
        if template.name in {other.name for other in offers[:index]}:
            raise InputError(
                "config-offer",
                f"two offer templates are named {template.name!r}",
                where=source.place("offer", index, "name"),
                remedy="give each template a name of its own",
            )
    return offers


def _check_paths(config: CentreConfig, top: TopConfig, source: Source) -> None:
    host, port = split_address(config.listen)
    if host in ("0.0.0.0", "::") and not top.advertise:
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


def _check_offers(config: CentreConfig, source: Source) -> None:
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


# The template


_INTRODUCTIONS: Final = {
    "": "A centre of a p2pfed federation. Paths count from the folder of this file.\n"
    "Lines that begin with '#' and a key show its default.",
    "key": "The key that signs this centre's ledger and proves its identity to peers.",
    "control": "The control API, which the command line uses.",
    "executor": "What runs jobs here. Offers can't grant more than this.",
    "offer": "Capacity that can be opened with 'p2pfed offer open NAME'. Repeat the table for more.",
    "admission": "Whose jobs this centre declines, whatever the offers say. Never leaves this machine.",
    "logging": "The daemon's messages on standard error.",
}


def centre_toml(
    *,
    name: str,
    listen: str,
    advertise: str = "",
    executor: ExecutorConfig | None = None,
    offers: tuple[OfferTemplate, ...] = (),
    passphrase_file: str = "",
) -> str:
    """The commented text of a new `centre.toml`; `parse_config` reads it back.

    Args:
        offers: the templates; without one, a template `default` of all that `executor` has,
            which is not opened at start.
    """
    has = executor or ExecutorConfig()
    whole = OfferTemplate(
        name="default",
        nodes=has.nodes,
        cores_per_node=has.cores_per_node,
        gpus_per_node=has.gpus_per_node,
        memory_mib_per_node=has.memory_mib_per_node,
    )
    key_config = KeyConfig(passphrase_file=Path(passphrase_file) if passphrase_file else None)
    parts = [
        _render("", TopConfig(name=name, listen=listen, advertise=advertise)),
        _render("key", key_config),
        _render("control", ControlConfig()),
        _render("executor", has, shown=("nodes", "cores_per_node", "memory_mib_per_node")),
        *(_render("offer", offer, shown=("open", "walltime_max")) for offer in offers or (whole,)),
        _render("admission", AdmissionConfig()),
        _render("logging", LoggingConfig()),
    ]
    return "\n".join(parts)


def _render(table: str, section: object, shown: tuple[str, ...] = ()) -> str:
    lines = [f"# {line}" for line in _INTRODUCTIONS[table].split("\n")]
    if table:
        lines.append(f"[[{table}]]" if table == "offer" else f"[{table}]")
    else:
        lines.append("")
    for k in keys_of(type(section)):
        value = getattr(section, k.attribute)
        prefix = "" if k.required or value != k.default or k.name in shown else "# "
        lines += [f"# {k.about}.", f"{prefix}{k.name} = {k.kind.dump(value)}"]
    return "\n".join(lines) + "\n"
