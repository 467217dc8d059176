"""Same view, same matching (design invariant 4): whatever the hash seed."""

from __future__ import annotations

import os
import subprocess
import sys
from hashlib import sha256
from pathlib import Path

from p2pfed.core.matching import match
from tests.properties.matching_worlds import make_world

REPOSITORY = Path(__file__).parents[2]
PROGRAM = "from tests.properties.test_matching_determinism import digest; print(digest())"


def digest() -> str:
    """A hash over the matchings of many worlds, in the order in which they were decided."""
    found = sha256()
    for seed in range(60):
        matching = match(make_world(seed, 8, 40, plain=seed % 2 == 0))
        found.update(repr((matching.placements, matching.reservations)).encode())
    return found.hexdigest()


def test_every_hash_seed_gives_the_same_matching() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", PROGRAM],
            cwd=REPOSITORY,
            env={**os.environ, "PYTHONHASHSEED": seed},
            check=True,
            capture_output=True,
            text=True,
        ).stdout
        for seed in ("0", "1", "4711")
    }
    assert digests == {digest() + "\n"}
