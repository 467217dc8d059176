"""Runs simulated federations with one deliberate bug in the code, in a process of its own.

    python -m tests.mutations.patched NAME [FIRST_SEED]

The bugs stand in `bugs.toml`: each replaces one exact piece of text in one file, as it is imported;
no file is changed. Prints one line of JSON: after how many seeds the bug was caught, and how.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import importlib.util
import json
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import CodeType, ModuleType

REPOSITORY = Path(__file__).resolve().parents[2]
BUGS = Path(__file__).with_name("bugs.toml")


@dataclass(frozen=True, slots=True, kw_only=True)
class Bug:
    """A deliberate bug.

    Attributes:
        name: what is wrong.
        file: where it is put, from the root of the repository.
        old, new: the text that stands there once, and what takes its place.
        seeds: within how many seeds it must be caught.
        kinds: the faults that it takes, and no others; none: whichever a seed draws.
        centres, jobs: how large the federations are, if that matters.
    """

    name: str
    file: str
    old: str
    new: str
    seeds: int = 3
    kinds: tuple[str, ...] = ()
    centres: int = 0
    jobs: int = 0

    def text(self) -> str:
        """The file with the bug in it."""
        before = (REPOSITORY / self.file).read_text(encoding="utf-8")
        assert before.count(self.old) == 1, f"{self.name}: {self.file} does not hold it once"
        return before.replace(self.old, self.new)


def read_bugs() -> list[Bug]:
    """All deliberate bugs, in the order of the file."""
    with BUGS.open("rb") as file:
        entries = tomllib.load(file)["bug"]
    return [Bug(**{**entry, "kinds": tuple(entry.get("kinds", ()))}) for entry in entries]


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, fullname: str, path: str, text: str) -> None:
        super().__init__(fullname, path)
        self._text = text

    def get_code(self, fullname: str) -> CodeType:
        code: CodeType = compile(self._text, self.path, "exec")
        return code


class _Finder(importlib.abc.MetaPathFinder):
    def __init__(self, bug: Bug) -> None:
        self._module = bug.file.removesuffix(".py").replace("/", ".")
        self._path, self._text = str(REPOSITORY / bug.file), bug.text()

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if fullname != self._module:
            return None
        loader = _Loader(fullname, self._path, self._text)
        return importlib.util.spec_from_loader(fullname, loader)


def catch(bug: Bug, first_seed: int) -> dict[str, object]:
    """Runs federations with the bug until one of them breaks, or all its seeds are run."""
    sys.meta_path.insert(0, _Finder(bug))
    from p2pfed.simulate.hardship.trial import draw_plan, run_trial

    for count in range(1, bug.seeds + 1):
        drawn = draw_plan(first_seed + count - 1)
        plan = replace(
            drawn,
            kinds=bug.kinds or drawn.kinds,
            centres=bug.centres or drawn.centres,
            jobs=bug.jobs or drawn.jobs,
        )
        outcome = run_trial(plan)
        if outcome.broken:
            return {"seeds": count, "broken": outcome.broken}
    return {"seeds": bug.seeds, "broken": ""}


def main(arguments: list[str]) -> int:
    """Prints what became of one bug."""
    (bug,) = [bug for bug in read_bugs() if bug.name == arguments[0]]
    first_seed = int(arguments[1]) if len(arguments) > 1 else 1
    print(json.dumps(catch(bug, first_seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
