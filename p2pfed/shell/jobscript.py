"""From a batch script and its options to a complete job request.

Options are first collected in their own terms (tasks, CPUs per task, memory per CPU), the command
line's after the script's, so that a later one overrides an earlier one; only then are they turned
into what a job states: nodes, and what is needed on each. Divisions round up: a node that gets one
task less than another still reserves as much.

What a script leaves out: one node, one task, one core a task, 1024 MiB a core, one hour.
docs/reference/batch-scripts.md is the users' description.
"""

from __future__ import annotations

import dataclasses
import re
import signal
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from p2pfed.core.fields import wire_fields
from p2pfed.core.limits import LIST_ITEMS_MAX
from p2pfed.core.records import Job
from p2pfed.errors import InputError
from p2pfed.shell.door import JobRequest
from p2pfed.shell.manifest import SIGNAL_MAX, SIGNAL_S, SIGNAL_S_MAX
from p2pfed.shell.sbatch import SCRIPT_BYTES_MAX, Directive, scan_directives
from p2pfed.shell.schema import parse_duration_s

MEMORY_MIB_PER_CORE: Final = 1024
"""What a job gets that asks for no memory."""
WALLTIME_S: Final = 3600
"""What a job gets that asks for no time."""
ARGUMENTS_BYTES_MAX: Final = 1 << 17
"""Arguments and environment of a job together (Linux takes no longer single argument)."""

_CLOCK = re.compile(r"(?:(\d{1,6})-)?(\d{1,9})(?::(\d{1,9}))?(?::(\d{1,9}))?\Z")
_SIZE = re.compile(r"(\d{1,15})([KMGT]?)B?\Z", re.IGNORECASE)
_KIB: Final = {"K": 1, "M": 1 << 10, "": 1 << 10, "G": 1 << 20, "T": 1 << 30}
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_FEATURES = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*(&[A-Za-z0-9][A-Za-z0-9._+-]*)*\Z")
_GPU_KIND = re.compile(r"[A-Za-z][A-Za-z0-9._+-]*\Z")
_GPUS = re.compile(r"(?:([A-Za-z][A-Za-z0-9._+-]*):)?([0-9]{1,9})\Z")
_COUNT_MAX: Final = 1 << 24
_SIGNAL: Final = re.compile(r"(?:R?B?:)?([A-Z0-9]{1,12})(?:@(\d{1,5}))?\Z")
_SIGNALS: Final = {item.name.removeprefix("SIG"): item.value for item in signal.Signals}
_DEADLY: Final = (signal.SIGKILL, signal.SIGSTOP)


class Signal(NamedTuple):
    """A signal that tells a job to save its state, and how long before its end it comes."""

    number: int
    before_s: int


