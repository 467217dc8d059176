"""Who a job is of: nothing in the ledger says it, its home can show it, until it has forgotten."""

from __future__ import annotations

import os
import pwd
from collections.abc import Iterator

import pytest

from tests.e2e.federation import Centre, Federation

USER = pwd.getpwuid(os.geteuid()).pw_name
SECRETS = ("walrus-study", "walrus.sh", "walrus-input.dat", "walrus-output.dat", "walrus-argument")
SCRIPT = """#!/bin/sh
#SBATCH --job-name=walrus-study --output=walrus-output.dat --mem=64M --time=1
cat walrus-input.dat
echo "$1 $P2PFED_USER"
"""


@pytest.fixture
def federation() -> Iterator[Federation]:
    with Federation.found("alpha", "beta", opened=["beta"]) as made:
        made.start()
        made.until_offers(1)
        yield made


def submitted(alpha: Centre) -> str:
    work = alpha.folder / "work"
    work.mkdir(exist_ok=True)
    (work / "walrus.sh").write_text(SCRIPT)
    (work / "walrus-input.dat").write_text("walrus-content\n")
    answer = alpha.cli(
        "submit", "--json", "--input", "walrus-input.dat", "walrus.sh", "walrus-argument"
    )
    return str(answer.json["job"]["job_id"])


def test_the_ledger_names_nobody_and_its_home_can_tell_until_it_forgets(
    federation: Federation,
) -> None:
    alpha, beta = federation["alpha"], federation["beta"]
    one, other = submitted(alpha), submitted(alpha)
    views = alpha.until_over([one, other])
    assert [view["state"] for view in views.values()] == ["completed"] * 2
    pseudonym = views[one]["pseudonym"]
    assert pseudonym is not None and pseudonym == views[other]["pseudonym"]
    assert f"walrus-argument {pseudonym}" in alpha.output(one)

    ledger = beta.export()
    data = ledger.read_bytes()
    # A name of a few letters may stand in a hash by chance.
    named = [USER] if len(USER) > 3 else []
    for secret in (*SECRETS, "walrus", pseudonym, *named):
        assert secret.encode() not in data, secret

    work, charter = alpha.folder / "work", str(alpha.folder / "charter.cbor")
    assert f"is of {USER}" in alpha.cli("disclose", one).out
    check = ("ledger", "check-disclosure", f"{one}.disclosure", str(ledger))
    said = beta.cli(*check[:2], str(work / check[2]), check[3], "--charter", charter, "--json").json
    assert (said["user"], said["job_id"], said["home"]) == (USER, one, "alpha")
    # What was disclosed of one job opens no other.
    forged = (work / f"{one}.disclosure").read_text().replace(f'"{one}"', f'"{other}"')
    (work / "forged").write_text(forged)
    refused = beta.cli(*check[:2], str(work / "forged"), check[3], code=2)
    assert "disclosure-false" in refused.err
    assert "job-not-own" in beta.cli("disclose", one, "-o", "-", code=3).err

    blocks = alpha.status()["blocks"]
    assert alpha.cli("forget", USER, "--yes", "--json").json == {"jobs": 2}
    assert "owner-forgotten" in alpha.cli("disclose", other, "-o", "-", code=3).err
    alpha.stop()
    for path in (alpha.folder / "state").rglob("*"):
        if path.is_file() and path.suffix in (".sqlite", ".sqlite-wal", ".key", ".db"):
            assert pseudonym.encode() not in path.read_bytes(), path
            assert b"walrus-study" not in path.read_bytes(), path
    alpha.start()
    assert alpha.status()["blocks"] >= blocks
    shown = alpha.jobs()[other]
    assert (shown["user"], shown["pseudonym"], shown["name"]) == (None, None, "")
    assert alpha.audit().ok
    # What was disclosed before stays true: the ledger has not changed.
    assert beta.cli(*check[:2], str(work / check[2]), check[3]).out.startswith("true: ")
