"""The text of a new `centre.toml`: every key with its description, defaults commented out.

It is written from the declarations that read it (`p2pfed.shell.sections`), so it can't name a key
or a default that the reader does not have.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from p2pfed.shell.schema import keys_of
from p2pfed.shell.sections import (
    LISTS,
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

_INTRODUCTIONS: Final = {
    "": "A centre of a p2pfed federation. Paths count from the folder of this file.\n"
    "Lines that begin with '#' and a key show its default.",
    "key": "The key that signs this centre's ledger and proves its identity to peers.",
    "control": "The control API, which the command line uses.",
    "executor": "What runs jobs here. Offers can't grant more than this.",
    "slurm": "How guests' jobs are submitted, if the executor is Slurm.",
    "offer": "Capacity that 'p2pfed offer open NAME' opens. Repeat the table for more templates.",
    "admission": "Whose jobs this centre declines, whatever the offers say. Stays on this machine.",
    "admit": "A rule about guests' jobs; the first that fits decides. Repeat the table for more.",
    "export": "Which jobs of the local Slurm queue go out by themselves when they wait too long.",
    "retention": "How long the ledger's blocks stay in the database, and where they go then.",
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
        _render("slurm", SlurmConfig()),
        *(_render("offer", offer, shown=("open", "walltime_max")) for offer in offers or (whole,)),
        _render("admission", AdmissionConfig()),
        _comment(_render("admit", AdmitRule(decision="ask"))),
        _render("export", ExportConfig()),
        _render("retention", RetentionConfig()),
        _render("logging", LoggingConfig()),
    ]
    return "\n".join(parts)


def _comment(text: str) -> str:
    """The text with every line commented out."""
    return "\n".join(f"# {line.removeprefix('# ')}" for line in text.splitlines()) + "\n"


def _render(table: str, section: object, shown: tuple[str, ...] = ()) -> str:
    lines = [f"# {line}" for line in _INTRODUCTIONS[table].split("\n")]
    if table:
        lines.append(f"[[{table}]]" if table in LISTS else f"[{table}]")
    else:
        lines.append("")
    for k in keys_of(type(section)):
        value = getattr(section, k.attribute)
        prefix = "" if k.required or value != k.default or k.name in shown else "# "
        lines += [f"# {k.about}.", f"{prefix}{k.name} = {k.kind.dump(value)}"]
    return "\n".join(lines) + "\n"
