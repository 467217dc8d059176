"""A user's key: what it lets its home show, what it hides from others, and that it can be lost."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from p2pfed.core.disclosure import check_disclosure
from p2pfed.core.ids import CentreName, FederationId, JobId, Position
from p2pfed.core.records import Job
from p2pfed.errors import InputError
from p2pfed.shell.owners import Owners

FEDERATION = FederationId(bytes(31) + b"f")
ALPHA = CentreName("alpha")
JOB_ID = JobId(Position(ALPHA, 0, 4, 0))


def job(number: int) -> Job:
    return Job(
        resource_class="cpu",
        nodes=1,
        cores_per_node=1,
        memory_mib_per_node=1,
        walltime_s=1,
        work_class="normal",
        payload_digest=number.to_bytes(32, "big"),
        payload_bytes=1,
    )


def posted(owners: Owners, user: str, number: int) -> Job:
    plain = job(number)
    return replace(plain, owner=owners.commit(owners.of(user), plain.payload_digest))


@pytest.fixture
def owners(tmp_path: Path) -> Owners:
    return Owners(tmp_path / "owners", FEDERATION, ALPHA)


def test_a_pseudonym_outlives_a_restart_and_differs_from_home_to_home(tmp_path: Path) -> None:
    alpha = Owners(tmp_path / "alpha", FEDERATION, ALPHA)
    ann = alpha.of("ann").pseudonym
    assert Owners(tmp_path / "alpha", FEDERATION, ALPHA).of("ann").pseudonym == ann
    assert Owners(tmp_path / "beta", FEDERATION, ALPHA).of("ann").pseudonym != ann
    assert alpha.of("bob").pseudonym != ann
    assert len(ann) == 32
    assert "ann" not in ann


def test_keys_are_readable_by_their_owner_alone_and_no_name_stands_in_a_files_name(
    owners: Owners, tmp_path: Path
) -> None:
    owners.of("ann")
    (path,) = (tmp_path / "owners").iterdir()
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700
    assert "ann" not in path.name


@pytest.mark.parametrize("user", ["ann", "../../etc/passwd", "a/b", "", "\udcff", "ä" * 200])
def test_whatever_a_user_is_called_its_jobs_can_be_disclosed(owners: Owners, user: str) -> None:
    record = posted(owners, user, 1)
    found = owners.disclose(JOB_ID, record)
    assert found is not None
    assert found.user == user
    check_disclosure(found, FEDERATION, record)


def test_two_jobs_of_one_user_look_like_those_of_two(owners: Owners) -> None:
    first, second = posted(owners, "ann", 1), posted(owners, "ann", 2)
    assert first.owner != second.owner
    opened = owners.disclose(JOB_ID, first)
    assert opened is not None
    with pytest.raises(InputError, match="does not say"):
        check_disclosure(opened, FEDERATION, second)


def test_after_a_user_is_forgotten_no_job_can_be_disclosed_and_others_still_can(
    owners: Owners, tmp_path: Path
) -> None:
    ann, bob = posted(owners, "ann", 1), posted(owners, "bob", 2)
    pseudonym = owners.of("ann").pseudonym
    held = (tmp_path / "owners").joinpath
    before = {path.name: path.read_bytes() for path in held().iterdir()}
    assert owners.forget("ann")
    assert owners.disclose(JOB_ID, ann) is None
    found = owners.disclose(JOB_ID, bob)
    assert found is not None
    assert found.user == "bob"
    assert [before[path.name][32:] for path in held().iterdir()] == [b"bob"]
    assert not owners.forget("ann")
    assert owners.of("ann").pseudonym != pseudonym, "whoever comes again is somebody else"


def test_the_key_is_overwritten_before_its_file_goes(owners: Owners, tmp_path: Path) -> None:
    owners.of("ann")
    (path,) = (tmp_path / "owners").iterdir()
    other = tmp_path / "another-name-of-the-same-file"
    other.hardlink_to(path)
    size = path.stat().st_size
    owners.forget("ann")
    assert other.read_bytes() == bytes(size)
