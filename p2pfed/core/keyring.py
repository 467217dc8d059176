"""Who may sign which block: the keys of every feed, from the blocks alone.

Theory of operation. A block's key follows from its own past, so every node judges it alike:

- the first block of a founder's feed is signed with the charter's key;
- the first block of any other feed acks an Adopt that grants the feed, and is signed with the key
  that the Adopt states. Where it states none (a new epoch with the key kept), the key is the one
  that stood at the head of the author's former feed that the block acks;
- a first block that begins with `NewEpoch` is its author's own doing, with the key kept. Whether
  such a feed counts, the members at the cut say (`Governance.present`); admitted are a few;
- every later block is signed with the key of the block before, or, if that holds a `RotateKey`,
  with the one that it names.

Signatures are checked with all keys that a centre ever had, and then the key must be the right one
of them. A block whose key is not known yet waits until what it names is here.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from typing import Final, NamedTuple

from p2pfed.core import cose
from p2pfed.core.blocks import Block, BlockHeader
from p2pfed.core.codec import encode
from p2pfed.core.governance import Grant
from p2pfed.core.ids import BlockId, CentreName, FederationId, FeedKey, Position, PublicKey
from p2pfed.core.keys import Signer, VerifyKeys, key_id, parse_public_key, verify
from p2pfed.core.records import NewEpoch, RotateKey
from p2pfed.core.waiting import backlink_ref
from p2pfed.errors import InputError

ROTATION_CONTEXT: Final = b"p2pfed rotation"
LONE_EPOCHS_MAX: Final = 64
"""Epochs up to this number may be begun without a vote; bounds the feeds that a member can make."""


class KeyFrom(NamedTuple):
    """The key that signs a feed from the block at `seq_num` on."""

    feed: FeedKey
    seq_num: int
    public_key: PublicKey


class Keyring:
    """The keys of all feeds of one federation.

    Args:
        federation: rotations of one are worthless in another.
        founders: the charter's keys.
    """

    __slots__ = ("_after_side", "_chains", "_federation", "_founders", "_grants", "_keys")

    def __init__(self, federation: FederationId, founders: VerifyKeys) -> None:
        self._federation = federation
        self._chains: dict[FeedKey, tuple[list[int], list[bytes]]] = {}
        self._after_side: dict[BlockId, bytes] = {}
        self._grants: dict[FeedKey, dict[Position, PublicKey | None]] = {}
        self.found(founders)

    def found(self, founders: VerifyKeys) -> None:
        """These are the charter's keys."""
        self._founders = {FeedKey(centre, 0): key for centre, key in founders}
        self._keys = founders

    @property
    def keys(self) -> VerifyKeys:
        """Every key that a centre has or had."""
        return self._keys

    def learn(self, grants: Iterable[Grant]) -> None:
        """Adopts grant these feeds; what was told before may be among them."""
        for grant in grants:
            self._grants.setdefault(grant.feed, {})[grant.adopt] = grant.public_key
            self._add(grant.feed.centre, grant.public_key)

    def _add(self, centre: CentreName, key: PublicKey | None) -> None:
        if key is not None and not self._keys.owns(key_id(key), centre):
            self._keys = self._keys.with_key(centre, key)

    # Judging

    def check(self, block: Block) -> None:
        """Judges the key of a block whose backlink and acks are admitted.

        Raises:
            InputError: `block-epoch-not-granted` or `block-key-not-in-force`.
        """
        first = block.header.backlink is None
        wanted = self._opening(block) if first else [self._after(block)]
        if block.header.kid not in wanted:
            raise InputError(
                "block-key-not-in-force",
                f"block {block.seq_num} of {block.feed.centre}, epoch {block.feed.epoch}, is "
                "signed with a key of its author that is not in force there",
            )

    def _after(self, block: Block) -> bytes:
        backlink = backlink_ref(block)
        assert backlink is not None
        after = self._after_side.get(backlink.block_id)
        return self.in_force(block.feed, block.seq_num) if after is None else after

    def _opening(self, block: Block) -> list[bytes]:
        """The keys that may sign the first block of a feed."""
        founder = self._founders.get(block.feed)
        if founder is not None:
            return [key_id(founder)]
        kept = self._kept(block.header)
        if self._is_lone(block):
            return [] if kept is None else [kept]
        acked = {feed: head.seq_num for feed, head in block.header.acks}
        granted = [
            key
            for adopt, key in sorted(self._grants.get(block.feed, {}).items())
            if acked.get(FeedKey(adopt.centre, adopt.epoch), -1) >= adopt.seq_num
        ]
        if not granted:
            raise InputError(
                "block-epoch-not-granted",
                f"epoch {block.feed.epoch} of {block.feed.centre} begins without a decision of the "
                "members that it acks",
            )
        keys = [kept if key is None else key_id(key) for key in granted]
        return [kid for kid in keys if kid is not None]

    def _is_lone(self, block: Block) -> bool:
        first = block.records[0] if block.records else None
        return isinstance(first, NewEpoch) and 0 < block.feed.epoch <= LONE_EPOCHS_MAX

    def _kept(self, header: BlockHeader) -> bytes | None:
        """The key at the acked head of the author's newest former feed; if none is acked, of old.

        What nobody kept can't be acked: then the key is the one that the charter states.
        """
        former = [
            (feed, head)
            for feed, head in header.acks
            if feed.centre == header.centre and feed.epoch < header.epoch
        ]
        if former:
            feed, head = former[-1]
            after = self._after_side.get(head.block_id)
            return self.in_force(feed, head.seq_num + 1) if after is None else after
        founder = self._founders.get(FeedKey(header.centre, 0))
        return None if founder is None else key_id(founder)

    def in_force(self, feed: FeedKey, seq_num: int) -> bytes:
        """The id of the key that signs the block at this place of the branch that came first."""
        starts, kids = self._chains.get(feed, ([], []))
        if not kids:  # what was restored by its place alone
            return key_id(self._founders[feed])
        return kids[bisect_right(starts, seq_num) - 1]

    def key_at(self, feed: FeedKey, seq_num: int) -> PublicKey:
        """The key that signs the block at this place of a feed that has blocks before it."""
        key = self._keys.public_key(self.in_force(feed, seq_num))
        assert key is not None, "what signed a block is known"
        return key

    def newest(self, feed: FeedKey) -> PublicKey | None:
        """The key that the feed's next block is signed with; None while it has no block."""
        chain = self._chains.get(feed)
        return None if chain is None else self._keys.public_key(chain[1][-1])

    # Growing

    def joined(self, block: Block, *, side: bool) -> bool:
        """Takes note of an admitted block; returns whether it brought a key."""
        kid = block.header.kid
        rotated: PublicKey | None = None
        for record in block.records:
            if isinstance(record, RotateKey):
                rotated = self._rotation(record, block.feed) or rotated
        self._add(block.feed.centre, rotated)
        after = kid if rotated is None else key_id(rotated)
        if side:
            self._after_side[block.block_id] = after
            return rotated is not None
        starts, kids = self._chains.setdefault(block.feed, ([], []))
        if not kids:
            starts.append(0)
            kids.append(kid)
        if rotated is not None and after != kids[-1]:
            starts.append(block.seq_num + 1)
            kids.append(after)
        return rotated is not None

    def dump(self) -> tuple[KeyFrom, ...]:
        """Which key signs each feed from which block on, ascending."""
        found: list[KeyFrom] = []
        for feed, (starts, kids) in sorted(self._chains.items()):
            for seq_num, kid in zip(starts, kids, strict=True):
                key = self._keys.public_key(kid)
                assert key is not None, "what signed a block is known"
                found.append(KeyFrom(feed, seq_num, key))
        return tuple(found)

    def restore(self, keys: Iterable[KeyFrom]) -> None:
        """Takes back what `dump` gave, before any block."""
        for feed, seq_num, key in keys:
            self._add(feed.centre, key)
            starts, kids = self._chains.setdefault(feed, ([], []))
            starts.append(seq_num)
            kids.append(key_id(key))

    def complete(self, earlier: Keyring) -> None:
        """Takes the keys of the blocks before those that this one began with."""
        for owner, key in earlier.keys:
            self._add(owner, key)
        self._after_side.update(earlier._after_side)
        for feed, (starts, kids) in earlier._chains.items():
            ours = self._chains.get(feed, ([0], []))
            later = list(zip(ours[0], ours[1], strict=False))[1:]
            self._chains[feed] = (
                [*starts, *(start for start, _ in later)],
                [*kids, *(kid for _, kid in later)],
            )

    def _rotation(self, record: RotateKey, feed: FeedKey) -> PublicKey | None:
        try:
            return check_rotation(record, self._federation, feed)
        except InputError:
            return None


def write_rotation(
    federation: FederationId, feed: FeedKey, public_key: PublicKey, signer: Signer
) -> RotateKey:
    """The record by which the author of a feed goes over to the key that `signer` holds."""
    message = _rotation_message(federation, feed, public_key)
    return RotateKey(public_key=public_key, signature=signer.sign(message))


def check_rotation(record: RotateKey, federation: FederationId, feed: FeedKey) -> PublicKey:
    """The new key, if its holder agrees to sign this feed with it.

    Raises:
        InputError: `rotation-signature`, or as `parse_public_key`.
    """
    key = parse_public_key(record.public_key)
    if not verify(key, record.signature, _rotation_message(federation, feed, key)):
        raise InputError(
            "rotation-signature", "the new key did not sign its rotation into this feed"
        )
    return key


def _rotation_message(federation: FederationId, feed: FeedKey, key: PublicKey) -> bytes:
    payload = encode([federation, feed.centre, feed.epoch, key])
    return cose.to_be_signed(ROTATION_CONTEXT, key_id(key), payload)
