"""The user's story: three centres, from `p2pfed init` to a verified ledger, by the program alone.

The federation is founded once, by the commands that a person types, and used by all tests here:
alpha has jobs and offers nothing, beta offers 4 cores, gamma 2. Every test leaves them free.
"""

from __future__ import annotations

import stat
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pfed.shell.answers import (
    AttemptView,
    BalanceView,
    CountersView,
    Explanation,
    FitView,
    JobView,
    MemberView,
    OfferView,
    PeerView,
    StatusView,
)
from tests.e2e.federation import FAST_RULES, Centre, Federation, free_port, run_program
from tests.waiting import wait_until

CORES = {"alpha": 2, "beta": 4, "gamma": 2}


@pytest.fixture(scope="module")
def federation() -> Iterator[Federation]:
    root = Path(tempfile.mkdtemp(prefix="p2pfed-e2e-"))
    with Federation(root) as made:
        found(made)
        made.start()
        for name in ("beta", "gamma"):
            made[name].cli("offer", "open", "default")
        made.until_offers(2)
        yield made


def found(federation: Federation) -> None:
    """Steps 1 and 2 of the story."""
    root = federation.root
    for name, cores in CORES.items():
        port = free_port()
        run_program(
            *("init", name, "--name", name, "--listen", f"127.0.0.1:{port}"),
            *("--cores-per-node", str(cores), "--memory-mib-per-node", "4096"),
            folder=root,
        )
        federation.centres[name] = Centre(name, root / name, port)
    (root / "rules.toml").write_text("\n".join(f"{k} = {v}" for k, v in FAST_RULES.items()))
    cards = [f"{name}/card.json" for name in CORES]
    run_program("charter", "new", *cards, "--rules", "rules.toml", "--name", "story", folder=root)
    for name in CORES:
        copy = f"{name}/charter.cbor"
        run_program("charter", "sign", "charter.cbor", "-o", copy, "--config", name, folder=root)
    copies = [f"{name}/charter.cbor" for name in CORES]
    run_program("charter", "merge", *copies, "-o", "whole.cbor", folder=root)
    shown = run_program("charter", "show", "whole.cbor", "--json", folder=root).json
    assert shown["complete"] and [f["centre"] for f in shown["founders"]] == list(CORES)
    for name in CORES:
        (root / name / "charter.cbor").write_bytes((root / "whole.cbor").read_bytes())


@pytest.fixture
def alpha(federation: Federation) -> Centre:
    return federation["alpha"]


def script(centre: Centre, text: str, name: str = "job.sh") -> str:
    """Writes a batch script into the centre's work folder; returns its name."""
    work = centre.folder / "work"
    work.mkdir(exist_ok=True)
    (work / name).write_text(text)
    return name


def submitted(centre: Centre, *arguments: str) -> str:
    """Submits by the program; returns the job's id."""
    answer = centre.cli("submit", "--json", *arguments)
    assert answer.json["job"].keys() == JobView.__annotations__.keys()
    return str(answer.json["job"]["job_id"])


def fill(federation: Federation) -> list[str]:
    """Jobs of alpha that take all capacity there is; returns when they run."""
    alpha = federation["alpha"]
    name = script(alpha, "#!/bin/sh\nexec sleep 600\n", "fill.sh")
    ask = ("--mem", "64M", "-t", "20", "-c")
    jobs = [submitted(alpha, *ask, cores, name) for cores in ("4", "2")]
    for job_id in jobs:
        alpha.until_state(job_id, "started")
    return jobs


def cancelled(centre: Centre, *job_ids: str) -> None:
    """Cancels jobs by the program and waits until they are over."""
    centre.cli("cancel", *job_ids)
    for job_id in job_ids:
        centre.until_state(job_id, "cancelled")


# Founding and questions


