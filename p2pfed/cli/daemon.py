"""`p2pfed daemon`: runs one centre."""

from __future__ import annotations

import click

from p2pfed.cli.session import Session, config_option, pass_session


@click.command()
@config_option
@pass_session
def daemon(session: Session) -> None:
    """Run this centre until told to stop (SIGTERM or Ctrl-C).

    Started jobs go on while the daemon is away; it finds them again when it comes back.
    """
    config = session.config()
    from p2pfed.shell.daemon import run

    run(config)
