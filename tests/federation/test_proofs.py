"""One job's records are proven to whoever has the charter; nothing else passes as a proof."""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from p2pfed.cli.main import cli
from p2pfed.cli.session import Session
from p2pfed.core.charter import Charter, decode_charter, encode_charter
from p2pfed.core.codec import decode_unchecked, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import JobId, Position
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.proof import MAGIC, Prover, check_proof
from p2pfed.core.records import End, Job, Receipt
from p2pfed.errors import InputError
from p2pfed.simulate.world import World
from tests.federation.test_checkpoints import federation


@pytest.fixture(scope="module")
def world() -> World:
    world = federation()
    world.run(60_000)
    return world


def charter_of(world: World) -> Charter:
    return world.charter


def done_job(world: World) -> JobId:
    return min(world.checks.acknowledged)


def proof_of(world: World, job_id: JobId) -> bytes:
    prover = Prover(charter_of(world), job_id)
    for data in next(iter(world.centres.values())).disk.stored():
        prover.read(data)
    return prover.proof()


def test_the_records_of_a_job_are_proven_from_job_to_receipt(world: World) -> None:
    job_id = done_job(world)
    proven = check_proof(proof_of(world, job_id), charter_of(world))
    kinds = {type(record) for _, _, record in proven.records}
    assert {Job, End, Receipt} <= kinds
    assert proven.job_id == job_id
    assert len(proven.signers) > len(world.centres) / 2


def test_no_changed_proof_passes(world: World) -> None:
    good = proof_of(world, done_job(world))
    dice = Random(1)
    places = [*range(0, len(good), max(1, len(good) // 300)), len(good) - 1]
    for at in places:
        bad = bytearray(good)
        bad[at] ^= 1 << dice.randrange(8)
        with pytest.raises(InputError):
            check_proof(bytes(bad), charter_of(world))
    for bad_length in (good[:-1], good + b"\0", b""):
        with pytest.raises(InputError):
            check_proof(bad_length, charter_of(world))


def test_a_proof_needs_a_majority_and_blocks_about_the_job(world: World) -> None:
    good = proof_of(world, done_job(world))
    body = decode_unchecked(good[len(MAGIC) :])
    assert isinstance(body, dict)
    signed, proven = body[2], body[3]
    assert isinstance(signed, list)
    assert isinstance(proven, list)
    other: CborItem = [*min(j for j in world.checks.acknowledged if j != done_job(world))]
    few: CborItem = {**body, 2: signed[: len(world.centres) // 2]}
    about_another: CborItem = {**body, 1: other}
    for changed, code in ((few, "proof-cosigned"), (about_another, "proof-form")):
        with pytest.raises(InputError) as error:
            check_proof(MAGIC + encode(changed), charter_of(world))
        assert error.value.code == code


def test_a_job_that_is_not_there_or_not_yet_cosigned_has_no_proof(world: World) -> None:
    with pytest.raises(InputError) as error:
        proof_of(world, JobId(Position(done_job(world).centre, 0, 10_000, 0)))
    assert error.value.code == "proof-job"
    young = federation()
    young.run(9_000)
    prover = Prover(charter_of(young), done_job(young))
    for data in next(iter(young.centres.values())).disk.stored():
        prover.read(data)
    with pytest.raises(InputError) as error:
        prover.proof()
    assert error.value.code == "proof-no-checkpoint"


def test_the_command_makes_a_file_that_the_other_command_checks(
    world: World, tmp_path: Path
) -> None:
    charter = encode_charter(charter_of(world))
    assert decode_charter(charter).federation_id == charter_of(world).federation_id
    (tmp_path / "charter.cbor").write_bytes(charter)
    blocks = next(iter(world.centres.values())).disk.blocks
    (tmp_path / "all.ledger").write_bytes(b"".join(write_ledger(charter, blocks)))
    job, proof = str(done_job(world)), tmp_path / "job.proof"
    runner = CliRunner()
    made = runner.invoke(
        cli,
        ["prove", job, "--ledger", str(tmp_path / "all.ledger"), "-o", str(proof)],
        obj=Session(),
    )
    assert made.exit_code == 0, made.output
    arguments = ["ledger", "check-proof", str(proof), "--charter", str(tmp_path / "charter.cbor")]
    checked = runner.invoke(cli, arguments, obj=Session())
    assert checked.exit_code == 0, checked.output
    assert f"job {job}:" in checked.output
    assert "Receipt(" in checked.output
