"""`p2pfed submit`: sends a batch script into the federation.

The script is read here too, so that what is wrong with it is said at once, without a daemon; the
daemon reads it again, because it trusts no client.
"""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import click

from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_bytes,
)
from p2pfed.cli.tables import show_duration
from p2pfed.errors import ControlError, InputError
from p2pfed.shell.door import JobRequest
from p2pfed.shell.jobscript import (
    JobOptions,
    check_request,
    parse_job_script,
    parse_variable,
    sorted_words,
)
from p2pfed.shell.members import check_member_path

if TYPE_CHECKING:
    from p2pfed.shell.answers import JobView
    from p2pfed.shell.client import Client

F = TypeVar("F", bound=Callable[..., Any])

_SLURM: Final = (
    ("nodes", "-N", "N", "Nodes."),
    ("ntasks", "-n", "N", "Tasks, spread over the nodes."),
    ("ntasks-per-node", "", "N", "Tasks on each node."),
    ("cpus-per-task", "-c", "N", "Cores of each task."),
    ("mem", "", "SIZE", "Memory of each node (500M, 4G)."),
    ("mem-per-cpu", "", "SIZE", "Memory of each core."),
    ("time", "-t", "TIME", "Wall time (90, 1:30:00, 2-12, 12h)."),
    ("gres", "", "gpu[:KIND]:N", "GPUs of each node."),
    ("gpus", "-G", "[KIND:]N", "GPUs in all."),
    ("gpus-per-node", "", "[KIND:]N", "GPUs of each node."),
    ("job-name", "-J", "NAME", "Its name in your listings."),
    ("output", "-o", "FILE", "Name of standard output (%j: job, %x: name)."),
    ("error", "-e", "FILE", "Name of the error stream."),
    ("signal", "", "SIGNAL[@S]", "Tell the script to save its state before it must go."),
)
"""Options that a script can hold too; here they override it."""

_WAIT_S: Final = 1.0
"""Between two tries to reach a daemon that went away while its job is waited for."""
_SPECIAL_EXITS: Final = {"timeout": 124, "out-of-memory": 137, "cancelled": 125}


def _field(option: str) -> str:
    return f"slurm_{option.replace('-', '_')}"


def slurm_options(command: F) -> F:
    """Adds the options that Slurm has too."""
    for name, short, metavar, text in reversed(_SLURM):
        names = [f"--{name}", *([short] if short else [])]
        command = click.option(*names, _field(name), metavar=metavar, help=text)(command)
    return command


@click.command(context_settings={"allow_interspersed_args": False})
@click.argument("script", type=click.Path(path_type=Path))
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@slurm_options
@click.option(
    "--input", "inputs", multiple=True, type=click.Path(path_type=Path), metavar="FILE",
    help="A file or folder to bring along; a relative path stays as it is.",
)  # fmt: skip
@click.option("--fetch", multiple=True, metavar="PATTERN", help="Files to bring back ('*.csv').")
@click.option(
    "--checkpoint", multiple=True, metavar="PATTERN",
    help="Files that it goes on from when it was cut short.",
)  # fmt: skip
@click.option("--env", "variables", multiple=True, metavar="NAME=VALUE", help="Set a variable.")
@click.option("--class", "work_class", help="Work class of the federation's rules.  [normal]")
@click.option("--resource-class", help="Resource class.  [gpu if GPUs are asked for, else cpu]")
@click.option("--data-class", help="How far the data may go.  [open]")
@click.option("--feature", "features", multiple=True, help="What the nodes must have.")
@click.option("--allow", multiple=True, metavar="CENTRE", help="Only there.")
@click.option("--deny", multiple=True, metavar="CENTRE", help="Not there.")
@click.option("--wait", is_flag=True, help="Wait for its end; exit with the job's exit code.")
@click.option("--dry-run", is_flag=True, help="Print the request, send nothing.")
@json_option
@daemon_options
@pass_session
def submit(
    session: Session,
    /,
    script: Path,
    arguments: tuple[str, ...],
    inputs: tuple[Path, ...],
    *,
    wait: bool,
    dry_run: bool,
    as_json: bool,
    **options: Any,
) -> int:
    """Submit the batch SCRIPT, with ARGUMENTS, to the federation.

    Its #SBATCH lines are understood; options given here, before SCRIPT, override them.
    """
    request, remarks = _read_request(script, arguments, options)
    files = dict(_expand(inputs))
    executable = [name for name, path in files.items() if os.access(path, os.X_OK)]
    sent = request_json(request) | {"executable": executable}
    if dry_run:
        print_json({"request": sent, "inputs": list(files), "remarks": list(remarks)})
        return 0
    for remark in remarks:
        click.echo(f"note: {remark}", err=True)
    with session.client() as client:
        view, _ = client.submit(sent, script, files)
        if not as_json:
            click.echo(view["job_id"])
        elif not wait:
            print_json({"job": view, "remarks": list(remarks)})
    return _wait(session, view, as_json=as_json) if wait else 0


