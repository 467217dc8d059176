"""Which local jobs go out, as what, and where their output comes back to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfed.errors import InputError, StorageError
from p2pfed.execute.courier import Parcel
from p2pfed.execute.slurm.localjobs import LocalDetails, LocalRow
from p2pfed.shell.answers import JobResult, ResultFile
from p2pfed.shell.directives import Wishes, parse_wishes
from p2pfed.shell.exporting import (
    Sibling,
    check_task,
    comment_of,
    end_of,
    kept_by,
    parse_sibling,
    request_of,
    user_may_go,
    waits_for_nodes,
    waits_long,
)
from p2pfed.shell.exports import parcels_of
from p2pfed.shell.sections import ExportConfig
from tests.unit.shell.doors import job_view

NOW_S = 1_800_000_000
POLICY = ExportConfig(partitions=("federated",), after_wait_s=60, nodes_max=4, cores_max=16)
ROW = LocalRow(
    job_id="18",
    state="PENDING",
    uid=1002,
    submit_s=NOW_S - 60,
    priority=7,
    nodes=2,
    cores=7,
    walltime_s=300,
    gpus_per_node=0,
    bound="",
    reason="Resources",
)
DETAILS = LocalDetails(
    name="job.sh",
    arguments=("a", "b"),
    folder="/home/ann",
    stdout="/home/ann/slurm-18.out",
    stderr="/home/ann/slurm-18.out",
    memory_mib_per_node=0,
    memory_mib_per_core=200,
    features="AVX512&nvme",
    comment="",
)
SIBLING = Sibling(
    job_id="18",
    submit_s=NOW_S - 60,
    user="ann",
    folder="/home/ann",
    stdout="/home/ann/slurm-18.out",
    stderr="/home/ann/slurm-18.out",
)


def test_a_job_that_waits_long_enough_for_nodes_goes_out() -> None:
    assert waits_long(ROW, POLICY, NOW_S)
    assert waits_for_nodes(ROW)
    assert not kept_by(ROW, POLICY)


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"submit_s": NOW_S - 59}, "it has not waited long enough"),
        ({"state": "RUNNING"}, "it runs"),
        ({"priority": 0}, "somebody holds it"),
        ({"reason": "Dependency"}, "it waits for another job"),
        ({"reason": "BeginTime"}, "its user wants it later"),
        ({"reason": "QOSMaxCpuPerUserLimit"}, "its user has had enough"),
    ],
)
def test_a_job_does_not_go_out_yet_if(changed: dict[str, object], why: str) -> None:
    row = replace(ROW, **changed)  # type: ignore[arg-type]
    assert not (waits_long(row, POLICY, NOW_S) and waits_for_nodes(row)), why


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"bound": "it is a part of a heterogeneous job"}, "heterogeneous"),
        ({"uid": 0}, "root"),
        ({"walltime_s": 0}, "no time limit"),
        ({"walltime_s": 86_401}, "walltime_max"),
        ({"nodes": 5}, "more than 4 nodes"),
        ({"cores": 17}, "more than 16 cores"),
    ],
)
def test_a_job_is_kept_at_home_with_a_reason_if(changed: dict[str, object], why: str) -> None:
    assert why in kept_by(replace(ROW, **changed), POLICY)  # type: ignore[arg-type]


TASK = replace(ROW, job_id="18_3")


def test_a_task_of_an_array_knows_which_one_it_is() -> None:
    request = request_of(TASK, DETAILS, Wishes(environment=(("A", "b"),)), POLICY)
    assert request.environment == (
        ("SLURM_ARRAY_JOB_ID", "18"),
        ("SLURM_ARRAY_TASK_ID", "3"),
        ("A", "b"),
    )
    check_task(TASK, DETAILS, b"#!/bin/sh\necho $SLURM_ARRAY_TASK_ID\n")


@pytest.mark.parametrize(
    ("details", "script", "why"),
    [
        (replace(DETAILS, throttle="2"), b"#!/bin/sh\n", "only 2 tasks at a time"),
        (DETAILS, b"#!/bin/sh\necho ${SLURM_ARRAY_TASK_MAX}\n", "SLURM_ARRAY_TASK_MAX"),
    ],
)
def test_a_task_that_needs_its_array_around_it_stays(
    details: LocalDetails, script: bytes, why: str
) -> None:
    with pytest.raises(InputError, match=why) as caught:
        check_task(TASK, details, script)
    assert caught.value.code == "export-array"
    check_task(ROW, details, script)


def test_accounts_are_let_out_or_kept_by_name() -> None:
    assert user_may_go("ann", POLICY)
    assert not user_may_go("ann", replace(POLICY, deny_users=("ann",)))
    assert not user_may_go("ann", replace(POLICY, users=("bob",)))


def test_the_request_is_what_slurm_says_that_the_job_needs() -> None:
    wishes = Wishes(fetch=("*.csv",), features=("apptainer",), work_class="low")
    request = request_of(ROW, DETAILS, wishes, POLICY)
    assert (request.nodes, request.cores_per_node, request.memory_mib_per_node) == (2, 4, 800)
    assert request.walltime_s == 300
    assert request.features == ("apptainer", "avx512", "nvme")
    assert (request.work_class, request.data_class) == ("low", "open")
    assert request.arguments == ("a", "b")


def test_a_constraint_with_choices_can_not_be_asked_for() -> None:
    with pytest.raises(InputError) as caught:
        request_of(ROW, replace(DETAILS, features="a|b"), Wishes(), POLICY)
    assert caught.value.code == "export-constraint"


def test_wishes_are_read_where_directives_may_stand() -> None:
    script = (
        b"#!/bin/sh\n#SBATCH -n 2\n"
        b"#P2PFED --input data.csv --input 'my parameters/' # two\n"
        b"#P2PFED --fetch=*.csv --class low --deny gamma --deny beta\n"
        b"#P2PFEDERATION is no directive\n"
        b"echo hello\n#P2PFED --local\n"
    )
    assert parse_wishes(script) == Wishes(
        inputs=("data.csv", "my parameters"),
        fetch=("*.csv",),
        work_class="low",
        deny=("beta", "gamma"),
    )
    assert parse_wishes(b"#!/bin/sh\n#P2PFED --local\n").local


def test_what_a_job_saves_and_is_told_by_goes_along() -> None:
    script = b"#!/bin/sh\n#P2PFED --signal USR1@20 --checkpoint state.bin --env A=b=c\n"
    wishes = parse_wishes(script)
    assert (wishes.checkpoint, wishes.environment) == (("state.bin",), (("A", "b=c"),))
    request = request_of(ROW, DETAILS, wishes, POLICY)
    assert (request.signal, request.signal_s) == (10, 20)
    assert request.checkpoint == ("state.bin",)


@pytest.mark.parametrize(
    ("lines", "asked"),
    [
        ("#SBATCH --signal=B:USR2@30", (12, 30)),
        ("#SBATCH -n 2 --signal USR2 # --signal=USR1", (12, 60)),
        ('#SBATCH --signal="USR2@30"\n#SBATCH --signal=TERM@5', (15, 5)),
        ("#SBATCH --signal=USR2@30\n#P2PFED --signal TERM@5\n#SBATCH --signal=HUP", (15, 5)),
        ("#SBATCH -n 2 # --signal=USR1", None),
        ("echo\n#SBATCH --signal=USR1", None),
    ],
)
def test_the_signal_of_an_sbatch_line_counts(lines: str, asked: tuple[int, int] | None) -> None:
    assert parse_wishes(f"#!/bin/sh\n{lines}\n".encode()).signal == asked


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("--output x", "script-directive"),
        ("data.csv", "script-directive"),
        ("--input", "script-directive"),
        ("--signal KILL", "script-option-value"),
        ("--env novalue", "script-option-value"),
        ("--input 'x", "script-directive"),
        ("--input ../x", "archive-path"),
        ("--input /etc/passwd", "archive-path"),
    ],
)
def test_a_wrong_directive_is_named(line: str, code: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_wishes(f"#!/bin/sh\n#P2PFED {line}\n".encode())
    assert caught.value.code == code


def test_a_sibling_reads_back_and_knows_its_row() -> None:
    assert parse_sibling(SIBLING.dump()) == SIBLING
    assert SIBLING.is_row(ROW)
    assert not SIBLING.is_row(replace(ROW, submit_s=1)), "a later job of the same number"
    with pytest.raises(StorageError):
        parse_sibling(b"{}")


def test_comments_tell_where_the_job_is_and_how_it_ended() -> None:
    running = job_view(state="started", host="beta")
    assert comment_of(running) == "runs at beta, as alpha.4.0"
    done = job_view(state="failed", host="beta", outcome="timeout", exit_code=0)
    assert end_of(done) == "timeout at beta, exit code 0, as alpha.4.0"
    assert end_of(job_view(state="cancelled")) == "cancelled, as alpha.4.0"


def test_output_goes_where_slurm_would_have_put_it(tmp_path: Path) -> None:
    for name in ("out", "err", "job.sh", "a.csv"):
        (tmp_path / name).write_text(name)
    (tmp_path / "a.csv").chmod(0o755)
    files = tuple(ResultFile(path=n, size=1) for n in ("a.csv", "err", "job.sh", "out"))
    result = JobResult(folder=tmp_path, stdout="out", stderr="err", files=files)
    csv = Parcel(path="/home/ann/a.csv", parts=(tmp_path / "a.csv",), executable=True)
    both = Parcel(path=SIBLING.stdout, parts=(tmp_path / "out", tmp_path / "err"))
    assert parcels_of(result, SIBLING) == [both, csv]
    apart = replace(SIBLING, stderr="/dev/null")
    assert parcels_of(result, apart) == [replace(both, parts=(tmp_path / "out",)), csv]
