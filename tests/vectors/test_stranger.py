"""A verifier that shares no code with ours agrees on every block id, verdict and balance."""

from __future__ import annotations

import ast
import io
from pathlib import Path

import pytest

from p2pfed.core.audit import verify_ledger
from p2pfed.core.blocks import peek_block_id
from p2pfed.core.ledgerfile import Trailer, read_ledger
from p2pfed.simulate.mutants import Mutator
from p2pfed.simulate.scribes import Scribes
from scripts.mutate_ledgers import make_base
from tests.unit.core.ledgers import good_world
from tests.vectors import stranger

MUTANTS = 60


def busy(seed: int) -> bytes:
    scribes = Scribes(
        seed, centres=4, jobs=30, per_round=3, decline_per_mille=100, dispute_per_mille=200
    )
    return b"".join(scribes.export())


def unfinished(seed: int) -> bytes:
    return b"".join(Scribes(seed, jobs=24, per_round=3, rounds_max=9).export())


TRUE_LEDGERS = {
    "jobs that ran, declines and disputes": lambda: busy(1),
    "jobs under way": lambda: unfinished(2),
    "one job, told in small steps": lambda: good_world().export(),
}


def test_the_stranger_shares_no_code_with_us() -> None:
    tree = ast.parse(Path(stranger.__file__).read_text(encoding="utf-8"))
    names = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""]
            if isinstance(node, ast.ImportFrom)
            else []
        )
    }
    standard = {"__future__", "hashlib", "collections", "dataclasses", "typing"}
    assert names - standard == {"cbor2", "cryptography"}


@pytest.mark.parametrize("case", TRUE_LEDGERS)
def test_the_stranger_finds_the_same_blocks_and_balances(case: str) -> None:
    data = TRUE_LEDGERS[case]()
    ours, theirs = verify_ledger(io.BytesIO(data)), stranger.verify(data)
    ids = [
        peek_block_id(entry.data)
        for entry in read_ledger(io.BytesIO(data))
        if not isinstance(entry, Trailer) and entry.number
    ]
    assert ours.ok
    assert theirs.block_ids == ids
    assert theirs.balances == {
        line.centre: (line.standing.contribution, line.standing.usage, line.balance_ppm)
        for line in ours.balances
    }
    assert any(contribution for contribution, _, _ in theirs.balances.values())


def test_the_stranger_gives_every_mutant_the_same_verdict() -> None:
    base = make_base(4)
    mutator = Mutator(base, 4)
    verdicts = {True: 0, False: 0}
    for _ in range(MUTANTS):
        mutant = mutator.make()
        ours = verify_ledger(io.BytesIO(mutant.data)).ok
        try:
            stranger.verify(mutant.data)
            theirs = True
        except stranger.WrongError:
            theirs = False
        assert ours == theirs, mutant.detail
        verdicts[ours] += 1
    assert verdicts[False] > MUTANTS // 2
