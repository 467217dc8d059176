"""The audit passes a good ledger, and names what is wrong with each bad one."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from p2pfed.core.accounting import Standing
from p2pfed.core.audit import Finding, Severity, verify_ledger
from p2pfed.core.audit.findings import FINDINGS_PER_CODE_MAX
from p2pfed.core.audit.intake import WAITING_MAX
from p2pfed.core.blocks import Block, fork_proof
from p2pfed.core.charter import encode_charter
from p2pfed.core.ids import BlockId, FederationId, FeedKey, Head
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import Contact, Receipt
from p2pfed.core.replica import view_digest
from p2pfed.core.units import HlcTime, hlc
from tests.unit.core.ledgers import (
    ALPHA,
    BETA,
    GAMMA,
    START_MS,
    World,
    audit,
    founding,
    good_world,
    meddling,
    run_job,
)

WORLD = good_world()
GOOD = WORLD.export()


def test_a_good_ledger_passes_with_nothing_to_say() -> None:
    report = audit(GOOD)
    assert report.ok
    assert report.findings == ()
    assert report.federation == WORLD.charter.federation_id
    assert report.name == "testing"
    assert (report.blocks, report.admitted, report.records) == (14, 14, 11)
    assert report.frontier == WORLD.frontier()
    assert report.view_digest == view_digest(WORLD.frontier())
    assert report.at_ms == WORLD.now_ms


def test_balances_follow_from_the_file_alone() -> None:
    alpha, beta, gamma = audit(GOOD).balances
    assert alpha.standing == Standing(0, 800, 1_000_000)
    assert alpha.balance_ppm == -799
    # Beta delivered 800 core-seconds. Its offer of 32 cores was open for 7 heartbeats' worth of
    # gaps, counted whole up to `offer_lease_ms` each; beyond what it delivered, a tenth counts.
    assert beta.standing.usage == 0
    assert beta.standing.contribution > 800
    assert beta.balance_ppm > 0
    assert gamma.standing == Standing(0, 0, 1_000_000)
    assert gamma.balance_ppm == 0


def test_the_cut_digest_is_that_of_the_blocks_up_to_the_cut() -> None:
    assert audit(GOOD).cut_digest == view_digest(WORLD.frontier())
    for block in WORLD.blocks:
        cut_ms = block.time >> 16
        report = verify_ledger(io.BytesIO(GOOD), at_ms=cut_ms)
        heads = {
            b.feed: Head(b.seq_num, b.block_id) for b in WORLD.blocks if b.time >> 16 <= cut_ms
        }
        assert report.cut_digest == view_digest(heads)
        assert report.view_digest == view_digest(WORLD.frontier())


def test_balances_can_be_had_of_an_earlier_time() -> None:
    before_the_receipt = WORLD.blocks[9].time >> 16
    report = verify_ledger(io.BytesIO(GOOD), at_ms=before_the_receipt)
    assert report.ok
    assert report.admitted == 14
    alpha = report.balances[0]
    # The job is not settled yet, so all that it may consume is bound: 8 cores for 600 s.
    assert alpha.standing == Standing(0, 8 * 600, 1_000_000)


def test_a_ledger_without_blocks_passes() -> None:
    report = audit(World().export())
    assert report.ok
    assert report.blocks == 0
    assert [balance.balance_ppm for balance in report.balances] == [0, 0, 0]


def without(*numbers: int) -> bytes:
    return WORLD.export([b for n, b in enumerate(WORLD.blocks) if n not in numbers])


def swapped(first: int, second: int) -> bytes:
    blocks = list(WORLD.blocks)
    blocks[first], blocks[second] = blocks[second], blocks[first]
    return WORLD.export(blocks)


def with_data(number: int, change: Callable[[bytes], bytes]) -> bytes:
    blocks = list(WORLD.blocks)
    blocks[number] = replace(blocks[number], data=change(blocks[number].data))
    return WORLD.export(blocks)


def flip(at: int) -> Callable[[bytes], bytes]:
    def change(data: bytes) -> bytes:
        changed = bytearray(data)
        changed[at] ^= 1
        return bytes(changed)

    return change


def rewritten(**changes: object) -> bytes:
    """The receipt's block, signed anew by its author with a changed content or place."""
    world = World(WORLD.charter, WORLD.blocks[:10], WORLD.blocks[9].time >> 16)
    old = WORLD.blocks[10]
    world.acked[old.feed] = {f: h for f, h in WORLD.frontier().items() if f != old.feed}
    world.now_ms += 1000
    records = changes.pop("records", old.records)
    changes.setdefault("acks", {ack.feed: ack.head for ack in old.header.acks})
    new = world.seal(ALPHA, *records, **changes)  # type: ignore[arg-type, misc]
    return WORLD.export([*WORLD.blocks[:10], new, *WORLD.blocks[11:]])


