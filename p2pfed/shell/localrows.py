"""What home alone knows of a job: its name, its script's name, where its output goes.

The rows are written in one transaction with the job's block (`SubmitJob.local`), so that a job that
was acknowledged has its name after every crash. They are never replicated.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from p2pfed.errors import StorageError

JOB_PREFIX = "job/"


@dataclass(frozen=True, slots=True, kw_only=True)
class LocalJob:
    """The private half of a job.

    Attributes:
        name: what its user calls it.
        script: the script's file name.
        stdout, stderr: paths of the two streams in the result.
        user, pseudonym: the local account that it comes from, and what hosts see of it.
    """

    name: str
    script: str
    stdout: str
    stderr: str
    user: str = ""
    pseudonym: str = ""


def dump_local_job(job: LocalJob) -> bytes:
    """The row's value."""
    return json.dumps(asdict(job), sort_keys=True).encode()


def parse_local_job(data: bytes, key: str) -> LocalJob:
    """The private half that a row holds.

    Raises:
        StorageError: `local-row-damaged`.
    """
    try:
        return LocalJob(**json.loads(data))
    except (ValueError, TypeError) as error:
        raise StorageError(
            "local-row-damaged",
            f"a local row is not as it was written: {error}",
            where=key,
            remedy="restore the state folder from a backup; the ledger itself is not affected",
        ) from None
