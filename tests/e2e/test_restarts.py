"""An orderly end: SIGTERM is quick, guests' jobs run on, and the next start finds everything."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.federation import LOOK_S, Federation, Shared
from tests.e2e.test_crashes import NAMES
from tests.e2e.witness import Witness, check_ledgers, check_ran_once
from tests.waiting import wait_until

PATIENT = """#!/bin/bash
echo $$ > "$1.part" && mv "$1.part" "$1"
while [ ! -e "$2" ]; do sleep 0.1; done
echo done
exit 5
"""


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    made = Shared(lambda: Federation.found(*NAMES, cores=2, opened=("beta",)))
    yield made
    made.close()


@pytest.fixture
def federation(shared: Shared) -> Iterator[Federation]:
    with shared.lend() as made:
        made.until_offers(1)
        yield made


def started(federation: Federation) -> tuple[str, int, Path]:
    """A job of alpha that runs at beta until it is told to end: its id, its pid, the signal."""
    alpha = federation["alpha"]
    folder = Path(tempfile.mkdtemp(dir=federation.root))
    pid, go = folder / "pid", folder / "go"
    job_id = alpha.submit(PATIENT, str(pid), str(go))
    alpha.until_state(job_id, "started")
    wait_until(pid.exists, "the job", look_s=LOOK_S)
    return job_id, int(pid.read_text()), go


def test_daemons_end_cleanly_and_at_once(federation: Federation) -> None:
    for centre in federation:
        assert centre.stop() == 0
        assert centre.log.rstrip().endswith("stopped")
        assert not (centre.folder / "run" / "control.sock").exists()
    federation.start()
    check_ledgers(federation)


def test_a_guest_runs_on_while_its_host_is_away_and_is_found_again(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    job_id, pid, go = started(federation)
    assert beta.stop() == 0
    assert Path(f"/proc/{pid}").exists()
    beta.start()
    beta.until(lambda client: client.status()["hosted"].get("started") == 1, "its guest")
    go.touch()
    view = alpha.until_over([job_id])[job_id]
    assert (view["state"], view["exit_code"], view["attempts"]) == ("failed", 5, 1)
    assert alpha.output(job_id) == "done\n"
    check_ledgers(federation)


def test_a_guest_that_ends_while_its_host_is_away_keeps_its_exit_code(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    job_id, pid, go = started(federation)
    assert beta.stop() == 0
    go.touch()
    wait_until(lambda: not Path(f"/proc/{pid}").exists(), "the job's end", look_s=LOOK_S)
    beta.start()
    view = alpha.until_over([job_id])[job_id]
    assert (view["exit_code"], view["outcome"], view["attempts"]) == (5, "failed", 1)
    assert alpha.output(job_id) == "done\n"
    check_ledgers(federation)


def test_a_job_that_ends_while_its_home_is_away_comes_home_later(federation: Federation) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    job_id, _, go = started(federation)
    assert alpha.stop() == 0
    go.touch()
    beta.until(lambda client: not client.status()["hosted"], "the end of its guest")
    alpha.start()
    view = alpha.until_over([job_id])[job_id]
    assert (view["exit_code"], alpha.output(job_id)) == (5, "done\n")
    check_ledgers(federation)


def test_all_daemons_stop_and_start_and_the_queue_is_as_it_was(federation: Federation) -> None:
    alpha = federation["alpha"]
    witness = Witness(federation)
    job_ids = [witness.submit(alpha) for _ in range(6)]
    for centre in federation:
        assert centre.stop() == 0
    federation.start()
    check_ran_once(alpha, job_ids, witness)
    check_ledgers(federation)
