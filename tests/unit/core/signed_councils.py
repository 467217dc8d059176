"""A council with a charter: a member rotates its key, another joins, they sign checkpoints."""

from __future__ import annotations

from collections.abc import Sequence

from p2pfed.core.blocks import Block
from p2pfed.core.charter import Charter, draft_charter, encode_charter, sign_charter
from p2pfed.core.checkpoint import TreeHead, encode_trees
from p2pfed.core.ids import CentreName, FeedKey, JobId, Position
from p2pfed.core.keyring import write_rotation
from p2pfed.core.ledgerfile import write_ledger
from p2pfed.core.merkle import tree_root
from p2pfed.core.records import Checkpoint, ProposalKind
from tests.unit.core.councils import RULES, Council, card_fields, card_of
from tests.unit.node.benches import JOB
from tests.writers import START_MS, Writer, private_key, public_key

FOUNDERS = ("alpha", "beta", "gamma")


def charter_of_founders() -> Charter:
    charter = draft_charter([card_of(name) for name in FOUNDERS], RULES, "council", START_MS - 1)
    for name in FOUNDERS:
        charter = sign_charter(charter, CentreName(name), private_key(name))
    return charter


class SignedCouncil(Council):
    """Alpha rotates its key, delta joins by vote and posts a job."""

    def __init__(self) -> None:
        self.charter = charter_of_founders()
        super().__init__(*FOUNDERS, federation=self.charter.federation_id)
        for name in FOUNDERS:
            self.write(name)

    def rotate(self, name: str, key_of: str) -> Block:
        feed = FeedKey(CentreName(name), 0)
        key, signer = public_key(key_of), private_key(key_of)
        block = self.write(name, write_rotation(self.charter.federation_id, feed, key, signer))
        self.writers[name].sign_as(key_of)
        return block

    def decide_dispute(self) -> None:
        """The uninvolved vote on a claim of alpha's at beta."""
        claim_id = Position(CentreName("alpha"), 0, 0, 0)
        proposal = self.propose(
            "gamma", ProposalKind.DISPUTE, subject="beta", claims=(claim_id,), core_s=1
        )
        self.decide("gamma", proposal, "gamma")

    def admit(self, name: str, *, base: int = 1) -> None:
        proposal = self.propose("beta", ProposalKind.ADMIT, **card_fields(card_of(name)))
        self.decide("beta", proposal, *FOUNDERS, base=base)
        self.writers[name] = Writer(name, federation=self.charter.federation_id)

    def post_job(self, name: str) -> JobId:
        return JobId(self.write(name, JOB).position(0))

    def trees(self) -> list[TreeHead]:
        """What is so of every feed."""
        feeds: dict[FeedKey, list[Block]] = {}
        for block in self.blocks:
            feeds.setdefault(block.feed, []).append(block)
        return [
            TreeHead(
                feed,
                len(own),
                own[-1].block_id,
                tree_root(b.block_id for b in own),
                own[-1].time,
                public_key(feed.centre),
            )
            for feed, own in sorted(feeds.items())
        ]

    def cosign(self, *names: str, trees: Sequence[TreeHead] | None = None) -> Checkpoint:
        """These members sign a checkpoint of all blocks so far, or of other trees."""
        said = encode_trees(self.trees() if trees is None else trees)
        record = Checkpoint(cut_ms=self.now_ms, trees=said, state_hash=bytes(32))
        for name in names:
            self.write(name, record)
        self.wait(60)
        return record

    def export(self) -> bytes:
        return b"".join(write_ledger(encode_charter(self.charter), self.blocks))


def grown_council() -> tuple[SignedCouncil, JobId]:
    """Two cosigned checkpoints, with a rotation, an admission and a newcomer's job in between."""
    council = SignedCouncil()
    council.cosign(*FOUNDERS)
    council.rotate("alpha", "alpha two")
    council.admit("delta")
    job_id = council.post_job("delta")
    council.cosign("alpha", "beta", "delta")
    return council, job_id
