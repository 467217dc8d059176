"""Invariant 4: same view, same matching, whatever the hash seed of the process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]


def fingerprint(hash_seed: int) -> str:
    """What scripts/fingerprint.py prints in a process of its own."""
    return subprocess.run(
        [sys.executable, "scripts/fingerprint.py", "20"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONHASHSEED": str(hash_seed)},
        capture_output=True,
        check=True,
        text=True,
    ).stdout


def test_invariant_4_every_hash_seed_gives_the_same_blocks_matchings_and_accounts() -> None:
    first = fingerprint(0)
    assert "round 20: placed " in first
    assert fingerprint(1) == first
    assert fingerprint(4242) == first
