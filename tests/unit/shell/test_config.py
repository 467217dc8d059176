"""`centre.toml` is read strictly, and its template says what the parser takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from p2pfed.core.fields import wire_fields
from p2pfed.core.records import Offer
from p2pfed.errors import InputError
from p2pfed.shell.config import (
    CentreConfig,
    load_config,
    parse_config,
    read_passphrase,
    require_file,
)
from p2pfed.shell.config_template import centre_toml
from p2pfed.shell.schema import format_duration, parse_duration_s, split_address
from p2pfed.shell.sections import ExecutorConfig, KeyConfig, OfferTemplate

EXAMPLE = Path(__file__).parents[3] / "config" / "centre.toml"
SMALL = 'name = "alpha"\nlisten = "127.0.0.1:7300"\n'
EXECUTOR = "[executor]\nnodes = 2\ncores_per_node = 4\nmemory_mib_per_node = 4096\n"
OFFER = '[[offer]]\nname = "day"\nnodes = 2\ncores_per_node = 4\nmemory_mib_per_node = 1024\n'


def parse(text: str) -> CentreConfig:
    return parse_config(text, Path("/srv/alpha/centre.toml"))


def test_a_small_file_leaves_everything_else_at_its_default() -> None:
    config = parse(SMALL)
    assert config.advertise == "127.0.0.1:7300"
    assert config.folder == Path("/srv/alpha")
    assert config.ledger == Path("/srv/alpha/state/ledger.sqlite")
    assert config.lock == Path("/srv/alpha/state/lock")
    assert config.control.socket == Path("/srv/alpha/run/control.sock")
    assert config.key.file == Path("/srv/alpha/key.pem")
    assert config.offers == ()
    assert not config.policy.paused


def test_absolute_paths_stay_and_relative_ones_count_from_the_file() -> None:
    config = parse(SMALL + 'state = "/var/lib/p2pfed"\nspool = "../spool"\n')
    assert config.state == Path("/var/lib/p2pfed")
    assert config.spool == Path("/srv/alpha/../spool")


def test_the_template_reads_back_to_the_same_configuration() -> None:
    executor = ExecutorConfig(nodes=2, cores_per_node=8, memory_mib_per_node=9000)
    offer = OfferTemplate(
        name="night",
        open=True,
        nodes=2,
        cores_per_node=8,
        memory_mib_per_node=512,
        walltime_max_s=5400,
        features=("apptainer",),
        deny=("beta", "gamma"),
        min_balance=-1000,
    )
    config = parse(
        centre_toml(
            name="alpha",
            listen="0.0.0.0:7300",
            advertise="alpha.example.org:7300",
            executor=executor,
            offers=(offer,),
            passphrase_file="secret",
        )
    )
    assert config.executor == executor
    assert config.offers == (offer,)
    assert config.advertise == "alpha.example.org:7300"
    assert config.key == KeyConfig(
        file=Path("/srv/alpha/key.pem"), passphrase_file=Path("/srv/alpha/secret")
    )


def test_every_commented_default_in_the_template_is_valid_when_uncommented() -> None:
    text = centre_toml(name="alpha", listen="127.0.0.1:7300")
    lines = [
        line[2:]
        if line.startswith("# [[")
        or (line.startswith("# ") and " = " in line and "." not in line.split(" = ")[0])
        else line
        for line in text.splitlines()
    ]
    uncommented = "\n".join(lines)
    assert parse(uncommented).executor == parse(text).executor
    assert "\nmin_balance = 0" in uncommented


def test_the_shipped_example_is_what_the_template_gives() -> None:
    assert EXAMPLE.read_text() == centre_toml(
        name="alpha",
        listen="0.0.0.0:7300",
        advertise="alpha.example.org:7300",
        executor=ExecutorConfig(nodes=4, cores_per_node=32, memory_mib_per_node=131_072),
    )
    assert load_config(EXAMPLE).name == "alpha"


def test_a_folder_stands_for_the_file_in_it(tmp_path: Path) -> None:
    (tmp_path / "centre.toml").write_text(SMALL)
    assert load_config(tmp_path).name == "alpha"


def test_an_offer_template_becomes_a_record_whose_every_field_is_valid() -> None:
    text = SMALL + EXECUTOR + OFFER + 'walltime_max = "1h"\nallow = ["gamma", "beta"]\n'
    offer = parse(text).template("day").offer(min_balance=-7)
    assert (offer.walltime_max_s, offer.min_balance) == (3600, -7)
    assert offer.allow == ("beta", "gamma")
    for field in wire_fields(Offer):
        value = getattr(offer, field.name)
        assert field.kind.parse(field.kind.dump(value)) == value, field.name


def test_a_template_that_states_a_least_balance_keeps_it() -> None:
    offer = parse(SMALL + EXECUTOR + OFFER + "min_balance = 0\n").template("day")
    assert offer.offer(min_balance=-7).min_balance == 0


def test_an_unknown_template_is_named_with_those_that_exist() -> None:
    with pytest.raises(InputError, match="night") as caught:
        parse(SMALL + EXECUTOR + OFFER).template("night")
    assert caught.value.code == "offer-template-unknown"
    assert "day" in caught.value.remedy


def test_addresses_of_peers_override() -> None:
    assert parse(SMALL + '[peers]\nbeta = "[::1]:7301"\n').peers == {"beta": "[::1]:7301"}


BAD = {
    "not TOML": ("name = \n", "config-syntax", "", "line 1"),
    "typo": ('name = "alpha"\nlistn = "h:1"\n', "config-key-unknown", "toml:2: listn", "'listen'"),
    "unknown key far from all": (SMALL + "zzz = 1\n", "config-key-unknown", "zzz", "'zzz'"),
    "typo in a table": (
        SMALL + "[executor]\nnode = 2\n",
        "config-key-unknown",
        "toml:4: executor.node",
        "'nodes'",
    ),
    "unknown table": (SMALL + "[exekutor]\n", "config-key-unknown", "toml:3:", "'executor'"),
    "name missing": ('listen = "h:1"\n', "config-key-missing", "", "'name'"),
    "offer lacks its nodes": (
        SMALL + '[[offer]]\nname = "day"\n',
        "config-key-missing",
        "toml:3: offer",
        "'nodes'",
    ),
    "number as text": (
        SMALL + '[executor]\nnodes = "2"\n',
        "config-unit",
        "toml:4: executor.nodes",
        "'2'",
    ),
    "memory with a unit": (
        SMALL + '[executor]\nmemory_mib_per_node = "4GiB"\n',
        "config-unit",
        "executor.memory_mib_per_node",
        "'4GiB'",
    ),
    "walltime in a wrong unit": (
        SMALL + EXECUTOR + OFFER + 'walltime_max = "12q"\n',
        "config-unit",
        "toml:12: offer.walltime_max",
        "'12q'",
    ),
    "walltime of nothing": (
        SMALL + EXECUTOR + OFFER + 'walltime_max = "0h"\n',
        "config-value",
        "offer.walltime_max",
        "'0h'",
    ),
    "flag as text": (SMALL + '[admission]\npaused = "no"\n', "config-type", "paused", "'no'"),
    "flag where a number belongs": (
        SMALL + "[executor]\nnodes = true\n",
        "config-type",
        "executor.nodes",
        "true or false",
    ),
    "fraction of a core": (
        SMALL + "[executor]\ncores_per_node = 1.5\n",
        "config-type",
        "executor.cores_per_node",
        "1.5",
    ),
    "no nodes": (SMALL + "[executor]\nnodes = 0\n", "config-value", "executor.nodes", "range"),
    "list of numbers": (
        SMALL + "[admission]\ndeny_centres = [1]\n",
        "config-type",
        "admission.deny_centres",
        "a centre name",
    ),
    "centre twice": (
        SMALL + '[admission]\ndeny_centres = ["beta", "beta"]\n',
        "config-value",
        "admission.deny_centres",
        "twice",
    ),
    "capital in the name": (
        'name = "Alpha"\nlisten = "h:1"\n',
        "config-value",
        "toml:1: name",
        "'Alpha'",
    ),
    "no port": ('name = "a"\nlisten = "host"\n', "config-address", "toml:2: listen", "'host'"),
    "port too large": ('name = "a"\nlisten = "h:65536"\n', "config-address", "listen", "65536"),
    "bad address of a peer": (
        SMALL + '[peers]\nbeta = "nowhere"\n',
        "config-address",
        "toml:3: peers",
        "'nowhere'",
    ),
    "wildcard without an address to announce": (
        'name = "a"\nlisten = "0.0.0.0:7300"\n',
        "config-value",
        "listen",
        "no machine",
    ),
    "unknown executor": (
        SMALL + '[executor]\nkind = "cloud"\n',
        "config-value",
        "executor.kind",
        "'cloud'",
    ),
    "high-water file beside the database": (
        SMALL + 'highwater = "state/highwater"\n',
        "config-value",
        "highwater",
        "inside",
    ),
    "socket path too long": (
        SMALL + f'[control]\nsocket = "{"s" * 120}"\n',
        "config-value",
        "control.socket",
        "107",
    ),
    "two passphrases": (
        SMALL + '[key]\npassphrase_file = "p"\npassphrase_env = "P"\n',
        "config-value",
        "passphrase_env",
        "both",
    ),
    "one bracket too few": (
        SMALL + '[offer]\nname = "day"\n',
        "config-type",
        "toml:3: offer",
        "list of tables",
    ),
    "a value where a table belongs": (
        SMALL + "logging = 3\n",
        "config-type",
        "toml:3: logging",
        "'logging'",
    ),
    "two offers of one name": (SMALL + EXECUTOR + OFFER + OFFER, "config-offer", ":13:", "day"),
    "offer wider than the machine": (
        SMALL + EXECUTOR + OFFER.replace("nodes = 2", "nodes = 3"),
        "config-offer",
        "offer.nodes",
        "has 2",
    ),
    "open offers that together exceed the machine": (
        SMALL
        + EXECUTOR
        + OFFER
        + "open = true\n"
        + OFFER.replace("day", "night")
        + "open = true\n",
        "config-offer",
        "executor",
        "16 cores",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_a_bad_file_is_refused_with_place_and_reason(case: str) -> None:
    text, code, where, what = BAD[case]
    with pytest.raises(InputError) as caught:
        parse(text)
    assert caught.value.code == code
    assert where in caught.value.where
    assert what in caught.value.what + caught.value.remedy


def test_a_size_with_a_unit_is_answered_with_the_number_to_write() -> None:
    with pytest.raises(InputError) as caught:
        parse(SMALL + '[executor]\nmemory_mib_per_node = "4GiB"\n')
    assert "4096" in caught.value.remedy


def test_files_that_are_not_there_or_not_text_are_named(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        load_config(tmp_path / "centre.toml")
    assert caught.value.code == "config-file-missing"
    (tmp_path / "centre.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(InputError) as caught:
        load_config(tmp_path)
    assert caught.value.code == "config-file-unreadable"
    with pytest.raises(InputError) as caught:
        require_file(tmp_path / "charter.cbor", "the charter", "copy it here")
    assert caught.value.code == "config-file-missing"


def test_the_passphrase_comes_from_the_file_or_the_environment(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("open sesame\nnot this\n")
    assert read_passphrase(KeyConfig(), {}) is None
    assert read_passphrase(KeyConfig(passphrase_file=secret), {}) == b"open sesame"
    assert read_passphrase(KeyConfig(passphrase_env="P"), {"P": "xyz"}) == b"xyz"
    with pytest.raises(InputError, match="holds no passphrase"):
        read_passphrase(KeyConfig(passphrase_env="P"), {})
    secret.write_text("")
    with pytest.raises(InputError, match="empty"):
        read_passphrase(KeyConfig(passphrase_file=secret), {})


@pytest.mark.parametrize(
    ("written", "seconds"),
    [("12h", 43_200), ("1d12h", 129_600), ("90m", 5400), ("45s", 45), (3600, 3600)],
)
def test_durations_are_read_with_their_units(written: object, seconds: int) -> None:
    assert parse_duration_s(written) == seconds
    assert parse_duration_s(format_duration(seconds)) == seconds


def test_an_ipv6_address_is_split_at_its_brackets() -> None:
    assert split_address("[2001:db8::1]:7300") == ("2001:db8::1", 7300)
