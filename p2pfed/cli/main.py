"""The `p2pfed` program: finds the command, and turns every error into a few clear lines.

Commands are loaded when they are called, so that `p2pfed --help` and completion stay quick. A
command returns its exit code or None. Exit codes: 0 done, 2 input, 3 state, 4 disk, 5 batch system,
6 daemon not reached, 1 anything else, 130 interrupted; docs/reference/cli.md tells them to users.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from p2pfed import __version__
from p2pfed.cli.session import Session
from p2pfed.errors import P2pfedError

COMMANDS: Final = {
    "init": "p2pfed.cli.init",
    "charter": "p2pfed.cli.charter",
    "daemon": "p2pfed.cli.daemon",
    "offer": "p2pfed.cli.offer",
    "offers": "p2pfed.cli.federation",
    "submit": "p2pfed.cli.submit",
    "jobs": "p2pfed.cli.jobs",
    "job": "p2pfed.cli.jobs",
    "cancel": "p2pfed.cli.jobs",
    "output": "p2pfed.cli.output",
    "explain": "p2pfed.cli.jobs",
    "pause": "p2pfed.cli.control",
    "resume": "p2pfed.cli.control",
    "withdraw": "p2pfed.cli.control",
    "block": "p2pfed.cli.control",
    "unblock": "p2pfed.cli.control",
    "hold": "p2pfed.cli.control",
    "release": "p2pfed.cli.control",
    "requests": "p2pfed.cli.requests",
    "approve": "p2pfed.cli.requests",
    "deny": "p2pfed.cli.requests",
    "decisions": "p2pfed.cli.requests",
    "reload": "p2pfed.cli.control",
    "doctor": "p2pfed.cli.doctor",
    "reconcile": "p2pfed.cli.doctor",
    "status": "p2pfed.cli.federation",
    "peers": "p2pfed.cli.federation",
    "members": "p2pfed.cli.federation",
    "balance": "p2pfed.cli.federation",
    "proposals": "p2pfed.cli.council",
    "propose": "p2pfed.cli.council",
    "vote": "p2pfed.cli.council",
    "invite": "p2pfed.cli.joining",
    "join": "p2pfed.cli.joining",
    "catchup": "p2pfed.cli.catchup",
    "leave": "p2pfed.cli.council",
    "key": "p2pfed.cli.rekeying",
    "epoch": "p2pfed.cli.rekeying",
    "rules": "p2pfed.cli.rules",
    "why": "p2pfed.cli.council",
    "dispute": "p2pfed.cli.disputes",
    "disputes": "p2pfed.cli.disputes",
    "settle": "p2pfed.cli.disputes",
    "evidence": "p2pfed.cli.disputes",
    "ledger": "p2pfed.cli.ledger",
    "prove": "p2pfed.cli.prove",
    "audit": "p2pfed.cli.audit",
    "disclose": "p2pfed.cli.disclose",
    "forget": "p2pfed.cli.disclose",
    "demo": "p2pfed.cli.demo",
    "simulate": "p2pfed.cli.simulate",
}
"""The module of each command, in the order of the help."""


class LazyGroup(click.Group):
    """A group whose commands are imported by name."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The commands in the order of the table, not of the alphabet."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, None if there is none."""
        if cmd_name not in COMMANDS:
            return None
        found = getattr(importlib.import_module(COMMANDS[cmd_name]), cmd_name)
        assert isinstance(found, click.Command)
        return found


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="p2pfed")
def cli() -> None:
    """Computing centres use each other's idle capacity, with no coordinator.

    Every centre runs one daemon ('p2pfed daemon'); the other commands ask it. They find it through
    --config, $P2PFED_CONFIG or ./centre.toml, or directly through --socket or $P2PFED_SOCKET.
    """


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the program and returns its exit code; no traceback ever reaches the user."""
    session = Session()
    try:
        answer = cli.main(
            None if arguments is None else list(arguments),
            prog_name="p2pfed",
            standalone_mode=False,
            obj=session,
        )
        sys.stdout.flush()
    except click.exceptions.Abort:
        _say("interrupted")
        return 130
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except P2pfedError as error:
        return _tell(error, session)
    except BrokenPipeError:
        # Whoever read us has enough (a pager, head): not an error, and nothing more to say.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except Exception:  # noqa: BLE001 - the last resort of a program
        return _internal_error(session)
    return answer if isinstance(answer, int) else 0


def _internal_error(session: Session) -> int:
    place = _save_trace(session.state_folder)
    error = P2pfedError(
        "internal-error",
        "p2pfed failed in a way that nobody foresaw",
        where=place,
        remedy="please report it together with that file",
    )
    return _tell(error, session)


def _tell(error: P2pfedError, session: Session) -> int:
    if session.as_json:
        parts = ("code", "what", "where", "remedy")
        _say(json.dumps({part: getattr(error, part) for part in parts}, ensure_ascii=False))
    else:
        _say(error.diagnostics())
    return error.exit_code


def _save_trace(folder: Path | None) -> str:
    """Where the traceback was saved: in the centre's state folder, else among temporary files."""
    for place in (folder, None):
        if place is not None and not place.is_dir():
            continue
        try:
            descriptor, path = tempfile.mkstemp(prefix="p2pfed-trace-", suffix=".txt", dir=place)
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                traceback.print_exc(file=file)
        except OSError:
            continue
        return path
    return "(the traceback could not be saved)"


def _say(text: str) -> None:
    click.echo(text, err=True)
