"""What a test bed looks like: its clusters' folders, ports and configuration, as pure text.

Every cluster is a trust domain of its own: its own munge key and socket, its own `slurm.conf`, its
own ports. Several slurmd on one machine are told apart by node name and port; no namespaces, no
systemd. A cluster remembers its slot, from which its ports follow, in its folder.

Partitions, on all nodes:

    local       what residents use; jobs there preempt guests
    federated   the same for jobs that may also go out to the federation
    guest       what guests use: only the group `fedguest`, preempted by the other two
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

GUEST = "fedguest"
RESIDENT = "resident"
DAEMON = "fedaemon"
"""The account of a daemon that is not root; its group of guests lets it read what they wrote."""
_PORT_BASE = 17_800
_PORTS_EACH = 100


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the command line asks for; the same for every cluster.

    Attributes:
        root: folder of the whole test bed.
        nodes, cores, memory_mib, gpus: of each cluster; of each node.
        accounting: run a slurmdbd for each cluster, over one MariaDB.
        cgroups: cgroup v1 can be written here: whole process trees are tracked and memory is
            limited, so that a real OUT_OF_MEMORY can be had.
        host: the machine's short name.
    """

    root: Path
    nodes: int
    cores: int
    memory_mib: int
    gpus: int
    accounting: bool
    cgroups: bool
    host: str


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """One cluster of the test bed; `slot` is its number on this machine."""

    name: str
    slot: int
    settings: Settings

    @property
    def folder(self) -> Path:
        """Everything of this cluster."""
        return self.settings.root / self.name

    @property
    def slurm_conf(self) -> Path:
        """What SLURM_CONF names."""
        return self.folder / "etc" / "slurm.conf"

    @property
    def nodes(self) -> tuple[str, ...]:
        """The nodes' names."""
        return tuple(f"{self.name}{number + 1}" for number in range(self.settings.nodes))

    def pid_file(self, daemon: str, node: str = "") -> Path:
        """Where a daemon writes its process id."""
        return self.folder / "run" / (f"{daemon}-{node}.pid" if node else f"{daemon}.pid")

    def port(self, offset: int) -> int:
        """A port of this cluster: 17 slurmctld, 19 slurmdbd, from 21 the nodes."""
        return _PORT_BASE + _PORTS_EACH * self.slot + offset


def slurm_conf(cluster: Cluster) -> str:
    """The cluster's `slurm.conf`."""
    settings, folder = cluster.settings, cluster.folder
    track, task = ("cgroup", "cgroup") if settings.cgroups else ("linuxproc", "none")
    gather = "cgroup" if settings.cgroups else "linux"
    span = f"{cluster.name}[1-{settings.nodes}]"
    gres = f"Gres=gpu:fake:{settings.gpus} " if settings.gpus else ""
    return f"""\
ClusterName={cluster.name}
SlurmctldHost={settings.host}(127.0.0.1)
SlurmctldPort={cluster.port(17)}
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
CredType=cred/munge
SlurmUser=slurm
SlurmdUser=root
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool/%n
SlurmctldPidFile={cluster.pid_file("slurmctld")}
SlurmdPidFile={folder}/run/slurmd-%n.pid
SlurmctldLogFile={folder}/log/slurmctld.log
SlurmdLogFile={folder}/log/slurmd-%n.log
SlurmctldDebug=info
SlurmdDebug=info
ProctrackType=proctrack/{track}
TaskPlugin=task/{task}
SwitchType=switch/none
MpiDefault=none
MailProg=/bin/true
ReturnToService=2
TreeWidth=16
SlurmctldTimeout=60
SlurmdTimeout=60
InactiveLimit=0
KillWait=3
OverTimeLimit=0
MinJobAge=300
JobRequeue=1
EnforcePartLimits=ALL
SlurmdParameters=config_overrides
LaunchParameters=use_interactive_step
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=5,sched_interval=5,batch_sched_delay=0,bf_continue
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
DefMemPerCPU=200
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PreemptExemptTime=00:00:00
SlurmctldParameters=preempt_send_user_signal
JobAcctGatherType=jobacct_gather/{gather}
JobAcctGatherFrequency=5
JobCompType=jobcomp/filetxt
JobCompLoc={folder}/log/jobcomp.txt
{_accounting(cluster)}
GresTypes=gpu
NodeName={span} NodeHostname={settings.host} NodeAddr=127.0.0.1 \
Port={cluster.port(21)}-{cluster.port(20 + settings.nodes)} CPUs={settings.cores} \
RealMemory={settings.memory_mib} {gres}State=UNKNOWN
PartitionName=local Nodes=ALL Default=YES PriorityTier=10 PreemptMode=OFF \
DefaultTime=60 MaxTime=INFINITE State=UP
PartitionName=federated Nodes=ALL PriorityTier=10 PreemptMode=OFF \
DefaultTime=60 MaxTime=INFINITE State=UP
PartitionName=guest Nodes=ALL PriorityTier=1 PreemptMode=REQUEUE GraceTime=0 \
AllowGroups={GUEST} DefaultTime=10 MaxTime=120 State=UP
"""


def _accounting(cluster: Cluster) -> str:
    if not cluster.settings.accounting:
        return "AccountingStorageType=accounting_storage/none"
    return f"""\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=localhost
AccountingStoragePort={cluster.port(19)}
AccountingStoragePass={cluster.folder}/munge/socket
AccountingStoreFlags=job_comment,job_script
AccountingStorageTRES=gres/gpu"""


def slurmdbd_conf(cluster: Cluster) -> str:
    """The cluster's `slurmdbd.conf`; the database is its own, the server is shared."""
    folder = cluster.folder
    return f"""\
AuthType=auth/munge
AuthInfo=socket={folder}/munge/socket
DbdHost=localhost
DbdPort={cluster.port(19)}
SlurmUser=slurm
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm_{cluster.name}
PidFile={cluster.pid_file("slurmdbd")}
LogFile={folder}/log/slurmdbd.log
"""


def cgroup_conf(cluster: Cluster) -> str:
    """The cluster's `cgroup.conf`."""
    limits = "ConstrainRAMSpace=yes\nConstrainCores=no\n" if cluster.settings.cgroups else ""
    return f"CgroupPlugin=cgroup/v1\nCgroupAutomount=no\n{limits}"


def gres_conf(cluster: Cluster) -> str:
    """The cluster's `gres.conf`: GPUs that are device nodes of /dev/null."""
    if not cluster.settings.gpus:
        return ""
    span = f"{cluster.name}[1-{cluster.settings.nodes}]"
    files = f"{cluster.folder}/dev/gpu[0-{cluster.settings.gpus - 1}]"
    return f"NodeName={span} Name=gpu Type=fake File={files}\n"