@dataclass(slots=True, kw_only=True)
class JobOptions:
    """What was asked for, in the asker's terms; None where nothing was said."""

    nodes: int | None = None
    tasks: int | None = None
    tasks_per_node: int | None = None
    cpus_per_task: int | None = None
    memory_mib: int | None = None
    memory_mib_per_cpu: int | None = None
    walltime_s: int | None = None
    gpus: int | None = None
    gpus_per_node: int | None = None
    gpus_per_task: int | None = None
    features: tuple[str, ...] = ()
    name: str | None = None
    stdout: str | None = None
    stderr: str | None = None
    signal: Signal | None = None
    environment: tuple[tuple[str, str], ...] = ()
    remarks: tuple[str, ...] = ()

    def read(self, name: str, value: str, *, where: str) -> None:
        """Takes an option by its Slurm name, overriding what stood there.

        Raises:
            InputError: `script-option-value`.
        """
        match name:
            case "nodes":
                self.nodes = self._nodes(value, where)
            case "ntasks":
                self.tasks = _count(value, "--ntasks", where)
            case "ntasks-per-node":
                self.tasks_per_node = _count(value, "--ntasks-per-node", where)
            case "cpus-per-task":
                self.cpus_per_task = _count(value, "--cpus-per-task", where)
            case "mem":
                self.memory_mib = parse_memory_mib(value, where=where)
                self.memory_mib_per_cpu = None
            case "mem-per-cpu":
                self.memory_mib_per_cpu = parse_memory_mib(value, where=where)
                self.memory_mib = None
            case "time":
                self.walltime_s = parse_walltime_s(value, where=where)
            case "gres" | "gpus" | "gpus-per-node" | "gpus-per-task":
                self._read_gpus(name, value, where)
            case "constraint":
                self.features += _features(value, where)
            case "job-name":
                self.name = _line(value, "--job-name", where)
            case "output":
                self.stdout = self._file_name(value, "--output", where)
            case "error":
                self.stderr = self._file_name(value, "--error", where)
            case "export":
                self._read_export(value, where)
            case "signal":
                self.signal = parse_signal(value, where=where)
            case _:
                raise ValueError(name)

    def remark(self, text: str, where: str) -> None:
        """Keeps a sentence for the user about something that was not taken literally."""
        self.remarks += (f"{where}: {text}",)

    def _nodes(self, value: str, where: str) -> int:
        low, dash, high = value.partition("-")
        nodes = _count(low, "--nodes", where)
        if dash:
            if _count(high, "--nodes", where) < nodes:
                raise _bad_value("--nodes", value, "a number or a range such as 2-4", where)
            self.remark(f"--nodes={value} is taken as {nodes}, the least that will do", where)
        return nodes

    def _read_gpus(self, option: str, value: str, where: str) -> None:
        if option == "gres":
            kept = [item for item in value.split(",") if item.split(":")[0] == "gpu"]
            for item in value.split(","):
                if item not in ("none", *kept):
                    self.remark(f"--gres={item} is ignored: only gpu is known", where)
            if not kept:
                return
            value = ",".join(kept).removeprefix("gpu").removeprefix(":") or "1"
            if _GPU_KIND.match(value):
                value += ":1"
        found = _GPUS.match(value)
        if found is None:
            raise _bad_value(f"--{option}", value, "a number of GPUs of one kind", where)
        count = _count(found[2], f"--{option}", where, low=0)
        if found[1]:
            self.features += _features(found[1], where)
        self.gpus = self.gpus_per_node = self.gpus_per_task = None
        match option:
            case "gpus":
                self.gpus = count
            case "gpus-per-task":
                self.gpus_per_task = count
            case _:
                self.gpus_per_node = count

    def _read_export(self, value: str, where: str) -> None:
        for item in value.split(","):
            if "=" in item:
                self.environment += (parse_variable(item, where=where),)
            elif item not in ("ALL", "NONE", "NIL"):
                self.remark(f"--export={item} is ignored: no variable of yours is copied", where)

    def _file_name(self, value: str, option: str, where: str) -> str:
        pattern = _line(value, option, where)
        used = re.findall(r"%(.?)", pattern)
        strange = [letter for letter in used if letter not in ("j", "A", "x")]
        if strange:
            raise InputError(
                "script-option-value",
                f"%{strange[0]} in {option}={value} has no meaning in the federation",
                where=where,
                remedy="use %j (the job's id) and %x (its name)",
            )
        name = pattern.rsplit("/", 1)[-1]
        if name in ("", ".", ".."):
            raise _bad_value(option, value, "a file name", where)
        if name != pattern:
            self.remark(f"{option}={value} is written as {name} among the results", where)
        return name.replace("%A", "%j")


@dataclass(frozen=True, slots=True, kw_only=True)
class JobScript:
    """A checked batch script and what its `#SBATCH` lines ask for."""

    name: str
    options: JobOptions

    def request(
        self,
        overrides: JobOptions | None = None,
        *,
        arguments: tuple[str, ...] = (),
    ) -> JobRequest:
        """The complete request; what `overrides` states wins over the script.

        Raises:
            InputError: `script-request`.
        """
        return make_request(self.name, merge_options(self.options, overrides), arguments)


