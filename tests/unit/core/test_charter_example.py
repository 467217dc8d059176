"""The example card in the repository is a card."""

from __future__ import annotations

from pathlib import Path

from p2pfed.core.charter import parse_card


def test_the_example_card_is_read_and_verified() -> None:
    path = Path(__file__).parents[3] / "keys" / "example.card.json"
    card = parse_card(path.read_text(encoding="utf-8"), where=str(path))
    assert card.name == "example"
