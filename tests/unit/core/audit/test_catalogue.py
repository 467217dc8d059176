"""Every finding has a code that is explained, once, in the program and in the reference."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from pathlib import Path

from p2pfed.core.audit.catalogue import CATALOGUE, FAMILIES, explanation_of
from p2pfed.core.audit.findings import Severity

REPOSITORY = Path(__file__).parents[4]
PAGE = REPOSITORY / "docs" / "reference" / "audit-codes.md"
MARKER = "<!-- written from the catalogue by tests/unit/core/audit/test_catalogue.py -->\n"
MAKERS = {"error": Severity.ERROR, "warning": Severity.WARNING, "notice": Severity.NOTICE}


def rendered() -> str:
    lines = []
    for severity in Severity:
        lines += [f"## {severity.value.capitalize()}s", ""]
        lines += ["| code | meaning | what to do |", "| --- | --- | --- |"]
        lines += [
            f"| `{code}` | {told.meaning} | {told.advice} |"
            for code, told in CATALOGUE.items()
            if told.severity is severity
        ]
        lines += [
            f"| `{prefix}…` | {told.meaning} | {told.advice} |"
            for prefix, told in FAMILIES.items()
            if told.severity is severity
        ]
        lines.append("")
    return "\n".join(lines)


def test_the_reference_lists_every_code_as_the_program_explains_it() -> None:
    head, _, body = PAGE.read_text(encoding="utf-8").partition(MARKER)
    if "P2PFED_WRITE_DOCS" in os.environ:
        PAGE.write_text(head + MARKER + rendered(), encoding="utf-8")
        return
    assert body == rendered(), "run it again with P2PFED_WRITE_DOCS=1"


def made_codes() -> Iterator[tuple[str, Severity | None]]:
    """Codes that stand as texts where the audit makes findings, and how much they weigh there."""
    for path in sorted((REPOSITORY / "p2pfed" / "core" / "audit").glob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Call(
                    func=ast.Attribute(attr=name), args=[ast.Constant(value=str() as code), *_]
                ) if name in MAKERS:
                    yield code, MAKERS[name]
                case ast.Call(
                    func=ast.Attribute(attr="_name"), args=[ast.Constant(value=str() as code), *_]
                ):
                    yield code, None


def test_every_code_that_is_reported_is_explained_with_its_weight() -> None:
    found = list(made_codes())
    assert len(found) > 20
    for code, severity in found:
        told = explanation_of(code)
        assert told is not None, code
        assert severity in (None, told.severity), code


def test_no_code_is_explained_that_nothing_reports() -> None:
    texts = {
        node.value
        for path in (REPOSITORY / "p2pfed" / "core").rglob("*.py")
        if path.name != "catalogue.py"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    assert set(CATALOGUE) <= texts


def test_a_decoders_code_is_explained_by_its_family() -> None:
    assert explanation_of("block-signature") == FAMILIES["block-"]
    assert explanation_of("unheard-of") is None
