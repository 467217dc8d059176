"""The batch system's name for an attempt."""

from __future__ import annotations

from p2pfed.core.ids import ClaimId, Position
from p2pfed.node.host import native_name
from tests.unit.node.benches import GAMMA


def test_a_native_name_is_a_word_however_long_the_claim_id_is() -> None:
    longest = ClaimId(Position(GAMMA[:1] * 31, 65_536, 1 << 48, 4_095))  # type: ignore[arg-type]
    assert len(native_name(longest, bytes(32))) == 64


def test_two_federations_name_their_native_jobs_differently() -> None:
    claim_id = ClaimId(Position(GAMMA, 0, 7, 0))
    assert native_name(claim_id, bytes(32)) != native_name(claim_id, b"1" * 32)
