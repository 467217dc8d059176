"""Each line of the doctor says that something is well, or what to do about it."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from p2pfed.cli.main import main
from p2pfed.shell.config import load_config
from p2pfed.shell.doctor import Level, Line, examine


@pytest.fixture
def centre(tmp_path: Path) -> Path:
    """The folder of a centre with a complete charter, whose daemon does not run."""
    folders = [tmp_path / name for name in ("alpha", "beta")]
    for folder in folders:
        assert main(["init", str(folder), "--name", folder.name, "--listen", "127.0.0.1:7300"]) == 0
    draft = str(tmp_path / "charter.cbor")
    cards = [str(folder / "card.json") for folder in folders]
    assert main(["charter", "new", *cards, "-o", draft]) == 0
    for folder in folders:
        assert main(["charter", "sign", draft, "--config", str(folder)]) == 0
    shutil.copy(draft, folders[0] / "charter.cbor")
    return folders[0]


def lines(folder: Path) -> dict[str, Line]:
    return {line.check: line for line in examine(load_config(folder))}


def edit(folder: Path, old: str, new: str) -> None:
    path = folder / "centre.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def test_a_centre_that_is_ready_lacks_only_its_daemon(centre: Path) -> None:
    found = lines(centre)
    failed = [name for name, line in found.items() if line.level is Level.FAILED]
    assert failed == ["daemon"]
    assert {"account", "key", "charter", "spool", "state", "executor"} <= found.keys()
    assert "p2pfed daemon" in found["daemon"].remedy


@pytest.mark.parametrize(
    ("check", "spoil"),
    [
        ("key", lambda centre: (centre / "key.pem").chmod(0o644)),
        ("charter", lambda centre: (centre / "charter.cbor").unlink()),
        ("charter", lambda centre: (centre / "charter.cbor").write_bytes(b"x")),
        ("guests", lambda centre: edit(centre, '# run_as = ""', 'run_as = "nobody-at-all"')),
    ],
)
def test_what_is_wrong_fails_with_a_remedy(centre: Path, check: str, spoil: object) -> None:
    assert callable(spoil)
    spoil(centre)
    line = lines(centre)[check]
    assert line.level is Level.FAILED
    assert line.remedy


def test_a_batch_system_that_is_away_does_not_end_the_examination(
    centre: Path, tmp_path: Path
) -> None:
    edit(centre, '# kind = "local"', 'kind = "slurm"')
    edit(centre, '# partition = ""', 'partition = "guest"')
    edit(centre, '# bin = ""', f'bin = "{tmp_path}"')
    edit(centre, '# run_as = ""', 'run_as = "nobody"')
    found = lines(centre)
    assert found["executor"].level is Level.FAILED
    assert "slurm-command" in found["executor"].found
    assert found["key"].level is Level.OK


def test_the_command_exits_by_what_it_found(
    centre: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["doctor", "--config", str(centre)]) == 1
    said = capsys.readouterr().out
    assert "failed  daemon: no daemon answers" in said
    assert "        to do: start it" in said
    assert main(["doctor", "--json", "--config", str(centre)]) == 1
    assert '"ok": false' in capsys.readouterr().out