def test_the_key_and_the_control_socket_are_for_the_owner_alone(federation: Federation) -> None:
    for centre in federation:
        for path in (centre.folder / "key.pem", centre.folder / "run" / "control.sock"):
            assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_every_answer_has_exactly_the_documented_fields(federation: Federation) -> None:
    for centre in federation:
        status = centre.cli("status", "--json").json
        assert status.keys() == StatusView.__annotations__.keys()
        assert (status["centre"], status["federation"]) == (centre.name, "story")
        assert status["members"] == 3
    alpha = federation["alpha"]
    lists = {
        "peers": ("peers", PeerView, 2),
        "members": ("members", MemberView, 3),
        "balance": ("balances", BalanceView, 3),
        "offers": ("offers", OfferView, 2),
    }
    for command, (key, view, count) in lists.items():
        rows = alpha.cli(command, "--json").json[key]
        assert len(rows) == count
        for row in rows:
            assert row.keys() == view.__annotations__.keys()
    counters = alpha.cli("balance", "--counters", "--json").json
    assert counters.keys() == CountersView.__annotations__.keys()


def test_what_is_printed_for_people_names_what_matters(federation: Federation) -> None:
    alpha = federation["alpha"]
    assert "2 of 2 connected" in alpha.cli("status").out
    for command in ("peers", "members", "balance", "offers"):
        said = alpha.cli(command).out
        assert "beta" in said and "gamma" in said
    assert "default" in federation["beta"].cli("offer", "list").out


def test_capacity_is_opened_seen_by_all_and_taken_back(federation: Federation) -> None:
    alpha = federation["alpha"]
    opened = alpha.cli("offer", "open", "default", "--for", "1h", "--json").json["offer"]
    assert opened.keys() == OfferView.__annotations__.keys()
    assert (opened["host"], opened["free_cores"], opened["open"]) == ("alpha", 2, True)
    assert 3500_000 < opened["until_ms"] - time.time() * 1000 < 3601_000
    for centre in federation:
        centre.until(
            lambda client: any(o["offer_id"] == opened["offer_id"] for o in client.offers()),
            "alpha's offer",
        )
    closed = alpha.cli("offer", "close", opened["offer_id"], "--reason", "enough", "--json").json
    assert closed == {"closed": [opened["offer_id"]]}
    federation["gamma"].until(lambda client: len(client.offers()) == 2, "the end of alpha's offer")
    listed = {row["offer_id"]: row for row in alpha.cli("offer", "list", "--json").json["offers"]}
    assert listed[opened["offer_id"]]["open"] is False


def test_capacity_is_never_promised_twice(federation: Federation) -> None:
    answer = federation["beta"].cli("offer", "open", "default", code=2)
    assert "[offer-exceeds-capacity]" in answer.err


def test_a_template_that_is_not_there_is_named(federation: Federation) -> None:
    answer = federation["beta"].cli("offer", "open", "nights", code=3)
    assert "nights" in answer.err


# Jobs

WORDS = """#!/bin/bash
#SBATCH --job-name=count --ntasks=1 --cpus-per-task=2
#SBATCH --mem=128M --time=0:01:00
#SBATCH --output=%x-%j.txt --error=errors.txt
#SBATCH --partition=long
set -eu
sort -u words.txt | tee sorted.csv | wc -l
mkdir deep
cp sorted.csv deep/copy.csv
echo "$GREETING $1" >&2
"""