def parse_job_script(data: bytes, name: str) -> JobScript:
    """The batch script in `data`, `name` being its file name.

    Options that mean nothing here are listed in `options.remarks`.

    Raises:
        InputError: `script-empty`, `script-too-large`, `script-binary`, `script-shebang`,
            `script-line-ends`, `script-option-form`, `script-option-unknown`,
            `script-option-unsupported`, `script-option-value`.
    """
    _check_text(data, name)
    options = JobOptions()
    for directive in scan_directives(data.decode("utf-8", "replace"), name):
        _take(options, directive)
    return JobScript(name=name, options=options)


def _take(options: JobOptions, directive: Directive) -> None:
    if directive.used:
        options.read(directive.name, directive.value, where=directive.where)
    else:
        options.remark(f"--{directive.name} is ignored: the host decides", directive.where)


def _check_text(data: bytes, name: str) -> None:
    def refuse(code: str, what: str, remedy: str) -> InputError:
        return InputError(code, what, where=name, remedy=remedy)

    if not data.strip():
        raise refuse("script-empty", "the script is empty", "write the commands of the job")
    if len(data) > SCRIPT_BYTES_MAX:
        raise refuse(
            "script-too-large",
            f"the script has {len(data)} bytes, more than {SCRIPT_BYTES_MAX}",
            "bring data along with --input",
        )
    if b"\0" in data:
        raise refuse(
            "script-binary",
            "this is a binary file, not a batch script",
            "submit a script that runs it, and bring it along with --input",
        )
    first = data.split(b"\n", 1)[0]
    if not re.match(rb"#![ \t]*/\S", first):
        raise refuse(
            "script-shebang",
            "the first line does not name an interpreter",
            "begin the script with a line such as #!/bin/bash",
        )
    if b"\r\n" in data or first.endswith(b"\r"):
        raise refuse(
            "script-line-ends",
            "the script has DOS line ends, which no shell can run",
            f"convert it: sed -i 's/\\r$//' {name}",
        )


def merge_options(base: JobOptions, over: JobOptions | None) -> JobOptions:
    """Both together, `over` winning field by field; neither is changed.

    Options that are alternatives (memory per node or per CPU, the ways to ask for GPUs) win as a
    group. Features, variables and remarks add up.
    """
    merged = dataclasses.replace(base)
    if over is None:
        return merged
    for group in (("memory_mib", "memory_mib_per_cpu"), ("gpus", "gpus_per_node", "gpus_per_task")):
        if any(getattr(over, name) is not None for name in group):
            for name in group:
                setattr(merged, name, None)
    for field in dataclasses.fields(JobOptions):
        value = getattr(over, field.name)
        if isinstance(value, tuple) and not isinstance(value, Signal):
            setattr(merged, field.name, getattr(base, field.name) + value)
        elif value is not None:
            setattr(merged, field.name, value)
    return merged


