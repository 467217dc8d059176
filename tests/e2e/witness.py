"""Jobs that write down themselves that they ran, and what must hold when all faults are over.

Every job appends a line to a file outside its folder, at its beginning and at its end; the file is
the witness that no daemon wrote.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

from p2pfed.core.blocks import decode_block
from p2pfed.core.ledgerfile import Entry, read_ledger
from p2pfed.core.records import ForkProof
from tests.e2e.federation import Centre, Federation

WITNESS = """#!/bin/bash
echo "begin $P2PFED_JOB_ID $1 $$" >> "$2"
sleep "$3"
echo "end $P2PFED_JOB_ID $1 $$" >> "$2"
echo "$1"
"""


class Witness:
    """The file that the jobs themselves write."""

    def __init__(self, federation: Federation, *, walltime_s: int = 8) -> None:
        self.path = Path(tempfile.mkdtemp(prefix="witness-", dir=federation.root), "lines")
        self.walltime_s = walltime_s
        self.tags: dict[str, str] = {}
        self._tried = 0

    def submit(self, centre: Centre, seconds: float = 0.3, **request: object) -> str:
        """Posts a job of `centre` that lasts for so long; returns its id."""
        tag = f"tag{self._tried}"  # not the number of answers: what is not answered may still run
        self._tried += 1
        arguments = (tag, str(self.path), str(seconds))
        job_id = centre.submit(WITNESS, *arguments, walltime_s=self.walltime_s, **request)
        self.tags[job_id] = tag
        return job_id

    def lines(self, job_id: str, word: str) -> int:
        """How often the job began or ended."""
        text = self.path.read_text() if self.path.exists() else ""
        tag = self.tags[job_id]
        return sum(line.split()[0] == word and tag in line.split() for line in text.splitlines())

    def overlaps(self, job_id: str) -> bool:
        """Whether an attempt of the job went on when another had begun."""
        words = [line.split() for line in self.path.read_text().splitlines()]
        mine = [(w[0], w[3]) for w in words if self.tags[job_id] in w]
        running: set[str] = set()
        for number, (word, process) in enumerate(mine):
            ends_later = {p for word, p in mine[number:] if word == "end"}
            if word == "begin" and running & ends_later - {process}:
                return True
            (running.add if word == "begin" else running.discard)(process)
        return False

    def begun(self) -> int:
        """How many jobs have begun in all."""
        return sum(self.lines(job_id, "begin") for job_id in self.tags)


def check_ran_once(
    home: Centre, job_ids: list[str], witness: Witness, deadline_s: float = 90
) -> None:
    """Each job completed, and ran once unless the ledger shows that its host lost an attempt."""
    views = home.until_over(job_ids, deadline_s)
    for job_id in job_ids:
        detail = home.job(job_id)
        story = [(a["host"], a["state"], a["outcome"], a["reason"]) for a in detail["attempts"]]
        assert views[job_id]["state"] == "completed", (job_id, story)
        assert home.output(job_id).strip() == witness.tags[job_id]
        lost = [a for a in detail["attempts"] if a["outcome"] == "node-failure"]
        lost += [a for a in detail["attempts"] if a["state"] == "lost"]
        begun = witness.lines(job_id, "begin")
        assert 1 <= begun <= 1 + len(lost), (job_id, story)
        # A host that was away for the whole lease may have run its attempt to the end all the same,
        # but never beside another: its home gives the job away only when the lease is over.
        assert 1 <= witness.lines(job_id, "end") <= 1 + len(lost), (job_id, story)
        assert not witness.overlaps(job_id), (job_id, story)


def check_ledgers(federation: Federation) -> None:
    """Every ledger verifies, nobody forked, and all agree in a view."""
    federation.until_settled()
    for centre in federation:
        report = centre.audit()
        assert report.ok and not report.findings, (centre.name, report.findings)
        feeds = {(feed.centre, feed.epoch) for feed in report.frontier}
        assert feeds == {(other.name, 0) for other in federation}
        assert not list(fork_proofs(centre))
        centre.until(lambda client: not client.status()["warnings"], "no warnings")
    assert federation.common_digest()
    federation.proven = True


def fork_proofs(centre: Centre) -> Iterator[ForkProof]:
    charter = centre.charter()
    with centre.export().open("rb") as file:
        for entry in read_ledger(file):
            if isinstance(entry, Entry) and entry.number > 0:
                block = decode_block(entry.data, charter.federation_id, charter.keys())
                yield from (r for r in block.records if isinstance(r, ForkProof))
