"""Functions and files stay small enough to be read in one go; no module lies about unused."""

from __future__ import annotations

import ast

from tests.tidy.sources import (
    PACKAGE,
    REPOSITORY,
    functions,
    module_name,
    place,
    report,
    text_files,
    trees,
)

FUNCTION_LINES_MAX = 70
FILE_LINES_MAX = 550  # aim at 500


def test_no_function_outgrows_a_page() -> None:
    findings = [
        f"{place(path, function)} {function.name}: {length} lines"
        for path, tree in trees("p2pfed", "scripts")
        for function in functions(tree)
        if (length := (function.end_lineno or 0) - function.lineno + 1) > FUNCTION_LINES_MAX
    ]
    report(findings, f"split it: a function has one idea and at most {FUNCTION_LINES_MAX} lines")


def test_no_file_outgrows_its_idea() -> None:
    findings = [
        f"{place(path, 1)} {lines} lines"
        for path, text in text_files()
        if path.suffix == ".py" and (lines := text.count("\n")) > FILE_LINES_MAX
    ]
    report(findings, f"split it by idea: a file has at most {FILE_LINES_MAX} lines")


def _referenced(tree: ast.Module) -> set[str]:
    """Names of modules that a module imports, or runs by name (`-m p2pfed.…`)."""
    found: set[str] = set()
    for node in ast.walk(tree):
        match node:
            case ast.Import(names=names):
                found |= {alias.name for alias in names}
            case ast.ImportFrom(module=str() as module, names=names):
                found |= {module, *(f"{module}.{alias.name}" for alias in names)}
            case ast.Constant(value=str() as text) if text.startswith("p2pfed."):
                found.add(text)
    return found


def test_no_module_lies_about_unused() -> None:
    package = trees("p2pfed")
    entries = (REPOSITORY / "pyproject.toml").read_text(encoding="utf-8")
    references = {path: _referenced(tree) for path, tree in package}
    outside = [_referenced(tree) for _, tree in trees("scripts", "tests/federation")]
    findings = []
    for path in references:
        name = module_name(path)
        users = [named for other, named in references.items() if other != path]
        if name.startswith("p2pfed.simulate"):  # worlds are there for tests and benchmarks
            users += outside
        used = any(name in named for named in users)
        if not (used or path.stem in {"__init__", "__main__"} or f'"{name}:' in entries):
            findings.append(place(path, 1))
    report(findings, "import it where it belongs, or delete it (tests alone don't count)")


def test_every_unit_test_mirrors_a_module() -> None:
    findings = []
    for path, _ in trees("tests/unit"):
        if not path.stem.startswith("test_"):
            continue
        folder = PACKAGE / path.relative_to(REPOSITORY / "tests" / "unit").parent
        names = [p.relative_to(folder).parts[0] for p, _ in trees("p2pfed") if folder in p.parents]
        subject = path.stem.removeprefix("test_").partition("_")[0]
        if not any(name.startswith(subject) for name in names):
            findings.append(f"{place(path, 1)}: nothing in {folder.name} is called {subject}…")
    report(findings, "name it tests/unit/<package>/test_<module>[_<topic>].py")