def more_usage() -> bytes:
    receipt = WORLD.blocks[10].records[0]
    assert isinstance(receipt, Receipt)
    return rewritten(records=(replace(receipt, core_s=8),))


def appended(*blocks: Block) -> bytes:
    return WORLD.export([*WORLD.blocks, *blocks])


def other_charter() -> bytes:
    return b"".join(write_ledger(encode_charter(founding((ALPHA, BETA))), WORLD.blocks))


def unsigned_charter() -> bytes:
    charter = replace(WORLD.charter, signatures=WORLD.charter.signatures[:1])
    return b"".join(write_ledger(encode_charter(charter), WORLD.blocks))


def forked() -> bytes:
    twin = World(WORLD.charter, WORLD.blocks[:-1], WORLD.now_ms, dict(WORLD.acked))
    return appended(twin.seal(BETA, Contact(address="elsewhere:1")))


def acking(name: str, number: int, block_id: bytes) -> bytes:
    heads = {FeedKey(BETA, 0): Head(number, BlockId(block_id))}
    return appended(WORLD.seal(GAMMA, acks=heads))


LATER = {"ledger-frontier", "blocks-not-admitted"}
"""What follows from a block that is missing or bad further up."""

BAD_LEDGERS: dict[str, tuple[set[str], Callable[[], bytes]]] = {
    "a bit of a signature flipped": (
        {"block-signature", "block-missing", *LATER},
        lambda: with_data(5, lambda data: flip(data.index(b"\x58\x40") + 9)(data)),
    ),
    "a bit of a record flipped": (
        {"block-records-digest", "block-missing", *LATER},
        lambda: with_data(5, flip(-1)),
    ),
    "a bit of a header flipped": (
        {"block-signature", "block-missing", *LATER},
        lambda: with_data(5, flip(60)),
    ),
    "a bit of the outer form flipped": (
        {"block-form", "block-missing", *LATER},
        lambda: with_data(5, flip(0)),
    ),
    "a block emptied to one byte": (
        {"cose-form", "block-missing", *LATER},
        lambda: with_data(5, lambda data: data[:1]),
    ),
    "the first block dropped": ({"block-missing", *LATER}, lambda: without(0)),
    "a block dropped in the middle": ({"block-missing", *LATER}, lambda: without(6)),
    "two blocks dropped": ({"block-missing", *LATER}, lambda: without(6, 7)),
    "a whole feed dropped": ({"block-missing", *LATER}, lambda: without(2, 11)),
    "two blocks swapped": ({"ledger-order"}, lambda: swapped(5, 6)),
    "two far blocks swapped": ({"ledger-order"}, lambda: swapped(1, 12)),
    "a block repeated": ({"ledger-repeat"}, lambda: appended(WORLD.blocks[3])),
    "the newest block repeated": ({"ledger-repeat"}, lambda: appended(WORLD.blocks[-1])),
    "an amount changed, signed anew by its author": ({"block-missing", *LATER}, more_usage),
    "a block signed by another member": (
        {"block-centre", "block-missing", *LATER},
        lambda: rewritten(signed_by=BETA),
    ),
    "a block signed by a stranger": (
        {"block-key-unknown", "block-missing", *LATER},
        lambda: rewritten(signed_by="mallory"),
    ),
    "a time moved before the block before": (
        {"block-time-backlink", "block-missing", *LATER},
        lambda: rewritten(time=hlc(START_MS)),
    ),
    "a time moved before an ack": (
        {"block-time-ack", "block-missing", *LATER},
        lambda: rewritten(time=HlcTime(WORLD.blocks[8].time + 1)),
    ),
    "a seq_num skipped": (
        {"block-missing", *LATER},
        lambda: rewritten(seq_num=9),
    ),
    "a backlink to nowhere": ({"block-missing", *LATER}, lambda: rewritten(backlink=bytes(32))),
    "an ack of a block that was never written": (
        {"block-missing", "blocks-not-admitted", "ledger-frontier"},
        lambda: acking("beta", 99, b"x" * 32),
    ),
    "an ack with a forged id": (
        {"block-missing", "blocks-not-admitted", "ledger-frontier"},
        lambda: acking("beta", 2, b"x" * 32),
    ),
    "two branches of one feed": ({"fork", "fork-branch", "ledger-frontier"}, forked),
    "the charter of another federation": (
        {"block-key-unknown", "block-signature", "ledger-frontier"},
        other_charter,
    ),
    "a charter that not all founders signed": ({"charter-incomplete"}, unsigned_charter),
    "a charter with a flipped bit": (
        {"charter-signature"},
        lambda: GOOD.replace(b"testing", b"tasting", 1),
    ),
    "no charter at all": ({"cbor-not-deterministic"}, lambda: GOOD[:16] + b"\0\0\0\2\x18\1"),
    "cut short": ({"ledger-truncated"}, lambda: GOOD[:-1]),
    "another file": ({"ledger-magic"}, lambda: b"%PDF-1.7"),
}


