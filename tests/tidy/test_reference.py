"""The reference pages say what the code says: limits by value, errors by code."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Iterator
from typing import NamedTuple

from tests.tidy.sources import (
    REPOSITORY,
    functions,
    module_name,
    place,
    report,
    text_files,
    trees,
)

REFERENCE = REPOSITORY / "docs" / "reference"
ERRORS = {
    "InputError": "InputError",
    "StateError": "StateError",
    "StorageError": "StorageError",
    "ExecutorError": "ExecutorError",
    "P2pfedError": "P2pfedError",
    "Inert": "record",
}
_CODE = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9*]+)*\Z")
_ROW = re.compile(r"^\| `([a-z0-9*-]+)` \| ([A-Za-z0-9, ]+) \|", re.MULTILINE)


def test_the_limits_page_states_every_limit() -> None:
    page = (REFERENCE / "limits.md").read_text(encoding="utf-8")
    stated = dict(re.findall(r"^\| `([A-Z0-9_]+)` \| ([0-9 ]+) \|", page, re.MULTILINE))
    findings = []
    known = set()
    for path, tree in trees("p2pfed"):
        if path.name != "limits.py":
            continue
        module = importlib.import_module(module_name(path))
        for node in tree.body:
            if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
                name = node.target.id
                known.add(name)
                value = f"{getattr(module, name):,}".replace(",", " ")
                if stated.get(name) != value:
                    findings.append(f"{place(path, node)} | `{name}` | {value} |")
    findings += [f"limits.md: {name} is no limit" for name in sorted(stated.keys() - known)]
    report(findings, "state it so in docs/reference/limits.md")


def _code(node: ast.expr) -> str | None:
    """The code that an expression stands for; an f-string's variable part becomes `*`."""
    match node:
        case ast.Constant(value=str() as text):
            pass
        case ast.JoinedStr(values=parts):
            text = "".join(str(p.value) if isinstance(p, ast.Constant) else "*" for p in parts)
        case _:
            return None
    return text if _CODE.match(text) else None


class Raise(NamedTuple):
    """One place that raises (or returns) an error with a code."""

    code: str
    error_class: str
    what: str
    remedy: str
    place: str


def _text(node: ast.expr | None) -> str:
    """The text of an expression, with an ellipsis for what is filled in later."""
    match node:
        case ast.Constant(value=str() as text):
            return text
        case ast.JoinedStr(values=parts):
            return "".join(_text(part) for part in parts)
        case None:
            return ""
    return "…"


def _raisers(tree: ast.Module) -> dict[str, tuple[str, int]]:
    """What takes an error code in a file: per callee, its error class and the argument's index.

    Beside the error classes these are the file's helpers: functions with a parameter `code`, of
    the class that they make an error of themselves.
    """
    found = {name: (shown, 0) for name, shown in ERRORS.items()}
    for function in functions(tree):
        arguments = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
        if "code" not in arguments:
            continue
        for node in ast.walk(function):
            match node:
                case ast.Call(func=ast.Name(id=name)) if name in ERRORS:
                    found[function.name] = (ERRORS[name], arguments.index("code"))
    return found


def raises() -> Iterator[Raise]:
    """Every place in the package that makes an error with a code."""
    for path, tree in trees("p2pfed"):
        raisers = _raisers(tree)
        for node in ast.walk(tree):
            match node:
                case ast.Call(func=ast.Name(id=name) | ast.Attribute(attr=name)) if name in raisers:
                    error_class, index = raisers[name]
                case _:
                    continue
            given = dict(enumerate(node.args))
            named = {k.arg: k.value for k in node.keywords}
            code_node = named.get("code", given.get(index))
            code = None if code_node is None else _code(code_node)
            if code is not None:
                what = _text(named.get("what", given.get(index + 1)))
                remedy = _text(named.get("remedy"))
                yield Raise(code, error_class, what, remedy, place(path, node))


def _all_words() -> set[str]:
    """Every text in the package that could be an error code, f-strings as patterns."""
    return {
        code
        for _, tree in trees("p2pfed")
        for node in ast.walk(tree)
        if isinstance(node, ast.Constant | ast.JoinedStr) and (code := _code(node)) is not None
    }


def _matches(code: str, pattern: str) -> bool:
    return re.fullmatch(re.escape(pattern).replace(r"\*", "[a-z0-9-]+"), code) is not None


def test_the_errors_page_lists_every_code_with_its_class() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    listed = {code: set(classes.split(", ")) for code, classes in _ROW.findall(page)}
    findings = [
        f"{found.place} | `{found.code}` | {found.error_class} | {found.what} | {found.remedy} |"
        for found in sorted(raises())
        if not any(_matches(row, found.code) and found.error_class in listed[row] for row in listed)
    ]
    report(findings, "add such a row, in order, to docs/reference/errors.md")


def test_the_errors_page_lists_no_code_that_nothing_raises() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    words = _all_words()
    findings = [
        code
        for code, _ in _ROW.findall(page)
        if code not in words and not any("*" in w and _matches(code, w) for w in words)
    ]
    report(findings, "take it off docs/reference/errors.md; a code is never reused")


def test_the_errors_page_lists_each_code_once_in_order() -> None:
    page = (REFERENCE / "errors.md").read_text(encoding="utf-8")
    for section in page.split("\n## ")[1:]:
        codes = [code for code, _ in _ROW.findall(section)]
        assert codes == sorted(set(codes)), f"sort the table under {section.splitlines()[0]!r}"


def test_the_tests_that_pages_name_exist() -> None:
    tests = {
        f"{path.relative_to(REPOSITORY / 'tests')}::{function.name}"
        for path, tree in trees("tests")
        for function in functions(tree)
    }
    named = {
        name: path
        for path, text in text_files()
        if path.suffix == ".md"
        for name in re.findall(r"`([a-z0-9_/]+\.py::test_\w+)`", text)
    }
    assert named
    findings = [f"{place(path, 1)} {name}" for name, path in named.items() if name not in tests]
    report(findings, "name the test as it is called now")
