"""The repository stands alone: no leftovers, no keys, no foreign paths, no dead links."""

from __future__ import annotations

import ast
import re
import subprocess

import pytest

from tests.tidy.sources import REPOSITORY, place, report, text_files, trees

# Written in parts, so that this file does not find itself.
BANNED_WORDS = {
    "TO" + "DO": "do it, or write an issue",
    "FIX" + "ME": "fix it, or write an issue",
    "XX" + "X": "say what is meant",
    "/wo" + "rk/": "a path of one machine; use a path relative to the repository",
    "/tmp/" + "plan": "a path of one machine",
}
_PRIVATE_KEY = re.compile(r"-----BEGIN [A-Z ]*PRIVATE KEY-----\\?r?\\?n?\s*[A-Za-z0-9+/=\s]{40,}")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)")


@pytest.mark.parametrize("word", BANNED_WORDS)
def test_the_repository_never_says(word: str) -> None:
    pattern = re.compile(rf"(?<![A-Za-z]){re.escape(word)}(?![A-Z])")
    findings = [
        place(path, number)
        for path, text in text_files()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]
    report(findings, BANNED_WORDS[word])


def test_no_private_key_is_tracked() -> None:
    findings = [place(path, 1) for path, text in text_files() if _PRIVATE_KEY.search(text)]
    report(findings, "remove it from the history, and replace the key wherever it was used")


def test_every_relative_link_leads_somewhere() -> None:
    findings = [
        f"{place(path, number)} -> {target}"
        for path, text in text_files()
        if path.suffix == ".md"
        for number, line in enumerate(text.splitlines(), start=1)
        for target in _LINK.findall(line)
        if not re.match(r"[a-z]+:", target) and not (path.parent / target).exists()
    ]
    report(findings, "correct the link, or write the page")


def test_no_test_sleeps() -> None:
    findings = [
        place(path, node)
        for path, tree in trees("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and node.func.attr == "sleep")
            or (isinstance(node.func, ast.Name) and node.func.id == "sleep")
        )
    ]
    report(findings, "wait for the condition itself: an event, a pipe, a process's end")


def test_no_test_mocks() -> None:
    findings = [
        place(path, node)
        for path, tree in trees("tests")
        for node in ast.walk(tree)
        if (isinstance(node, ast.ImportFrom) and (node.module or "").startswith("unittest"))
        or (isinstance(node, ast.Import) and any("mock" in a.name for a in node.names))
    ]
    report(findings, "use the real thing, or a small one that passes the same conformance suite")


def test_every_program_is_executable_and_every_other_file_is_not() -> None:
    listing = subprocess.run(
        ["git", "ls-files", "--stage"], cwd=REPOSITORY, capture_output=True, check=True, text=True
    ).stdout
    findings = []
    for line in listing.splitlines():
        mode, name = line.split(maxsplit=1)[0], line.split("\t", maxsplit=1)[1]
        path = REPOSITORY / name
        if not path.is_file():
            continue
        with path.open("rb") as file:
            program = file.read(2) == b"#!"
        if program != (mode == "100755"):
            findings.append(f"{name} has mode {mode}")
    report(findings, "git update-index --chmod=+x (or -x) FILE")
