"""What the commands share: how they find the daemon, and how they print.

People get tables and rounded figures, `--json` gets the daemon's answer as it came, with the fields
that docs/reference/openapi.json describes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec, TypeVar

import click

from p2pfed.errors import InputError

if TYPE_CHECKING:
    from p2pfed.shell.client import Client
    from p2pfed.shell.config import CentreConfig

P = ParamSpec("P")
R = TypeVar("R")

CONFIG_ENV: Final = "P2PFED_CONFIG"
SOCKET_ENV: Final = "P2PFED_SOCKET"


@dataclass(slots=True)
class Session:
    """One run of the program.

    Attributes:
        config_path, socket_path: what the options or the environment name.
        state_folder: the centre's, once its configuration was read.
        as_json: errors too are to be printed as JSON.
    """

    config_path: Path | None = None
    socket_path: Path | None = None
    state_folder: Path | None = None
    as_json: bool = False

    def config(self) -> CentreConfig:
        """The centre's configuration.

        Raises:
            InputError: as `p2pfed.shell.config.load_config`.
        """
        from p2pfed.shell.config import load_config

        config = load_config(self.config_path or Path("centre.toml"))
        self.state_folder = config.state
        return config

    def client(self) -> Client:
        """The daemon's client; to be used in a `with` block.

        A running daemon is reached whatever has become of its `centre.toml` since it read it.

        Raises:
            InputError: the configuration is wrong, or there is none, and no daemon was found.
        """
        from p2pfed.shell.client import Client

        return Client(self.socket_path or self._socket())

    def _socket(self) -> Path:
        try:
            return self.config().control.socket
        except InputError as error:
            from p2pfed.shell.salvage import salvaged_socket

            socket = salvaged_socket(self.config_path or Path("centre.toml"))
            if not socket.is_socket():
                raise
            click.echo(
                f"warning: {error.where or 'centre.toml'}: {error.what} [{error.code}]; "
                f"asking the daemon at {socket}, which goes on with what it read before",
                err=True,
            )
            return socket


def config_option(command: Callable[P, R]) -> Callable[P, R]:
    """Adds `--config`, for commands that read `centre.toml`."""

    def store(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
        ctx.find_object(Session).config_path = value  # type: ignore[union-attr]

    return click.option(
        "--config",
        type=click.Path(path_type=Path),
        envvar=CONFIG_ENV,
        expose_value=False,
        callback=store,
        help=f"The centre's centre.toml  [${CONFIG_ENV}; default: ./centre.toml]",
    )(command)


def daemon_options(command: Callable[P, R]) -> Callable[P, R]:
    """Adds `--config` and `--socket`, for commands that ask the daemon."""

    def store(ctx: click.Context, _param: click.Parameter, value: Path | None) -> None:
        ctx.find_object(Session).socket_path = value  # type: ignore[union-attr]

    option = click.option(
        "--socket",
        type=click.Path(path_type=Path),
        envvar=SOCKET_ENV,
        expose_value=False,
        callback=store,
        help=f"The daemon's control socket, instead of --config  [${SOCKET_ENV}]",
    )
    return option(config_option(command))


def json_option(command: Callable[P, R]) -> Callable[P, R]:
    """Adds `--json`: the answer, or the error on standard error, as exact JSON."""

    def store(ctx: click.Context, _param: click.Parameter, value: bool) -> bool:
        ctx.find_object(Session).as_json = value  # type: ignore[union-attr]
        return value

    return click.option(
        "--json", "as_json", is_flag=True, callback=store, help="Print exact JSON."
    )(command)


pass_session = click.make_pass_decorator(Session)


def print_json(answer: object) -> None:
    """Prints an answer exactly; readable on a terminal, one line in a pipe."""
    indent = 2 if sys.stdout.isatty() else None
    click.echo(json.dumps(answer, ensure_ascii=False, indent=indent))


def read_text(path: Path, what: str) -> str:
    """The content of a small text file.

    Raises:
        InputError: `file-unreadable`.
    """
    return _read(path, what, lambda: path.read_text(encoding="utf-8"))


def read_bytes(path: Path, what: str) -> bytes:
    """The content of a small file.

    Raises:
        InputError: `file-unreadable`.
    """
    return _read(path, what, path.read_bytes)


def _read(path: Path, what: str, read: Callable[[], R]) -> R:
    try:
        return read()
    except OSError as error:
        why = error.strerror or str(error)
    except UnicodeDecodeError:
        why = "it is not text in UTF-8"
    raise InputError("file-unreadable", f"can't read {what}: {why}", where=str(path))


def refuse_existing(path: Path) -> None:
    """Raises if there is something at `path` already.

    Raises:
        InputError: `file-exists`.
    """
    if path.exists() or path.is_symlink():
        raise InputError(
            "file-exists",
            "the file is there already and is not overwritten",
            where=str(path),
            remedy="choose another name, or move it away",
        )
