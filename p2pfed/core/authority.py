"""Who may sign, and who the members are, from the charter and the few blocks that changed it.

Theory of operation. A key is the charter's, or its author rotated to it, or the members granted it;
members are those of the charter, changed by adopted proposals. All of that stands in records, and
a file that holds the blocks with these records, and those in which members witnessed an adoption,
shows it to whoever has the charter and nothing else. The same code (`Keyring`, `Governance`) judges
them as a daemon does that holds every block.

A file that leaves a decision out shows the members as they were before it. To sign for them takes a
majority of those, with keys that were in force then: that, and no more, a small proof rests on.
Whether a dispute that they decided stands in the ledger is not looked at: it changes no membership.
"""

from __future__ import annotations

from contextlib import suppress

from p2pfed.core.blocks import Block, check_fork_proof, decode_block
from p2pfed.core.charter import Charter
from p2pfed.core.constitution import Member, founders
from p2pfed.core.governance import GOVERNANCE_RECORDS, Governance
from p2pfed.core.ids import CentreName, FeedKey
from p2pfed.core.keyring import Keyring
from p2pfed.core.keys import VerifyKeys
from p2pfed.core.newcomers import Newcomers
from p2pfed.core.records import ForkProof, NewEpoch, RotateKey
from p2pfed.errors import InputError

_TELLING = (*GOVERNANCE_RECORDS, RotateKey, NewEpoch, ForkProof)


class Authority:
    """The keys and members of a federation as far as the blocks that were taken tell."""

    def __init__(self, charter: Charter) -> None:
        self.federation = charter.federation_id
        self._founders = {FeedKey(card.name, 0) for card in charter.founders}
        self._keyring = Keyring(charter.federation_id, charter.keys())
        self._governance = Governance(founders(charter), charter.rules, sees_claims=False)
        self._newcomers = Newcomers(self._governance, self._keyring)

    @property
    def keys(self) -> VerifyKeys:
        """Every key that a centre has or had so far."""
        return self._keyring.keys

    def members_at(self, cut_ms: int) -> dict[CentreName, Member]:
        """The members at a cut, with the feed that each writes."""
        return self._governance.members_at(cut_ms)

    def open(self, data: bytes) -> Block:
        """The block in these bytes, signed with the key that was in force at its place.

        Raises:
            InputError: `proof-authority` (nothing shows which key that was), or as `decode_block`
                and `Keyring.check`.
        """
        block = decode_block(data, self.federation, self.keys)
        try:
            self._keyring.check(block)
        except KeyError:
            feed = block.feed
            raise InputError(
                "proof-authority",
                f"nothing shows who may write epoch {feed.epoch} of {feed.centre}",
            ) from None
        return block

    def take(self, block: Block) -> bool:
        """Takes note of a block, in causal order; True if it tells of keys or members."""
        told = self._governance.witness(block)
        if not block.seq_num and block.feed not in self._founders:
            told = True  # which key the feed begins with
        for index, record in enumerate(block.records):
            if isinstance(record, _TELLING):
                told = True
            if isinstance(record, NewEpoch) and not index and not block.seq_num:
                self._governance.declare(block.feed, block.time)
            elif isinstance(record, ForkProof):
                with suppress(InputError):
                    feed, _ = check_fork_proof(record, self.federation, self.keys)
                    self._governance.convict(feed, block.time)
        self._keyring.joined(block, side=False)
        self._newcomers.take(block)
        return told


def authority_from(charter: Charter, blocks: list[bytes]) -> Authority:
    """What the blocks of a proof show of keys and members; each is verified.

    Raises:
        InputError: as `Authority.open`.
    """
    authority = Authority(charter)
    for data in blocks:
        authority.take(authority.open(data))
    return authority
