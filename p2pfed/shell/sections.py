"""The tables of `centre.toml`, each a class whose declarations are the schema.

docs/reference/centre-toml.md lists every key and is checked against these classes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar, dataclass_transform
from zoneinfo import ZoneInfo

from p2pfed.core.ids import CentreName
from p2pfed.core.records import Offer
from p2pfed.node.admission import AdmissionRule, Decision
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
    WINDOW,
    WORD,
    ZONE,
    Kind,
    integer,
    key,
    list_of,
    one_of,
    text,
)
from p2pfed.shell.windows import Windows, parse_windows

T = TypeVar("T")

HIGHWATER_FILE: Final = "highwater"
"""Where the high-water file stands in a centre's folder, unless `centre.toml` says otherwise."""

COUNT = integer("a number", 1, 1 << 24)
COUNT_OR_0 = integer("a number", 0, 65535)
CORES_OR_0 = integer("a number of cores", 0, (1 << 32) - 1)
MIB = integer("a number of MiB", 1, (1 << 32) - 1)
PERCENT = integer("a percentage", 1, 100)
PERCENT_OR_0 = integer("a percentage", 0, 100)
NODES_OR_0 = integer("a number of nodes", 0, 1 << 24)
OPTIONAL_GRES = text("gpu, gpu:TYPE or empty", re.compile(r"(gpu(:[A-Za-z0-9_.-]+)?)?\Z").match)
GRES = text("gpu or gpu:TYPE", re.compile(r"gpu(:[A-Za-z0-9_.-]+)?\Z").match)
DIGEST = text("64 hexadecimal digits", re.compile(r"[0-9a-f]{64}\Z").match, "use sha256sum FILE")
_BALANCE = integer("a number", -1_000_000, 1_000_000)
BALANCE: Kind[int | None] = Kind(_BALANCE.name, _BALANCE.parse, lambda value: str(value or 0))


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
    readers: str = key(
        "Group that may look and change nothing; with it, only those in both groups change things",
        LINE,
        default="",
    )


@_section
class ExecutorConfig:
    """`[executor]`: what runs guests' jobs here, and on what hardware."""

    kind: str = key(
        "What runs the jobs: local processes, or Slurm",
        one_of("local", "slurm"),
        default="local",
    )
    nodes: int = key("Nodes that it commands", COUNT, default=1)
    cores_per_node: int = key("Cores of each node", COUNT, default=1)
    gpus_per_node: int = key("GPUs of each node", COUNT_OR_0, default=0)
    memory_mib_per_node: int = key("Memory of each node in MiB", MIB, default=1024)
    run_as: str = key(
        "Account that jobs run under (the daemon must be root, or with Slurm may use sudo); "
        "empty: the daemon's own",
        LINE,
        default="",
    )