def _read_request(
    script: Path, arguments: tuple[str, ...], options: dict[str, Any]
) -> tuple[JobRequest, tuple[str, ...]]:
    parsed = parse_job_script(read_bytes(script, "the script"), script.name)
    over = JobOptions()
    for name, *_ in _SLURM:
        value = options[_field(name)]
        if value is not None:
            over.read(name, value, where=f"--{name}")
    over.environment = tuple(parse_variable(v, where="--env") for v in options["variables"])
    over.features = tuple(options["features"])
    request = parsed.request(over, arguments=arguments)
    request = dataclasses.replace(
        request,
        fetch=tuple(options["fetch"]),
        checkpoint=tuple(options["checkpoint"]),
        allow=sorted_words(options["allow"]),
        deny=sorted_words(options["deny"]),
        **{
            name: options[name]
            for name in ("work_class", "resource_class", "data_class")
            if options[name] is not None
        },
    )
    check_request(request)
    return request, parsed.options.remarks + over.remarks


def request_json(request: JobRequest) -> dict[str, object]:
    """The request as the control API takes it."""
    fields = dataclasses.asdict(request) | {"environment": dict(request.environment)}
    del fields["script"]
    return fields


def _expand(inputs: tuple[Path, ...]) -> Iterator[tuple[str, Path]]:
    """Every file by its path in the working folder; folders with all that is in them."""
    for path in inputs:
        relative = Path(path.name) if path.is_absolute() or ".." in path.parts else path
        if path.is_dir():
            for folder, folders, names in os.walk(path):
                folders.sort()
                for name in sorted(names):
                    found = Path(folder, name)
                    yield _member(relative / found.relative_to(path)), _readable(found)
        else:
            yield _member(relative), _readable(path)


def _member(path: Path) -> str:
    return check_member_path(str(path))


def _readable(path: Path) -> Path:
    if not path.is_file():
        why = "it is not a regular file" if path.exists() else "there is no such file"
        raise InputError("input-file", f"can't send the input: {why}", where=str(path))
    return path


def _wait(session: Session, view: JobView, *, as_json: bool) -> int:
    """Follows the job to its end; a daemon that goes away meanwhile is waited for."""
    shown = ""
    while True:
        try:
            with session.client() as client:
                for changed in _states(client, view["job_id"]):
                    view = changed
                    shown = _show_change(view, shown)
                if as_json:
                    print_json(client.job(view["job_id"]))
            break
        except ControlError as error:
            if error.code == "daemon-denied":
                raise
            shown = _show_line("the daemon is away; waiting for it", shown)
            time.sleep(_WAIT_S)
    if not as_json and view["result"] == "ready":
        click.echo(f"p2pfed output {view['job_id']}  shows what it wrote", err=True)
    return exit_code_of(view)


def _states(client: Client, job_id: str) -> Iterator[JobView]:
    """The job after each change, until it is over and its result is here or can't be had."""
    with client.watch() as notices:
        view = client.job(job_id)["job"]
        yield view
        while not (view["final"] and view["result"] != "waiting"):
            notice = next(notices, None)
            if notice is None:
                raise ControlError("daemon-lost", "the daemon ended its live feed")
            if notice["job"] is not None and notice["job"]["job_id"] == job_id:
                view = notice["job"]
                yield view


def _show_change(view: JobView, shown: str) -> str:
    line: str = view["state"]
    if view["host"] is not None and view["state"] not in ("queued", "cancelled"):
        line += f" at {view['host']}"
    if view["final"]:
        line += f" after {show_duration(view['waited_ms'])} of waiting"
        if view["result"] == "waiting":
            line += ", its result is on the way"
    elif view["reason"]:
        line += f" ({view['reason']})"
    return _show_line(line, shown)


def _show_line(line: str, shown: str) -> str:
    if line != shown:
        click.echo(f"{time.strftime('%H:%M:%S')} {line}", err=True)
        sys.stderr.flush()
    return line


def exit_code_of(view: JobView) -> int:
    """What `submit --wait` exits with: the job's own exit code wherever there is one.

    128 + signal for a job that a signal ended, 124 for a timeout, 137 for lack of memory, 125 for
    a cancelled job, 1 for one that no host could complete.
    """
    outcome = view["outcome"] or ""
    if view["state"] == "completed":
        return 0
    if view["state"] == "cancelled":
        return _SPECIAL_EXITS["cancelled"]
    if outcome in _SPECIAL_EXITS:
        return _SPECIAL_EXITS[outcome]
    if view["signal"]:
        return 128 + view["signal"]
    return (view["exit_code"] or 1) if outcome == "failed" else 1
