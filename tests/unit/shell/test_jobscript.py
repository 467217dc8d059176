"""Batch scripts: what their `#SBATCH` lines come to, and which scripts are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.errors import InputError
from p2pfed.shell.door import JobRequest
from p2pfed.shell.jobscript import (
    JobOptions,
    check_request,
    parse_job_script,
    parse_memory_mib,
    parse_signal,
    parse_walltime_s,
)
from p2pfed.shell.sbatch import SCRIPT_BYTES_MAX


def script(*directives: str) -> bytes:
    lines = ["#!/bin/bash", *(f"#SBATCH {d}" for d in directives), "echo hello", ""]
    return "\n".join(lines).encode()


def request(*directives: str, **overrides: str) -> JobRequest:
    over = JobOptions()
    for name, value in overrides.items():
        over.read(name.replace("_", "-"), value, where=f"--{name}")
    return parse_job_script(script(*directives), "job.sh").request(over)


def shape(found: JobRequest) -> tuple[int, int, int, int]:
    return found.nodes, found.cores_per_node, found.gpus_per_node, found.memory_mib_per_node


def test_a_script_that_asks_for_nothing_gets_one_core_for_an_hour() -> None:
    found = request()
    assert shape(found) == (1, 1, 0, 1024)
    assert (found.walltime_s, found.name, found.script) == (3600, "job.sh", "job.sh")
    assert (found.stdout, found.stderr, found.resource_class) == ("stdout.txt", "stderr.txt", "cpu")


SHAPES = {
    "nodes alone give one core on each": (["-N 3"], (3, 1, 0, 1024)),
    "tasks alone stay on one node": (["--ntasks=6"], (1, 6, 0, 6144)),
    "tasks spread over nodes, rounded up": (["-N2", "-n5"], (2, 3, 0, 3072)),
    "tasks per node decide the nodes": (["-n 10 --ntasks-per-node=4"], (3, 4, 0, 4096)),
    "tasks per node and nodes": (["--nodes 2", "--ntasks-per-node 8"], (2, 8, 0, 8192)),
    "fewer tasks than the nodes could hold": (["-N2 -n2 --ntasks-per-node=8"], (2, 1, 0, 1024)),
    "threads of one task": (["-c 4"], (1, 4, 0, 4096)),
    "tasks times threads": (["-n 4 -c 2 -N 2"], (2, 4, 0, 4096)),
    "memory of a node": (["-n 4", "--mem=2G"], (1, 4, 0, 2048)),
    "memory of a CPU": (["-n 4", "--mem-per-cpu=500M"], (1, 4, 0, 2000)),
    "the later memory option wins": (["--mem=1G", "--mem-per-cpu=3G"], (1, 1, 0, 3072)),
    "a later line wins": (["-n 2", "-n 3"], (1, 3, 0, 3072)),
    "GPUs of a node": (["-N 2", "--gres=gpu:3"], (2, 1, 3, 1024)),
    "one GPU without a number": (["--gres=gpu"], (1, 1, 1, 1024)),
    "GPUs of the job spread over nodes": (["-N 2", "-G 3"], (2, 1, 2, 1024)),
    "GPUs of each task": (["-n 4 -N 2 --gpus-per-task=2"], (2, 2, 4, 2048)),
    "GPUs per node": (["--gpus-per-node=4"], (1, 1, 4, 1024)),
    "no generic resource": (["--gres=none"], (1, 1, 0, 1024)),
    "a range of nodes": (["-N 2-4"], (2, 1, 0, 1024)),
    "several options on a line": (["-N 2 -n4 --mem 1024"], (2, 2, 0, 1024)),
    "a comment after the options": (["-n 2 # don't worry"], (1, 2, 0, 2048)),
    "flags may share a dash with an option": (["-Qn2"], (1, 2, 0, 2048)),
    "a shortened name": (["--ntasks-per-n=2"], (1, 2, 0, 2048)),
}


@pytest.mark.parametrize("phrase", SHAPES)
def test_options_come_to_a_shape(phrase: str) -> None:
    directives, expected = SHAPES[phrase]
    assert shape(request(*directives)) == expected


WALLTIMES = {
    "30": 1800,
    "1:30": 90,
    "1:30:00": 5400,
    "2-0": 172_800,
    "1-12": 129_600,
    "1-12:30": 131_400,
    "1-00:00:01": 86_401,
    "0:01": 1,
    "90m": 5400,
    "1d12h": 129_600,
}


@pytest.mark.parametrize("text", WALLTIMES)
def test_every_form_of_a_time_limit_is_read(text: str) -> None:
    assert request(f"--time={text}").walltime_s == WALLTIMES[text]


@pytest.mark.parametrize(
    "text", ["", "0", "00:00:00", "UNLIMITED", "INFINITE", "-1", "1:2:3:4", "1-", "3h30", "1.5"]
)
def test_a_time_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_walltime_s(text, where="--time")
    assert caught.value.code == "script-option-value"


MEMORIES = {"100": 100, "1K": 1, "1025k": 2, "5M": 5, "4G": 4096, "1T": 1 << 20, "2GB": 2048}


@pytest.mark.parametrize("text", MEMORIES)
def test_memory_is_read_in_mib_and_rounded_up(text: str) -> None:
    assert parse_memory_mib(text, where="--mem") == MEMORIES[text]


def test_the_command_line_overrides_the_script() -> None:
    found = request("-n 4", "--mem=9G", "-J inside", "--gres=gpu:2", ntasks="2", gpus="0")
    assert shape(found) == (1, 2, 0, 9216)
    assert request("--mem=9G", mem_per_cpu="1G").memory_mib_per_node == 1024
    assert request("-J inside", job_name="outside").name == "outside"


def test_a_gpu_kind_and_a_constraint_become_features() -> None:
    found = request("--gres=gpu:A100:2", "-C avx512&nvme")
    assert found.features == ("a100", "avx512", "nvme")
    assert (found.gpus_per_node, found.resource_class) == (2, "gpu")
    assert request("--gres=gpu:h100").features == ("h100",)


def test_quotes_hold_a_value_together() -> None:
    assert request('--job-name="two words"').name == "two words"
    assert request("-J 'a \"b\" c'").name == 'a "b" c'
    assert request(r"-J two\ words").name == "two words"


def test_output_patterns_know_job_and_name() -> None:
    found = request("-J my/run", "-o %x-%j.out", "-e %x-%A.err")
    assert (found.stdout, found.stderr) == ("my_run-%j.out", "my_run-%j.err")


def test_a_name_full_of_signs_stays_one_file_name() -> None:
    assert request("-J '../50%j'", "-o %x").stdout == "__50_j"


def test_output_and_error_never_share_a_file() -> None:
    found = request("-o log", "-e log")
    assert (found.stdout, found.stderr) == ("log", "log.err")


def test_exported_assignments_become_variables() -> None:
    found = request("--export=NONE,OMP_NUM_THREADS=4,A=b=c")
    assert found.environment == (("A", "b=c"), ("OMP_NUM_THREADS", "4"))


def test_what_is_ignored_is_named_with_its_line() -> None:
    found = parse_job_script(
        script("-p long", "--mail-type=END --requeue", "-o /home/me/out.txt", "--gres=lustre:1"),
        "job.sh",
    )
    assert found.options.remarks == (
        "job.sh, line 2: --partition is ignored: the host decides",
        "job.sh, line 3: --mail-type is ignored: the host decides",
        "job.sh, line 3: --requeue is ignored: the host decides",
        "job.sh, line 4: --output=/home/me/out.txt is written as out.txt among the results",
        "job.sh, line 5: --gres=lustre:1 is ignored: only gpu is known",
    )
    assert found.request().stdout == "out.txt"


def test_directives_end_at_the_first_command() -> None:
    text = "#!/bin/sh\n\n# a comment\n#SBATCH -n 2\n #SBATCH -n 3\n#SBATCH -n 4\n"
    assert parse_job_script(text.encode(), "j").request().cores_per_node == 2
    text = "#!/bin/sh\n#SBATCHX -n 5\n  \n#SBATCH -n 2\ntrue\n#SBATCH --nonsense\n"
    assert parse_job_script(text.encode(), "j").request().cores_per_node == 2


BAD_SCRIPTS = {
    "an empty file": (b"", "script-empty", "job.sh"),
    "only white space": (b" \n\n", "script-empty", "job.sh"),
    "a binary": (b"\x7fELF\x02\x01\x01\0\0\0", "script-binary", "job.sh"),
    "no shebang": (b"echo hello\n", "script-shebang", "job.sh"),
    "a shebang without a path": (b"#! bash\n", "script-shebang", "job.sh"),
    "DOS line ends": (b"#!/bin/sh\r\necho\r\n", "script-line-ends", "job.sh"),
    "a huge file": (b"#!/bin/sh\n" + b"#" * SCRIPT_BYTES_MAX, "script-too-large", "job.sh"),
    "a number that is none": (script("--ntasks=four"), "script-option-value", "line 2"),
    "zero nodes": (script("-n 2", "-N 0"), "script-option-value", "line 3"),
    "a negative number": (script("--cpus-per-task=-2"), "script-option-value", "line 2"),
    "no memory": (script("--mem=0"), "script-option-value", "line 2"),
    "memory in a strange unit": (script("--mem=2X"), "script-option-value", "line 2"),
    "a range upside down": (script("-N 4-2"), "script-option-value", "line 2"),
    "two kinds of GPU": (script("--gres=gpu:a:1,gpu:b:1"), "script-option-value", "line 2"),
    "a constraint with or": (script("-C 'a|b'"), "script-option-value", "line 2"),
    "a strange pattern": (script("-o out-%N"), "script-option-value", "line 2"),
    "a folder as output": (script("-o logs/"), "script-option-value", "line 2"),
    "an option that is none": (script("--nodse=2"), "script-option-unknown", "line 2"),
    "a short option that is none": (script("-Z"), "script-option-unknown", "line 2"),
    "an ambiguous option": (script("--mem-p=2"), "script-option-unknown", "line 2"),
    "an option without its value": (script("--nodes"), "script-option-form", "line 2"),
    "an equals sign without a value": (script("--nodes="), "script-option-form", "line 2"),
    "a word that is no option": (script("hetjob"), "script-option-form", "line 2"),
    "an open quote": (script('-J "open'), "script-option-form", "line 2"),
    "a job array": (script("--array=0-9"), "script-option-unsupported", "line 2"),
    "a dependency": (script("-d afterok:12"), "script-option-unsupported", "line 2"),
}


@pytest.mark.parametrize("phrase", BAD_SCRIPTS)
def test_a_bad_script_is_refused_with_its_place(phrase: str) -> None:
    data, code, place = BAD_SCRIPTS[phrase]
    with pytest.raises(InputError) as caught:
        parse_job_script(data, "job.sh")
    assert caught.value.code == code
    assert place in caught.value.where


IMPOSSIBLE = {
    "fewer tasks than nodes": ["-N 4", "-n 2"],
    "tasks that do not fit the nodes": ["-N 2", "-n 9", "--ntasks-per-node=4"],
    "more cores than can be counted": ["-n 16777216", "-c 2"],
    "more GPUs than can be counted": ["--gpus-per-node=65536"],
    "too many features": ["-C " + "&".join(f"f{n}" for n in range(65))],
    "arguments beyond measure": ["--export=A=" + "x" * 131_072],
}


@pytest.mark.parametrize("phrase", IMPOSSIBLE)
def test_an_impossible_request_is_refused(phrase: str) -> None:
    with pytest.raises(InputError) as caught:
        request(*IMPOSSIBLE[phrase])
    assert caught.value.code == "script-request"


_SOME = "-N -n --nodes --ntasks= --mem=1G -c2 --time=1-2 -t gpu:2 --gres= -G '\" # = 0 %j \\ --"
_WORDS = st.sampled_from(_SOME.split())
_LINES = st.lists(
    st.lists(_WORDS | st.text(max_size=6), max_size=5).map(lambda ws: "#SBATCH " + " ".join(ws)),
    max_size=5,
)


@given(st.binary(max_size=200) | _LINES.map(lambda ls: "\n".join(["#!/bin/sh", *ls]).encode()))
def test_any_bytes_are_a_valid_request_or_that_one_error(data: bytes) -> None:
    try:
        found = parse_job_script(data, "job.sh").request()
    except InputError:
        return
    check_request(found)
    assert found.stdout != found.stderr


@pytest.mark.parametrize(
    ("text", "number", "before_s"),
    [("USR1", 10, 60), ("B:USR1@120", 10, 120), ("RB:SIGTERM@5", 15, 5), ("12", 12, 60)],
)
def test_a_signal_is_read_as_slurm_reads_it(text: str, number: int, before_s: int) -> None:
    assert parse_signal(text, where="") == (number, before_s)
    request = parse_job_script(f"#!/bin/sh\n#SBATCH --signal={text}\n".encode(), "job").request()
    assert (request.signal, request.signal_s) == (number, before_s)


@pytest.mark.parametrize(
    "text", ["KILL", "SIGSTOP", "65", "0", "NONE", "USR1@", "USR1@99999", "X:1"]
)
def test_a_signal_that_cannot_be_sent_or_heeded_is_refused(text: str) -> None:
    with pytest.raises(InputError, match="script-option-value"):
        parse_signal(text, where="")
