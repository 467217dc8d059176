"""Small proofs after keys were rotated and centres joined: the charter alone still checks them."""

from __future__ import annotations

import io
from contextlib import ExitStack
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from p2pfed.cli.audit_workers import opener_for
from p2pfed.cli.main import cli
from p2pfed.cli.session import Session
from p2pfed.core.audit import FileSource, Findings, audit_ledger
from p2pfed.core.audit.compare import compare_ledgers
from p2pfed.core.charter import encode_charter
from p2pfed.core.codec import decode_unchecked, encode
from p2pfed.core.extension import MAGIC as EXTENSION_MAGIC
from p2pfed.core.extension import ExtensionProver, check_extension
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CentreName, FeedKey, JobId
from p2pfed.core.proof import MAGIC, Prover, check_proof
from p2pfed.core.records import Contact, Job
from p2pfed.errors import InputError
from tests.unit.core.signed_councils import FOUNDERS, SignedCouncil, grown_council


@pytest.fixture(scope="module")
def grown() -> tuple[SignedCouncil, JobId]:
    return grown_council()


def prove(council: SignedCouncil, job_id: JobId) -> bytes:
    prover = Prover(council.charter, job_id)
    for block in council.blocks:
        prover.read(block.data)
    return prover.proof()


def prove_extension(council: SignedCouncil) -> bytes:
    prover = ExtensionProver(council.charter)
    for block in council.blocks:
        prover.read(block.data)
    return prover.proof()


def code_of(work: object) -> str:
    with pytest.raises(InputError) as caught:
        work()  # type: ignore[operator]
    return caught.value.code


def body_of(proof: bytes, magic: bytes) -> dict[int, CborItem]:
    body = decode_unchecked(proof[len(magic) :])
    assert isinstance(body, dict)
    return body


def test_a_newcomers_job_is_proven_by_members_old_and_new(
    grown: tuple[SignedCouncil, JobId],
) -> None:
    council, job_id = grown
    proven = check_proof(prove(council, job_id), council.charter)
    assert proven.signers == ("alpha", "beta", "delta")
    assert [type(record) for _, _, record in proven.records] == [Job]


def test_without_the_decisions_nobody_knows_the_newcomer(
    grown: tuple[SignedCouncil, JobId],
) -> None:
    council, job_id = grown
    body = body_of(prove(council, job_id), MAGIC)
    telling = body[4]
    assert isinstance(telling, list)
    bare: CborItem = {**body, 4: []}
    assert code_of(lambda: check_proof(MAGIC + encode(bare), council.charter)) in (
        "block-key-unknown",
        "proof-authority",
    )
    for number in range(len(telling)):
        less: CborItem = {**body, 4: telling[:number] + telling[number + 1 :]}
        try:
            # Not each block is needed; what still passes was signed by enough members all the same.
            proven = check_proof(MAGIC + encode(less), council.charter)
        except InputError:
            continue
        assert {"alpha", "beta"} <= set(proven.signers)


def test_who_joined_after_a_vote_on_a_dispute_is_a_member() -> None:
    """A small proof does not hold the claim that the vote was about."""
    council = SignedCouncil()
    council.decide_dispute()
    council.admit("delta", base=2)
    job_id = council.post_job("delta")
    council.cosign("alpha", "beta", "delta")
    assert check_proof(prove(council, job_id), council.charter).signers[-1] == "delta"


def test_a_majority_of_the_founders_is_none_of_the_members() -> None:
    council = SignedCouncil()
    council.admit("delta")
    job_id = council.post_job("delta")
    council.cosign("alpha", "beta")
    assert code_of(lambda: prove(council, job_id)) == "proof-no-checkpoint"
    council.cosign("alpha", "beta", "gamma")
    assert check_proof(prove(council, job_id), council.charter).signers == FOUNDERS


def test_a_key_that_was_rotated_away_signs_no_checkpoint_any_more() -> None:
    council = SignedCouncil()
    job_id = council.post_job("beta")
    council.rotate("alpha", "alpha two")
    thief = council.writers["alpha"].branch()
    thief.sign_as("alpha")
    record = council.cosign("beta", "gamma")
    good = body_of(prove(council, job_id), MAGIC)
    stolen = thief.write(records=[record])
    signed = good[2]
    assert isinstance(signed, list)
    forged: CborItem = {**good, 2: [stolen.data, signed[0]]}
    code = code_of(lambda: check_proof(MAGIC + encode(forged), council.charter))
    assert code == "block-key-not-in-force"


def test_a_checkpoint_is_shown_to_extend_another(grown: tuple[SignedCouncil, JobId]) -> None:
    council, _ = grown
    shown = check_extension(prove_extension(council), council.charter)
    assert shown.signers == (FOUNDERS, ("alpha", "beta", "delta"))
    assert shown.cuts_ms[0] < shown.cuts_ms[1]
    assert shown.sizes[FeedKey(CentreName("alpha"), 0)][0] == 1
    assert shown.sizes[FeedKey(CentreName("delta"), 0)] == (0, 1)


