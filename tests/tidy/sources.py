"""What the tidy tests look at: the repository's files and their syntax trees."""

from __future__ import annotations

import ast
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]
PACKAGE = REPOSITORY / "p2pfed"
PURE = ("core", "protocol", "node")


@cache
def repository_files() -> tuple[Path, ...]:
    """Every file that git tracks or would offer to track, ascending."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    paths = (REPOSITORY / name for name in sorted(set(listing.split("\0"))) if name)
    return tuple(path for path in paths if path.is_file())


@cache
def text_files() -> tuple[tuple[Path, str], ...]:
    """Path and content of every file that is UTF-8 text."""
    found = []
    for path in repository_files():
        try:
            found.append((path, path.read_text(encoding="utf-8")))
        except UnicodeDecodeError:
            continue
    return tuple(found)


@cache
def trees(*folders: str) -> tuple[tuple[Path, ast.Module], ...]:
    """Path and syntax tree of every Python file under these folders of the repository."""
    roots = tuple(REPOSITORY / folder for folder in folders)
    return tuple(
        (path, ast.parse(text, str(path)))
        for path, text in text_files()
        if path.suffix == ".py" and any(path.is_relative_to(root) for root in roots)
    )


def pure_trees() -> tuple[tuple[Path, ast.Module], ...]:
    """The modules that decide: no clock, chance, I/O; the same result on every machine."""
    return trees(*(f"p2pfed/{name}" for name in PURE))


def place(path: Path, node: ast.AST | int) -> str:
    """`path:line`, relative to the repository."""
    line = node if isinstance(node, int) else getattr(node, "lineno", 1)
    return f"{path.relative_to(REPOSITORY)}:{line}"


def functions(tree: ast.Module) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    """Every function and method, nested ones included."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node


def module_name(path: Path) -> str:
    """The dotted name of a module of the package."""
    parts = path.relative_to(REPOSITORY).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def report(findings: list[str], remedy: str) -> None:
    """Fails with all findings and what to do about them."""
    if findings:
        lines = "\n  ".join(findings)
        raise AssertionError(f"{len(findings)} finding(s):\n  {lines}\nto do: {remedy}")
