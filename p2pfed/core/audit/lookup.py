"""One record out of a ledger, with everything verified that it rests on."""

from __future__ import annotations

from p2pfed.core.audit.findings import Findings
from p2pfed.core.audit.intake import Intake, open_entry
from p2pfed.core.audit.source import LedgerSource
from p2pfed.core.charter import decode_charter
from p2pfed.core.ids import FederationId, JobId
from p2pfed.core.ledgerfile import Trailer
from p2pfed.core.records import Job
from p2pfed.errors import InputError


def job_in_ledger(
    source: LedgerSource, job_id: JobId, expected: FederationId | None = None
) -> tuple[FederationId, Job]:
    """The federation of a ledger, and a job's record in it.

    The block of the job is admitted as a daemon would admit it: signed with a key that was in
    force, in its chain, after everything that it acks.

    Raises:
        InputError: `ledger-federation`, `ledger-job` (no valid block in it holds the job), or as
            `LedgerSource.entries` and `decode_charter`.
    """
    intake: Intake | None = None
    for entry in source.entries():
        if isinstance(entry, Trailer):
            break
        if intake is None:
            charter = decode_charter(entry.data, where=source.name)
            intake = Intake(charter, Findings())
            if expected not in (None, charter.federation_id):
                raise InputError(
                    "ledger-federation",
                    f"the ledger is of federation {charter.federation_id.hex()}",
                    where=source.name,
                )
            continue
        for joined in intake.take(entry, open_entry(entry, intake.federation, intake.keys)):
            block = joined.block
            if (*block.feed, block.seq_num) != job_id[:3] or intake.replica.is_side(block):
                continue
            if job_id.record_index < len(block.records):
                record = block.records[job_id.record_index]
                if isinstance(record, Job):
                    return intake.federation, record
    raise InputError(
        "ledger-job",
        f"no valid block in the ledger posts job {job_id}",
        where=source.name,
        remedy="take an export that is later than the job; p2pfed audit says what is wrong with it",
    )
