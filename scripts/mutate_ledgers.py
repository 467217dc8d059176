"""Audits mutants of true ledgers, as many as wanted, and reports each that passes or crashes.

    python -m scripts.mutate_ledgers --count 100000 --seed 7

A mutant is named if the audit of it finds an error or a broken rule that the true ledger does not
have. One that only changes what nobody had acked is named by comparing it with the true ledger.
Exit code 0 if every mutant was named, 1 if one passed or the audit crashed; each is told with the
seed and number that make it again.
"""

from __future__ import annotations

import argparse
import io
import multiprocessing
import sys
import traceback
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from typing import Final, NamedTuple

from p2pfed.core.audit import FileSource, Findings, Severity, audit_ledger
from p2pfed.core.audit.audit import Opened
from p2pfed.core.audit.compare import compare_ledgers
from p2pfed.core.audit.intake import open_entry
from p2pfed.core.blocks import Block
from p2pfed.core.ids import FederationId
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.ledgerfile import Entry
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.simulate.mutants import Base, Mutant, Mutator
from p2pfed.simulate.scribes import Scribes

BASES: Final = 8
"""True ledgers that mutants are made of."""
_GRAVE: Final = (Severity.ERROR, Severity.WARNING)


class Outcome(NamedTuple):
    """How the audit of one mutant ended: `alone`, `compared`, `unnamed` or `crashed`."""

    kind: str
    how: str
    detail: str


class Trial:
    """Judges mutants of one true ledger. Blocks that did not change are verified once."""

    def __init__(self, base: Base) -> None:
        self._base = base
        self._seen: dict[bytes, Block | InputError] = {}
        self._good = base.export()
        report = audit_ledger(
            FileSource(io.BytesIO(self._good)),
            expected=base.charter.federation_id,
            opener=self._open,
        )
        assert report.severity not in _GRAVE, report.ledger.findings

    def _open(
        self,
        entries: Iterable[Entry],
        federation: FederationId,
        keys: Callable[[], VerifyKeys],
    ) -> Iterator[Opened]:
        for entry in entries:
            found = self._seen.get(entry.data)
            if found is None:
                found = open_entry(entry, federation, keys())
                if len(self._seen) < len(self._base.blocks):
                    self._seen[entry.data] = found
            yield entry, found

    def judge(self, mutant: Mutant) -> Outcome:
        """How the mutant is named."""
        try:
            how = self._named(mutant.data)
        except Exception:  # noqa: BLE001 - whatever it is, the audit must not raise it
            return Outcome(mutant.kind, "crashed", f"{mutant.detail}\n{traceback.format_exc()}")
        return Outcome(mutant.kind, how, mutant.detail)

    def _named(self, data: bytes) -> str:
        federation = self._base.charter.federation_id
        report = audit_ledger(FileSource(io.BytesIO(data)), expected=federation, opener=self._open)
        if report.severity in _GRAVE:
            return "alone"
        comparison = Findings()
        compare_ledgers(
            FileSource(io.BytesIO(self._good), "true"),
            FileSource(io.BytesIO(data), "mutant"),
            comparison,
        )
        return "compared" if comparison.kept else "unnamed"


def make_base(seed: int) -> Base:
    """A true ledger of a few jobs, and the keys of its centres."""
    scribes = Scribes(
        seed,
        centres=2 + seed % 2,
        jobs=4,
        per_round=1,
        rules=Rules(fetch_ms=20_000, queue_ms=20_000),
        walltimes_s=(10, 20),
        decline_per_mille=100,
        dispute_per_mille=200,
    )
    blocks = tuple(scribes.blocks())
    keys = {name: scribe.key for name, scribe in scribes.scribes.items()}
    return Base(scribes.charter, blocks, keys)


def run(seed: int, count: int) -> list[Outcome]:
    """Judges `count` mutants of the ledger of this seed."""
    base = make_base(seed)
    trial, mutator = Trial(base), Mutator(base, seed)
    return [trial.judge(mutator.make()) for _ in range(count)]


def main() -> int:
    """Runs the trials and tells what came of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    options = parser.parse_args()
    shares = [options.count // BASES + (n < options.count % BASES) for n in range(BASES)]
    tasks = [(options.seed * BASES + n, share) for n, share in enumerate(shares) if share]
    found: Counter[tuple[str, str]] = Counter()
    bad: list[str] = []
    with multiprocessing.get_context("forkserver").Pool(options.processes) as pool:
        for (seed, _), outcomes in zip(tasks, pool.starmap(run, tasks), strict=True):
            for number, outcome in enumerate(outcomes):
                found[outcome.kind, outcome.how] += 1
                if outcome.how in ("unnamed", "crashed"):
                    bad.append(f"seed {seed}, mutant {number}: {outcome}")
    for (kind, how), count in sorted(found.items()):
        print(f"{kind:>24} {how:>9} {count:>8,}")
    print(f"{sum(found.values()):,} mutants, {len(bad)} passed unnamed or crashed the audit")
    for line in bad[:20]:
        print(line)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
