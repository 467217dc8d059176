"""docs/reference/cli.md lists every command and option as the program has them.

The part below its marker is written from the commands: P2PFED_WRITE_DOCS=1 writes it anew.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click

from p2pfed.cli.main import cli

PAGE = Path(__file__).parents[3] / "docs" / "reference" / "cli.md"
MARKER = "<!-- written from the commands by tests/unit/cli/test_main_reference.py -->\n"


def commands(group: click.Group, path: str) -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        if isinstance(command, click.Group):
            yield from commands(command, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def render() -> str:
    lines = []
    for path, command in commands(cli, "p2pfed"):
        context = click.Context(command, info_name=path)
        usage = " ".join(command.collect_usage_pieces(context))
        lines += [f"## {path}", "", f"`{path} {usage}`", ""]
        lines += [(command.help or "").replace("\n    ", "\n").strip(), ""]
        options = [
            record
            for parameter in command.get_params(context)
            if (record := parameter.get_help_record(context)) and "--help" not in record[0]
        ]
        if options:
            lines += ["| option | |", "| --- | --- |"]
            lines += [f"| `{_cell(name)}` | {_cell(text)} |" for name, text in options] + [""]
    return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def test_the_reference_page_is_what_the_program_says() -> None:
    head, _, body = PAGE.read_text().partition(MARKER)
    if "P2PFED_WRITE_DOCS" in os.environ:
        PAGE.write_text(head + MARKER + render())
        return
    assert body == render(), "run it again with P2PFED_WRITE_DOCS=1"


def test_every_command_and_option_says_what_it_does() -> None:
    for path, command in commands(cli, "p2pfed"):
        assert command.help, path
        for parameter in command.params:
            if isinstance(parameter, click.Option):
                assert parameter.help, f"{path} {parameter.name}"


def test_every_exit_code_is_documented() -> None:
    from p2pfed import errors

    text = PAGE.read_text()
    for error in vars(errors).values():
        if isinstance(error, type) and issubclass(error, errors.P2pfedError):
            assert f"| {error.exit_code} | " in text
