"""`p2pfed output`: what a job wrote."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfed.cli.session import Session, daemon_options, json_option, pass_session, print_json
from p2pfed.cli.streams import save
from p2pfed.cli.tables import print_table, show_bytes
from p2pfed.shell.members import check_member_path


@click.command()
@click.argument("job_id", metavar="JOB")
@click.option("--stderr", "error_stream", is_flag=True, help="The error stream instead.")
@click.option("--list", "only_list", is_flag=True, help="List the files that came back.")
@click.option("--files", "folder", type=click.Path(path_type=Path), help="Save all files here.")
@click.option("--force", is_flag=True, help="Overwrite files.")
@json_option
@daemon_options
@pass_session
def output(
    session: Session,
    job_id: str,
    folder: Path | None,
    *,
    error_stream: bool,
    only_list: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Print what JOB wrote to standard output, or save all its files."""
    if folder is None and not only_list:
        if as_json:
            raise click.UsageError("--json goes with --list or --files")
        with session.client() as client:
            stream = "stderr" if error_stream else "stdout"
            save(client.output(job_id, stream=stream), Path("-"), what=stream)
        return
    with session.client() as client:
        found = client.files(job_id)
        for file in found["files"] if folder is not None else ():
            assert folder is not None
            path = folder / check_member_path(file["path"])
            path.parent.mkdir(parents=True, exist_ok=True)
            pieces = client.file(job_id, file["path"])
            save(pieces, path, what=file["path"], size=file["size"], force=force)
    if as_json:
        print_json(found)
        return
    print_table(
        ("FILE", "SIZE>"),
        ((file["path"], show_bytes(file["size"])) for file in found["files"]),
        empty="no files came back",
    )