@_section
class SlurmConfig:
    """`[slurm]`: how guests' jobs are submitted, if `kind = "slurm"`."""

    partition: str = key("Partition that guests run in; required", LINE, default="")
    account: str = key("Slurm account; empty: Slurm's default", LINE, default="")
    qos: str = key("Quality of service; empty: Slurm's default", LINE, default="")
    reservation: str = key("Reservation that guests run in; empty: none", LINE, default="")
    gpu_gres: str = key("How a GPU is asked for: gpu, or gpu:TYPE", GRES, default="gpu")
    wrapper: Path | None = key(
        "Program that is called with each script and its arguments, and becomes them",
        OPTIONAL_PATH,
        default=None,
    )
    image: str = key("Container image that guests run in, by apptainer exec", LINE, default="")
    scripts: tuple[str, ...] = key(
        "Scripts that may run, by SHA-256; empty: all", list_of(DIGEST), default=()
    )
    bin: Path | None = key(
        "Folder of Slurm's commands; empty: they are on the PATH", OPTIONAL_PATH, default=None
    )
    conf: Path | None = key(
        "Slurm's configuration file; empty: Slurm's default", OPTIONAL_PATH, default=None
    )
    timeout: int = key("Longest that one of Slurm's commands may take", DURATION, default=15)
    strays: str = key(
        "Jobs of run_as that are none of this daemon's: end them; or keep them, for an account "
        "that others use, too",
        one_of("end", "keep"),
        default="end",
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
class AdmitRule:
    """`[[admit]]`: one rule about guests' jobs; the first that fits a job decides."""

    decision: str = key(
        "What becomes of a job that fits", one_of("accept", "ask", "decline"), toml="then"
    )
    name: str = key("How the rule is called in requests and decisions", LINE, default="")
    centres: tuple[str, ...] = key(
        "Fits jobs of these centres; empty: of all", list_of(CENTRE), default=()
    )
    classes: tuple[str, ...] = key("Fits these work classes; empty: all", list_of(WORD), default=())
    data_classes: tuple[str, ...] = key(
        "Fits these data classes; empty: all", list_of(WORD), default=()
    )
    features: tuple[str, ...] = key(
        "Fits jobs that ask for one of these, such as a container runtime; empty: all",
        list_of(WORD),
        default=(),
    )
    lacks: tuple[str, ...] = key("Fits jobs that ask for none of these", list_of(WORD), default=())
    cores_from: int = key("Fits jobs of at least so many cores", CORES_OR_0, default=0)
    gpus_from: int = key("Fits jobs of at least so many GPUs", COUNT_OR_0, default=0)
    walltime_from_s: int = key(
        "Fits jobs of at least this walltime", DURATION, toml="walltime_from", default=1
    )
    during: tuple[str, ...] = key(
        "Fits only in these windows; empty: always", list_of(WINDOW), default=()
    )
    zone: str = key("Time zone of the windows", ZONE, default="UTC")

    def rule(self, number: int) -> AdmissionRule:
        """The rule as the node takes it; `number` names one that has no name of its own."""
        times = parse_windows(self.during, ZoneInfo(self.zone)) if self.during else None
        return AdmissionRule(
            decision=Decision(self.decision),
            name=self.name or f"rule {number}",
            centres=frozenset(self.centres),
            classes=frozenset(self.classes),
            data_classes=frozenset(self.data_classes),
            features=frozenset(self.features),
            lacks=frozenset(self.lacks),
            cores_from=self.cores_from,
            gpus_from=self.gpus_from,
            walltime_from_s=self.walltime_from_s,
            times=times,
        )


@_section
class ExportConfig:
    """`[export]`: which jobs of the local Slurm queue may go out, without their users' doing."""

    partitions: tuple[str, ...] = key(
        "Partitions whose waiting jobs may go out; empty: none", list_of(LINE), default=()
    )
    after_wait_s: int = key(
        "How long a job waits before it goes out", DURATION, toml="after_wait", default=600
    )
    users: tuple[str, ...] = key(
        "Only jobs of these accounts; empty: of all", list_of(LINE), default=()
    )
    deny_users: tuple[str, ...] = key("No jobs of these accounts", list_of(LINE), default=())
    nodes_max: int = key("Most nodes of a job; 0: no limit", COUNT_OR_0, default=0)
    cores_max: int = key("Most cores of a job; 0: no limit", CORES_OR_0, default=0)
    walltime_max_s: int = key(
        "Longest time limit of a job", DURATION, toml="walltime_max", default=86_400
    )
    work_class: str = key("Work class of jobs that name none", WORD, default="normal")
    data_class: str = key("Data class of jobs that name none", WORD, default="open")
    most: int = key("Most jobs that are out at a time", COUNT, default=100)
    interval_s: int = key("Between two looks at the queue", DURATION, toml="interval", default=10)
    operator: str = key(
        "Account that may hold and end all jobs, used by sudo unless the daemon is root",
        LINE,
        default="slurm",
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
    follow: bool = key(
        "Open, resize and close it as the batch system has idle capacity", FLAG, default=False
    )
    resource_class: str = key("Resource class of the federation's rules", WORD, default="cpu")
    nodes: int = key("Nodes granted; with follow: at most", COUNT)
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
    preemptible: bool = key("Local jobs may take its nodes back", FLAG, default=False)
    notice_s: int = key(
        "How long guests are told before they must go", DURATION, toml="notice", default=30
    )
    partition: str = key(
        "Slurm partition of its guests; empty: the one under [slurm]", LINE, default=""
    )
    gpu_gres: str = key(
        "How its GPUs are asked for; empty: as [slurm] says", OPTIONAL_GRES, default=""
    )
    windows: tuple[str, ...] = key(
        "With follow: when it may be open; empty: always", list_of(WINDOW), default=()
    )
    zone: str = key("Time zone of the windows", ZONE, default="UTC")
    cores: int = key(
        "With follow: cores granted together at most; 0: no other limit than nodes",
        CORES_OR_0,
        default=0,
    )
    share: int = key(
        "With follow: percentage of what is idle, guests' own nodes included",
        PERCENT,
        default=100,
    )
    keep_free: int = key(
        "With follow: wholly idle nodes that are always left alone", NODES_OR_0, default=0
    )
    walltime_min_s: int = key(
        "With follow: it closes when what is left of its time is shorter",
        DURATION,
        toml="walltime_min",
        default=600,
    )
    long_share: int = key(
        "With follow: percentage of it that jobs longer than an hour may hold, rounded down",
        PERCENT_OR_0,
        default=50,
    )
    gaps: bool = key(
        "With follow: offer apart what is free only until the next local job is expected",
        FLAG,
        default=True,
    )

    @property
    def times(self) -> Windows:
        """When it may be open."""
        return parse_windows(self.windows, ZoneInfo(self.zone))

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
            preemptible=self.preemptible,
            notice_s=self.notice_s if self.preemptible else 0,
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
        default=Path(HIGHWATER_FILE),
    )
    spool: Path = key("Folder of payloads, running claims and results", PATH, default=Path("spool"))
    peers: tuple[tuple[CentreName, str], ...] = key(
        "Addresses that override what the centres themselves announce", ADDRESSES, default=()
    )


@_section
class RetentionConfig:
    """`[retention]`: how long the ledger's blocks stay in the database, and where they go then."""

    archive: bool = key(
        "Move old blocks that a majority of the members cosigned to archive segments",
        FLAG,
        default=True,
    )
    keep_s: int = key(
        "How long blocks stay in the database at least", DURATION, toml="keep", default=30 * 86400
    )
    folder: Path = key(
        "Folder of the archive segments; may lie on another disk", PATH, default=Path("archive")
    )
    segment_kib: int = key(
        "Blocks of how many KiB together make one segment",
        integer("a number of KiB", 1, 1 << 20),
        default=16384,
    )


SECTIONS: Final[Mapping[str, type[object]]] = {
    "": TopConfig,
    "key": KeyConfig,
    "control": ControlConfig,
    "executor": ExecutorConfig,
    "slurm": SlurmConfig,
    "offer": OfferTemplate,
    "admission": AdmissionConfig,
    "admit": AdmitRule,
    "export": ExportConfig,
    "retention": RetentionConfig,
    "logging": LoggingConfig,
}
"""The tables of the file and their classes; the docs' table is checked against it."""

LISTS: Final = frozenset({"offer", "admit"})
"""Tables that may stand any number of times, in two brackets."""
