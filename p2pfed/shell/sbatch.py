"""The `#SBATCH` lines of a batch script: which they are, and the options that they name.

Slurm's own reading is followed (sbatch(1) of Slurm 22.05): a directive starts at the first column
with `#SBATCH`, directives end at the first line that is neither empty nor a comment, options come
in long or short form with `=` or a space before the value, values may be quoted, and `#` before an
option starts a comment. Long names may be shortened as far as they stay unique (getopt_long(3)).

Every option that Slurm knows is in one of three sets: those that say what a job needs are used,
those that concern one cluster's own ways are ignored and named, and those whose neglect would run
something else than was asked for are refused.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Final

from p2pfed.errors import InputError

SCRIPT_BYTES_MAX: Final = 4 << 20
"""A batch script; Slurm's own default limit (`max_script_size`)."""

_DIRECTIVE = re.compile(r"#SBATCH(?=\s|$)")
_PART = re.compile(r"""[^\s"'\\]+|"((?:[^"\\]|\\.)*)"|'([^']*)'|\\(.)""")

USED: Final[Mapping[str, str]] = {
    "nodes": "N",
    "ntasks": "n",
    "ntasks-per-node": "",
    "cpus-per-task": "c",
    "mem": "",
    "mem-per-cpu": "",
    "time": "t",
    "gres": "",
    "gpus": "G",
    "gpus-per-node": "",
    "gpus-per-task": "",
    "constraint": "C",
    "job-name": "J",
    "output": "o",
    "error": "e",
    "export": "",
    "signal": "",
}
"""Options that a job request is made of, with their short form; each takes a value."""

REFUSED: Final[Mapping[str, tuple[str, str]]] = {
    "array": ("a", "submit one job for each index, in a loop"),
    "dependency": ("d", "submit the second job when `p2pfed submit --wait` of the first returns"),
    "begin": ("b", "submit it when it may begin"),
    "wrap": ("", "write the command into a script"),
    "input": ("i", "name the file with --input and read it in the script"),
}
"""Options that can't be left out without running something else, and what to do instead."""

_VALUES_LONG_ONLY: Final = """
acctg-freq batch bb bbf cluster-constraint comment container cores-per-socket cpu-freq
cpus-per-gpu deadline delay-boot export-file gid gpu-bind gpu-freq gpus-per-socket gres-flags hint
kill-on-invalid-dep mail-type mail-user mcs-label mem-bind mem-per-gpu mincpus network
ntasks-per-core ntasks-per-gpu ntasks-per-socket open-mode power prefer priority
profile reservation
sockets-per-node switches thread-spec threads-per-core time-min tmp tres-per-task uid
wait-all-nodes wckey
"""
_FLAGS_LONG_ONLY: Final = """
contiguous exclusive get-user-env ignore-pbs nice no-requeue parsable propagate reboot requeue
spread-job test-only usage use-min-nodes
"""
_IGNORED_WITH_VALUE: Final = {
    **dict.fromkeys(_VALUES_LONG_ONLY.split(), ""),
    "account": "A",
    "chdir": "D",
    "clusters": "M",
    "core-spec": "S",
    "distribution": "m",
    "exclude": "x",
    "extra-node-info": "B",
    "licenses": "L",
    "nodefile": "F",
    "nodelist": "w",
    "partition": "p",
    "qos": "q",
}
_IGNORED_FLAGS: Final = {
    **dict.fromkeys(_FLAGS_LONG_ONLY.split(), ""),
    "help": "h",
    "hold": "H",
    "no-kill": "k",
    "overcommit": "O",
    "oversubscribe": "s",
    "quiet": "Q",
    "verbose": "v",
    "version": "V",
    "wait": "W",
}
"""Flags, and options whose value is optional and then stands after `=`."""

_SHORT: Final[Mapping[str, str]] = {
    letter: name
    for table in (
        USED,
        {name: letter for name, (letter, _) in REFUSED.items()},
        _IGNORED_WITH_VALUE,
        _IGNORED_FLAGS,
    )
    for name, letter in table.items()
    if letter
}
_LONG: Final = frozenset(USED) | set(REFUSED) | set(_IGNORED_WITH_VALUE) | set(_IGNORED_FLAGS)


