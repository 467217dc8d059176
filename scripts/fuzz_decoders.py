"""What `scripts/fuzz` runs: each decoder must give a value or an `InputError`, whatever comes.

Each target runs in a process of its own, because the fuzzer ends its process. It starts from valid
examples and keeps what reaches new code in `.fuzz/TARGET`.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from p2pfed.core.blocks import decode_block, decode_stored
from p2pfed.core.charter import decode_charter, parse_card
from p2pfed.core.ledgerfile import read_ledger, write_ledger
from p2pfed.errors import ExecutorError, InputError
from p2pfed.execute.slurm import parse as slurm
from p2pfed.protocol.framing import FrameReader, frame
from p2pfed.protocol.messages import decode_message
from p2pfed.shell.jobscript import parse_job_script
from p2pfed.shell.manifest import decode_manifest
from tests.writers import CONTACT, FEDERATION, Writer, keys_of

KEYS = keys_of("alpha", "beta")
BLOCK = Writer("alpha").write(Writer("beta").write(), records=[CONTACT] * 3).data
SCRIPT = b"#!/bin/sh\n#SBATCH --nodes=2 --time=1:00\n#SBATCH --mem=4G\necho hello\n"
Target = Callable[[bytes], object]
INSTRUMENTED = """
import sys
import atheris
with atheris.instrument_imports(include=["p2pfed"]):
    from scripts.fuzz_decoders import fuzz
fuzz(sys.argv[1], int(sys.argv[2]))
"""
"""A process whose decoders report which code an input reached."""


def _ledger(data: bytes) -> None:
    for _ in read_ledger(io.BytesIO(data)):
        pass


def _frames(data: bytes) -> None:
    for body in FrameReader().feed(data):
        with contextlib.suppress(InputError):
            decode_message(body)


def _text(parse: Callable[[str], object]) -> Target:
    return lambda data: parse(data.decode("utf-8", "replace"))


TARGETS: dict[str, tuple[Target, tuple[bytes, ...]]] = {
    "block": (lambda data: decode_block(data, FEDERATION, KEYS), (BLOCK,)),
    "stored-block": (decode_stored, (BLOCK,)),
    "charter": (decode_charter, ()),
    "card": (_text(parse_card), ()),
    "ledger": (_ledger, (b"".join(write_ledger(b"charter", [])),)),
    "message": (decode_message, (b"\xa1\x00\x04",)),
    "frames": (_frames, (frame(b"\xa1\x00\x04"),)),
    "manifest": (decode_manifest, ()),
    "job-script": (lambda data: parse_job_script(data, "job.sh"), (SCRIPT,)),
    "slurm-queue": (_text(slurm.parse_queue), (b"1|p2pfed-a|RUNNING|0:0",)),
    "slurm-details": (_text(slurm.parse_details), (b"JobId=1 JobState=RUNNING",)),
    "slurm-accounting": (_text(lambda text: slurm.parse_accounting(text, "1")), (b"1|a|RUNNING",)),
    "slurm-config": (_text(slurm.parse_config), (b"ClusterName = x",)),
}


def judged(target: Target, data: bytes) -> None:
    """Feeds one input; any exception but the two that say whose fault it was is a finding."""
    with contextlib.suppress(InputError, ExecutorError):
        target(data)


def fuzz(name: str, inputs: int) -> None:
    """Fuzzes one target in this process; never returns."""
    import atheris

    target, seeds = TARGETS[name]
    folder = Path(".fuzz") / name
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds):
        (folder / f"seed-{number}").write_bytes(seed)
    atheris.Setup(
        [
            "fuzz",
            str(folder),
            f"-runs={inputs}",
            "-timeout=10",
            "-max_len=8192",
            "-print_final_stats=1",
            f"-artifact_prefix=.fuzz/{name}-",
        ],
        lambda data: judged(target, data),
    )
    atheris.Fuzz()


def main(arguments: Sequence[str]) -> int:
    """Returns 1 if a target crashed or hung."""
    parser = argparse.ArgumentParser(prog="scripts/fuzz")
    parser.add_argument("--inputs", type=int, default=100_000, help="inputs for each target")
    parser.add_argument("targets", nargs="*", choices=[[], *TARGETS], help="all, if none is named")
    options = parser.parse_args(arguments)
    failed = 0
    for name in options.targets or TARGETS:
        command = [sys.executable, "-c", INSTRUMENTED, name, str(options.inputs)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        failed += done.returncode != 0
        print(f"{'ok    ' if done.returncode == 0 else 'BROKEN'}  {name}: {options.inputs} inputs")
        if done.returncode:
            print(done.stderr[-4000:])
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
