"""What counts of a feed that forked or whose key was taken away, by small examples."""

from __future__ import annotations

from collections.abc import Mapping

from p2pfed.core.blocks import Block, check_fork_proof, fork_proof
from p2pfed.core.branches import Branches, Mode
from p2pfed.core.ids import CentreName, FeedKey, Position
from p2pfed.core.records import ForkProof
from tests.writers import CONTACT, FEDERATION, Writer, keys_of

NAMES = tuple(CentreName(name) for name in ("alpha", "beta", "gamma", "delta"))
KEYS = keys_of(*NAMES)
ALPHA = FeedKey(NAMES[0], 0)


def prove(proof: ForkProof) -> tuple[FeedKey, int]:
    return check_fork_proof(proof, FEDERATION, KEYS)


def counted(
    blocks: list[Block],
    members: int,
    revoked: Mapping[FeedKey, frozenset[Position]] | None = None,
) -> set[bytes]:
    branches = Branches([ALPHA], prove, revoked)
    for block in blocks:
        branches.add(block)
    modes = branches.judge(NAMES[:members]).modes
    return {block_id for block_id, mode in modes.items() if mode is Mode.COUNTS}


def fork() -> tuple[Block, Block, Block]:
    """Alpha's first block and two that follow it."""
    alpha = Writer("alpha")
    trunk = alpha.write()
    other = alpha.branch()
    return trunk, alpha.write(), other.write(records=[CONTACT])


def test_alone_a_forked_feed_counts_up_to_the_branch_point() -> None:
    trunk, one, two = fork()
    assert counted([trunk, one, two], 1) == {trunk.block_id}


def test_of_two_the_other_decides_by_what_it_acked_before_it_knew() -> None:
    trunk, one, two = fork()
    beta = Writer("beta")
    proof = fork_proof(one.header.cose, two.header.cose)
    acked = [beta.write(one), beta.write(two, records=[proof])]
    assert counted([trunk, one, two, *acked], 2) == {trunk.block_id, one.block_id}


def test_of_three_both_others_must_have_acked_the_same_branch() -> None:
    trunk, one, two = fork()
    beta, gamma = Writer("beta"), Writer("gamma")
    split = [trunk, one, two, beta.write(one), gamma.write(two)]
    assert counted(split, 3) == {trunk.block_id}
    beta, gamma = Writer("beta"), Writer("gamma")
    agreed = [trunk, one, two, beta.write(one), gamma.write(one), beta.write(two)]
    assert counted(agreed, 3) == {trunk.block_id, one.block_id}


def test_of_four_two_of_the_others_are_enough() -> None:
    trunk, one, two = fork()
    beta, gamma, delta = Writer("beta"), Writer("gamma"), Writer("delta")
    blocks = [trunk, one, two, beta.write(one), gamma.write(one), delta.write(two)]
    assert counted(blocks, 4) == {trunk.block_id, one.block_id}


def test_two_majorities_leave_what_came_before() -> None:
    trunk, one, two = fork()
    beta, gamma = Writer("beta"), Writer("gamma")
    both = [beta.write(one), gamma.write(one), beta.write(two), gamma.write(two)]
    assert counted([trunk, one, two, *both], 3) == {trunk.block_id}


def test_of_a_revoked_key_counts_what_a_majority_acked_before_it_knew() -> None:
    alpha, beta, gamma = Writer("alpha"), Writer("beta"), Writer("gamma")
    first = alpha.write()
    acked = [beta.write(first), gamma.write(first)]
    adopt = beta.write()
    thief = alpha.write()
    later = [gamma.write(adopt, thief), beta.write(thief)]
    revoked = {ALPHA: frozenset({Position(adopt.feed.centre, 0, adopt.seq_num, 0)})}
    blocks = [first, *acked, adopt, thief, *later]
    assert counted(blocks, 3, revoked) == {first.block_id}
    assert counted(blocks, 3) == {first.block_id, thief.block_id}
