"""The high-water file survives a crash, and the verdict at restart follows the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head, PublicKey
from p2pfed.errors import StorageError
from p2pfed.store.highwater import HighWater, Mark, Restart, begun, judge_restart

ALPHA = CentreName("alpha")
FEED = FeedKey(ALPHA, 0)


def held(feed: FeedKey, seq_num: int) -> BlockId:
    """The id of every block in these tests: what the ledger holds at that position."""
    return BlockId(f"{feed.epoch}/{seq_num}".encode().ljust(32, b"."))


def at(seq_num: int, epoch: int = 0) -> Mark:
    feed = FeedKey(ALPHA, epoch)
    return Mark(feed, Head(seq_num, held(feed, seq_num)))


BEGUN = begun(ALPHA, PublicKey(bytes(32)))
MADE_ANEW = begun(ALPHA, PublicKey(b"k" * 32))
OTHER_BLOCK = Mark(FEED, Head(5, BlockId(b"x" * 32)))

CASES: dict[str, tuple[Mark | None, Mark | None, Restart]] = {
    "neither ledger nor mark": (None, None, Restart.ASK_ALL),
    "a folder made anew, with the old key in it": (MADE_ANEW, None, Restart.ASK_ALL),
    "a mark made anew beside the ledger": (MADE_ANEW, at(0), Restart.ASK_ALL),
    "as init left it": (BEGUN, None, Restart.START),
    "killed between the first block and its mark": (BEGUN, at(0), Restart.START),
    "the mark equals the head": (at(7), at(7), Restart.START),
    "killed between a block and its mark": (at(6), at(7), Restart.START),
    "killed between the first block of a new epoch and its mark": (at(9), at(0, 1), Restart.START),
    "yesterday's ledger": (at(9), at(7), Restart.RECOVER),
    "the ledger is gone": (at(9), None, Restart.RECOVER),
    "a ledger from before the new epoch": (at(0, 1), at(7), Restart.RECOVER),
    "the mark is gone": (None, at(7), Restart.ASK_ALL),
    "yesterday's mark": (at(5), at(7), Restart.ASK_ALL),
    "a mark from before the new epoch": (at(5), at(3, 1), Restart.ASK_ALL),
    "a begun mark beside a ledger": (BEGUN, at(7), Restart.ASK_ALL),
    "mark and head on two branches": (OTHER_BLOCK, at(5), Restart.NEW_EPOCH),
    "the mark on another branch, further down": (OTHER_BLOCK, at(6), Restart.NEW_EPOCH),
}


@pytest.mark.parametrize("case", CASES)
def test_the_verdict_at_restart(case: str) -> None:
    mark, own_head, verdict = CASES[case]
    assert judge_restart(mark, own_head, held, BEGUN) is verdict


def test_another_centres_mark_is_refused() -> None:
    beta = Mark(FeedKey(CentreName("beta"), 0), at(7).head)
    with pytest.raises(StorageError) as caught:
        judge_restart(beta, at(7), held, BEGUN)
    assert caught.value.code == "highwater-centre"


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    file = HighWater(tmp_path / "alpha" / "highwater")
    assert file.read() is None
    file.begin(ALPHA, PublicKey(bytes(32)))
    assert file.read() == BEGUN
    for mark in (at(0), at(1), at(1 << 48, 65536)):
        file.write(*mark)
        assert file.read() == mark
    assert [path.name for path in file.path.parent.iterdir()] == ["highwater"]


def test_the_file_is_one_documented_line(tmp_path: Path) -> None:
    file = HighWater(tmp_path / "highwater")
    file.write(FEED, Head(41, BlockId(bytes(range(32)))))
    assert file.path.read_text() == (
        "p2pfed-highwater 1 alpha 0 41"
        " 000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f 96d1f7b92d96fbc2\n"
    )


def test_no_damage_to_the_file_goes_unseen(tmp_path: Path) -> None:
    file = HighWater(tmp_path / "highwater")
    file.write(*at(41))
    good = file.path.read_bytes()
    damaged = [good[:length] for length in range(len(good))]
    damaged += [good[:n] + bytes([good[n] ^ 1]) + good[n + 1 :] for n in range(len(good))]
    damaged += [good + b"\n", good + good, b"\x00" * len(good), good.replace(b" 1 ", b" 2 ", 1)]
    for data in damaged:
        file.path.write_bytes(data)
        with pytest.raises(StorageError) as caught:
            file.read()
        assert caught.value.code == "highwater-damaged"


def test_a_link_planted_as_the_temporary_file_is_not_followed(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    file = HighWater(tmp_path / "highwater")
    (tmp_path / ".highwater.tmp").symlink_to(victim)
    file.write(*at(3))
    assert victim.read_text() == "precious"
    assert file.read() == at(3)
