"""The reference pages say what the code says: limits by value, errors by code."""

from __future__ import annotations

import ast
import importlib
import re
from collections import defaultdict
from pathlib import Path

from tests.tidy.sources import REPOSITORY, functions, module_name, place, report, trees

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


def _raisers(package: tuple[tuple[Path, ast.Module], ...]) -> dict[Path, dict[str, str]]:
    """Per file, what takes an error code first: the error classes, and helpers of that file.

    A helper is a function whose first parameter is called `code`; its class is the one that it
    raises itself.
    """
    found: dict[Path, dict[str, str]] = {}
    for path, tree in package:
        found[path] = dict(ERRORS)
        for function in functions(tree):
            arguments = [a.arg for a in function.args.args if a.arg not in ("self", "cls")]
            if arguments[:1] != ["code"]:
                continue
            for node in ast.walk(function):
                match node:
                    case ast.Call(func=ast.Name(id=name)) if name in ERRORS:
                        found[path][function.name] = ERRORS[name]
    return found


def _codes_in_use() -> tuple[dict[str, set[str]], dict[str, str]]:
    """Per code, the error classes it is raised with; and where it is raised first."""
    package = trees("p2pfed")
    classes: dict[str, set[str]] = defaultdict(set)
    places: dict[str, str] = {}
    raisers = _raisers(package)
    for path, tree in package:
        for node in ast.walk(tree):
            if not isinstance(node, ast.Call):
                continue
            match node.func:
                case ast.Name(id=name) | ast.Attribute(attr=name):
                    pass
                case _:
                    continue
            first = node.args[0] if node.args else None
            first = next((k.value for k in node.keywords if k.arg == "code"), first)
            code = _code(first) if first is not None else None
            if name in raisers[path] and code is not None:
                classes[code].add(raisers[path][name])
                places.setdefault(code, place(path, node))
    return classes, places


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
    classes, places = _codes_in_use()
    findings = [
        f"{places[code]} raises {', '.join(sorted(used))} `{code}`"
        for code, used in sorted(classes.items())
        if not any(_matches(row, code) and used <= listed[row] for row in listed)
    ]
    report(findings, "list code and class in docs/reference/errors.md")


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
