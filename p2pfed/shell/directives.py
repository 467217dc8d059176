"""The `#P2PFED` lines of a batch script: what its user wants of the federation.

They stand where `#SBATCH` lines may stand, start at the first column, and hold options as a shell
would read them:

    #P2PFED --input data.csv --input parameters
    #P2PFED --fetch 'result-*.csv'
    #P2PFED --signal USR1@120 --checkpoint 'state-*.h5'
    #P2PFED --class low --data-class open --feature apptainer --allow beta --deny gamma
    #P2PFED --env OMP_NUM_THREADS=4
    #P2PFED --local

`--local` keeps the job at home. `--signal` on an `#SBATCH` line counts, too, since Slurm tells
nobody which signal a job asked for.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from p2pfed.errors import InputError
from p2pfed.shell.jobscript import Signal, parse_signal, parse_variable
from p2pfed.shell.members import check_member_path

_LINE = re.compile(r"#P2PFED(?=\s|$)")
_SBATCH_SIGNAL = re.compile(r"""#SBATCH(?:\s[^#]*)?\s--signal(?:=|\s+)["']?([A-Za-z0-9:@+-]+)""")
_LISTS = ("input", "fetch", "checkpoint", "feature", "allow", "deny", "env")
_WORDS = ("class", "data-class", "resource-class", "signal")


@dataclass(frozen=True, slots=True, kw_only=True)
class Wishes:
    """What the lines of one script say.

    Attributes:
        local: the job stays at home.
        inputs: relative paths of files and folders to bring along.
        fetch: patterns of the files to bring back.
        checkpoint: patterns of the files that it can go on from.
        signal: what tells the job to save its state, None: nothing does.
        environment: variables that are set for the script.
        work_class, data_class, resource_class: empty where nothing was said.
    """

    local: bool = False
    inputs: tuple[str, ...] = ()
    fetch: tuple[str, ...] = ()
    checkpoint: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    allow: tuple[str, ...] = ()
    deny: tuple[str, ...] = ()
    signal: Signal | None = None
    environment: tuple[tuple[str, str], ...] = ()
    work_class: str = ""
    data_class: str = ""
    resource_class: str = ""


def parse_wishes(script: bytes) -> Wishes:
    """The wishes in a batch script.

    Raises:
        InputError: `script-directive`: a line can't be understood; `script-option-value`: a signal
            or a variable; `archive-path`: an input leads out of its folder.
    """
    found: dict[str, list[str]] = {name: [] for name in (*_LISTS, *_WORDS)}
    local, signal = False, None
    for number, line in _lines(script.decode("utf-8", "replace")):
        where = f"line {number}"
        if not _LINE.match(line):
            asked = _SBATCH_SIGNAL.match(line)
            signal = parse_signal(asked[1], where=where) if asked else signal
            continue
        line = line[len("#P2PFED") :]
        words = iter(_split(line, where))
        for word in words:
            name, equals, value = word.removeprefix("--").partition("=")
            if word == "--local":
                local = True
            elif word.startswith("--") and name in found:
                value = value if equals else next(words, "")
                if not value:
                    raise _bad(f"{word} lacks its value", where)
                found[name].append(value)
            else:
                raise _bad(f"{word!r} is not known here", where)
    if found["signal"]:
        signal = parse_signal(found["signal"][-1], where="#P2PFED --signal")
    return Wishes(
        local=local,
        signal=signal,
        environment=tuple(parse_variable(v, where="#P2PFED --env") for v in found["env"]),
        inputs=tuple(check_member_path(path.rstrip("/")) for path in found["input"]),
        fetch=tuple(found["fetch"]),
        checkpoint=tuple(found["checkpoint"]),
        features=tuple(sorted({word.lower() for word in found["feature"]})),
        allow=tuple(sorted(set(found["allow"]))),
        deny=tuple(sorted(set(found["deny"]))),
        work_class=(found["class"] or [""])[-1],
        data_class=(found["data-class"] or [""])[-1],
        resource_class=(found["resource-class"] or [""])[-1],
    )


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for number, line in enumerate(text.split("\n"), start=1):
        if line and not line.isspace() and not line.startswith("#"):
            return
        yield number, line


def _split(line: str, where: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)
    except ValueError as error:
        raise _bad(str(error), where) from None


def _bad(what: str, where: str) -> InputError:
    return InputError(
        "script-directive",
        f"a #P2PFED line is wrong: {what}",
        where=where,
        remedy="known are --input, --fetch, --signal, --checkpoint, --env, --class, --data-class, "
        "--resource-class, --feature, --allow, --deny, --local",
    )
