"""What decides (core, protocol, node) computes the same integers on every machine.

import-linter keeps clocks, chance and I/O out; these tests ban what it can't see.
"""

from __future__ import annotations

import ast

import pytest

from tests.tidy.set_order import set_order_uses
from tests.tidy.sources import place, pure_trees, report

BANNED_CALLS = {
    "open": "reading and writing belongs to store or shell; take the bytes as an argument",
    "print": "pure code tells nobody; return a note",
    "input": "pure code asks nobody",
    "eval": "decode with core/codec.py",
    "exec": "decode with core/codec.py",
    "hash": "hash() differs from process to process; use hashlib over encoded bytes",
    "id": "id() is an address; use the position of the record",
    "float": "replicated arithmetic is in integers",
    "complex": "replicated arithmetic is in integers",
    "globals": "pass what is needed",
}


@pytest.mark.parametrize("name", BANNED_CALLS)
def test_pure_code_never_calls(name: str) -> None:
    findings = [
        place(path, node)
        for path, tree in pure_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == name
    ]
    report(findings, BANNED_CALLS[name])


def test_pure_code_has_no_float_literals() -> None:
    findings = [
        place(path, node)
        for path, tree in pure_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant) and isinstance(node.value, float | complex)
    ]
    report(findings, "use an integer with its unit in the name (ppm, ms), or a fraction of two")


def test_pure_code_never_divides_with_a_slash() -> None:
    findings = [
        place(path, node)
        for path, tree in pure_trees()
        for node in ast.walk(tree)
        if isinstance(node, ast.BinOp | ast.AugAssign) and isinstance(node.op, ast.Div)
    ]
    report(findings, "use // and say in the docstring which way it rounds")


def test_pure_code_never_shows_the_order_of_a_set() -> None:
    findings = [place(path, use) for path, tree in pure_trees() for use in set_order_uses(tree)]
    report(findings, "wrap it in sorted(), or keep a dict, whose order is that of insertion")


@pytest.mark.parametrize(
    "source",
    [
        "for x in {1, 2}: pass",
        "names = set(a)\nfor x in names: pass",
        "def f(names: set[str]): return list(names)",
        "class A:\n  seen: frozenset[str]\n  def f(self): return [x for x in self.seen]",
        "x = tuple({1} | y)",
        "names: set[str] = a()\nx = names.pop()",
        "names: set[str] | None = a()\nx = ','.join(names)",
        "names = set(a)\nx = {k: 1 for k in names}",
        "names = set(a)\nx = [*names]",
        "names = set(a)\nx = any(list(names))",
    ],
)
def test_the_finder_sees_an_exposed_order(source: str) -> None:
    assert list(set_order_uses(ast.parse(source)))


@pytest.mark.parametrize(
    "source",
    [
        "for x in sorted({1, 2}): pass",
        "names = set(a)\nx = any(y in b for y in names)",
        "names = set(a)\nx = {k for k in names}",
        "names = set(a)\nx = len(names) + max(names)",
        "names = [1]\nfor x in names: pass",
        "x = b in {1, 2}",
        "names = set(a)\nseen: set[str] = b()\nseen.update(x for x in names)",
    ],
)
def test_the_finder_leaves_a_hidden_order_alone(source: str) -> None:
    assert not list(set_order_uses(ast.parse(source)))