def test_a_job_runs_at_another_centre_and_everything_comes_home(federation: Federation) -> None:
    alpha = federation["alpha"]
    name = script(alpha, WORDS, "count.sh")
    script(alpha, "b\na\nb\n", "words.txt")
    answer = alpha.cli(
        *("submit", "--wait", "--json", "--input", "words.txt", "--fetch", "*.csv"),
        *("--env", "GREETING=good morning", name, "federation"),
    )
    assert "--partition is ignored" in answer.err
    detail = answer.json
    job, attempts = detail["job"], detail["attempts"]
    assert job["name"] == "count"
    assert (job["state"], job["exit_code"], job["cores_per_node"]) == ("completed", 0, 2)
    assert job["memory_mib_per_node"] == 128
    assert job["host"] in ("beta", "gamma")
    [attempt] = attempts
    assert attempt.keys() == AttemptView.__annotations__.keys()
    assert attempt["claimed_ms"] <= attempt["handed_over_ms"] <= attempt["started_ms"]

    job_id = job["job_id"]
    assert alpha.cli("output", job_id).out.strip() == "2"
    assert alpha.cli("output", job_id, "--stderr").out == "good morning federation\n"
    saved = alpha.cli("output", job_id, "--files", "saved", "--json").json
    paths = {file["path"] for file in saved["files"]}
    assert {f"count-{job_id}.txt", "errors.txt", "sorted.csv", "deep/copy.csv"} == paths
    assert (alpha.folder / "work" / "saved" / "deep" / "copy.csv").read_text() == "a\nb\n"
    for printed in (alpha.cli("jobs").out, alpha.cli("job", job_id).out):
        assert "count" in printed and job["host"] in printed


def test_others_see_the_job_but_neither_its_name_nor_its_output(federation: Federation) -> None:
    alpha = federation["alpha"]
    job_id = submitted(alpha, "-t", "1", script(alpha, "#!/bin/sh\necho secret\n", "private.sh"))
    alpha.until_over([job_id])
    gamma = federation["gamma"]
    gamma.until(lambda c: c.job(job_id)["job"]["final"], "the end of the job")
    detail = gamma.cli("job", job_id, "--json").json
    assert (detail["job"]["name"], detail["job"]["script"]) == (None, None)
    assert "[job-not-own]" in gamma.cli("output", job_id, code=3).err
    assert "[job-not-own]" in gamma.cli("cancel", job_id, code=3).err
    assert "private.sh" not in gamma.export().read_bytes().decode("latin-1")


ENDS = {
    "an exit code": ("exit 7", ("failed", "failed", 7, 0), 7),
    "a signal": ("kill -9 $$", ("failed", "failed", 0, 9), 137),
    "a program that is missing": ("no-such-program", ("failed", "failed", 127, 0), 127),
    "more time than it asked for": ("sleep 600", ("failed", "timeout", None, None), 124),
}


def test_the_end_of_a_job_is_told_as_it_was(federation: Federation) -> None:
    alpha = federation["alpha"]
    begun = {}
    for number, (phrase, (body, *_)) in enumerate(ENDS.items()):
        name = script(alpha, f"#!/bin/sh\n{body}\n", f"end{number}.sh")
        begun[phrase] = submitted(alpha, "--mem", "64M", "-t", "0:00:03", name)
    views = alpha.until_over(begun.values())
    for phrase, (_, (state, outcome, exit_code, signal), _) in ENDS.items():
        view = views[begun[phrase]]
        assert (view["state"], view["outcome"]) == (state, outcome), phrase
        assert exit_code in (None, view["exit_code"]), phrase
        assert signal in (None, view["signal"]), phrase
        assert view["attempts"] == 1, phrase


def test_submit_with_wait_exits_as_the_job_did(federation: Federation) -> None:
    alpha = federation["alpha"]
    name = script(alpha, "#!/bin/sh\necho out\nexit 9\n", "nine.sh")
    answer = alpha.cli("submit", "--wait", "--mem", "64M", "-t", "1", name, code=9)
    job_id = answer.out.strip()
    assert f"p2pfed output {job_id}" in answer.err


def test_a_job_goes_only_where_it_may(federation: Federation) -> None:
    alpha = federation["alpha"]
    name = script(alpha, "#!/bin/sh\ntrue\n")
    ask = ("--mem", "64M", "-t", "1")
    wanted = {
        submitted(alpha, *ask, "--allow", "gamma", name): "gamma",
        submitted(alpha, *ask, "--deny", "gamma", name): "beta",
        submitted(alpha, *ask, "--allow", "beta", "--allow", "gamma", "--deny", "beta", name): (
            "gamma"
        ),
    }
    views = alpha.until_over(wanted)
    assert {job_id: view["host"] for job_id, view in views.items()} == wanted


