"""What the whole audit of a ledger costs, in time and memory, beside the bare library calls.

Ledgers of honest centres are made by `scripts.make_ledger`, or given with `--ledger`. Each is read
in processes of their own, so that their memory can be told: `bare` makes the calls that no verifier
can save (Ed25519, SHA-256, CBOR once in and out), `verify` is `verify_ledger`, `audit` everything:
the matching of every round that claims cite replayed, every record held against the lifecycle,
accounts of every day. `--jobs 1000000` takes some minutes.
"""

from __future__ import annotations

import argparse
import hashlib
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Final, NamedTuple

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from p2pfed.cli.audit_workers import opener_for
from p2pfed.core.audit import FileSource, audit_ledger, verify_ledger
from p2pfed.core.charter import decode_charter
from p2pfed.core.cose import cut, to_be_signed
from p2pfed.core.ids import FederationId
from p2pfed.core.ledgerfile import Entry, Trailer, read_ledger
from p2pfed.shell.collector import rarely_collecting
from scripts.make_ledger import make_ledger

_SPAWN: Final = multiprocessing.get_context("spawn")


class Cost(NamedTuple):
    """Of one way to read a ledger: seconds of CPU and of the clock, and the peak of memory."""

    cpu_s: float
    wall_s: float
    mib: int
    records: int


def read_bare(path: Path) -> int:
    """The library calls alone; returns how many records there are."""
    records = 0
    with path.open("rb") as file:
        keys: dict[bytes, Ed25519PublicKey] = {}
        federation = FederationId(b"")
        for entry in read_ledger(file):
            if isinstance(entry, Trailer):
                break
            if entry.number == 0:
                charter = decode_charter(entry.data)
                federation = charter.federation_id
                for card in charter.founders:
                    public = card.public_key
                    kid = hashlib.sha256(public).digest()[:16]
                    keys[kid] = Ed25519PublicKey.from_public_bytes(public)
                continue
            records += _bare_block(entry, federation, keys)
    return records


def _bare_block(entry: Entry, federation: FederationId, keys: dict[bytes, Ed25519PublicKey]) -> int:
    message, body = cbor2.loads(entry.data)
    kid, payload, signature = cut(message)
    keys[kid].verify(signature, to_be_signed(federation, kid, payload))
    hashlib.sha256(payload).digest()
    hashlib.sha256(body).digest()
    header, items = cbor2.loads(payload), cbor2.loads(body)
    cbor2.dumps(header)
    cbor2.dumps(items)
    return len(items)


def verify(path: Path) -> int:
    """`p2pfed ledger verify`."""
    with path.open("rb") as file, rarely_collecting():
        report = verify_ledger(file)
    assert report.ok
    return report.records


def audit(path: Path, jobs: int = 1) -> int:
    """`p2pfed audit`."""
    with path.open("rb") as file, ExitStack() as stack, rarely_collecting():
        report = audit_ledger(FileSource(file, str(path)), opener=opener_for(jobs, stack))
    found = set(report.ledger.counts)
    assert found <= {"usage-disputed"}, found
    return report.ledger.records


def audit_on_all_cores(path: Path) -> int:
    """`p2pfed audit --jobs 0`."""
    return audit(path, 0)


WAYS: Final[dict[str, Callable[[Path], int]]] = {
    "bare": read_bare,
    "verify": verify,
    "audit": audit,
    "all cores": audit_on_all_cores,
}


def measured(way: str, path: Path) -> Cost:
    """What reading a ledger in one of the ways costs, in a process of its own."""
    mine, theirs = _SPAWN.Pipe(duplex=False)
    process = _SPAWN.Process(target=_work, args=(way, path, theirs))
    process.start()
    theirs.close()
    cost: Cost = mine.recv()
    process.join()
    return cost


def _work(way: str, path: Path, answer: Connection) -> None:
    start, cpu = time.perf_counter(), time.process_time()
    records = WAYS[way](path)
    spent, passed = time.process_time() - cpu, time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    answer.send(Cost(spent, passed, peak, records))


def report(path: Path) -> None:
    """The lines of one ledger."""
    size = path.stat().st_size
    bare = measured("bare", path)
    print(f"{path.name}: {bare.records:,} records, {size / 1e6:,.1f} MB")
    for name in WAYS:
        cost = bare if name == "bare" else measured(name, path)
        # Workers' time is not in it: on all cores only the time that passed tells.
        spent_s = cost.wall_s if name == "all cores" else cost.cpu_s
        print(
            f"  {name:>9} {cost.records / spent_s:>10,.0f} records/s {spent_s / bare.cpu_s:>5.1f}x "
            f"{cost.cpu_s:>7.1f} s CPU {cost.wall_s:>7.1f} s passed {cost.mib:>5} MiB"
        )


def main() -> None:
    """Measures ledgers of rising length, or the one given."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--jobs", type=int, nargs="*", default=[5_000, 20_000])
    parser.add_argument("--ledger", type=Path)
    options = parser.parse_args()
    if options.ledger is not None:
        report(options.ledger)
        return
    with tempfile.TemporaryDirectory(prefix="p2pfed-bench-") as folder:
        for jobs in options.jobs:
            path = Path(folder) / f"{jobs}-jobs.ledger"
            make_ledger(path, jobs)
            report(path)
            path.unlink()


if __name__ == "__main__":
    main()
