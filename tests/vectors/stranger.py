"""A verifier of ledger files by a stranger: cbor2, cryptography, and the reference pages.

It imports nothing of p2pfed. What it follows: docs/reference/ledger-file.md (the file),
wire-format.md (charter, blocks, records), docs/explanation/lifecycle.md (which record moves what)
and accounting.md, "From blocks to amounts". It takes ledgers in which nobody forked, voted or
changed a key, which is enough to hold every block id, verdict and balance against ours.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import cbor2
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

MAGIC = b"p2pfed-ledger 1\n"
DAY_MS = 86_400_000
FINAL = {1, 2, 3, 4, 5}
"""Outcomes that are charged: completed, failed, timeout, out of memory, cancelled."""
CANCELLED, PREEMPTED = 5, 6
Id = tuple[str, int, int, int]


class WrongError(Exception):
    """The ledger breaks a rule."""


def need(condition: object, why: str) -> None:
    if not condition:
        raise WrongError(why)


def decode(data: bytes) -> Any:
    """An item of the deterministic subset."""
    try:
        item = cbor2.loads(data)
    except Exception as error:
        raise WrongError(f"not CBOR: {error}") from error
    _plain(item)
    need(cbor2.dumps(item) == data, "not the one encoding of its item")
    return item


def _plain(item: Any) -> None:
    if type(item) is dict:
        need(all(type(k) is int and 0 <= k <= 23 for k in item), "a key is no small integer")
        need(list(item) == sorted(item), "keys do not ascend")
        for value in item.values():
            _plain(value)
    elif type(item) is list:
        for value in item:
            _plain(value)
    else:
        need(item is None or type(item) in (int, str, bytes, bool), f"type {type(item)}")


@dataclass
class Block:
    feed: tuple[str, int]
    seq_num: int
    backlink: bytes | None
    time: int
    acks: list[list[Any]]
    records: list[Any]
    block_id: bytes

    @property
    def ms(self) -> int:
        return self.time >> 16


@dataclass
class Charter:
    federation: bytes
    founders: dict[str, Any]
    rules: dict[int, Any]
    keys: dict[bytes, tuple[str, Ed25519PublicKey]] = field(default_factory=dict)


def entries(data: bytes) -> Iterator[bytes | tuple[int, list[Any]]]:
    """The charter, the blocks, and at last (count, frontier)."""
    need(data.startswith(MAGIC), "no ledger file")
    at = len(MAGIC)

    def take(size: int) -> bytes:
        nonlocal at
        need(at + size <= len(data), "cut short")
        at += size
        return data[at - size : at]

    number = 0
    while size := int.from_bytes(take(4), "big"):
        yield take(size)
        number += 1
    need(number > 0, "no charter")
    trailer = decode(take(int.from_bytes(take(4), "big")))
    need(at == len(data), "bytes after the trailer")
    need(type(trailer) is dict and list(trailer) == [0, 1], "a trailer of another form")
    yield trailer[0], trailer[1]


def check_signature(
    key: Ed25519PublicKey, kid: bytes, aad: bytes, payload: bytes, sig: bytes
) -> None:
    protected = bytes.fromhex("a201270450") + kid
    message = cbor2.dumps(["Signature1", protected, aad, payload])
    try:
        key.verify(sig, message)
    except InvalidSignature as error:
        raise WrongError("signature") from error


def read_charter(data: bytes) -> Charter:
    item = decode(data)
    need(type(item) is list and len(item) == 2, "charter")
    payload, signatures = item
    content = decode(payload)
    need(list(content) == [0, 1, 2, 3, 4] and content[0] == 1, "charter keys")
    charter = Charter(hashlib.sha256(payload).digest(), {}, content[4])
    for card in content[3]:
        charter.founders[card[1]] = card
        kid = hashlib.sha256(card[2]).digest()[:16]
        charter.keys[kid] = card[1], Ed25519PublicKey.from_public_bytes(card[2])
    signers = set()
    for message in signatures:
        kid, _, sig = _parts_of(message)
        check_signature(charter.keys[kid][1], kid, b"p2pfed charter", payload, sig)
        signers.add(charter.keys[kid][0])
    need(signers == set(charter.founders), "a founder has not signed")
    return charter


def _parts_of(message: Any) -> tuple[bytes, Any, bytes]:
    protected, unprotected, payload, signature = message
    need(unprotected == {} and protected[:5] == bytes.fromhex("a201270450"), "headers")
    return protected[5:], payload, signature


def read_block(data: bytes, charter: Charter) -> Block:
    outer = decode(data)
    need(type(outer) is list and len(outer) == 2, "a block is an array of two")
    cose, body = outer
    need(type(cose) is bytes and type(body) is bytes, "of two byte strings")
    message = decode(cose)
    need(type(message) is list and len(message) == 4, "COSE_Sign1")
    kid, payload, signature = _parts_of(message)
    need(kid in charter.keys, "a key that no member has")
    owner, key = charter.keys[kid]
    check_signature(key, kid, charter.federation, payload, signature)
    header = decode(payload)
    need(list(header) == list(range(8)) and header[0] == 1, "header keys")
    need(header[1] == owner, "signed by another")
    need(hashlib.sha256(body).digest() == header[7], "records digest")
    need((header[4] is None) == (header[3] == 0), "backlink")
    need([a[:2] for a in header[6]] == sorted(a[:2] for a in header[6]), "acks ascend")
    records = decode(body)
    need(type(records) is list and all(type(r) is dict for r in records), "records")
    feed = header[1], header[2]
    return Block(
        feed, header[3], header[4], header[5], header[6], records, hashlib.sha256(payload).digest()
    )


@dataclass
class Job:
    record: dict[int, Any]
    cancelled: int = 0
    claims: list[Id] = field(default_factory=list)


@dataclass
class Claim:
    record: dict[int, Any]
    home: str = "claimed"
    host: str = "silent"
    handed: bool = False
    end: dict[int, Any] | None = None
    ended: int = 0
    answer: dict[int, Any] | None = None
    answered: int = 0

    @property
    def state(self) -> str:
        if self.home in ("released", "lost"):
            return self.home
        if self.host == "closed":
            return "closed"
        if self.home == "claimed":
            return "claimed" if self.host == "silent" else "accepted"
        return {"silent": "leased", "accepted": "leased"}.get(self.host, self.host)


HOME_MOVES = {("claimed", 8): "released", ("claimed", 11): "handed", ("handed", 16): "lost"}
HOST_MOVES = {
    ("silent", 9): "accepted",
    ("silent", 10): "closed",
    ("accepted", 10): "closed",
    ("accepted", 12): "started",
    ("started", 13): "ended",
}


class Books:
    """Registers and amounts, from blocks in causal order."""

    def __init__(self, charter: Charter) -> None:
        self.charter = charter
        self.timing, self.accounting = charter.rules[1], charter.rules[3]
        self.classes = {row[0]: row[1:] for row in charter.rules[6]}
        self.offers: dict[Id, dict[str, Any]] = {}
        self.jobs: dict[Id, Job] = {}
        self.claims: dict[Id, Claim] = {}
        self.heard: dict[str, int] = {}
        self.rest: dict[tuple[str, str], int] = defaultdict(int)
        self.offered: dict[tuple[str, str, int], int] = defaultdict(int)

    def fold(self, block: Block) -> None:
        author = block.feed[0]
        self._offer_time(author, block.ms)
        self.heard[author] = max(block.ms, self.heard.get(author, 0))
        for index, record in enumerate(block.records):
            self._record((*block.feed, block.seq_num, index), block.time, record)

    def _offer_time(self, author: str, now_ms: int) -> None:
        gap = min(now_ms - self.heard.get(author, 0), self.timing[5])
        for offer_id in sorted(o for o in self.offers if o[0] == author):
            offer = self.offers[offer_id]
            if offer["closed"] or offer["class"] not in self.classes:
                continue
            until = min(now_ms, offer["until"] or now_ms)
            open_ms = until - max(now_ms - gap, offer["opened"])
            if open_ms <= 0:
                continue
            unit = self.classes[offer["class"]][0]
            units = offer["nodes"] * offer["gpus" if unit else "cores"]
            key = author, offer["class"]
            amount = units * open_ms + self.rest[key]
            self.rest[key] = amount % 1000
            self.offered[(*key, now_ms // DAY_MS)] += amount // 1000

    def _record(self, me: Id, time: int, record: dict[int, Any]) -> None:
        kind, author = record.get(0), me[0]
        if kind == 2:
            self.offers[me] = {
                "class": record[1], "nodes": record[2], "cores": record[3],
                "gpus": record.get(4, 0), "until": record.get(7, 0), "opened": time >> 16,
                "closed": False,
            }  # fmt: skip
        elif kind in (3, 4):
            offer = self.offers.get(tuple(record[1]))
            if offer is not None and record[1][0] == author and not offer["closed"]:
                if kind == 4:
                    offer["closed"] = True
                else:
                    offer["nodes"], offer["until"] = record[2], record.get(4, 0)
        elif kind == 5:
            self.jobs[me] = Job(record)
        elif kind == 6:
            job = self.jobs.get(tuple(record[1]))
            if job is not None and record[1][0] == author and not job.cancelled:
                job.cancelled = time
        elif kind == 7:
            job = self.jobs.get(tuple(record[1]))
            if job is not None and record[1][0] == author != record[2][0]:
                self.claims[me] = Claim(record)
                job.claims.append(me)
        elif kind in (8, 9, 10, 11, 12, 13, 14, 15, 16):
            self._move(kind, author, time, record)

    def _move(self, kind: int, author: str, time: int, record: dict[int, Any]) -> None:
        claim_id: Id = tuple(record[1])
        claim = self.claims.get(claim_id)
        if claim is None:
            return
        if kind in (8, 11, 16) and claim_id[0] == author:
            claim.home = HOME_MOVES.get((claim.home, kind), claim.home)
            claim.handed |= claim.home == "handed"
        elif kind in (14, 15) and claim_id[0] == author and claim.answer is None:
            claim.answer, claim.answered = record, time
        elif kind in (9, 10, 12, 13) and claim.record[2][0] == author:
            moved = HOST_MOVES.get((claim.host, kind))
            if moved is not None:
                claim.host = moved
                if kind == 13:
                    claim.end, claim.ended = record, time

    # Amounts

    def _in_unit(self, resource_class: str, core_s: int, gpu_s: int) -> int:
        return gpu_s if self.classes[resource_class][0] else core_s

    def _claimed(self, job: dict[int, Any]) -> int:
        wall = job[2] * job[6]
        return self._in_unit(job[1], wall * job[3], wall * job.get(4, 0))

    def _counts(self, claim_id: Id, claim: Claim, at_ms: int) -> int | None:
        job = self.jobs[tuple(claim.record[1])]
        if claim.end is None or not claim.handed:
            return None
        outcome = claim.end[2]
        asked = 0 < job.cancelled < claim.ended
        if outcome == CANCELLED and not asked and claim.state != "lost":
            outcome = PREEMPTED
        if outcome not in FINAL:
            return None
        name = job.record[1]
        stated = self._in_unit(name, claim.end[7], claim.end.get(8, 0))
        bounded = min(stated, self._claimed(job.record))
        deadline_ms = (claim.ended >> 16) + self.timing[13]
        in_time = claim.answered > claim.ended and claim.answered >> 16 <= deadline_ms
        if claim.answer is not None and in_time:
            return min(bounded, self._in_unit(name, claim.answer[2], claim.answer.get(3, 0)))
        return bounded if at_ms >= deadline_ms else None

    def balances(self, at_ms: int) -> dict[str, tuple[int, int, int]]:
        """Contribution, usage and balance of each centre, in points and ppm."""
        delivered: dict[tuple[str, str, int], int] = defaultdict(int)
        consumed: dict[tuple[str, str, int], int] = defaultdict(int)
        committed: dict[str, int] = defaultdict(int)
        for claim_id, claim in self.claims.items():
            job = self.jobs[tuple(claim.record[1])].record
            if job[1] not in self.classes:
                continue
            amount = self._counts(claim_id, claim, at_ms)
            day = (claim.ended >> 16) // DAY_MS
            if amount is not None:
                delivered[claim.record[2][0], job[1], day] += amount
                consumed[claim_id[0], job[1], day] += amount
            holds = claim.state in ("claimed", "accepted", "leased", "started")
            if holds or (claim.state == "ended" and claim.answer is None):
                committed[claim_id[0]] += self._points(job[1], self._claimed(job))
        given: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        taken: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        for key in delivered.keys() | self.offered.keys():
            idle = max(0, self.offered[key] - delivered[key])
            amount = delivered[key] + idle * self.accounting[1] // 1_000_000
            given[key[0]][key[2]] += self._points(key[1], amount)
        for key, amount in consumed.items():
            taken[key[0]][key[2]] += self._points(key[1], amount)
        today = at_ms // DAY_MS
        found = {}
        for centre, card in self.charter.founders.items():
            give = self._decayed(given[centre], today)
            take = self._decayed(taken[centre], today) + committed[centre]
            total = give + take + card[4]
            size = abs(give - take) * 1_000_000 // total if total else 0
            found[centre] = give, take, size if give >= take else -size
        return found

    def _points(self, resource_class: str, amount: int) -> int:
        _, num, den = self.classes[resource_class]
        return int(amount * num // den)

    def _decayed(self, by_day: dict[int, int], today: int) -> int:
        num, den, days = self.accounting[2], self.accounting[3], self.accounting[4]
        total = 0
        for day in range(today - days + 1, today + 1):
            total = total * num // den + by_day.get(day, 0)
        return total + sum(points for day, points in by_day.items() if day > today)


@dataclass
class Verified:
    block_ids: list[bytes]
    balances: dict[str, tuple[int, int, int]]


def verify(data: bytes) -> Verified:
    """What the ledger proves; raises `WrongError` if it is not valid and complete."""
    found = entries(data)
    charter = read_charter(next(found))  # type: ignore[arg-type]
    books = Books(charter)
    chains: dict[tuple[str, int], list[Block]] = defaultdict(list)
    ids = []
    newest_ms = 0
    for count, entry in enumerate(found):
        if isinstance(entry, tuple):
            stated_count, frontier = entry
            heads = [[*f, len(c) - 1, c[-1].block_id] for f, c in sorted(chains.items())]
            need(stated_count == count and frontier == heads, "the trailer says otherwise")
            break
        block = read_block(entry, charter)
        chain = chains[block.feed]
        need(block.seq_num == len(chain), "its place in the feed")
        if chain:
            need(block.backlink == chain[-1].block_id, "backlink")
            need(block.time > chain[-1].time, "later than the block before")
        for centre, epoch, seq_num, block_id in block.acks:
            acked = chains.get((centre, epoch), [])
            need(seq_num < len(acked) and acked[seq_num].block_id == block_id, "an ack")
            need(block.time > acked[seq_num].time, "later than what it acks")
        chain.append(block)
        books.fold(block)
        ids.append(block.block_id)
        newest_ms = max(newest_ms, block.ms)
    return Verified(ids, books.balances(newest_ms))
