"""The spool: what is visible is complete, what is removed is gone at once."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from p2pfed.core.ids import CentreName, Position
from p2pfed.errors import StateError
from p2pfed.store.spool import Spool, tree_bytes

CLAIM = Position(CentreName("alpha"), 0, 12, 3)
DIGEST = bytes(range(32))


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    return Spool(tmp_path / "spool")


def fill(folder: Path) -> Path:
    (folder / "inner").mkdir()
    (folder / "script.sh").write_text("#!/bin/sh\n")
    (folder / "inner" / "data").write_bytes(bytes(1000))
    return folder


def test_a_staged_folder_appears_whole_under_its_final_name(spool: Spool) -> None:
    staged = fill(spool.staging("alpha.12.3"))
    final = spool.publish(staged, spool.payload(DIGEST))
    assert final.name == DIGEST.hex()
    assert (final / "inner" / "data").read_bytes() == bytes(1000)
    assert not staged.exists()
    assert tree_bytes(final) == 1010


def test_publishing_again_keeps_what_is_there(spool: Spool) -> None:
    spool.publish(fill(spool.staging("first")), spool.payload(DIGEST))
    again = spool.staging("second")
    spool.publish(again, spool.payload(DIGEST))
    assert tree_bytes(spool.payload(DIGEST)) == 1010
    assert not again.exists()


def test_a_partial_transfer_is_found_again_after_a_restart(spool: Spool) -> None:
    fill(spool.staging("alpha.12.3"))
    assert (Spool(spool.root).staging("alpha.12.3") / "script.sh").exists()


def test_the_three_kinds_of_folders_have_their_places(spool: Spool) -> None:
    assert spool.claim(CLAIM).relative_to(spool.root) == Path("claims/alpha.12.3")
    assert spool.result(CLAIM).relative_to(spool.root) == Path("results/alpha.12.3")
    assert spool.payload(DIGEST).relative_to(spool.root) == Path("payloads", DIGEST.hex())


@pytest.mark.parametrize("name", ["", "..", "a/b", "/etc", ".hidden", "A", "x" * 200, "a\n"])
def test_a_name_that_could_leave_the_staging_folder_is_refused(name: str, spool: Spool) -> None:
    with pytest.raises(StateError) as caught:
        spool.staging(name)
    assert caught.value.code == "spool-name"


def test_removal_is_complete_even_where_a_job_locked_itself_out(spool: Spool) -> None:
    folder = spool.claim(CLAIM)
    folder.mkdir()
    fill(folder)
    (folder / "link").symlink_to("/etc")
    (folder / "inner").chmod(0)
    folder.chmod(0o500)
    spool.remove(folder)
    spool.remove(folder)
    assert not folder.exists()
    assert list((spool.root / "trash").iterdir()) == []
    assert Path("/etc").is_dir()


def test_what_a_crash_left_in_the_trash_is_removed_at_start(spool: Spool) -> None:
    (spool.root / "trash" / "1-0").mkdir()
    (spool.root / "trash" / "file").write_text("")
    Spool(spool.root)
    assert list((spool.root / "trash").iterdir()) == []


def test_a_sweep_keeps_only_what_it_is_told_to_keep(spool: Spool) -> None:
    spool.publish(fill(spool.staging("a")), spool.payload(DIGEST))
    spool.claim(CLAIM).mkdir()
    spool.staging("old")
    assert spool.sweep({spool.payload(DIGEST)}) == [
        spool.claim(CLAIM),
        spool.root / "staging" / "old",
    ]
    assert spool.payload(DIGEST).exists()


def test_sizes_count_files_once_and_follow_no_link(spool: Spool) -> None:
    folder = fill(spool.staging("sizes"))
    (folder / "link").symlink_to("/usr")
    (folder / "loop").symlink_to(folder)
    assert tree_bytes(folder) == 1010
    assert tree_bytes(folder / "script.sh") == 10
    assert tree_bytes(folder / "link") == 0
    assert tree_bytes(folder / "absent") == 0


def test_a_tree_with_a_pipe_and_a_link_can_be_published(spool: Spool) -> None:
    folder = fill(spool.staging("odd"))
    os.mkfifo(folder / "pipe")
    (folder / "dangling").symlink_to("nowhere")
    assert spool.publish(folder, spool.claim(CLAIM)).is_dir()


def test_the_room_left_is_known(spool: Spool) -> None:
    assert spool.free_bytes() > 0
