"""Merkle trees over block ids, as in RFC 6962 section 2.1: roots, inclusion, consistency.

A feed's tree has its block ids as leaves, in the order of the feed. The root over its first n
blocks commits to all of them; a proof of about log2(n) hashes shows that one block is among them,
or that a later root extends an earlier one. Hashes are SHA-256 with the prefixes 0x00 for leaves
and 0x01 for nodes, so that neither can stand for the other. A tree of no leaves has the hash of
nothing as its root.

Proofs are made from the leaves, in one pass; they are checked with the root alone, by the
algorithms of RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from typing import Final

from p2pfed.errors import InputError

HASH_BYTES: Final = 32
PROOF_HASHES_MAX: Final = 64
"""A feed has at most 2^48 blocks, so no proof is longer."""
_EMPTY: Final = hashlib.sha256(b"").digest()

Leaves = Sequence[bytes]


def leaf_hash(leaf: bytes) -> bytes:
    """The hash of a leaf."""
    return hashlib.sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """The hash of two subtrees."""
    return hashlib.sha256(b"\x01" + left + right).digest()


class Range:
    """The root of a growing tree, kept as the hashes of its full subtrees: O(log n) memory.

    Args:
        size: how many leaves the tree has.
        peaks: the hashes of its full subtrees, the largest first; one for each bit of `size`.
    """

    __slots__ = ("peaks", "size")

    def __init__(self, size: int = 0, peaks: Iterable[bytes] = ()) -> None:
        self.size = size
        self.peaks = list(peaks)
        assert len(self.peaks) == size.bit_count(), "one hash for each full subtree"

    def append(self, leaf: bytes) -> None:
        """Adds a leaf at the end."""
        found = leaf_hash(leaf)
        size = self.size
        while size & 1:
            found = node_hash(self.peaks.pop(), found)
            size >>= 1
        self.peaks.append(found)
        self.size += 1

    def root(self) -> bytes:
        """The root over the leaves so far."""
        if not self.peaks:
            return _EMPTY
        found = self.peaks[-1]
        for peak in reversed(self.peaks[:-1]):
            found = node_hash(peak, found)
        return found


def tree_root(leaves: Iterable[bytes]) -> bytes:
    """MTH of RFC 6962: the root over the leaves."""
    tree = Range()
    for leaf in leaves:
        tree.append(leaf)
    return tree.root()


def _split(size: int) -> int:
    """The largest power of two below `size` (at least 2)."""
    return 1 << (size - 1).bit_length() - 1


def inclusion_proof(leaves: Leaves, index: int) -> list[bytes]:
    """PATH of RFC 6962: the hashes that lead from the leaf at `index` to the root."""
    size = len(leaves)
    assert 0 <= index < size, "the leaf is one of them"
    if size == 1:
        return []
    split = _split(size)
    if index < split:
        return [*inclusion_proof(leaves[:split], index), tree_root(leaves[split:])]
    return [*inclusion_proof(leaves[split:], index - split), tree_root(leaves[:split])]


def consistency_proof(leaves: Leaves, first: int) -> list[bytes]:
    """PROOF of RFC 6962: that the tree over all leaves extends the one over the `first` of them."""
    assert 0 < first <= len(leaves), "an earlier tree is not empty"
    return _subproof(leaves, first, whole=True)


def _subproof(leaves: Leaves, first: int, *, whole: bool) -> list[bytes]:
    size = len(leaves)
    if first == size:
        return [] if whole else [tree_root(leaves)]
    split = _split(size)
    if first <= split:
        left = _subproof(leaves[:split], first, whole=whole)
        return [*left, tree_root(leaves[split:])]
    right = _subproof(leaves[split:], first - split, whole=False)
    return [*right, tree_root(leaves[:split])]


def check_inclusion(
    leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes
) -> None:
    """That `leaf` stands at `index` of the tree of `size` leaves with this root.

    Raises:
        InputError: `proof-inclusion`.
    """
    if not 0 <= index < size:
        raise InputError("proof-inclusion", f"there is no leaf {index} in a tree of {size}")
    position, last = index, size - 1
    found = leaf_hash(leaf)
    for step in proof:
        if last == 0:
            raise InputError("proof-inclusion", "the proof is longer than the tree is deep")
        if position & 1 or position == last:
            found = node_hash(step, found)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            found = node_hash(found, step)
        position >>= 1
        last >>= 1
    if last != 0 or found != root:
        raise InputError("proof-inclusion", f"the proof leads from leaf {index} to another root")


def check_consistency(
    first: int, first_root: bytes, second: int, second_root: bytes, proof: Sequence[bytes]
) -> None:
    """That the tree of `second` leaves begins with the `first` leaves of the other.

    Raises:
        InputError: `proof-consistency`.
    """

    def refuse(what: str) -> InputError:
        return InputError("proof-consistency", what)

    if not 0 < first <= second:
        raise refuse(f"a tree of {second} leaves can't extend one of {first}")
    if first == second:
        if proof or first_root != second_root:
            raise refuse("two trees of one size have different roots")
        return
    path = [*proof]
    if first & (first - 1) == 0:
        path.insert(0, first_root)
    if not path:
        raise refuse("the proof is empty")
    position, last = first - 1, second - 1
    while position & 1:
        position >>= 1
        last >>= 1
    old = new = path[0]
    for step in path[1:]:
        if last == 0:
            raise refuse("the proof is longer than the tree is deep")
        if position & 1 or position == last:
            old, new = node_hash(step, old), node_hash(step, new)
            while not position & 1 and position:
                position >>= 1
                last >>= 1
        else:
            new = node_hash(new, step)
        position >>= 1
        last >>= 1
    if last != 0 or old != first_root or new != second_root:
        raise refuse("the proof does not lead to the two roots")