REFUSED_REQUESTS = {
    "a class nobody agreed on": (["--class", "vip"], "[job-class-unknown]"),
    "a resource class nobody agreed on": (
        ["--resource-class", "quantum"],
        "[job-resource-class-unknown]",
    ),
    "more time than the rules allow": (["-t", "2-0"], "[job-walltime]"),
    "no node at all": (["-N", "0"], "--nodes"),
    "fewer tasks than nodes": (["-N", "3", "-n", "2"], "[script-request]"),
    "memory without a number": (["--mem", "much"], "[script-option-value]"),
}


def test_a_request_that_nobody_can_meet_is_refused_at_once(federation: Federation) -> None:
    alpha = federation["alpha"]
    name = script(alpha, "#!/bin/sh\ntrue\n")
    before = len(alpha.jobs())
    for phrase, (options, expected) in REFUSED_REQUESTS.items():
        answer = alpha.cli("submit", *options, name, code=2)
        assert expected in answer.err, phrase
        assert answer.out == "", phrase
    assert len(alpha.jobs()) == before


# Explain


def explained(centre: Centre, job_id: str, ready: Callable[[Explanation], bool]) -> Explanation:
    """`explain --json`, once it is as the predicate says."""
    centre.until(lambda client: ready(client.explain(job_id)), "the explanation")
    found: Explanation = centre.cli("explain", job_id, "--json").json
    assert found.keys() == Explanation.__annotations__.keys()
    return found


def nothing_free(offers: list[FitView]) -> bool:
    return len(offers) == 2 and not any(fit["fits"] and fit["free_now"] for fit in offers)


def test_explain_says_of_each_offer_why_a_job_fits_nowhere(federation: Federation) -> None:
    alpha = federation["alpha"]
    name = script(alpha, "#!/bin/sh\ntrue\n")
    job_id = submitted(alpha, "-c", "64", "--mem", "1G", "-t", "1", name)
    found = explained(alpha, job_id, lambda e: e["score"] is not None and len(e["offers"]) == 2)
    assert "none of the 2 open offers fits" in found["summary"]
    reasons = {}
    for fit in found["offers"]:
        assert fit.keys() == FitView.__annotations__.keys()
        assert not fit["fits"]
        reasons[fit["host"]] = fit["reasons"][0]
    assert reasons == {
        "beta": "asks for 64 cores a node, the offer has 4",
        "gamma": "asks for 64 cores a node, the offer has 2",
    }
    said = alpha.cli("explain", job_id).out
    assert "asks for 64 cores a node" in " ".join(said.split())
    cancelled(alpha, job_id)


def test_explain_names_who_stands_ahead_of_a_job_that_waits(federation: Federation) -> None:
    alpha = federation["alpha"]
    running = fill(federation)
    name = script(alpha, "#!/bin/sh\ntrue\n")
    ask = ("--mem", "64M", "-t", "1", "-c", "4")
    first = submitted(alpha, *ask, "--class", "normal", name)
    behind = submitted(alpha, *ask, "--class", "low", name)
    found = explained(alpha, behind, lambda e: e["ahead"] == 1 and nothing_free(e["offers"]))
    assert found["ahead_first"][0]["job_id"] == first
    assert found["ahead_first"][0]["home"] == "alpha"
    score = found["score"]
    assert score is not None
    assert score["total"] == score["work_class"] + score["urgency"] + score["balance"]
    assert score["total"] < found["ahead_first"][0]["total"]
    fits = {fit["host"]: fit for fit in found["offers"]}
    assert fits["beta"]["fits"] and not fits["beta"]["free_now"]
    assert not fits["gamma"]["fits"]
    kept = explained(alpha, first, lambda e: e["reserved_offer_id"] is not None)
    assert (kept["ahead"], kept["reserved_offer_id"]) == (0, fits["beta"]["offer_id"])
    assert kept["reserved_from_ms"] is not None
    assert kept["reserved_from_ms"] > time.time() * 1000
    cancelled(alpha, *running, first, behind)


