"""The cluster itself: its configuration, what it has, does and waits for."""

from __future__ import annotations

from p2pfed.execute.interface import Capacity
from p2pfed.execute.observation import Observation
from p2pfed.execute.slurm import commands, observe, parse
from p2pfed.execute.slurm.runner import Runner
from p2pfed.execute.slurm.settings import SlurmSettings


class Cluster:
    """Asks the controller about everything but jobs.

    Args:
        user: the account of the guests.
    """

    def __init__(self, runner: Runner, settings: SlurmSettings, user: str) -> None:
        self._runner = runner
        self._settings = settings
        self._user = user
        self._config: dict[str, str] | None = None
        self._takes_back: bool | None = None

    def capacity(self) -> Capacity:
        """The hardware of the partition: its nodes, and what the largest of them has.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        command = commands.sinfo(self._settings.partition)
        return observe.hardware(observe.parse_nodes(self._runner.read(command)))

    def observe(self) -> Observation:
        """What the nodes of all partitions have to give, and which jobs wait for them.

        Raises:
            ExecutorError: `slurm-…` (transient): Slurm can't be asked.
        """
        return observe.make_observation(
            nodes=self._runner.read(commands.sinfo()),
            waiting=self._runner.read(commands.pending()),
            guests=self._runner.read(commands.guests(self._user)),
            user=self._user,
            takes_back=self._reads_takes_back(),
        )

    def _reads_takes_back(self) -> bool:
        if self._takes_back is None:
            text = self._runner.read(commands.show_partition(self._settings.partition))
            partition = parse.parse_pairs(text)
            self.setting("PreemptType")
            self._takes_back = observe.takes_back(self._config or {}, partition)
        return self._takes_back

    def expected_start_s(
        self, *, partition: str, nodes: int, cores_per_node: int, minutes: int
    ) -> int:
        """When a job of this size would begin, in seconds since the epoch; queues nothing.

        Raises:
            ExecutorError: `slurm-refused`: it never would; `slurm-…` (transient): Slurm can't be
                asked.
        """
        command = commands.test_only(
            partition or self._settings.partition,
            nodes=nodes,
            cores_per_node=cores_per_node,
            minutes=minutes,
        )
        return observe.parse_test_only(self._runner.act_for_errors(command))

    def setting(self, name: str) -> str:
        """One setting of the cluster's configuration, as it was when first asked for; or empty."""
        if self._config is None:
            self._config = parse.parse_config(self._runner.read(commands.show_config()))
        return self._config.get(name, "")

    def has_accounting(self) -> bool:
        """True if there is a slurmdbd."""
        return self.setting("AccountingStorageType") == "accounting_storage/slurmdbd"

    def has_completion(self) -> bool:
        """True if completion records can be read."""
        return self.setting("JobCompType") == "jobcomp/filetxt"
