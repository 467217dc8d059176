"""How a site wants its guests to run on Slurm."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SlurmSettings:
    """Where guests' jobs go, and how they are begun.

    Attributes:
        partition: where guests run.
        account, qos, reservation: what they run under; empty: Slurm's own defaults.
        gpu_gres: how a GPU is asked for, `gpu` or `gpu:TYPE`.
        run_as: the account that guests run as; empty: the daemon's own, which must not be root.
        wrapper: the site's program, which is called with the script and its arguments and must
            become them (`exec "$@"`); empty: none.
        image: container image that every guest runs in, by `apptainer exec`; empty: none.
        scripts: SHA-256 of the scripts that may run, in hexadecimal; empty: any.
        bin: folder of Slurm's commands; empty: they are on the usual PATH.
        conf: Slurm's configuration file, for SLURM_CONF; empty: Slurm's own default.
        timeout_s: the longest that one of Slurm's commands may take.
    """

    partition: str
    account: str = ""
    qos: str = ""
    reservation: str = ""
    gpu_gres: str = "gpu"
    run_as: str = ""
    wrapper: str = ""
    image: str = ""
    scripts: tuple[str, ...] = ()
    bin: str = ""
    conf: str = ""
    timeout_s: int = 15
