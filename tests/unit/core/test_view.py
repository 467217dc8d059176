"""A round's view: the known blocks up to the cut, whenever they came, and nothing else."""

from __future__ import annotations

from p2pfed.core.blocks import Block
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.records import ForkProof, Job
from p2pfed.core.rules import Rules
from p2pfed.core.state import State
from p2pfed.core.units import HlcTime, hlc
from p2pfed.core.view import View, in_time
from tests.writers import CONTACT, START_MS, Writer

ALPHA, BETA = CentreName("alpha"), CentreName("beta")
JOB = Job(
    resource_class="cpu",
    nodes=1,
    cores_per_node=4,
    memory_mib_per_node=500,
    walltime_s=60,
    work_class="normal",
    payload_digest=bytes(32),
    payload_bytes=10,
)


def convict(_proof: ForkProof) -> tuple[FeedKey, int]:
    raise AssertionError("no proofs here")


def view() -> View:
    lines = dict.fromkeys((ALPHA, BETA), 1_000)
    return View(lambda: State(Rules(), lines, convict), in_time(tuple), convict)


def at(writer: Writer, ms: int, *records: Job) -> Block:
    return writer.write(records=records, time=HlcTime(hlc(ms)))


def test_a_block_counts_from_the_cut_that_passes_it() -> None:
    found, writer = view(), Writer(ALPHA)
    found.add(at(writer, START_MS, JOB))
    found.add(at(writer, START_MS + 500, JOB))
    found.advance(START_MS)
    assert len(found.state.registers.jobs) == 1
    assert len(found) == 1
    found.advance(START_MS + 500)
    assert len(found.state.registers.jobs) == 2
    assert len(found) == 0


def test_a_block_that_comes_late_is_part_of_the_next_round() -> None:
    found, late = view(), at(Writer(BETA), START_MS, JOB)
    found.advance(START_MS + 10_000)
    found.add(late)
    assert not found.state.registers.jobs
    found.advance(START_MS + 20_000)
    assert len(found.state.registers.jobs) == 1


def test_the_cut_never_goes_back() -> None:
    found = view()
    found.advance(START_MS + 10_000)
    found.advance(START_MS)
    assert found.cut_ms == START_MS + 10_000


def test_a_round_tells_which_records_were_inert() -> None:
    found, writer = view(), Writer(ALPHA)
    block = writer.write(records=[CONTACT], time=HlcTime(hlc(START_MS)))
    stray = Writer(BETA, 3).write(records=[CONTACT], time=HlcTime(hlc(START_MS)))
    found.add(block)
    found.add(stray)
    ((position, why),) = found.advance(START_MS)
    assert position == stray.position(0)
    assert "epoch" in why


def test_what_came_in_any_grouping_gives_the_same_view() -> None:
    one, other = view(), view()
    alpha, beta = Writer(ALPHA), Writer(BETA)
    blocks = [at(w, START_MS + i * 100, JOB) for i in range(4) for w in (alpha, beta)]
    for block in blocks:
        one.add(block)
    one.advance(START_MS + 10_000)
    for block in sorted(blocks, key=lambda block: (block.feed, block.seq_num)):
        other.add(block)
        other.advance(START_MS + 10_000)
    assert one.state.registers.jobs == other.state.registers.jobs
    assert one.state.heard == other.state.heard


def test_a_view_that_was_made_anew_rests_before_it_is_made_anew_again() -> None:
    """What two colluding members can force on a node takes a bounded part of its time."""
    lines = dict.fromkeys((ALPHA, BETA), 1_000)
    writer = Writer(ALPHA)
    history = [at(writer, START_MS + n, JOB) for n in range(100)]
    reads = 0

    def read() -> list[Block]:
        nonlocal reads
        reads += 1
        return history

    found = View(lambda: State(Rules(), lines, convict), in_time(read), convict, rest_us=50_000)
    for block in history:
        found.add(block)
    found.advance(START_MS + 1_000)
    found.renew()
    found.advance(START_MS + 2_000)
    assert (reads, found.resting) == (1, False)
    held = found.state
    for cut_ms in range(START_MS + 3_000, START_MS + 12_000, 1_000):
        found.renew()
        found.advance(cut_ms)
        assert found.resting
        assert (reads, found.state, held.cut_ms) == (1, held, START_MS + 2_000)
    found.advance(START_MS + 12_000)
    assert (reads, found.resting) == (2, False)
    assert found.state.cut_ms == START_MS + 12_000
    assert len(found.state.registers.jobs) == 100
