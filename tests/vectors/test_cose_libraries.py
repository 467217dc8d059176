"""COSE libraries of others verify our blocks, as they stand in the golden vectors.

Each library runs in an environment of its own (their requirements may contradict ours), made once
in the cache folder. Where it can't be installed, the test is skipped and says why.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import venv
from pathlib import Path
from typing import Final

import pytest

VECTORS: Final = Path(__file__).with_name("ledger.json")
CACHE: Final = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "p2pfed-tests"

PYCOSE: Final = """
import json, sys, cbor2
from pycose.messages import Sign1Message
from pycose.keys import OKPKey
from pycose.keys.curves import Ed25519
told = json.load(open(sys.argv[1]))
federation = bytes.fromhex(told["federation_id"])
for block in told["blocks"]:
    cose, records = cbor2.loads(bytes.fromhex(block["data"]))
    message = Sign1Message.from_cose_obj(cbor2.loads(cose), allow_unknown_attributes=False)
    key = bytes.fromhex(told["keys"][block["centre"]]["public_key"])
    message.key = OKPKey(crv=Ed25519, x=key)
    message.external_aad = federation
    assert message.verify_signature(), block["block_id"]
    message.external_aad = bytes(32)
    assert not message.verify_signature(), "of another federation"
print(len(told["blocks"]))
"""

PYTHON_CWT: Final = """
import json, sys, cbor2
from cwt import COSE, COSEKey
told = json.load(open(sys.argv[1]))
federation = bytes.fromhex(told["federation_id"])
for block in told["blocks"]:
    cose, records = cbor2.loads(bytes.fromhex(block["data"]))
    names = told["keys"][block["centre"]]
    key = COSEKey.new({
        1: 1, 3: -8, -1: 6, 2: bytes.fromhex(names["key_id"]),
        -2: bytes.fromhex(names["public_key"]), 4: [2],
    })
    tagged = cbor2.dumps(cbor2.CBORTag(18, cbor2.loads(cose)))
    payload = COSE.new().decode(tagged, key, external_aad=federation)
    assert cbor2.loads(payload)[3] == block["seq_num"]
    try:
        COSE.new().decode(tagged, key, external_aad=bytes(32))
    except Exception:
        continue
    raise AssertionError("of another federation")
print(len(told["blocks"]))
"""

LIBRARIES: Final = {"pycose": ("pycose>=1.1,<2", PYCOSE), "cwt": ("cwt>=2.9,<4", PYTHON_CWT)}


def environment(name: str, requirement: str) -> Path:
    """The Python of the library's own environment; skips the test if it can't be made."""
    folder = CACHE / name
    python = folder / "bin" / "python"
    ready = folder / "ready"
    if ready.is_file() and ready.read_text() == requirement:
        return python
    try:
        venv.create(folder, clear=True, with_pip=False)
        command = [sys.executable, "-m", "pip", "--python", str(python), "install", "-qq"]
        done = subprocess.run(
            [*command, "--no-input", "--disable-pip-version-check", requirement],
            capture_output=True,
            text=True,
            timeout=120,
        )
    except (OSError, subprocess.SubprocessError) as error:
        pytest.skip(f"{name} can't be installed: {error}")
    if done.returncode:
        reason = done.stderr.strip().splitlines() or ["pip failed"]
        pytest.skip(f"{name} can't be installed: {reason[-1]}")
    ready.write_text(requirement)
    return python


@pytest.mark.parametrize("name", LIBRARIES)
def test_another_library_verifies_our_blocks(name: str) -> None:
    requirement, program = LIBRARIES[name]
    python = environment(name, requirement)
    done = subprocess.run(
        [str(python), "-c", program, str(VECTORS)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert int(done.stdout) == len(json.loads(VECTORS.read_text())["blocks"])