# Cancel


def test_a_job_that_waits_is_cancelled_and_never_runs(federation: Federation) -> None:
    alpha = federation["alpha"]
    running = fill(federation)
    mark = alpha.folder / "ran"
    name = script(alpha, f"#!/bin/sh\ntouch {mark}\n")
    job_id = submitted(alpha, "--mem", "64M", "-t", "1", name)
    view = alpha.cli("cancel", job_id, "--json").json["jobs"][0]
    assert (view["state"], view["final"]) == ("cancelled", True)
    assert "[job-final]" in alpha.cli("cancel", job_id, code=3).err
    cancelled(alpha, *running)
    last = submitted(alpha, "--mem", "64M", "-t", "1", script(alpha, "#!/bin/sh\ntrue\n"))
    alpha.until_over([last])
    assert not mark.exists()


TREE = """#!/bin/bash
setsid sleep 987 &
(sleep 986 & wait) &
jobs -p > "$1.part"
echo $$ >> "$1.part"
mv "$1.part" "$1"
while :; do sleep 1; done
"""


def test_cancelling_a_job_that_runs_ends_its_whole_process_tree(federation: Federation) -> None:
    alpha = federation["alpha"]
    pids = alpha.folder / "pids"
    name = script(alpha, TREE, "tree.sh")
    job_id = submitted(alpha, "--mem", "64M", "-t", "0:00:30", name, str(pids))
    alpha.until_state(job_id, "started")
    wait_until(pids.exists, "the job's processes")
    tree = [int(pid) for pid in pids.read_text().split()]
    assert len(tree) == 3
    alpha.cli("cancel", job_id)
    view = alpha.until_state(job_id, "cancelled")
    assert view["outcome"] == "cancelled"
    for pid in tree:
        assert not Path(f"/proc/{pid}").exists()


# Accounts and the ledger


def test_usage_is_countersigned_and_moves_the_balances_alike_everywhere(
    federation: Federation,
) -> None:
    alpha = federation["alpha"]
    before = {row["centre"]: row for row in alpha.cli("balance", "--json").json["balances"]}
    name = script(alpha, "#!/bin/sh\nexec sleep 1.2\n")
    job_id = submitted(alpha, "--mem", "64M", "-t", "1", "-c", "2", "--allow", "beta", name)
    view = alpha.until_over([job_id])[job_id]
    assert view["core_s"] == 4
    federation.until_settled()
    assert alpha.job(job_id)["attempts"][0]["receipt"]

    def moved(rows: list[BalanceView]) -> bool:
        after = {row["centre"]: row for row in rows}
        delivered = sum(a["delivered"] for a in after["beta"]["amounts"])
        return bool(delivered >= 4 + sum(a["delivered"] for a in before["beta"]["amounts"]))

    for centre in federation:
        centre.until(lambda client: moved(client.balance()), "beta's contribution")
    rows = {row["centre"]: row for row in alpha.cli("balance", "--json").json["balances"]}
    assert rows["alpha"]["balance"] < 0 < rows["beta"]["balance"]


def test_every_export_verifies_and_shows_the_same_federation(federation: Federation) -> None:
    federation.until_settled()
    seen = set()
    for centre in federation:
        export = centre.cli("ledger", "export", "export.ledger", "--json").json
        assert (centre.folder / "work" / export["file"]).stat().st_size == export["bytes"]
        charter = str(centre.folder / "charter.cbor")
        report = centre.cli(
            "ledger", "verify", "export.ledger", "--charter", charter, "--json"
        ).json
        assert report["ok"] and not report["findings"]
        assert report["blocks"] == report["admitted"]
        seen.add((report["federation"], report["name"], len(report["frontier"])))
    assert len(seen) == 1
    assert federation.common_digest()
