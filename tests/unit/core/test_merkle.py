"""Trees over block ids: the values of RFC 6962, and proofs that hold for nothing else."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.merkle import (
    Range,
    check_consistency,
    check_inclusion,
    consistency_proof,
    inclusion_proof,
    tree_root,
)
from p2pfed.errors import InputError

# The leaves and roots of the reference trees of Certificate Transparency (RFC 6962, CTv1 tests).
LEAVES = [
    bytes.fromhex(leaf)
    for leaf in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
ROOTS = [
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]


@pytest.mark.parametrize(("size", "root"), [*enumerate(ROOTS, start=1)])
def test_roots_are_those_of_certificate_transparency(size: int, root: str) -> None:
    assert tree_root(LEAVES[:size]).hex() == root


def test_a_tree_of_nothing_has_the_hash_of_nothing() -> None:
    assert tree_root([]) == hashlib.sha256(b"").digest()


def ids(count: int) -> list[bytes]:
    return [hashlib.sha256(str(number).encode()).digest() for number in range(count)]


sizes = st.integers(1, 130)


@given(sizes, st.data())
def test_a_leaf_is_proven_at_its_place_and_at_no_other(size: int, data: st.DataObject) -> None:
    leaves = ids(size)
    index = data.draw(st.integers(0, size - 1))
    root, proof = tree_root(leaves), inclusion_proof(leaves, index)
    check_inclusion(leaves[index], index, size, proof, root)
    for other in range(size):
        if other != index:
            with pytest.raises(InputError, match="proof"):
                check_inclusion(leaves[index], other, size, proof, root)


@given(sizes, st.data())
def test_a_root_is_proven_to_extend_an_earlier_one(size: int, data: st.DataObject) -> None:
    leaves = ids(size)
    first = data.draw(st.integers(1, size))
    proof = consistency_proof(leaves, first)
    check_consistency(first, tree_root(leaves[:first]), size, tree_root(leaves), proof)


def changes(proof: list[bytes]) -> list[list[bytes]]:
    """The proof with each hash exchanged, with one hash less, and with one more."""
    wrong = bytes(32)
    exchanged = [[*proof[:at], wrong, *proof[at + 1 :]] for at in range(len(proof))]
    return [*exchanged, proof[:-1], [*proof, wrong]]


@given(st.integers(2, 130), st.data())
def test_no_proof_of_inclusion_survives_a_changed_hash(size: int, data: st.DataObject) -> None:
    leaves = ids(size)
    index = data.draw(st.integers(0, size - 1))
    root = tree_root(leaves)
    for bad in changes(inclusion_proof(leaves, index)):
        with pytest.raises(InputError):
            check_inclusion(leaves[index], index, size, bad, root)


@given(st.integers(2, 130), st.data())
def test_no_proof_of_consistency_survives_a_changed_hash(size: int, data: st.DataObject) -> None:
    leaves = ids(size)
    first = data.draw(st.integers(1, size - 1))
    old, new = tree_root(leaves[:first]), tree_root(leaves)
    for bad in changes(consistency_proof(leaves, first)):
        with pytest.raises(InputError):
            check_consistency(first, old, size, new, bad)


@given(sizes, st.data())
def test_an_earlier_tree_with_another_leaf_is_not_extended(size: int, data: st.DataObject) -> None:
    leaves = ids(size)
    first = data.draw(st.integers(1, size))
    changed = [*leaves]
    changed[data.draw(st.integers(0, first - 1))] = bytes(32)
    with pytest.raises(InputError):
        check_consistency(
            first,
            tree_root(changed[:first]),
            size,
            tree_root(leaves),
            consistency_proof(leaves, first),
        )


@given(st.integers(0, 300))
def test_a_growing_tree_goes_on_from_its_peaks(size: int) -> None:
    tree = Range()
    for leaf in ids(size):
        tree.append(leaf)
    again = Range(tree.size, tree.peaks)
    again.append(b"one more")
    assert tree.root() == tree_root(ids(size))
    assert again.root() == tree_root([*ids(size), b"one more"])
