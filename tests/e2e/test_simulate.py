"""`p2pfed simulate` as a user runs it, on the traces that ship with the source."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.waiting import heed_interrupts, wait_until

SOURCE = Path(__file__).parents[2]
TRACES = SOURCE / "examples" / "traces"
THREE = ("alpha.swf", "beta.swf", "gamma.sacct", "--procs", "gamma=96")


def run(*words: str, code: int = 0, cwd: Path = TRACES, **extra: str) -> tuple[str, str]:
    """Standard output and error of the program, run where the traces lie."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-m", "p2pfed", "simulate", *words],
        cwd=cwd,
        env=kept | {"PYTHONPATH": str(SOURCE)} | extra,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert "Traceback" not in done.stderr
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_three_traces_give_a_summary_and_a_page(tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    out, err = run(*THREE, "--html", str(page))
    assert err == ""
    assert "3 centres, 288 processors, 1,100 jobs" in out
    assert "Yes: together, jobs would have waited" in out
    assert f"report: {page}" in out
    assert page.read_text(encoding="utf-8").startswith("<!doctype html>")


def test_the_same_input_and_seed_give_the_same_bytes(tmp_path: Path) -> None:
    answers = []
    for seed in ("1", "2"):
        page = tmp_path / f"{seed}.html"
        words = (*THREE, "--seed", "5", "--jitter", "2m", "--json", "--html", str(page))
        out, _ = run(*words, PYTHONHASHSEED=seed)
        answers.append((out, page.read_bytes()))
    assert answers[0] == answers[1]


def test_another_seed_of_the_jitter_gives_another_replay() -> None:
    one, two = (run(*THREE, "--jitter", "2m", "--seed", seed, "--json")[0] for seed in "12")
    assert one != two


def test_rules_are_compared_under_every_value_of_a_sweep(tmp_path: Path) -> None:
    now, proposed = tmp_path / "now.toml", tmp_path / "proposed.toml"
    now.write_text("round_ms = 10_000\n")
    proposed.write_text("round_ms = 300_000\n")
    page = tmp_path / "compare.html"
    out, _ = run(
        *THREE, "--compare", str(now), str(proposed), "--sweep", "share=1,0.5", "--json",
        "--html", str(page),
    )  # fmt: skip
    variants = json.loads(out)["variants"]
    expected = [f"{path} share={share}" for path in (now, proposed) for share in ("1", "0.5")]
    assert [variant["label"] for variant in variants] == expected
    rounds = [variant["report"]["options"]["rules"].get("round_ms") for variant in variants]
    assert rounds == [None, None, 300_000, 300_000]
    assert "What difference does it make?" in page.read_text(encoding="utf-8")
    table, _ = run(*THREE, "--sweep", "share=1,0.5", "--workers", "1")
    assert "share=0.5" in table


def test_a_centre_without_a_trace_invents_one() -> None:
    out, _ = run("alpha.swf", "--synthetic", "delta=32:200:0.4", "--json")
    centres = json.loads(out)["centres"]
    assert [(c["centre"], c["processors"]) for c in centres] == [("alpha", 64), ("delta", 32)]


def test_a_centre_alone_gains_nothing() -> None:
    out, _ = run("alpha.swf")
    assert "would have changed little" in out


def test_every_option_can_be_given_at_once() -> None:
    out, _ = run(
        *THREE, "--align", "calendar", "--offset", "alpha=-1h", "--scale", "1.2", "--jitter", "2m",
        "--inflate", "1.5", "--seed", "3", "--warmup", "12h", "--delay", "1s", "--share", "0.8",
        "--kept-free", "beta=4", "--window", "daily 00:00-24:00", "--after-wait", "5m",
        "--long-guests", "2h", "--long-share", "0.25", "--preemptible", "--checkpoint",
        "--free-rider", "alpha", "--leaves", "gamma@3", "--speed", "gamma=2", "--only",
        "alpha,beta,gamma", "--zone", "gamma=UTC", "--json",
    )  # fmt: skip
    report = json.loads(out)
    assert report["options"]["load"] == 1.2
    assert report["centres"][0]["hosted"] == 0
    assert report["centres"][0]["exported"] > 0


BAD = {
    "two traces of one centre": (("alpha.swf", "alpha=beta.swf"), "workload-name"),
    "a trace that is no trace": (("../primes.sh", "--procs", "4"), "workload-line"),
    "a trace that is not there": (("nowhere.swf",), "workload-file"),
    "a load of nothing": (("alpha.swf", "--scale", "0"), "workload-option"),
    "a centre that is not there": (("alpha.swf", "--only", "beta"), "workload-centre"),
    "a variable that is not there": (("alpha.swf", "--sweep", "luck=1"), "workload-variable"),
    "a folder for a page": (("alpha.swf", "--html", "/"), "simulate-option"),
    "a page in a folder that is not there": (
        ("alpha.swf", "--html", "no/where.html"),
        "simulate-option",
    ),
}


@pytest.mark.parametrize("what", BAD)
def test_bad_input_is_told_in_a_few_lines(what: str) -> None:
    words, code = BAD[what]
    out, err = run(*words, code=2)
    assert out == ""
    assert f"[{code}]" in err
    assert err.count("\n") <= 3


def test_an_error_is_json_where_json_is_asked_for() -> None:
    _, err = run("nowhere.swf", "--json", code=2)
    assert json.loads(err)["code"] == "workload-file"


def test_an_interrupted_sweep_ends_with_all_its_workers(tmp_path: Path) -> None:
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    words = ("--synthetic", "a=64:4000", "--synthetic", "b=64:4000")
    sweep = ("--sweep", f"seed={','.join(map(str, range(50)))}", "--workers", "2")
    with subprocess.Popen(
        [sys.executable, "-W", "error", "-m", "p2pfed", "simulate", *words, *sweep],
        cwd=tmp_path,
        env=kept | {"PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509 - no threads run here
    ) as program:
        try:
            wait_until(lambda: len(children_of(program.pid)) >= 3, "workers, and their tracker")
            os.killpg(program.pid, signal.SIGINT)
            out, err = program.communicate(timeout=60)
        finally:
            program.kill()
    assert program.returncode == 130
    assert out == ""
    assert err.endswith("interrupted\n")  # a worker that was still loading may say more


def children_of(pid: int) -> list[str]:
    """Processes that another one has started and that run."""
    path = Path(f"/proc/{pid}/task/{pid}/children")
    return path.read_text().split() if path.exists() else []
