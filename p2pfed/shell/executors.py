"""The executor that a configuration names."""

from __future__ import annotations

import os
from pathlib import Path

from p2pfed.errors import ExecutorError
from p2pfed.execute.accounts import find_account
from p2pfed.execute.interface import Capacity, Executor
from p2pfed.execute.local import LocalExecutor
from p2pfed.execute.slurm.executor import SlurmExecutor
from p2pfed.execute.slurm.localjobs import LocalQueue
from p2pfed.execute.slurm.runner import Runner
from p2pfed.execute.slurm.settings import SlurmSettings
from p2pfed.execute.slurm.strays import GuestQueue
from p2pfed.execute.strays import LocalGuests, StrayFinder
from p2pfed.shell.config import CentreConfig


def declared_capacity(config: CentreConfig) -> Capacity:
    """What `[executor]` says that guests can be given at most; asks no batch system."""
    has = config.executor
    return Capacity(
        nodes=has.nodes,
        cores_per_node=has.cores_per_node,
        gpus_per_node=has.gpus_per_node,
        memory_mib_per_node=has.memory_mib_per_node,
    )


def make_executor(config: CentreConfig) -> Executor:
    """The executor of a centre; none of them needs its batch system to be up for that.

    Raises:
        ExecutorError: `executor-account`.
    """
    has = config.executor
    if has.kind == "slurm":
        return SlurmExecutor(slurm_settings(config), declared_capacity(config))
    return LocalExecutor(
        nodes=has.nodes,
        cores_per_node=has.cores_per_node,
        gpus_per_node=has.gpus_per_node,
        memory_mib_per_node=has.memory_mib_per_node,
        run_as=has.run_as or None,
    )


def local_queue(config: CentreConfig) -> LocalQueue | None:
    """The Slurm queue that jobs may go out from; None for a centre without one.

    A centre that lets no more jobs out has it, too: some may still be out.

    Raises:
        ExecutorError: `executor-account`: the operator's account is not there.
    """
    if config.executor.kind != "slurm":
        return None
    settings = slurm_settings(config)
    operator = None
    if os.geteuid() != 0:
        try:
            operator = find_account(config.export.operator)
        except ExecutorError:
            if config.export.partitions:
                raise
    return LocalQueue(Runner(None, settings), Runner(operator, settings))


def guest_uid(config: CentreConfig) -> int | None:
    """The number of the account that guests run as; None: the daemon's own.

    Raises:
        ExecutorError: `executor-account`.
    """
    run_as = config.executor.run_as
    return find_account(run_as).uid if run_as else None


def guest_queue(config: CentreConfig) -> GuestQueue | None:
    """The queue of an account that only this daemon's guests use; None if there is no such.

    Raises:
        ExecutorError: `executor-account`.
    """
    run_as = config.executor.run_as
    if config.executor.kind != "slurm" or not run_as or config.slurm.strays == "keep":
        return None
    account = find_account(run_as)
    if account.uid == os.geteuid():
        return None
    return GuestQueue(Runner(account, slurm_settings(config)), account.name)


def stray_finder(config: CentreConfig, claims: Path) -> StrayFinder | None:
    """Where jobs of guests that no claim stands for are found; None if nowhere.

    Args:
        config: the centre's.
        claims: the folder that holds the folders of claims.

    Raises:
        ExecutorError: `executor-account`.
    """
    return LocalGuests(claims) if config.executor.kind == "local" else guest_queue(config)


def slurm_settings(config: CentreConfig) -> SlurmSettings:
    """How guests run on Slurm, by `[slurm]` and `run_as`."""
    slurm = config.slurm
    return SlurmSettings(
        partition=slurm.partition,
        account=slurm.account,
        qos=slurm.qos,
        reservation=slurm.reservation,
        gpu_gres=slurm.gpu_gres,
        run_as=config.executor.run_as,
        wrapper="" if slurm.wrapper is None else str(slurm.wrapper),
        image=slurm.image,
        scripts=slurm.scripts,
        bin="" if slurm.bin is None else str(slurm.bin),
        conf="" if slurm.conf is None else str(slurm.conf),
        timeout_s=slurm.timeout,
    )