@pytest.mark.parametrize("case", BAD_LEDGERS)
def test_a_bad_ledger_does_not_pass_and_its_fault_is_named(case: str) -> None:
    codes, make = BAD_LEDGERS[case]
    report = audit(make())
    assert not report.ok
    # Whether a missing block is the end of its feed depends on where it happened.
    found = {"block-missing" if code == "tail-withheld" else code for code in report.counts}
    assert found <= codes
    # The first code is the cause; what follows from it depends on where it happened.
    assert codes - LATER <= found


def test_a_withheld_tail_is_seen_through_the_acks_of_others() -> None:
    # Gamma's block acks beta's End; a beta that leaves its newest blocks out can't hide them.
    number = next(n for n, b in enumerate(WORLD.blocks) if n > 9 and b.feed.centre == GAMMA)
    tail = [n for n, b in enumerate(WORLD.blocks) if b.feed.centre == BETA and n > 8]
    report = audit(WORLD.export([b for n, b in enumerate(WORLD.blocks) if n not in tail]))
    finding = next(f for f in report.findings if f.code == "tail-withheld")
    assert finding.centre == BETA
    assert WORLD.blocks[number].feed.centre in finding.text or "alpha" in finding.text


def test_a_missing_block_is_named_with_who_names_it() -> None:
    report = audit(without(6))
    dropped = WORLD.blocks[6]
    finding = next(f for f in report.findings if f.code == "block-missing")
    assert finding.where == f"{dropped.feed.centre}.{dropped.seq_num}"
    assert dropped.block_id.hex() in finding.text
    assert report.counts["block-missing"] == 1


def test_only_what_rests_on_a_missing_block_counts_for_nothing() -> None:
    report = audit(without(12))
    assert report.admitted == 12
    text = next(f.text for f in report.findings if f.code == "blocks-not-admitted")
    assert text.startswith("1 block rests")


def test_a_late_block_is_admitted_all_the_same() -> None:
    report = audit(swapped(5, 6))
    assert report.admitted == 14
    assert report.frontier == WORLD.frontier()
    assert report.balances == audit(GOOD).balances


def test_a_dropped_tail_shows_in_the_trailer() -> None:
    last = WORLD.blocks[-1].data
    report = audit(GOOD.replace(len(last).to_bytes(4, "big") + last, b""))
    assert set(report.counts) == {"ledger-count", "ledger-frontier"}


def test_another_federation_than_expected_is_an_error() -> None:
    report = verify_ledger(io.BytesIO(GOOD), expected=FederationId(bytes(32)))
    assert set(report.counts) == {"ledger-federation"}
    assert verify_ledger(io.BytesIO(GOOD), expected=WORLD.charter.federation_id).ok


