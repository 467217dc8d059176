"""A founded federation is complete, and no folder in use is touched."""

from __future__ import annotations

import stat
from pathlib import Path

import pytest

from p2pfed.core.charter import check_charter, decode_charter, parse_card
from p2pfed.errors import InputError
from p2pfed.shell.demo.founding import demo_folder, found_federation, free_ports
from p2pfed.shell.demo.plan import plan_demo
from p2pfed.store.keyfile import load_key

PLAN = plan_demo(3, 3)


def test_every_founder_has_signed_and_holds_its_own_key(tmp_path: Path) -> None:
    founded = found_federation(tmp_path, PLAN)
    addresses = set()
    for site, centre in zip(founded.sites, PLAN.centres, strict=True):
        config = site.config
        assert config.name == centre.name
        charter = decode_charter(config.charter.read_bytes())
        assert check_charter(charter).complete
        assert charter.federation_id == founded.federation
        assert charter.rules == PLAN.rules
        card = parse_card((config.folder / "card.json").read_text())
        assert card == charter.founder(centre.name)
        assert card.public_key == load_key(config.key.file).public_key
        assert stat.S_IMODE(config.key.file.stat().st_mode) == 0o600
        assert config.template("default").nodes == centre.nodes
        addresses.add(card.address)
    assert len(addresses) == len(PLAN.centres)


def test_free_ports_differ() -> None:
    assert len(set(free_ports(40))) == 40


def test_a_temporary_folder_goes_and_a_named_one_stays(tmp_path: Path) -> None:
    with demo_folder(None, PLAN) as folder:
        (folder / "file").write_text("x")
    assert not folder.exists()
    with demo_folder(tmp_path / "a" / "b", PLAN) as folder:
        (folder / "file").write_text("x")
    assert (tmp_path / "a" / "b" / "file").exists()


def test_a_temporary_folder_with_a_long_name_is_not_used(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    deep = tmp_path / ("d" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with demo_folder(None, PLAN) as folder:
        assert folder.is_relative_to("/tmp")
        assert not folder.is_relative_to(deep)


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").write_text("mine")
    (tmp_path / "file").write_text("mine")
    for name in ("used", "file", "d" * 100):
        with pytest.raises(InputError) as caught, demo_folder(tmp_path / name, PLAN):
            pass
        assert caught.value.code == "demo-folder"
    assert (tmp_path / "used" / "file").read_text() == "mine"