def test_no_changed_extension_passes(grown: tuple[SignedCouncil, JobId]) -> None:
    council, _ = grown
    good = prove_extension(council)
    dice = Random(5)
    passed = 0
    for at in range(0, len(good), max(1, len(good) // 250)):
        bad = bytearray(good)
        bad[at] ^= 1 << dice.randrange(8)
        with pytest.raises(InputError):
            check_extension(bytes(bad), council.charter)
        passed += 1
    assert passed > 200


@pytest.mark.parametrize("what", ["rewritten", "shorter", "gone"])
def test_a_majority_that_rewrites_its_past_is_found_out(what: str) -> None:
    council = SignedCouncil()
    council.post_job("alpha")
    council.cosign(*FOUNDERS)
    council.post_job("beta")
    trees = council.trees()
    first = trees[0]
    if what == "rewritten":
        trees[0] = first._replace(root=bytes(32))
    elif what == "shorter":
        trees[0] = first._replace(size=1)
    else:
        del trees[0]
    council.cosign(*FOUNDERS, trees=trees)
    assert code_of(lambda: check_extension(prove_extension(council), council.charter)) == (
        "proof-consistency"
    )


def test_two_checkpoints_are_needed_and_each_by_a_majority(
    grown: tuple[SignedCouncil, JobId],
) -> None:
    council = SignedCouncil()
    assert code_of(lambda: prove_extension(council)) == "proof-no-checkpoint"
    council.cosign(*FOUNDERS)
    assert code_of(lambda: prove_extension(council)) == "proof-no-checkpoint"
    council, _ = grown
    body = body_of(prove_extension(council), EXTENSION_MAGIC)
    few: CborItem = {**body, 2: body[1]}
    assert code_of(lambda: check_extension(EXTENSION_MAGIC + encode(few), council.charter)) == (
        "proof-consistency"
    )
    assert isinstance(body[1], list)
    one: CborItem = {**body, 1: body[1][:1]}
    assert code_of(lambda: check_extension(EXTENSION_MAGIC + encode(one), council.charter)) == (
        "proof-cosigned"
    )


def test_the_commands_write_and_check_these_files(
    grown: tuple[SignedCouncil, JobId], tmp_path: Path
) -> None:
    council, job_id = grown
    (tmp_path / "charter.cbor").write_bytes(encode_charter(council.charter))
    (tmp_path / "ledger").write_bytes(council.export())

    def run(*arguments: str) -> str:
        done = CliRunner().invoke(cli, arguments, obj=Session())
        assert done.exit_code == 0, done.output
        return done.output

    files = {name: str(tmp_path / name) for name in ("charter.cbor", "ledger", "job", "more")}
    run("prove", str(job_id), "--ledger", files["ledger"], "-o", files["job"])
    run("ledger", "prove-extension", files["ledger"], "-o", files["more"])
    for name, said in (("job", f"job {job_id}: 1 records"), ("more", "delta: 0 blocks, then 1")):
        assert said in run("ledger", "check-proof", files[name], "--charter", files["charter.cbor"])
    shown = run("ledger", "show", files["ledger"], "--centre", "delta")
    assert f"{job_id}  Job" in shown
    assert "not a valid block" not in shown
    rotated = run("ledger", "show", files["ledger"], "--centre", "alpha")
    assert rotated.count("Checkpoint") == 2


def test_a_contradiction_under_a_later_key_is_shown_with_both_statements(
    grown: tuple[SignedCouncil, JobId],
) -> None:
    council, _ = grown
    number = min(n for n, b in enumerate(council.blocks) if b.feed.centre == "delta")
    first = council.blocks[number]
    council_two, _ = grown_council()
    other_job = council_two.blocks[number]
    assert other_job.block_id == first.block_id, "the two councils write the same"
    writer = council_two.writers["delta"].branch()
    writer.head, writer.time = None, first.time
    acks = {ack.feed: ack.head for ack in first.header.acks}
    rival = writer.write(records=[Contact(address="d.example.org:1")], time=first.time, acks=acks)
    council_two.blocks = [*council_two.blocks[:number], rival]
    findings = Findings()
    compare_ledgers(
        FileSource(io.BytesIO(council.export()), "one"),
        FileSource(io.BytesIO(council_two.export()), "other"),
        findings,
    )
    contradictions = [f for f in findings.kept if f.code == "exports-contradict"]
    assert [f.centre for f in contradictions] == ["delta"]


def test_other_processes_verify_blocks_under_later_keys_too(
    grown: tuple[SignedCouncil, JobId],
) -> None:
    council, _ = grown
    data = council.export()
    alone = audit_ledger(FileSource(io.BytesIO(data)))
    with ExitStack() as stack:
        opener = opener_for(2, stack)
        together = audit_ledger(FileSource(io.BytesIO(data)), opener=opener)
    assert alone.ledger.ok
    assert together.ledger == alone.ledger
    assert len(alone.versions) == 2
