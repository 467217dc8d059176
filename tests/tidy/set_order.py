"""Finds code whose result depends on the order in which a set yields its members.

Sets of texts come in another order in every process (PYTHONHASHSEED). The finder is a heuristic
over syntax: a name or attribute is a set if an annotation says so or a set is assigned to it in the
same file. Consumers that can't show the order (sorted, len, min, any, in, another set) are fine.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator

_SET_TYPES = frozenset({"set", "frozenset", "AbstractSet", "MutableSet", "Set"})
_SET_METHODS = frozenset({"union", "intersection", "difference", "symmetric_difference", "copy"})
_SET_OPERATORS = (ast.BitOr, ast.BitAnd, ast.Sub, ast.BitXor)
_ORDERED_CONSUMERS = frozenset(
    {"list", "tuple", "iter", "enumerate", "zip", "map", "filter", "dict", "reversed", "next"}
)
_BLIND_CONSUMERS = frozenset(
    {"sorted", "len", "min", "max", "sum", "any", "all", "set", "frozenset", "bool"}
)


def set_order_uses(tree: ast.Module) -> Iterator[ast.AST]:
    """Yields every expression that exposes a set's order."""
    names = frozenset(_set_names(tree))
    blind = {
        id(argument)
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and _is_blind(node.func, names)
        for argument in node.args
    }
    for node in ast.walk(tree):
        for consumed in _consumed(node, blind):
            if _is_set(consumed, names):
                yield consumed


def _is_blind(function: ast.expr, names: frozenset[str]) -> bool:
    """Whether a callee's result is the same for every order of what it is given."""
    match function:
        case ast.Name(id=name):
            return name in _BLIND_CONSUMERS
        case ast.Attribute(attr="update" | "difference_update", value=owner):
            return _is_set(owner, names)
    return False


def _consumed(node: ast.AST, blind: set[int]) -> Iterator[ast.expr]:
    match node:
        case ast.For(iter=source) | ast.AsyncFor(iter=source) | ast.Starred(value=source):
            yield source
        case ast.ListComp(generators=generators) | ast.GeneratorExp(generators=generators):
            if id(node) not in blind:
                yield from (g.iter for g in generators)
        case ast.DictComp(generators=generators):
            yield from (g.iter for g in generators)
        case ast.Call(func=ast.Name(id=name), args=arguments) if name in _ORDERED_CONSUMERS:
            yield from arguments
        case ast.Call(func=ast.Attribute(attr="join" | "extend"), args=arguments):
            yield from arguments
        case ast.Call(func=ast.Attribute(attr="pop", value=owner), args=[]):
            yield owner


def _set_names(tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        match node:
            case ast.AnnAssign(target=target, annotation=annotation) if _is_set_type(annotation):
                yield from _name(target)
            case ast.arg(arg=name, annotation=annotation) if _is_set_type(annotation):
                yield name
            case ast.Assign(targets=targets, value=value) if _is_set(value, frozenset()):
                for assigned in targets:
                    yield from _name(assigned)


def _name(target: ast.expr) -> Iterator[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, ast.Attribute):
        yield target.attr


def _is_set_type(annotation: ast.expr | None) -> bool:
    match annotation:
        case ast.Subscript(value=value):
            return _is_set_type(value)
        case ast.BinOp(op=ast.BitOr(), left=left, right=right):
            return _is_set_type(left) or _is_set_type(right)
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in _SET_TYPES
    return False


def _is_set(node: ast.expr, names: frozenset[str]) -> bool:
    match node:
        case ast.Set() | ast.SetComp():
            return True
        case ast.Call(func=ast.Name(id="set" | "frozenset")):
            return True
        case ast.Call(func=ast.Attribute(attr=method, value=owner)) if method in _SET_METHODS:
            return _is_set(owner, names)
        case ast.BinOp(left=left, op=operator, right=right):
            sets = _is_set(left, names) or _is_set(right, names)
            return isinstance(operator, _SET_OPERATORS) and sets
        case ast.Name(id=name) | ast.Attribute(attr=name):
            return name in names
    return False