@dataclass(frozen=True, slots=True)
class Directive:
    """One option of a script: its long name, its value ("" for a flag) and its place."""

    name: str
    value: str
    where: str

    @property
    def used(self) -> bool:
        """False for an option that has no meaning here and is ignored."""
        return self.name in USED


def scan_directives(text: str, name: str) -> Iterator[Directive]:
    """The options on the `#SBATCH` lines of a script, in order.

    Raises:
        InputError: `script-option-form`, `script-option-unknown`, `script-option-unsupported`.
    """
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace() and not line.startswith("#"):
            return
        if _DIRECTIVE.match(line):
            where = f"{name}, line {number}"
            yield from _options(_words(line[len("#SBATCH") :], where), where)


def _words(line: str, where: str) -> list[str]:
    words: list[str] = []
    at = 0
    while True:
        while at < len(line) and line[at].isspace():
            at += 1
        if at == len(line) or line[at] == "#":
            return words
        word = ""
        while at < len(line) and not line[at].isspace():
            part = _PART.match(line, at)
            if part is None:
                raise InputError(
                    "script-option-form",
                    f"the quote in {line[at:].strip()!r} is not closed",
                    where=where,
                )
            double, single, escaped = part.groups()
            if double is not None:
                word += re.sub(r"\\(.)", r"\1", double)
            else:
                word += next((p for p in (single, escaped) if p is not None), part[0])
            at = part.end()
        words.append(word)


def _options(words: list[str], where: str) -> Iterator[Directive]:
    rest = iter(words)
    for word in rest:
        if word.startswith("--") and len(word) > 2:
            name, equals, value = word[2:].partition("=")
            name = _complete(name, where)
            if _takes_value(name) and not equals:
                value = _next(rest, word, where)
            elif equals and not value and _takes_value(name):
                raise _no_value(f"--{name}", where)
            yield _checked(name, value, where)
        elif word.startswith("-") and len(word) > 1:
            yield from _cluster(word, rest, where)
        else:
            raise InputError(
                "script-option-form",
                f"{word!r} is not an option",
                where=where,
                remedy="write options as --name=value or -n value; put spaces in quotes",
            )


def _cluster(word: str, rest: Iterator[str], where: str) -> Iterator[Directive]:
    """Short options: flags may share a dash, a value may follow its letter at once."""
    for index, letter in enumerate(word[1:], start=2):
        name = _SHORT.get(letter)
        if name is None:
            raise _unknown(f"-{letter}", where)
        if _takes_value(name):
            value = word[index:].removeprefix("=") or _next(rest, f"-{letter}", where)
            yield _checked(name, value, where)
            return
        yield _checked(name, "", where)


def _next(rest: Iterator[str], option: str, where: str) -> str:
    value = next(rest, "")
    if not value:
        raise _no_value(option, where)
    return value


def _takes_value(name: str) -> bool:
    return name not in _IGNORED_FLAGS


def _complete(name: str, where: str) -> str:
    if name in _LONG:
        return name
    found = [known for known in sorted(_LONG) if name and known.startswith(name)]
    if len(found) != 1:
        raise _unknown(f"--{name}", where, found)
    return found[0]


def _checked(name: str, value: str, where: str) -> Directive:
    if name in REFUSED:
        raise InputError(
            "script-option-unsupported",
            f"--{name} can't be honoured in the federation",
            where=where,
            remedy=REFUSED[name][1],
        )
    return Directive(name, value, where)


def _unknown(option: str, where: str, candidates: list[str] | None = None) -> InputError:
    meant = ", ".join(f"--{name}" for name in candidates or ())
    return InputError(
        "script-option-unknown",
        f"{option} is ambiguous" if meant else f"{option} is not an option of sbatch",
        where=where,
        remedy=f"one of {meant}" if meant else "remove the option or correct its name",
    )


def _no_value(option: str, where: str) -> InputError:
    return InputError("script-option-form", f"{option} lacks its value", where=where)
