"""What a running daemon keeps in memory, as a value that can be compared, kept and put back."""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from typing import NamedTuple, cast

from p2pfed.core.ids import (
    CentreName,
    Head,
)
from p2pfed.simulate.model.node import ModelNode

Frozen = object
"""Plain values as nested tuples, so that they can be compared and be keys."""

_PLAIN = (bool, int, str, bytes, Enum, dict, list, set, type(None))


class Kept(NamedTuple):
    """What a running daemon keeps in memory, what peers told it, and whether it may write."""

    parts: tuple[tuple[tuple[str, Frozen], ...], ...]
    told: tuple[tuple[CentreName, Head | None], ...]
    was_ready: bool


# The plain values that a node's parts keep beside the ledger.


def _parts(node: ModelNode) -> tuple[object, ...]:
    host = node.host
    return host, host._court, node.home, node.trust, node.trust.watch, node.recovery  # noqa: SLF001


_SETTLED = {"_now_ms": 0}
"""Written at every step, and read only to set an alarm clock."""
_WHILE_NOT_READY = {"_ask_until_ms": 0, "_proof_until_ms": 0, "_seq_num": None}


_NAMES: dict[type, tuple[str, ...]] = {}


def _plain_names(part: object) -> tuple[str, ...]:
    """The attributes of a part that are plain values; the rest refers to other parts."""
    kind = type(part)
    if kind not in _NAMES:
        names = getattr(kind, "__slots__", None) or vars(part)
        _NAMES[kind] = tuple(
            name
            for name in sorted(names)
            if isinstance(getattr(part, name), _PLAIN) and name != "addresses"
        )
    return _NAMES[kind]


def _freeze(value: object) -> Frozen:
    match value:
        case dict():
            return "dict", tuple(sorted(((k, _freeze(v)) for k, v in value.items()), key=repr))
        case list():
            return "list", tuple(map(_freeze, value))
        case set():
            return "set", frozenset(value)
        case _:
            return value


def _thaw(frozen: Frozen) -> object:
    match frozen:
        case ("dict", items):
            return {k: _thaw(v) for k, v in cast("Iterable[tuple[object, object]]", items)}
        case ("list", items):
            return [_thaw(v) for v in cast("Iterable[object]", items)]
        case ("set", items):
            return set(cast("Iterable[object]", items))
        case _:
            return frozen


def freeze_node(node: ModelNode, now_ms: int) -> Kept:
    """What the node keeps; what can't matter any more at `now_ms` is evened out."""
    passing: dict[str, int | None] = dict(_SETTLED)
    if node.recovery.ready:
        passing |= _WHILE_NOT_READY
        node.heard.told = {}
    if node.trust.careful_until_ms <= now_ms:
        passing["careful_until_ms"] = 0
    kept = tuple(
        tuple(
            (name, _freeze(passing[name] if name in passing else getattr(part, name)))
            for name in _plain_names(part)
        )
        for part in _parts(node)
    )
    told = tuple(sorted(node.heard.told.items(), key=lambda item: item[0]))
    return Kept(kept, told, node._was_ready)  # noqa: SLF001


def thaw_node(node: ModelNode, memory: Kept) -> None:
    """Puts back what `freeze_node` took."""
    for part, values in zip(_parts(node), memory.parts, strict=True):
        for name, value in values:
            setattr(part, name, _thaw(value))
    node.heard.told, node._was_ready = dict(memory.told), memory.was_ready  # noqa: SLF001
