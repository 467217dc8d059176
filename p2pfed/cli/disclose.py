"""`p2pfed disclose`, `p2pfed forget` and `p2pfed ledger check-disclosure`: who a job is of."""

from __future__ import annotations

from pathlib import Path

import click

from p2pfed.cli.audit_files import federation_of, opened_ledger
from p2pfed.cli.session import (
    Session,
    daemon_options,
    json_option,
    pass_session,
    print_json,
    read_bytes,
)
from p2pfed.cli.streams import save
from p2pfed.core.audit.lookup import job_in_ledger
from p2pfed.core.disclosure import (
    Disclosure,
    check_disclosure,
    dump_disclosure,
    parse_disclosure,
)
from p2pfed.core.ids import FederationId, JobId, parse_position


@click.command()
@click.argument("job")
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    help="The disclosure file, or - (default: JOB.disclosure).",
)
@click.option("--force", is_flag=True, help="Overwrite the file.")
@json_option
@daemon_options
@pass_session
def disclose(
    session: Session, job: str, output: Path | None, *, force: bool, as_json: bool
) -> None:
    """Write a small file that shows an auditor who JOB, one of this centre's, is of.

    Whoever has the ledger checks it with 'p2pfed ledger check-disclosure'. It says nothing about
    any other job. Only the daemon's account, root, and the job's own user may ask for it.
    """
    with session.client() as client:
        view = client.disclose(job)
    found = Disclosure(
        FederationId(bytes.fromhex(view["federation_id"])),
        JobId(parse_position(view["job_id"])),
        view["user"],
        bytes.fromhex(view["opening"]),
    )
    path = output or Path(f"{job}.disclosure")
    save([dump_disclosure(found)], path, what="disclosure", force=force)
    if as_json and str(path) != "-":
        print_json({"disclosure": view, "file": str(path)})
    elif str(path) != "-":
        click.echo(f"job {job} is of {found.user}; wrote {path}")


@click.command()
@click.argument("user")
@click.option("--yes", is_flag=True, help="Don't ask: there is no way back.")
@json_option
@daemon_options
@pass_session
def forget(session: Session, user: str, *, yes: bool, as_json: bool) -> None:
    """Destroy what links the account USER to its jobs in the ledger, for good.

    The user's key is destroyed, and the names of its jobs here are erased. The ledger holds no
    names and stays as it is. Nobody can disclose who these jobs were of ever again.
    """
    if not yes:
        question = f"Nobody will ever be able to tell which jobs were of {user}. Go on?"
        click.confirm(question, abort=True)
    with session.client() as client:
        jobs = client.forget(user)
    if as_json:
        print_json({"jobs": jobs})
        return
    click.echo(f"forgotten; {jobs} jobs here have lost their names")


@click.command("check-disclosure")
@click.argument("file", type=click.Path(path_type=Path))
@click.argument("ledger", type=click.Path(path_type=Path))
@click.option(
    "--charter",
    "charter_path",
    type=click.Path(path_type=Path),
    help="The charter of the federation that the ledger must be of.",
)
@json_option
def check_disclosure_file(
    file: Path, ledger: Path, charter_path: Path | None, *, as_json: bool
) -> None:
    """Check the disclosure FILE against an exported LEDGER, with no daemon and no network.

    Every block that the job's record rests on is verified first, as 'p2pfed ledger verify' does.
    """
    found = parse_disclosure(read_bytes(file, "the disclosure"), where=str(file))
    expected = None if charter_path is None else federation_of(charter_path)
    with opened_ledger(ledger) as source:
        federation, job = job_in_ledger(source, found.job_id, expected)
    check_disclosure(found, federation, job)
    if as_json:
        print_json(
            {
                "federation_id": federation.hex(),
                "job_id": str(found.job_id),
                "home": found.job_id.centre,
                "user": found.user,
            }
        )
        return
    click.echo(f"true: {found.job_id.centre} posted job {found.job_id} for its user {found.user}")
    if expected is None:
        click.echo("the charter is the ledger's own; --charter names the one that you trust")
