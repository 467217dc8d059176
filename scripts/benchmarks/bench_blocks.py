"""What it costs to read a block and to admit it, beside the bare library calls for the same bytes.

The bare cost is what no reader can save: one Ed25519 verification, two SHA-256, and for header and
records one CBOR decoding and one encoding (the proof that they are deterministic).
"""

from __future__ import annotations

import argparse
import hashlib
import time
import tracemalloc
from collections.abc import Callable

import cbor2
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core import cose
from p2pfed.core.blocks import Block, decode_block, seal_block, split_block
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Head, Position
from p2pfed.core.keys import VerifyKeys, key_id, parse_public_key
from p2pfed.core.records import Claim, Record
from p2pfed.core.replica import Replica
from p2pfed.core.units import HlcTime, hlc

KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
PUBLIC = parse_public_key(KEY.public_key().public_bytes_raw())
ALPHA, BETA = CentreName("alpha"), CentreName("beta")
KEYS = VerifyKeys([(ALPHA, PUBLIC)])
FEDERATION = FederationId(bytes(32))
START_MS = 1_700_000_000_000
ACKS = 8


def make_block(records: int) -> Block:
    """A block of claims, records of middling size, that acks eight others."""
    claims: list[Record] = [
        Claim(
            job_id=Position(ALPHA, 0, 1_000 + number, 0),
            offer_id=Position(BETA, 0, number, 3),
            attempt=1,
            round=170_000_000,
            rules_version=1,
            view_digest=hashlib.sha256(bytes([number % 256])).digest(),
            claim_until_ms=START_MS,
        )
        for number in range(records)
    ]
    acks = {FeedKey(CentreName(f"c{n}"), 0): Head(n, BlockId(bytes(32))) for n in range(ACKS)}
    return seal_block(
        federation=FEDERATION,
        signer=KEY,
        kid=key_id(PUBLIC),
        centre=ALPHA,
        epoch=0,
        seq_num=0,
        backlink=None,
        time=hlc(START_MS),
        acks=acks,
        records=claims,
    )


def bare_reader(block: Block) -> Callable[[], None]:
    """The library calls alone, on parts that were cut before."""
    message, records = split_block(block.data)
    kid, header, signature = cose.cut(message)
    to_be_signed = cose.to_be_signed(FEDERATION, kid, header)
    public_key = KEY.public_key()

    def read() -> None:
        public_key.verify(signature, to_be_signed)
        hashlib.sha256(header).digest()
        hashlib.sha256(records).digest()
        cbor2.dumps(cbor2.loads(header))
        cbor2.dumps(cbor2.loads(records))

    return read


def least_s(work: Callable[[], object], other: Callable[[], object]) -> tuple[float, float]:
    """The least times of both, run in turns, so that a busy machine hits both alike."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(60):
        for call, found in zip((work, other), times, strict=True):
            start = time.perf_counter()
            for _ in range(5):
                call()
            found.append((time.perf_counter() - start) / 5)
    return min(times[0]), min(times[1])


def bench_reading() -> None:
    """Prints a line for each size of block."""
    print("records/block  bytes/record  records/s  us/block  bare us/block  ratio")
    for records in (1, 10, 100, 1000):
        block = make_block(records)
        whole_s, bare_s = least_s(
            lambda data=block.data: decode_block(data, FEDERATION, KEYS),  # type: ignore[misc]
            bare_reader(block),
        )
        print(
            f"{records:>13}  {len(block.data) // records:>12}  {records / whole_s:>9,.0f}"
            f"  {whole_s * 1e6:>8.0f}  {bare_s * 1e6:>13.0f}  {whole_s / bare_s:>5.2f}"
        )


def bench_admitting(count: int) -> None:
    """Prints time and memory of a replica of `count` small blocks."""
    block_id = BlockId(bytes(32))
    feeds = [FeedKey(CentreName(f"c{n}"), 0) for n in range(100)]
    tracemalloc.start()
    replica = Replica(FEDERATION, KEYS, 60_000)
    start = time.perf_counter()
    for seq_num in range(count // len(feeds)):
        for feed in feeds:
            replica.restore(feed, seq_num, block_id, HlcTime(seq_num + 1))
    restored_s = time.perf_counter() - start
    size = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    start = time.perf_counter()
    for cut in range(100):
        replica.cut_frontier(HlcTime(cut * count // 10_000))
    cut_s = (time.perf_counter() - start) / 100
    print(
        f"\n{count:,} blocks of 100 feeds: restored in {restored_s:.2f} s (memory traced), "
        f"{size / 2**20:.0f} MiB, a cut in {cut_s * 1e6:.0f} us"
    )


def main() -> None:
    """Runs both."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--blocks", type=int, default=1_000_000)
    arguments = parser.parse_args()
    bench_reading()
    bench_admitting(arguments.blocks)


if __name__ == "__main__":
    main()
