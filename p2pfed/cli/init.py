"""`p2pfed init`: a new centre's folder."""

from __future__ import annotations

import os
from pathlib import Path

import click

from p2pfed.cli.session import read_bytes, refuse_existing
from p2pfed.cli.tables import show_mib
from p2pfed.core.charter import Card, write_card
from p2pfed.core.ids import parse_centre_name
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.shell.config_template import centre_toml
from p2pfed.shell.schema import split_address
from p2pfed.shell.sections import HIGHWATER_FILE, ExecutorConfig
from p2pfed.store.files import disk_errors, make_folder, write_durable
from p2pfed.store.highwater import HighWater
from p2pfed.store.keyfile import generate_key

_WILDCARDS = frozenset({"0.0.0.0", "::", "*"})  # noqa: S104 - refused, not bound
_CREDIT_S = 21_600
"""So many seconds of all that it has: more invites to take without giving, see
docs/explanation/experiments.md."""


@click.command()
@click.argument("folder", type=click.Path(path_type=Path))
@click.option("--name", required=True, help="The centre's name in the federation.")
@click.option("--listen", required=True, metavar="HOST:PORT", help="Where peers connect to.")
@click.option("--advertise", default="", metavar="HOST:PORT", help="What peers shall dial instead.")
@click.option("--nodes", type=click.IntRange(1), default=1, help="Nodes it commands.  [1]")
@click.option(
    "--cores-per-node", type=click.IntRange(1), help="Cores of each node.  [cores of this machine]"
)
@click.option("--gpus-per-node", type=click.IntRange(0), default=0, help="GPUs of each node.  [0]")
@click.option(
    "--memory-mib-per-node",
    type=click.IntRange(1),
    help="Memory of each node in MiB.  [memory of this machine]",
)
@click.option(
    "--credit-line",
    type=click.IntRange(1),
    help="Points of credit.  [a quarter of a day of all it has]",
)
@click.option(
    "--passphrase-file",
    type=click.Path(path_type=Path),
    help="Encrypt the key with this file's first line.",
)
def init(
    folder: Path,
    name: str,
    listen: str,
    advertise: str,
    nodes: int,
    cores_per_node: int | None,
    gpus_per_node: int,
    memory_mib_per_node: int | None,
    credit_line: int | None,
    passphrase_file: Path | None,
) -> None:
    """Make a centre: its key, its centre.toml and its public card, in FOLDER."""
    centre = parse_centre_name(name, where="--name")
    address = _reachable(listen, advertise)
    executor = ExecutorConfig(
        nodes=nodes,
        cores_per_node=cores_per_node or os.cpu_count() or 1,
        gpus_per_node=gpus_per_node,
        memory_mib_per_node=memory_mib_per_node or _memory_mib(),
    )
    passphrase = None if passphrase_file is None else _passphrase(passphrase_file)
    files = {part: folder / part for part in ("key.pem", "centre.toml", "card.json")}
    for path in files.values():
        refuse_existing(path)
    with disk_errors(folder):
        make_folder(folder)
    key = generate_key(files["key.pem"], passphrase=passphrase)
    HighWater(folder / HIGHWATER_FILE).begin(centre, key.public_key)
    text = centre_toml(
        name=name,
        listen=listen,
        advertise=advertise,
        executor=executor,
        passphrase_file=str(passphrase_file.absolute()) if passphrase_file else "",
    )
    card = Card(
        name=centre,
        public_key=key.public_key,
        address=address,
        credit_line=credit_line or _credit_line(executor),
    )
    write_durable(files["centre.toml"], text.encode())
    write_durable(files["card.json"], write_card(card, key).encode(), mode=0o644)
    click.echo(f"made the centre {name} in {folder}")
    click.echo(f"  {files['key.pem']}      private: never leaves this machine; keep a safe copy")
    click.echo(
        f"  {files['centre.toml']}  what it commands: {nodes} x {executor.cores_per_node} cores,"
        f" {show_mib(executor.memory_mib_per_node)} each"
    )
    click.echo(f"  {files['card.json']}    public: give it to who drafts the charter")
    click.echo("next: p2pfed charter new CARD... -o charter.cbor")


def _reachable(listen: str, advertise: str) -> str:
    host, _ = split_address(listen)
    if advertise:
        split_address(advertise)
    elif host in _WILDCARDS:
        raise InputError(
            "init-address",
            f"peers can't dial {listen}",
            where="--listen",
            remedy="add --advertise HOST:PORT with a name or address that they can reach",
        )
    return advertise or listen


def _passphrase(path: Path) -> bytes:
    lines = read_bytes(path, "the passphrase file").splitlines()
    if not lines or not lines[0]:
        raise InputError("key-passphrase", "the passphrase file is empty", where=str(path))
    return lines[0]


def _memory_mib() -> int:
    return max(1, os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") >> 20)


def _credit_line(executor: ExecutorConfig) -> int:
    """The points that a quarter of a day of everything is worth under the default rules."""
    cores = executor.nodes * executor.cores_per_node * _CREDIT_S
    gpus = executor.nodes * executor.gpus_per_node * _CREDIT_S
    amounts = {"core": cores, "gpu": gpus}
    return max(1, sum(c.points(amounts[c.unit]) for c in Rules().resource_classes))
