"""The rules: what people may write, what the wire carries, and what is refused."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.rules import RULE_FIELDS, ResourceClass, Rules, WorkClass
from p2pfed.errors import InputError

REPOSITORY = Path(__file__).parents[3]
DEMO = Rules(round_ms=500, settle_ms=200, heartbeat_ms=500, offer_lease_ms=4_000)


def test_the_example_file_states_every_rule_at_its_default() -> None:
    text = (REPOSITORY / "config" / "rules.toml").read_text(encoding="utf-8")
    mapping = tomllib.loads(text)
    assert Rules.from_mapping(mapping) == Rules()
    assert mapping == Rules().to_mapping(), "config/rules.toml leaves out a rule"


def test_the_reference_page_states_every_rule_with_its_default_range_and_wire_key() -> None:
    page = (REPOSITORY / "docs" / "reference" / "rules.md").read_text(encoding="utf-8")

    def digits(value: int) -> str:
        return f"{value:,}".replace(",", " ")

    for field in RULE_FIELDS:
        row = (
            f"| `{field.name}` | {digits(field.default)} | {digits(field.low)} "
            f"| {digits(field.high)} | {int(field.group)}.{field.number} |"
        )
        assert row in page, f"docs/reference/rules.md lacks: {row}"


@pytest.mark.parametrize("rules", [Rules(), DEMO], ids=["default", "demo"])
def test_rules_survive_the_form_for_people_and_the_wire(rules: Rules) -> None:
    assert Rules.from_mapping(rules.to_mapping()) == rules
    data = encode(rules.to_wire())
    assert Rules.from_wire(decode(data, limit=1 << 16)) == rules


def test_what_is_left_out_stands_at_its_default() -> None:
    assert Rules.from_mapping({"round_ms": 100}) == Rules(round_ms=100)


def test_wire_keys_are_never_used_twice() -> None:
    keys = [(field.group, field.number) for field in RULE_FIELDS]
    assert len(set(keys)) == len(keys)
    assert all(0 <= field.number <= 23 for field in RULE_FIELDS)


def test_the_longest_lease_is_the_sum_of_its_parts() -> None:
    rules = Rules(
        fetch_ms=1_000, queue_ms=2_000, walltime_max_s=3, kill_grace_ms=400, clock_error_ms=50
    )
    assert rules.lease_max_ms == 1_000 + 2_000 + 3_000 + 400 + 50


def test_the_class_below_is_the_next_in_order_and_the_last_has_none() -> None:
    rules = Rules()
    below = rules.class_below("urgent")
    assert below is not None and below.name == "normal"
    assert rules.class_below("low") is None
    assert rules.class_below("no-such-class") is None


def test_points_of_an_amount_are_rounded_down() -> None:
    half = ResourceClass(name="old", unit="core", points_num=1, points_den=2)
    assert half.points(3) == 1
    assert half.amount(core_s=3, gpu_s=7) == 3
    gpu = Rules().resource_class("gpu")
    assert gpu is not None and gpu.points(gpu.amount(core_s=3, gpu_s=7)) == 350


KNOWN_BAD: dict[str, tuple[dict[str, Any], str]] = {
    "a typing error in a key": ({"round_msec": 1000}, "rules-key-unknown"),
    "a float": ({"round_ms": 1000.0}, "rules-value-type"),
    "a boolean": ({"reserve_depth": True}, "rules-value-type"),
    "a text with a unit": ({"round_ms": "10s"}, "rules-value-type"),
    "a round that is too short": ({"round_ms": 99}, "rules-value-range"),
    "a negative depth": ({"reserve_depth": -1}, "rules-value-range"),
    "a balance below -1": ({"min_balance": -1_000_001}, "rules-value-range"),
    "a decay that grows": ({"decay_num": 3, "decay_den": 2}, "rules-conflict"),
    "a heartbeat slower than the lease": (
        {"heartbeat_ms": 60_000, "offer_lease_ms": 60_000},
        "rules-conflict",
    ),
    "no time to accept a claim": ({"claim_wait_ms": 5_000}, "rules-conflict"),
    "no time to hand over": ({"accept_wait_ms": 5_000}, "rules-conflict"),
    "a human faster than the machine": ({"approval_wait_ms": 29_999}, "rules-conflict"),
    "classes that are no list": ({"classes": {"name": "low"}}, "rules-value-type"),
    "no class at all": ({"classes": []}, "rules-value-range"),
    "a class that is no table": ({"classes": ["low"]}, "rules-value-type"),
    "a class without points": ({"classes": [{"name": "low"}]}, "rules-value-type"),
    "a class with a strange key": (
        {"classes": [{"name": "low", "points": 0, "weight": 1}]},
        "rules-key-unknown",
    ),
    "a class with a strange name": (
        {"classes": [{"name": "Very Low", "points": 0}]},
        "rules-value-type",
    ),
    "a class named by a number": ({"classes": [{"name": 7, "points": 0}]}, "rules-value-type"),
    "classes in ascending order": (
        {"classes": [{"name": "low", "points": 0}, {"name": "high", "points": 1}]},
        "rules-conflict",
    ),
    "two classes of one name": (
        {"classes": [{"name": "low", "points": 1}, {"name": "low", "points": 0}]},
        "rules-conflict",
    ),
    "an unknown unit": (
        {"resource_classes": [{"name": "fpga", "unit": "board"}]},
        "rules-value-range",
    ),
    "hardware that is worth nothing": (
        {"resource_classes": [{"name": "cpu", "unit": "core", "points_num": 0}]},
        "rules-value-range",
    ),
    "a division by zero": (
        {"resource_classes": [{"name": "cpu", "unit": "core", "points_den": 0}]},
        "rules-value-range",
    ),
}


@pytest.mark.parametrize("phrase", KNOWN_BAD)
def test_known_bad_rules_are_refused(phrase: str) -> None:
    mapping, code = KNOWN_BAD[phrase]
    with pytest.raises(InputError) as refusal:
        Rules.from_mapping(mapping)
    assert refusal.value.code == code


def _changed(path: tuple[int, ...], value: CborItem) -> CborItem:
    """The default rules on the wire, with the item at `path` replaced."""
    wire: Any = Rules().to_wire()
    place: Any = wire
    for key in path[:-1]:
        place = place[key]
    place[path[-1]] = value
    return wire  # type: ignore[no-any-return]


KNOWN_BAD_WIRE: dict[str, tuple[CborItem, str]] = {
    "no map": ([], "rules-form"),
    "an empty map": ({}, "rules-form"),
    "a group from the future": (_changed((7,), {}), "rules-form"),
    "a rule from the future": (_changed((1, 23), 1), "rules-form"),
    "a group that is a list": (_changed((2,), [1, 2, 3]), "rules-form"),
    "a text for a number": (_changed((1, 1), "10000"), "rules-value-type"),
    "null for a number": (_changed((1, 1), None), "rules-value-type"),
    "a number out of range": (_changed((1, 1), 99), "rules-value-range"),
    "classes that are no list": (_changed((5,), {}), "rules-form"),
    "a class of two items": (_changed((5, 0), ["urgent", 1000]), "rules-form"),
    "an unknown unit": (_changed((6, 0), ["cpu", 2, 1, 1]), "rules-form"),
    "a boolean for a unit": (_changed((6, 0), ["cpu", True, 1, 1]), "rules-form"),
}


@pytest.mark.parametrize("phrase", KNOWN_BAD_WIRE)
def test_known_bad_rules_on_the_wire_are_refused(phrase: str) -> None:
    item, code = KNOWN_BAD_WIRE[phrase]
    with pytest.raises(InputError) as refusal:
        Rules.from_wire(item)
    assert refusal.value.code == code


def test_a_work_class_checks_itself() -> None:
    with pytest.raises(InputError, match="share_max_ppm"):
        WorkClass(name="low", points=0, share_max_ppm=1_000_001)