def test_an_inert_record_is_named_and_does_not_spoil_the_ledger() -> None:
    world = good_world()
    block = world.write(GAMMA, Contact(address="gamma.example:1"), meddling())
    report = audit(world.export())
    assert report.ok
    assert report.inert == 1
    assert report.findings == (
        Finding(
            Severity.WARNING,
            "record-inert",
            str(block.position(1)),
            "alpha.1.0 is not an open job of its author",
            GAMMA,
        ),
    )


def test_a_proven_fork_is_a_warning_that_names_the_centre() -> None:
    world = good_world()
    first = world.seal(BETA, Contact(address="one:1"))
    second = world.write(BETA, Contact(address="two:2"))
    world.write(GAMMA, fork_proof(first.header.cose, second.header.cose))
    report = audit(world.export())
    assert report.ok
    assert [(f.code, f.where) for f in report.findings] == [("fork-proven", "beta")]


def test_usage_of_a_thousand_jobs_adds_up() -> None:
    world = World()
    for core_s in range(1, 41):
        run_job(world, core_s=core_s)
    alpha = audit(world.export()).balances[0]
    assert alpha.standing.usage == sum(range(1, 41))


def test_a_flood_of_findings_is_counted_but_not_kept() -> None:
    world = World()
    for _ in range(FINDINGS_PER_CODE_MAX + 20):
        world.write(GAMMA, meddling())
    report = audit(world.export())
    assert report.counts["record-inert"] == FINDINGS_PER_CODE_MAX + 20
    assert len(report.findings) == FINDINGS_PER_CODE_MAX


def test_blocks_that_wait_for_a_missing_one_do_not_pile_up() -> None:
    world = World()
    for _ in range(WAITING_MAX + 50):
        world.write(ALPHA)
    report = audit(world.export(world.blocks[1:]))
    assert report.admitted == 0
    assert report.counts["block-missing"] == 1
    text = next(f.text for f in report.findings if f.code == "blocks-not-admitted")
    assert text.startswith(f"{WAITING_MAX + 49} blocks")


@settings(max_examples=300)
@given(st.integers(0, len(GOOD) * 8 - 1))
def test_no_flipped_bit_passes(bit: int) -> None:
    data = bytearray(GOOD)
    data[bit // 8] ^= 1 << bit % 8
    assert not audit(bytes(data)).ok


@settings(max_examples=100)
@given(st.integers(0, len(GOOD) - 1))
def test_no_truncated_ledger_passes(size: int) -> None:
    assert not audit(GOOD[:size]).ok


@settings(max_examples=60)
@given(st.permutations(range(len(WORLD.blocks))))
def test_any_order_of_the_same_blocks_gives_the_same_balances(order: list[int]) -> None:
    """Holds invariants 5 (merge is a join) and 7 (what counts can be recomputed)."""
    report = audit(WORLD.export([WORLD.blocks[n] for n in order]))
    good = audit(GOOD)
    assert set(report.counts) <= {"ledger-order"}
    assert report.balances == good.balances
    assert report.view_digest == good.view_digest


MEMORY_PROBE = """
import tracemalloc
from tests.unit.core.ledgers import *
world = World()
for number in range(40):
    world.write(ALPHA, *[Contact(address="a" * 200 + ":1") for _ in range(200)])
class File:
    def __init__(self): self.data, self.at = world.export(), 0
    def read(self, size):
        self.at += size
        return self.data[self.at - size:self.at]
file = File()
world.blocks.clear()
tracemalloc.start()
report = verify_ledger(file)
assert report.ok and report.admitted == 40, report
print(len(file.data), tracemalloc.get_traced_memory()[1])
"""


def test_memory_does_not_grow_with_the_bodies_of_blocks() -> None:
    done = subprocess.run(
        [sys.executable, "-c", MEMORY_PROBE], capture_output=True, text=True, check=True
    )
    file_bytes, peak_bytes = map(int, done.stdout.split())
    assert file_bytes > 1_500_000
    assert peak_bytes < file_bytes // 2