def make_request(script: str, options: JobOptions, arguments: tuple[str, ...] = ()) -> JobRequest:
    """The request that the options amount to.

    Raises:
        InputError: `script-request`: nothing could ever run this.
    """
    nodes, tasks_per_node = _layout(options)
    cores = tasks_per_node * (options.cpus_per_task or 1)
    gpus = options.gpus_per_node or 0
    if options.gpus is not None:
        gpus = -(-options.gpus // nodes)
    elif options.gpus_per_task is not None:
        gpus = options.gpus_per_task * tasks_per_node
    memory = options.memory_mib
    if memory is None:
        memory = cores * (options.memory_mib_per_cpu or MEMORY_MIB_PER_CORE)
    name = options.name or script
    stdout = _expand_name(options.stdout or "stdout.txt", name)
    stderr = _expand_name(options.stderr or "stderr.txt", name)
    if stderr == stdout:
        stderr = f"{stdout}.err"  # two writers of one file would lose each other's lines
    request = JobRequest(
        name=name,
        script=script,
        arguments=arguments,
        environment=tuple(sorted(dict(options.environment).items())),
        stdout=stdout,
        stderr=stderr,
        resource_class="gpu" if gpus else "cpu",
        nodes=nodes,
        cores_per_node=cores,
        gpus_per_node=gpus,
        memory_mib_per_node=memory,
        walltime_s=options.walltime_s or WALLTIME_S,
        features=tuple(sorted(set(options.features))),
        signal=options.signal.number if options.signal else 0,
        signal_s=options.signal.before_s if options.signal else SIGNAL_S,
    )
    check_request(request)
    return request


def _layout(options: JobOptions) -> tuple[int, int]:
    """Nodes, and tasks on each of them."""
    nodes, tasks, per_node = options.nodes, options.tasks, options.tasks_per_node
    if tasks is None:
        return nodes or 1, per_node or 1
    if nodes is None:
        nodes = -(-tasks // per_node) if per_node else 1
    if tasks < nodes:
        raise _impossible(
            f"{tasks} tasks can't use {nodes} nodes", "ask for at least one task a node"
        )
    if per_node and nodes * per_node < tasks:
        raise _impossible(
            f"{nodes} nodes with {per_node} tasks each hold no {tasks} tasks",
            "ask for more nodes, or more tasks on each",
        )
    return nodes, -(-tasks // nodes)


def check_request(request: JobRequest) -> None:
    """Refuses what the wire format could not carry.

    Raises:
        InputError: `script-request`.
    """
    job = request.job(payload_digest=bytes(32), payload_bytes=0)
    for field in wire_fields(Job):
        value = getattr(job, field.name)
        if field.kind.parse(field.kind.dump(value)) is None:
            shown = " ".join(value) if isinstance(value, tuple) else value
            raise _impossible(
                f"{field.name} is {shown}, which is not a valid {field.kind.name}",
                "see docs/reference/batch-scripts.md for the values that are possible",
            )
    _check_files(request)
    sent = (*request.arguments, *(f"{name}={value}" for name, value in request.environment))
    if any("\0" in item for item in sent):
        raise _impossible("an argument or variable holds a NUL character", "leave it out")
    if sum(len(item.encode("utf-8", "surrogateescape")) for item in sent) > ARGUMENTS_BYTES_MAX:
        raise _impossible(
            f"arguments and variables have more than {ARGUMENTS_BYTES_MAX} bytes together",
            "put them into a file and bring it along with --input",
        )


def _check_files(request: JobRequest) -> None:
    for stream, name in (("stdout", request.stdout), ("stderr", request.stderr)):
        plain = name.replace("%j", "j")
        if not is_file_name(plain) or "%" in plain or name == request.script:
            raise _impossible(
                f"{stream} is {name!r}, which can't be its file", "name a plain file; %j is the job"
            )
    if request.stdout == request.stderr:
        raise _impossible(f"stdout and stderr are both {request.stdout!r}", "name two files")
    for patterns in (request.fetch, request.checkpoint):
        if len(patterns) > LIST_ITEMS_MAX:
            raise _impossible(f"more than {LIST_ITEMS_MAX} patterns of files", "use wider patterns")
    if not (0 <= request.signal <= SIGNAL_MAX and 0 <= request.signal_s <= SIGNAL_S_MAX):
        raise _impossible(
            f"signal {request.signal}, {request.signal_s} s before its end, can't be sent",
            f"use a signal up to {SIGNAL_MAX} and a time up to {SIGNAL_S_MAX} s",
        )
    for pattern in (*request.fetch, *request.checkpoint):
        parts = pattern.split("/")
        if not pattern.isprintable() or any(part in ("", ".", "..") for part in parts):
            raise _impossible(
                f"the pattern {pattern!r} leads out of the working folder",
                "use patterns such as *.csv or results/*",
            )


def is_file_name(name: str) -> bool:
    """True if a file of this name can lie in a working folder of any host."""
    printable = name.isprintable() and name not in ("", ".", "..")
    return printable and "/" not in name and len(name.encode("utf-8", "replace")) <= 255


def _expand_name(pattern: str, name: str) -> str:
    return pattern.replace("%x", re.sub(r"^\.+|[/%\0\s]", "_", name))


def parse_walltime_s(value: str, *, where: str) -> int:
    """The seconds of a time limit in any of Slurm's forms.

    `minutes`, `minutes:seconds`, `hours:minutes:seconds`, `days-hours`, `days-hours:minutes`,
    `days-hours:minutes:seconds`; also `90m`, `12h`, `1d12h`.

    Raises:
        InputError: `script-option-value`.
    """
    found = _CLOCK.match(value)
    if found is None:
        try:
            return parse_duration_s(value)
        except InputError:
            raise _bad_value("--time", value, "a time such as 90, 1:30:00 or 2-12", where) from None
    days, *clock = (None if part is None else int(part) for part in found.groups())
    first, second, third = clock
    first = first or 0
    if days is not None:
        seconds = ((days * 24 + first) * 60 + (second or 0)) * 60 + (third or 0)
    elif third is not None:
        seconds = (first * 60 + (second or 0)) * 60 + third
    else:
        seconds = first * 60 + (second or 0)
    if not 0 < seconds <= _COUNT_MAX:
        what = f"a time limit of 1 to {_COUNT_MAX} seconds; a guest can't run without one"
        raise _bad_value("--time", value, what, where)
    return seconds


def parse_memory_mib(value: str, *, where: str) -> int:
    """The MiB of a size in Slurm's form: a number with K, M (the default), G or T; rounded up.

    Raises:
        InputError: `script-option-value`.
    """
    found = _SIZE.match(value)
    mib = -(-int(found[1]) * _KIB[found[2].upper()] // 1024) if found else 0
    if not 0 < mib < 1 << 32:
        raise _bad_value("memory", value, "a size above 0 such as 500M or 4G", where)
    return mib


def parse_signal(value: str, *, where: str) -> Signal:
    """The signal of Slurm's `[R][B:]SIGNAL[@SECONDS]`: a number, or a name with or without SIG.

    Raises:
        InputError: `script-option-value`.
    """
    found = _SIGNAL.match(value.upper())
    name = found[1] if found else ""
    number = int(name) if name.isdigit() else _SIGNALS.get(name.removeprefix("SIG"), 0)
    before_s = int(found[2]) if found and found[2] else SIGNAL_S
    if not 0 < number <= SIGNAL_MAX or number in _DEADLY or before_s > SIGNAL_S_MAX:
        raise _bad_value("--signal", value, "a signal such as USR1 or USR1@120", where)
    return Signal(number, before_s)


def parse_variable(value: str, *, where: str) -> tuple[str, str]:
    """The name and value of `NAME=VALUE`.

    Raises:
        InputError: `script-option-value`.
    """
    name, equals, content = value.partition("=")
    if not equals or not _VARIABLE.match(name):
        raise _bad_value("the variable", value, "of the form NAME=VALUE", where)
    return name, content


def sorted_words(values: Iterable[str]) -> tuple[str, ...]:
    """The values once each, ascending, as records hold their lists."""
    return tuple(sorted(set(values)))


def _count(value: str, option: str, where: str, *, low: int = 1) -> int:
    if not re.match(r"[0-9]{1,9}\Z", value) or not low <= int(value) <= _COUNT_MAX:
        what = f"a whole number from {low} to {_COUNT_MAX}"
        raise _bad_value(option, value, what, where)
    return int(value)


def _features(value: str, where: str) -> tuple[str, ...]:
    if not _FEATURES.match(value):
        raise _bad_value("--constraint", value, "features joined by &, such as avx512&nvme", where)
    return tuple(value.lower().split("&"))


def _line(value: str, option: str, where: str) -> str:
    if not value.isprintable() or not value.strip() or len(value.encode()) > 200:
        raise _bad_value(option, value, "a line of at most 200 bytes", where)
    return value.strip()


def _bad_value(option: str, value: str, wanted: str, where: str) -> InputError:
    return InputError("script-option-value", f"{option} {value!r} is not {wanted}", where=where)


def _impossible(what: str, remedy: str) -> InputError:
    return InputError("script-request", what, where="the job's request", remedy=remedy)
