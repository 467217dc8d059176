"""The ledger on disk: what goes in comes out, in order, or one clear error says why not."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from p2pfed.core.ids import BlockId, CentreName, FeedKey, Head
from p2pfed.errors import StateError, StorageError
from p2pfed.store import database as module
from p2pfed.store.database import Database
from p2pfed.store.rows import BlockRow

FEDERATION = b"f" * 32
ALPHA = FeedKey(CentreName("alpha"), 0)
ALPHA_AGAIN = FeedKey(CentreName("alpha"), 1)
BETA = FeedKey(CentreName("beta"), 0)


def block(feed: FeedKey, seq_num: int, data: bytes = b"data", time: int = 1) -> BlockRow:
    block_id = BlockId(f"{feed.centre}{feed.epoch}{seq_num}".encode().ljust(32, b"."))
    return BlockRow(feed, seq_num, block_id, time, data)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Database]:
    with Database.open(path, federation=FEDERATION) as database:
        yield database


def test_blocks_come_back_in_the_order_of_their_admission_after_a_restart(path: Path) -> None:
    rows = [block(BETA, 0), block(ALPHA, 0), block(BETA, 1), block(ALPHA_AGAIN, 0)]
    with Database.open(path, federation=FEDERATION) as database:
        database.append(rows[:3])
        database.append(rows[3:])
    with Database.open(path, federation=FEDERATION) as database:
        assert list(database.blocks()) == rows
        assert list(database.blocks(after=2)) == rows[2:]
        assert database.block_count() == 4
        assert database.frontier() == {
            ALPHA: Head(0, rows[1].block_id),
            ALPHA_AGAIN: Head(0, rows[3].block_id),
            BETA: Head(1, rows[2].block_id),
        }
        assert database.block_id(BETA, 1) == rows[2].block_id
        assert database.block_id(BETA, 2) is None


def test_a_new_ledger_is_empty_and_closed_to_others(path: Path, ledger: Database) -> None:
    assert list(ledger.blocks()) == []
    assert ledger.frontier() == {}
    assert ledger.block_count() == 0
    assert path.stat().st_mode & 0o777 == 0o600
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_every_commit_is_synced(ledger: Database) -> None:
    assert ledger._writer.execute("PRAGMA journal_mode").fetchone()[0] == "wal"
    assert ledger._writer.execute("PRAGMA synchronous").fetchone()[0] == 2


@pytest.mark.parametrize("time", [0, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
def test_times_of_the_whole_64_bit_range_survive(time: int, ledger: Database) -> None:
    ledger.append([block(ALPHA, 0, time=time)])
    assert next(ledger.blocks()).time == time


def test_a_range_spans_many_pages_of_the_reader(
    ledger: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "PAGE_BYTES", 3000)
    rows = [block(ALPHA, n, data=b"%04d" % n * 300) for n in range(20)]
    ledger.append(rows)
    assert list(ledger.read_range(ALPHA, 3, 17)) == [row.data for row in rows[3:18]]
    assert list(ledger.read_range(ALPHA, 5, 4)) == []
    assert list(ledger.blocks()) == rows


def test_a_range_with_a_hole_stops_there_instead_of_skipping_it(ledger: Database) -> None:
    ledger.append([block(ALPHA, 0), block(ALPHA, 1), block(ALPHA, 3)])
    found = ledger.read_range(ALPHA, 0, 3)
    assert [next(found), next(found)] == [b"data", b"data"]
    with pytest.raises(StateError, match="block 2 of alpha") as caught:
        next(found)
    assert caught.value.code == "block-not-stored"
    with pytest.raises(StateError, match="block 0 of beta"):
        list(ledger.read_range(BETA, 0, 0))


def test_blocks_appended_while_reading_are_read_too(ledger: Database) -> None:
    ledger.append([block(ALPHA, 0)])
    found = ledger.blocks()
    assert next(found).feed == ALPHA
    ledger.append([block(BETA, 0)])
    assert [row.feed for row in found] == [BETA]


def test_a_snapshot_ends_where_it_was_taken(ledger: Database) -> None:
    ledger.append([block(ALPHA, 0), block(ALPHA, 1)])
    found = ledger.blocks(after=1, up_to=ledger.last_admission())
    ledger.append([block(BETA, 0)])
    assert [row.seq_num for row in found] == [1]


def test_local_rows_and_blocks_are_stored_together_or_not_at_all(ledger: Database) -> None:
    ledger.append([block(ALPHA, 0)], [("job/1", b"one"), ("job/2", b"two"), ("note", b"n")])
    with pytest.raises(StateError) as caught:
        ledger.append([block(BETA, 0), block(ALPHA, 0)], [("job/3", b"three")])
    assert caught.value.code == "block-stored"
    assert ledger.local_items("job/") == [("job/1", b"one"), ("job/2", b"two")]
    assert list(ledger.frontier()) == [ALPHA]
    # The feed that was new in the undone transaction gets its number anew.
    ledger.append([block(BETA, 0)], [("job/1", None)])
    assert [row.feed for row in ledger.blocks()] == [ALPHA, BETA]
    assert ledger.local_items() == [("job/2", b"two"), ("note", b"n")]


def test_local_rows_are_put_replaced_and_deleted(ledger: Database) -> None:
    assert ledger.local_get("key") is None
    ledger.local_put("key", b"1")
    ledger.local_put("key", b"2")
    assert ledger.local_get("key") == b"2"
    ledger.local_delete("key")
    ledger.local_delete("key")
    assert ledger.local_get("key") is None


def test_a_prefix_is_taken_literally(ledger: Database) -> None:
    ledger.append([], [("a%", b""), ("ab", b""), ("a_", b""), ("a%\N{GREEK SMALL LETTER PI}", b"")])
    assert [key for key, _ in ledger.local_items("a%")] == ["a%", "a%\N{GREEK SMALL LETTER PI}"]


def test_a_full_disk_undoes_the_transaction_and_the_next_one_works(ledger: Database) -> None:
    ledger.append([block(ALPHA, 0)])
    pages = ledger._writer.execute("PRAGMA page_count").fetchone()[0]
    ledger._writer.execute(f"PRAGMA max_page_count = {pages + 2}")
    with pytest.raises(StorageError) as caught:
        ledger.append([block(ALPHA, 1), block(ALPHA, 2, data=bytes(100_000))], [("key", b"v")])
    assert caught.value.code == "disk-full"
    assert ledger.block_count() == 1
    assert ledger.local_get("key") is None
    ledger._writer.execute("PRAGMA max_page_count = 1000000")
    ledger.append([block(ALPHA, 1), block(ALPHA, 2, data=bytes(100_000))])
    assert ledger.block_count() == 3


def test_readers_and_a_writer_in_several_threads_do_not_disturb_each_other(
    ledger: Database,
) -> None:
    ledger.append([block(ALPHA, 0)])
    wrong: list[str] = []

    def read() -> None:
        for _ in range(50):
            numbers = [row.seq_num for row in ledger.blocks()]
            if numbers != list(range(len(numbers))) or ledger.local_get("n") == b"":
                wrong.append(str(numbers))

    readers = [threading.Thread(target=read) for _ in range(3)]
    for reader in readers:
        reader.start()
    for number in range(1, 60):
        ledger.append([block(ALPHA, number)], [("n", b"%d" % number)])
    for reader in readers:
        reader.join()
    assert wrong == []


def make_foreign(path: Path) -> None:
    with sqlite3.connect(path) as connection:
        connection.execute("CREATE TABLE songs (title TEXT)")
    connection.close()


def change(path: Path, statement: str) -> None:
    Database.open(path, federation=FEDERATION).close()
    with sqlite3.connect(path) as connection:
        connection.execute(statement)
    connection.close()


def overwrite_header(path: Path) -> None:
    with Database.open(path, federation=FEDERATION) as database:
        database.append([block(ALPHA, n, data=bytes(4000)) for n in range(10)])
    data = bytearray(path.read_bytes())
    data[100:4096] = b"\xff" * 3996
    path.write_bytes(data)


BAD_FILES: dict[str, tuple[str, Callable[[Path], object]]] = {
    "a text file": ("database-foreign", lambda path: path.write_text("hello, world\n" * 100)),
    "another program's database": ("database-foreign", make_foreign),
    "a ledger of a later version": (
        "database-version",
        lambda path: change(path, "PRAGMA user_version = 99"),
    ),
    "a ledger of another federation": (
        "database-federation",
        lambda path: change(path, "UPDATE meta SET value = x'00'"),
    ),
    "a ledger that lost its federation": (
        "database-federation",
        lambda path: change(path, "DELETE FROM meta"),
    ),
    "a ledger whose first page is overwritten": ("database-damaged", overwrite_header),
    "a folder": ("disk-error", lambda path: path.mkdir()),
}


@pytest.mark.parametrize("case", BAD_FILES)
def test_what_is_not_our_ledger_is_refused_with_its_reason(case: str, path: Path) -> None:
    code, prepare = BAD_FILES[case]
    path.parent.mkdir()
    prepare(path)
    before = path.read_bytes() if path.is_file() else b""
    with pytest.raises(StorageError) as caught:
        Database.open(path, federation=FEDERATION)
    assert caught.value.code == code
    assert str(path) in str(caught.value)
    assert caught.value.remedy
    if path.is_file():
        assert path.read_bytes() == before


def test_a_bit_that_rotted_in_a_block_is_named_when_it_is_read(path: Path) -> None:
    marker = b"the bytes of one block"
    with Database.open(path, federation=FEDERATION) as database:
        database.append([block(ALPHA, 0), block(ALPHA, 1, data=marker), block(ALPHA, 2)])
    data = path.read_bytes()
    assert data.count(marker) == 1
    path.write_bytes(data.replace(marker, b"the bytes of one clock"))
    with Database.open(path, federation=FEDERATION) as database:
        for read in (database.blocks(), database.read_range(ALPHA, 0, 2)):
            next(read)
            with pytest.raises(StorageError, match="block 1 of alpha") as caught:
                next(read)
            assert caught.value.code == "database-block-damaged"


def test_a_closed_ledger_says_so(path: Path) -> None:
    database = Database.open(path, federation=FEDERATION)
    database.close()
    database.close()
    with pytest.raises(StateError) as caught:
        database.block_count()
    assert caught.value.code == "database-closed"
    with pytest.raises(StateError):
        database.append([block(ALPHA, 0)])


def test_another_program_that_holds_the_file_locked_is_an_error_that_passes(
    path: Path, ledger: Database
) -> None:
    ledger._writer.execute("PRAGMA busy_timeout = 1")
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StorageError) as caught:
        ledger.append([block(ALPHA, 0)])
    assert caught.value.code == "database-busy"
    other.execute("ROLLBACK")
    other.close()
    ledger.append([block(ALPHA, 0)])
    assert ledger.block_count() == 1
