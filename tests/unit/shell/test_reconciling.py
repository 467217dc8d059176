"""The ledger and the batch system's accounting are compared, and every difference has a name."""

from __future__ import annotations

from dataclasses import replace

import pytest

from p2pfed.core.ids import CentreName, ClaimId, Position
from p2pfed.core.records import End, Outcome
from p2pfed.execute.interface import NativeRun
from p2pfed.execute.slurm.history import parse_history
from p2pfed.node.events import NativeEnded, PayloadFetched
from p2pfed.shell.reconciling import Hosted, compare, hosted_claims
from tests.unit.node.benches import ALPHA, Bench

BEGAN_S = 1_800_000_000
NOW_S = BEGAN_S + 1000
CLAIM = ClaimId(Position(CentreName("beta"), 0, 3, 0))
END = End(
    claim_id=CLAIM,
    outcome=int(Outcome.COMPLETED),
    started_ms=BEGAN_S * 1000,
    ended_ms=(BEGAN_S + 60) * 1000,
    core_s=240,
)
HOSTED = Hosted(
    claim_id=CLAIM,
    native_name="p2pfed-beta.3.0",
    started_ms=BEGAN_S * 1000,
    cores=4,
    walltime_s=300,
    end=END,
)
RUN = NativeRun(
    job_id="17",
    name="p2pfed-beta.3.0",
    state="COMPLETED",
    over=True,
    outcome=Outcome.COMPLETED,
    started_s=BEGAN_S,
    ended_s=BEGAN_S + 60,
    cores=4,
    exit_code=0,
    signal=0,
)
ALIVE = replace(RUN, state="RUNNING", over=False, outcome=None, ended_s=0)
FAILED = replace(RUN, state="FAILED", outcome=Outcome.FAILED)


def end(outcome: Outcome, core_s: int = 240) -> End:
    return replace(END, outcome=int(outcome), core_s=core_s)


def kinds(hosted: Hosted | None, *runs: NativeRun) -> list[str]:
    claims = [] if hosted is None else [hosted]
    return [gap["kind"] for gap in compare(claims, runs, NOW_S)]


@pytest.mark.parametrize(
    ("ended", "runs"),
    [
        (END, [RUN]),
        (replace(END, core_s=231), [RUN]),  # both are cut to seconds
        (None, [ALIVE]),
        (end(Outcome.NOT_STARTED, 0), []),
        (end(Outcome.CANCELLED, 0), []),
        (end(Outcome.FAILED), [FAILED]),
        (end(Outcome.TIMEOUT), [RUN]),  # its script ended well when asked to
    ],
)
def test_what_agrees_is_no_finding(ended: End | None, runs: list[NativeRun]) -> None:
    assert kinds(replace(HOSTED, end=ended), *runs) == []


@pytest.mark.parametrize(
    ("ended", "runs", "kind"),
    [
        (END, [], "native-missing"),
        (END, [RUN, replace(RUN, started_s=BEGAN_S + 90, ended_s=BEGAN_S + 95)], "duplicate"),
        (None, [RUN], "end-missing"),
        (END, [ALIVE], "alive-after-end"),
        (END, [FAILED], "outcome-differs"),
        (end(Outcome.FAILED), [RUN], "outcome-differs"),
        (END, [replace(RUN, cores=8)], "cores-differ"),
        (end(Outcome.COMPLETED, 400), [RUN], "usage-differs"),
    ],
)
def test_what_differs_is_named(ended: End | None, runs: list[NativeRun], kind: str) -> None:
    assert kinds(replace(HOSTED, end=ended), *runs) == [kind]


def test_a_job_that_no_claim_names_is_a_gap_of_the_ledger() -> None:
    stranger = replace(RUN, name="bitcoin")
    assert kinds(HOSTED, RUN, stranger) == ["ledger-missing"]
    never_began = replace(stranger, state="CANCELLED", started_s=0)
    assert kinds(HOSTED, RUN, never_began) == []


def test_the_ledgers_side_is_read_from_its_blocks() -> None:
    bench = Bench()
    claim_id, _ = bench.claim_on(bench.open_offer())
    bench.hand_over(claim_id)
    bench.do(PayloadFetched(claim_id=claim_id))
    began_ms = bench.now_ms
    (running,) = hosted_claims(bench.disk, ALPHA, 0)
    assert (running.claim_id, running.end) == (claim_id, None)
    bench.do(
        NativeEnded(
            claim_id=claim_id,
            outcome=Outcome.COMPLETED,
            started_ms=began_ms,
            ended_ms=began_ms + 2_000,
            core_s=8,
        )
    )
    (ended,) = hosted_claims(bench.disk, ALPHA, 0)
    assert ended.end is not None
    assert ended.cores == 4
    assert hosted_claims(bench.disk, ALPHA, bench.now_ms + 1) == []
    assert hosted_claims(bench.disk, CentreName("beta"), 0) == []


def test_accounting_is_read_for_the_guests_account_alone() -> None:
    # As sacct of Slurm 22.05.8 printed completion records; an array's parts have ids of their own.
    text = (
        "23|1001|CANCELLED by 0|1795621527|1795621527|0:0|1|p2pfed-a\n"
        "22|1002|COMPLETED|1795621500|1795621620|0:0|16|wrap\n"
        "24|1001|COMPLETED|1795621500|1795621620|0:0|4|p2pfed-b|with a bar\n"
        "25|1001|RUNNING|1795621500|Unknown|0:0|4|p2pfed-c\n"
        "19_2|1001|COMPLETED|1795621500|1795621620|0:0|4|x\n"
        "broken\n"
    )
    cancelled, done, running = parse_history(text, uid=1001, since_s=0)
    assert (cancelled.started_s, cancelled.over) == (0, True)
    assert (done.name, done.cores, done.ended_s - done.started_s) == ("p2pfed-b|with a bar", 4, 120)
    assert (running.over, running.outcome, running.started_s) == (False, None, 1795621500)
    assert [r.job_id for r in parse_history(text, uid=1001, since_s=1795621700)] == ["25"]


def test_what_slurmdbd_accounted_is_read_for_the_guests_account() -> None:
    # As sacct of Slurm 22.05.8 with slurmdbd printed it on the test bed (`up --accounting`); `wrap`
    # is what a guest had submitted itself.
    text = (
        "26|1001|COMPLETED|1795634431|1795634442|0:0|1|p2pfed-alpha.136.0-7e10b21f\n"
        "27|1001|CANCELLED by 1001|1795634431|1795634440|0:0|1|wrap\n"
    )
    done, stray = parse_history(text, uid=1001, since_s=0)
    assert (done.outcome, done.ended_s - done.started_s) == (Outcome.COMPLETED, 11)
    assert (stray.name, stray.outcome, bool(stray.started_s)) == ("wrap", Outcome.PREEMPTED, True)
    (gap,) = compare([], [stray], NOW_S)
    assert (gap["kind"], gap["native_id"]) == ("ledger-missing", "27")
