"""Puts something else in the place of a part of the daemon, for as long as a bug is tried."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from typing import TypeVar

K = TypeVar("K")
V = TypeVar("V")


@contextmanager
def swapped(owner: object, name: str, value: object) -> Iterator[None]:
    """An attribute of a class or module is another one."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def added(table: MutableMapping[K, V], key: K, value: V) -> Iterator[None]:
    """A table has one more row."""
    table[key] = value
    try:
        yield
    finally:
        del table[key]
