"""Jobs on a Slurm cluster, over Slurm's own commands.

Three layers. `commands`, `wrapper`, `parse` and `states` are pure: argument lists and a batch
script out, what Slurm printed in. `runner` runs one command as the daemon or as the guests'
account. `executor` is the `SlurmExecutor`, which puts them together; `observe` reads what is idle.
docs/explanation/slurm.md tells the reasons.
"""
