"""Ledgers made wrong on purpose: by damage, by whoever copies a file, by a member with its key.

Theory of operation. A `Base` is a true ledger and the keys of those who wrote it. Each mutation is
drawn from a seed and gives the bytes of another file. Damage changes bytes anywhere. A copier has
no key: it swaps, drops and repeats blocks, moves records between them, and mends the trailer so
that the file looks whole. A member has its own key and nobody else's: it writes its own past anew,
signs it, and links the rest of its feed to it; what others signed, their acks of the old past
included, it can't change. A thief signs blocks of one member with the key of another.

No mutant may pass an audit unnamed. One kind can't be seen in a single file: a member that changes
only what nobody has acked yet has written nothing that anyone else could contradict. It shows as
soon as there are two exports, which is how it is judged here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from random import Random
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from p2pfed.core.blocks import Block, seal_block
from p2pfed.core.charter import Charter, encode_charter
from p2pfed.core.ids import BlockId, CentreName, FeedKey, Frontier, Head, PublicKey
from p2pfed.core.keys import key_id
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.records import Claim, Contact, End, Inert, Job, Receipt, Record
from p2pfed.core.units import HlcTime
from p2pfed.errors import P2pfedError


@dataclass(frozen=True, slots=True)
class Base:
    """A true ledger, and the key of each of its centres."""

    charter: Charter
    blocks: tuple[Block, ...]
    keys: dict[CentreName, Ed25519PrivateKey]

    def export(self, blocks: Sequence[Block] | None = None) -> bytes:
        """The file of these blocks, its trailer as it should be; by default of all."""
        found = self.blocks if blocks is None else blocks
        return b"".join(write_ledger(encode_charter(self.charter), found))


class Mutant(NamedTuple):
    """A wrong ledger, and how it was made."""

    kind: str
    detail: str
    data: bytes


Maker = Callable[["Mutator"], tuple[str, bytes]]


class Mutator:
    """Makes mutants of a ledger; the same seed makes the same ones."""

    def __init__(self, base: Base, seed: int) -> None:
        self.base = base
        self.dice = Random(seed)
        self._good = base.export()

    def make(self) -> Mutant:
        """The next mutant: a file that differs from the true one."""
        while True:
            kind = self.dice.choice(KINDS)
            try:
                detail, data = MAKERS[kind](self)
            except P2pfedError:
                continue  # what it would have signed can't even be written down
            if data != self._good:
                return Mutant(kind, detail, data)

    # Damage

    def flip_bit(self) -> tuple[str, bytes]:
        """One bit, anywhere."""
        at, bit = self.dice.randrange(len(self._good)), self.dice.randrange(8)
        data = bytearray(self._good)
        data[at] ^= 1 << bit
        return f"bit {bit} of byte {at}", bytes(data)

    def change_bytes(self) -> tuple[str, bytes]:
        """Some bytes become others, more, or fewer."""
        at, count = self.dice.randrange(len(self._good)), self.dice.randrange(9)
        new = self.dice.randbytes(self.dice.randrange(9))
        data = self._good[:at] + new + self._good[at + count :]
        return f"{count} bytes at {at} become {new.hex()}", data

    def cut_short(self) -> tuple[str, bytes]:
        """The file ends early."""
        at = self.dice.randrange(len(self._good))
        return f"cut at {at}", self._good[:at]

    # A copier without keys

    def swap(self) -> tuple[str, bytes]:
        """Two blocks change places."""
        blocks = list(self.base.blocks)
        one, other = sorted(self.dice.sample(range(len(blocks)), 2))
        blocks[one], blocks[other] = blocks[other], blocks[one]
        if not _depends(self.base.blocks, one, other):
            # An order as good as the one before is no fault: drop one of them instead.
            del blocks[one]
        return f"blocks {one} and {other}", self.base.export(blocks)

    def drop(self) -> tuple[str, bytes]:
        """A few blocks are left out, the trailer mended."""
        gone = set(self.dice.sample(range(len(self.base.blocks)), self.dice.randint(1, 3)))
        kept = [block for n, block in enumerate(self.base.blocks) if n not in gone]
        return f"without {sorted(gone)}", self.base.export(kept)

    def repeat(self) -> tuple[str, bytes]:
        """A block stands twice."""
        blocks = list(self.base.blocks)
        number = self.dice.randrange(len(blocks))
        blocks.insert(self.dice.randint(number + 1, len(blocks)), blocks[number])
        return f"block {number} again", self.base.export(blocks)

    def graft(self) -> tuple[str, bytes]:
        """One block's records under another's header."""
        blocks = list(self.base.blocks)
        one, other = self.dice.sample(range(len(blocks)), 2)
        head, tail = blocks[one].header.cose, blocks[other].data
        records = tail[tail.index(blocks[other].header.cose) + len(blocks[other].header.cose) :]
        start = blocks[one].data.index(head)
        data = blocks[one].data[: start + len(head)] + records
        blocks[one] = replace(blocks[one], data=data)
        return f"records of {other} in {one}", self.base.export(blocks)

    # A thief

    def steal(self) -> tuple[str, bytes]:
        """A block is signed with the key of another member or a stranger, which it names or not."""
        number = self.dice.randrange(len(self.base.blocks))
        old = self.base.blocks[number]
        true = self.base.keys[old.feed.centre]
        others = [key for name, key in self.base.keys.items() if name != old.feed.centre]
        thief = self.dice.choice([*others, _stranger(self.dice)])
        named = self.dice.choice((thief, true))
        blocks = list(self.base.blocks)
        blocks[number] = self._seal(old, signer=thief, named=named)
        how = "the true id" if named is true else "its own id"
        return f"block {number} signed by another under {how}", self.base.export(blocks)

    # A member with its key

    def move_time(self) -> tuple[str, bytes]:
        """A block says that it was written earlier or later."""
        by = self.dice.choice((-1, 1)) * self.dice.choice((1, 1 << 16, 60_000 << 16, 86_400 << 26))
        return self._rewrite(f"time by {by}", lambda b: {"time": HlcTime(max(0, b.time + by))})

    def forge_acks(self) -> tuple[str, bytes]:
        """A block acks what it should not: another id, a block to come, or nothing."""
        way = self.dice.randrange(3)

        def change(block: Block) -> dict[str, object]:
            acks = {ack.feed: ack.head for ack in block.header.acks}
            feeds = [feed for feed in self._feeds() if feed != block.feed]
            feed = self.dice.choice(feeds)
            held = acks.get(feed, Head(0, BlockId(bytes(32))))
            if way == 0:
                acks[feed] = Head(held.seq_num, BlockId(self.dice.randbytes(32)))
            elif way == 1:
                acks[feed] = Head(held.seq_num + self.dice.randint(1, 9), held.block_id)
            else:
                acks.pop(feed, None)
            return {"acks": acks}

        return self._rewrite(f"acks, way {way}", change)

    def change_amount(self) -> tuple[str, bytes]:
        """A record says another amount."""
        numbers = [n for n, b in enumerate(self.base.blocks) if any(map(_has_amount, b.records))]
        if not numbers:
            return "nothing to change", self._good

        def change(block: Block) -> dict[str, object]:
            records = list(block.records)
            chosen = [n for n, record in enumerate(records) if _has_amount(record)]
            index = self.dice.choice(chosen)
            records[index] = _with_amount(records[index], self.dice)
            return {"records": records}

        return self._rewrite("an amount", change, self.dice.choice(numbers))

    def drop_record(self) -> tuple[str, bytes]:
        """A block is written anew without one of its records, or with one more."""
        more = self.dice.random() < 0.3

        def change(block: Block) -> dict[str, object]:
            records = list(block.records)
            if records and not more:
                del records[self.dice.randrange(len(records))]
            else:
                at = self.dice.randint(0, len(records))
                records.insert(at, Contact(address="elsewhere.example.org:1"))
            return {"records": records}

        return self._rewrite("a record", change)

    def relink(self) -> tuple[str, bytes]:
        """A block leaves its chain; what follows is signed anew without it."""
        number = self.dice.randrange(len(self.base.blocks))
        gone = self.base.blocks[number]
        blocks = [block for n, block in enumerate(self.base.blocks) if n != number]
        data = self._relinked(blocks, gone.feed, gone.seq_num, gone.header.backlink)
        return f"without block {number}, linked anew", self.base.export(data)

    def fork(self) -> tuple[str, bytes]:
        """A second block at some depth, and perhaps a branch on it."""
        number = self.dice.randrange(len(self.base.blocks))
        old = self.base.blocks[number]
        contact = Contact(address=f"branch-{self.dice.randrange(1 << 16)}.example.org:1")
        branch = [self._seal(old, records=[contact])]
        for _ in range(self.dice.randrange(3)):
            last = branch[-1]
            branch.append(
                self._seal(
                    last,
                    seq_num=last.seq_num + 1,
                    backlink=last.block_id,
                    time=HlcTime(last.time + (1 << 16)),
                    acks={},
                    records=[],
                )
            )
        blocks = list(self.base.blocks)
        at = self.dice.randint(number, len(blocks))
        return f"fork at block {number}", self.base.export([*blocks[:at], *branch, *blocks[at:]])

    # How a member writes its past anew

    def _feeds(self) -> list[FeedKey]:
        return sorted({block.feed for block in self.base.blocks})

    def _rewrite(
        self, what: str, change: Callable[[Block], dict[str, object]], number: int | None = None
    ) -> tuple[str, bytes]:
        """Changes a block, and links all that follows in its feed to it."""
        if number is None:
            number = self.dice.randrange(len(self.base.blocks))
        old = self.base.blocks[number]
        new = self._seal(old, **change(old))  # type: ignore[arg-type]
        blocks = list(self.base.blocks)
        blocks[number] = new
        rest = self._relinked(blocks[number + 1 :], old.feed, old.seq_num + 1, new.block_id)
        return f"{what} of block {number}", self.base.export([*blocks[: number + 1], *rest])

    def _relinked(
        self, blocks: Sequence[Block], feed: FeedKey, seq_num: int, backlink: BlockId | None
    ) -> list[Block]:
        """The blocks, those of the feed from `seq_num` on signed anew on another backlink."""
        found = []
        for block in blocks:
            if block.feed == feed and block.seq_num >= seq_num:
                block = self._seal(block, seq_num=seq_num, backlink=backlink)
                seq_num, backlink = seq_num + 1, block.block_id
            found.append(block)
        return found

    def _seal(
        self,
        old: Block,
        *,
        signer: Ed25519PrivateKey | None = None,
        named: Ed25519PrivateKey | None = None,
        seq_num: int | None = None,
        backlink: BlockId | None = None,
        time: HlcTime | None = None,
        acks: Frontier | None = None,
        records: Sequence[Record | Inert] | None = None,
    ) -> Block:
        """A block like another, but for what is said."""
        key = signer or self.base.keys[old.feed.centre]
        named = named or key
        number = old.seq_num if seq_num is None else seq_num
        chosen = old.records if records is None else records
        return seal_block(
            federation=self.base.charter.federation_id,
            signer=key,
            kid=key_id(PublicKey(named.public_key().public_bytes_raw())),
            centre=old.feed.centre,
            epoch=old.feed.epoch,
            seq_num=number,
            backlink=None if number == 0 else backlink or old.header.backlink,
            time=old.time if time is None else time,
            acks={a.feed: a.head for a in old.header.acks} if acks is None else acks,
            records=[record for record in chosen if not isinstance(record, Inert)],
        )


def _depends(blocks: Sequence[Block], one: int, other: int) -> bool:
    """Whether a block between the two places must stay on its side of one of them."""
    first, last = blocks[one], blocks[other]
    for block in blocks[one + 1 : other + 1]:
        heads = {a.feed: a.head.seq_num for a in block.header.acks}
        if block.feed == first.feed or heads.get(first.feed, -1) >= first.seq_num:
            return True
    named = {a.feed: a.head.seq_num for a in last.header.acks}
    return any(
        block.feed == last.feed or named.get(block.feed, -1) >= block.seq_num
        for block in blocks[one:other]
    )


def _stranger(dice: Random) -> Ed25519PrivateKey:
    return Ed25519PrivateKey.from_private_bytes(dice.randbytes(32))


def _has_amount(record: Record | Inert) -> bool:
    return isinstance(record, End | Receipt | Claim | Job)


def _with_amount(record: Record | Inert, dice: Random) -> Record:
    more = dice.randint(1, 1000)
    match record:
        case End() | Receipt():
            return replace(record, core_s=record.core_s + more)
        case Claim():
            return replace(record, claim_until_ms=record.claim_until_ms + more)
        case Job():
            return replace(record, walltime_s=record.walltime_s + more)
        case _:
            raise AssertionError(f"{record} has no amount")


MAKERS: Final[dict[str, Maker]] = {
    "bit flipped": Mutator.flip_bit,
    "bytes changed": Mutator.change_bytes,
    "cut short": Mutator.cut_short,
    "blocks swapped": Mutator.swap,
    "blocks dropped": Mutator.drop,
    "block repeated": Mutator.repeat,
    "records grafted": Mutator.graft,
    "signed by another": Mutator.steal,
    "time moved": Mutator.move_time,
    "acks forged": Mutator.forge_acks,
    "amount changed": Mutator.change_amount,
    "record dropped or added": Mutator.drop_record,
    "chain linked anew": Mutator.relink,
    "forked": Mutator.fork,
}
KINDS: Final = tuple(MAKERS)
