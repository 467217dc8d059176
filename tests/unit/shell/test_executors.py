"""The executor that a configuration names."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.errors import InputError
from p2pfed.execute.interface import Capacity
from p2pfed.execute.local import LocalExecutor
from p2pfed.shell.config import parse_config
from p2pfed.shell.executors import declared_capacity, make_executor, slurm_settings

SMALL = 'name = "alpha"\nlisten = "127.0.0.1:7300"\n[executor]\nnodes = 2\ncores_per_node = 3\n'
PATH = Path("/srv/alpha/centre.toml")


def test_local_processes_are_the_default() -> None:
    config = parse_config(SMALL, PATH)
    assert isinstance(make_executor(config), LocalExecutor)
    assert declared_capacity(config) == Capacity(
        nodes=2, cores_per_node=3, gpus_per_node=0, memory_mib_per_node=1024
    )


def test_slurm_is_set_up_by_its_own_table() -> None:
    text = SMALL + 'kind = "slurm"\nrun_as = "guest"\n[slurm]\npartition = "p"\nqos = "q"\n'
    settings = slurm_settings(parse_config(text + 'wrapper = "begin.sh"\n', PATH))
    assert (settings.partition, settings.qos, settings.run_as) == ("p", "q", "guest")
    assert (settings.wrapper, settings.conf) == ("/srv/alpha/begin.sh", "")


@pytest.mark.parametrize("rest", ["", "[slurm]\n", '[slurm]\npartition = ""\n'])
def test_slurm_without_a_partition_is_refused(rest: str) -> None:
    with pytest.raises(InputError, match="no partition is named"):
        parse_config(f'{SMALL}kind = "slurm"\n{rest}', PATH)
