"""Yesterday's backup, a lost high-water file, a lost folder: a centre never forks its own feed.

The state folder is replaced while the daemon is down, as an administrator's restore does. The
high-water file lies outside of it and stays, or is what was lost.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from p2pfed.errors import StateError
from tests.e2e.federation import LOOK_S, Centre, Federation, Shared
from tests.e2e.test_crashes import NAMES
from tests.e2e.witness import Witness, check_ledgers, check_ran_once
from tests.waiting import wait_until

SHORT_LEASES = {
    "fetch_ms": 2_000,
    "queue_ms": 1_000,
    "kill_grace_ms": 500,
    "walltime_max_s": 3,
}
"""With these rules a centre that lost its high-water file is careful for 8.5 seconds."""
LEASE_MAX_MS = 7_500


@pytest.fixture(scope="module")
def shared() -> Iterator[Shared]:
    opened = ("beta", "gamma")
    made = Shared(lambda: Federation.found(*NAMES, cores=2, opened=opened, rules=SHORT_LEASES))
    yield made
    made.close()


@pytest.fixture
def federation(shared: Shared) -> Iterator[Federation]:
    with shared.lend() as made:
        made.until_offers(2)
        yield made


@pytest.fixture
def witness(federation: Federation) -> Witness:
    return Witness(federation, walltime_s=3)


def backed_up(centre: Centre) -> Path:
    """Stops the daemon, copies its state folder, starts it again."""
    assert centre.stop() == 0
    copy = Path(tempfile.mkdtemp(dir=centre.folder), "state")
    shutil.copytree(centre.folder / "state", copy)
    centre.start()
    centre.until_writing()
    return copy


def restored(centre: Centre, copy: Path) -> None:
    """The state folder is the copy again; the daemon must not run."""
    assert not centre.running
    shutil.rmtree(centre.folder / "state")
    shutil.copytree(copy, centre.folder / "state")


def marked(centre: Centre) -> int:
    """The `seq_num` in its high-water file."""
    return int((centre.folder / "highwater").read_text().split()[4])


@pytest.mark.parametrize("victim", ["alpha", "beta"])
def test_a_restored_backup_takes_its_own_blocks_back_and_goes_on(
    federation: Federation, witness: Witness, victim: str
) -> None:
    alpha, centre = federation["alpha"], federation[victim]
    jobs = [witness.submit(alpha)]
    check_ran_once(alpha, jobs, witness)
    copy = backed_up(centre)
    federation.until_offers(2)
    jobs += [witness.submit(alpha) for _ in range(3)]
    check_ran_once(alpha, jobs, witness)
    centre.kill()
    mark = marked(centre)
    restored(centre, copy)
    centre.start()
    centre.until_writing()
    status = centre.status()
    assert status["epoch"] == 0
    assert status["seq_num"] is not None and status["seq_num"] >= mark
    assert not status["warnings"]
    jobs.append(witness.submit(alpha))
    check_ran_once(alpha, jobs, witness)
    check_ledgers(federation)


def test_a_restored_host_finds_the_guest_that_started_after_the_backup(
    federation: Federation, witness: Witness
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    copy = backed_up(beta)
    federation.until_offers(2)
    job_id = witness.submit(alpha, 2.5, allow=["beta"])
    alpha.until_state(job_id, "started")
    beta.kill()
    restored(beta, copy)
    beta.start()
    check_ran_once(alpha, [job_id], witness)
    check_ledgers(federation)


def test_a_restored_home_still_has_the_payload_of_a_job_posted_after_the_backup(
    federation: Federation, witness: Witness
) -> None:
    alpha, gamma = federation["alpha"], federation["gamma"]
    copy = backed_up(alpha)
    assert gamma.stop() == 0
    job_id = witness.submit(alpha, allow=["gamma"])
    mark = marked(alpha)
    federation["beta"].until(
        lambda client: any(
            head["centre"] == "alpha" and head["seq_num"] >= mark
            for head in client.status()["frontier"]
        ),
        "alpha's block",
    )
    alpha.kill()
    restored(alpha, copy)
    alpha.start()
    gamma.start()
    check_ran_once(alpha, [job_id], witness)
    check_ledgers(federation)


def test_a_restored_backup_writes_nothing_while_nobody_can_give_its_blocks_back(
    federation: Federation, witness: Witness
) -> None:
    alpha = federation["alpha"]
    copy = backed_up(alpha)
    job_id = witness.submit(alpha)
    check_ran_once(alpha, [job_id], witness)
    for centre in federation:
        centre.kill()
    restored(alpha, copy)
    mark = marked(alpha)
    alpha.start()
    status = alpha.status()
    assert status["recovering"]
    assert any("taking our blocks back from peers" in text for text in status["warnings"])
    assert alpha.cli("status").out.count("recovering") >= 1
    with pytest.raises(StateError) as refused:
        witness.submit(alpha)
    assert refused.value.code == "recovering"
    assert marked(alpha) == mark
    federation["gamma"].start()
    alpha.until_writing()
    federation["beta"].start()
    check_ran_once(alpha, [job_id], witness)
    check_ledgers(federation)


def test_a_lost_state_folder_comes_back_from_the_peers(
    federation: Federation, witness: Witness
) -> None:
    alpha = federation["alpha"]
    jobs = [witness.submit(alpha)]
    check_ran_once(alpha, jobs, witness)
    alpha.kill()
    shutil.rmtree(alpha.folder / "state")
    alpha.start()
    alpha.until_writing()
    assert alpha.status()["epoch"] == 0
    assert jobs[0] in alpha.jobs()
    later = witness.submit(alpha)
    check_ran_once(alpha, [later], witness)
    check_ledgers(federation)


# Without the high-water file


def test_without_its_high_water_file_a_centre_waits_for_every_member(
    federation: Federation, witness: Witness
) -> None:
    alpha, gamma = federation["alpha"], federation["gamma"]
    job_id = witness.submit(alpha)
    check_ran_once(alpha, [job_id], witness)
    gamma.kill()
    alpha.kill()
    (alpha.folder / "highwater").unlink()
    alpha.start()
    alpha.until_linked(1)
    status = alpha.status()
    assert status["recovering"]
    assert any("every member must answer" in text for text in status["warnings"])
    with pytest.raises(StateError) as refused:
        witness.submit(alpha)
    assert refused.value.code == "recovering"
    gamma.start()
    alpha.until_writing()
    assert any("without high-water file" in text for text in alpha.status()["warnings"])
    assert "without high-water file" in alpha.cli("status").out
    assert alpha.status()["epoch"] == 0
    check_ran_once(alpha, [witness.submit(alpha)], witness)
    check_ledgers(federation)


def test_without_its_high_water_file_a_host_takes_no_guests_for_a_whole_lease(
    federation: Federation, witness: Witness
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    before = witness.submit(alpha, 2.0, allow=["beta"])
    alpha.until_state(before, "started")
    wait_until(lambda: witness.begun() == 1, "the guest", look_s=LOOK_S)
    beta.kill()
    (beta.folder / "highwater").unlink()
    beta.start()
    beta.until_writing()
    since_ms = beta.status()["now_ms"]
    federation.until_offers(2)
    later = witness.submit(alpha, allow=["beta"])
    check_ran_once(alpha, [before, later], witness)
    started_ms = alpha.jobs()[later]["started_ms"]
    assert started_ms is not None and started_ms > since_ms + LEASE_MAX_MS
    check_ledgers(federation)


def test_a_damaged_high_water_file_stops_the_start_and_says_what_to_do(
    federation: Federation,
) -> None:
    alpha = federation["alpha"]
    alpha.kill()
    path = alpha.folder / "highwater"
    right = path.read_text()
    path.write_text(right.replace("highwater 1 alpha 0", "highwater 1 alpha 1"))
    code, said = alpha.fails_to_start()
    assert (code, "[highwater-damaged]" in said) == (4, True)
    path.write_text(right)
    alpha.start()
    check_ledgers(federation)


# Everything but key, configuration and charter


def emptied(centre: Centre) -> None:
    """What is left is what a backup of keys and configuration holds; the daemon must not run."""
    assert not centre.running
    kept = {"key.pem", "centre.toml", "charter.cbor"}
    for path in centre.folder.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        elif path.name not in kept:
            path.unlink()


def test_a_centre_that_lost_all_but_its_key_takes_its_feed_back_and_never_forks(
    federation: Federation, witness: Witness
) -> None:
    alpha, beta, gamma = (federation[name] for name in NAMES)
    check_ran_once(alpha, [witness.submit(alpha)], witness)
    alpha.kill()
    mark = marked(alpha)
    beta.kill()
    gamma.kill()
    emptied(alpha)
    alpha.start()
    # With nobody there it looks new to itself, and must not believe so however long it waits.
    alpha.until(lambda c: any("every member" in w for w in c.status()["warnings"]), "a warning")
    beta.start()
    alpha.until_linked(1)
    alpha.until(lambda c: (c.status()["seq_num"] or 0) >= mark, "its own blocks")
    status = alpha.status()
    assert status["recovering"]
    assert any("gamma has not" in text for text in status["warnings"])
    with pytest.raises(StateError) as refused:
        witness.submit(alpha)
    assert refused.value.code == "recovering"
    gamma.start()
    alpha.until_writing()
    assert alpha.status()["epoch"] == 0
    federation.until_offers(2)
    check_ran_once(alpha, [witness.submit(alpha)], witness)
    check_ledgers(federation)
