"""Cards and the charter: how a federation starts.

A centre makes a card of its public facts and signs it with its key; cards travel by mail. The
charter is made of the founders' cards and the first rules; the SHA-256 of its payload is the
federation id, which every block's signature covers. Each founder signs the payload, and copies that
different founders signed can be merged. A charter that lacks signatures is a draft: `check_charter`
tells which.

Signatures are COSE_Sign1 messages with detached payload (RFC 9052 section 4.2), in the same fixed
form as blocks. The external additional data is a text that says what is signed, so that a signature
of one kind never passes for another: blocks have 32 bytes there, these have not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

from p2pfed.core import cose
from p2pfed.core.codec import decode, encode
from p2pfed.core.fields import CborItem
from p2pfed.core.ids import CENTRE_NAME, CentreName, FederationId, PublicKey, parse_centre_name
from p2pfed.core.keys import Signer, VerifyKeys, key_id, parse_public_key, verify
from p2pfed.core.kinds import ADDRESS, AMOUNT, U48
from p2pfed.core.limits import CENTRES_MAX, CHARTER_BYTES_MAX
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError, StateError

FORMAT_VERSION: Final = 1
CARD_CONTEXT: Final = b"p2pfed card"
CHARTER_CONTEXT: Final = b"p2pfed charter"
_CARD_FIELDS: Final = ("name", "public_key", "address", "credit_line", "signature")
_CARD_REMEDY: Final = "ask the centre for its card.json, as `p2pfed init` wrote it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A centre's public facts.

    Attributes:
        address: host:port where it listens for peers.
        credit_line: points of debt that its balance is softened by; of the order of hours of its
            machine.
    """

    name: CentreName
    public_key: PublicKey
    address: str
    credit_line: int

    def to_wire(self) -> dict[int, CborItem]:
        """The CBOR map that is signed, and that a charter holds."""
        return {
            0: FORMAT_VERSION,
            1: self.name,
            2: self.public_key,
            3: self.address,
            4: self.credit_line,
        }

    @classmethod
    def from_wire(cls, item: CborItem, *, where: str = "card") -> Card:
        """The card of a decoded map.

        Raises:
            InputError: `card-field`, `card-address`, `card-credit-line`, or as `parse_public_key`
                and `parse_centre_name`.
        """
        match item:
            case {
                0: int(version),
                1: str(name),
                2: bytes(key),
                3: str(address),
                4: int(credit),
                **unknown,
            } if type(version) is int and version == FORMAT_VERSION and not unknown:
                return _check_card(name, key, address, credit, where)
        what = f"not a card of version {FORMAT_VERSION}"
        raise InputError("card-field", what, where=where, remedy=_CARD_REMEDY)


def _check_card(name: str, key: bytes, address: str, credit_line: CborItem, where: str) -> Card:
    if ADDRESS.parse(address) is None or not 1 <= int(address.rpartition(":")[2]) <= 65535:
        raise InputError(
            "card-address",
            f"{address!r} is not an address of a centre",
            where=where,
            remedy="use host:port, such as hpc.example.org:7411 or [2001:db8::1]:7411",
        )
    credit = AMOUNT.parse(credit_line)
    if credit is None:
        raise InputError(
            "card-credit-line",
            f"{credit_line!r} is not a credit line",
            where=where,
            remedy="use a whole number of points, not negative",
        )
    return Card(
        name=parse_centre_name(name, where=where),
        public_key=parse_public_key(key, where=where),
        address=address,
        credit_line=credit,
    )


def write_card(card: Card, signer: Signer) -> str:
    """The card file: JSON with stable field order, signed by the card's own key.

    Raises:
        StateError: `card-signer`: the signer does not hold the card's key.
    """
    payload = encode(card.to_wire())
    signature = signer.sign(cose.to_be_signed(CARD_CONTEXT, key_id(card.public_key), payload))
    if not _signed(card.public_key, CARD_CONTEXT, payload, signature):
        raise StateError("card-signer", f"this is not the key of {card.name}")
    content = {
        "p2pfed_card": FORMAT_VERSION,
        "name": card.name,
        "public_key": card.public_key.hex(),
        "address": card.address,
        "credit_line": card.credit_line,
        "signature": signature.hex(),
    }
    return json.dumps(content, indent=2) + "\n"


def parse_card(text: str, *, where: str = "card") -> Card:
    """The card of a card file, if it is signed by its own key.

    Raises:
        InputError: `card-json`, `card-version`, `card-field`, `card-signature`, or as
            `Card.from_wire`.
    """
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        what = f"not JSON: {error}"
        raise InputError("card-json", what, where=where, remedy=_CARD_REMEDY) from error
    if not isinstance(content, dict) or type(content.get("p2pfed_card")) is not int:
        raise InputError("card-json", "not a p2pfed card", where=where, remedy=_CARD_REMEDY)
    if content["p2pfed_card"] != FORMAT_VERSION:
        what = f"a card of version {content['p2pfed_card']}, this program reads {FORMAT_VERSION}"
        raise InputError("card-version", what, where=where)
    strange = sorted(content.keys() ^ {"p2pfed_card", *_CARD_FIELDS})
    if strange:
        what = f"field {strange[0]!r} is " + ("unknown" if strange[0] in content else "missing")
        raise InputError("card-field", what, where=where, remedy=_CARD_REMEDY)
    name, key_hex, address, credit_line, signature_hex = (content[f] for f in _CARD_FIELDS)
    if not (isinstance(name, str) and isinstance(address, str)):
        what = "name and address are texts"
        raise InputError("card-field", what, where=where, remedy=_CARD_REMEDY)
    key = _parse_hex(key_hex, "public_key", where)
    card = _check_card(name, key, address, credit_line, where)
    signature = _parse_hex(signature_hex, "signature", where)
    if not _signed(card.public_key, CARD_CONTEXT, encode(card.to_wire()), signature):
        raise InputError(
            "card-signature",
            f"the card of {card.name} is not signed by its own key",
            where=where,
            remedy="the card was changed after it was signed; " + _CARD_REMEDY,
        )
    return card


def card_signature(text: str) -> bytes:
    """The signature in a card file that `parse_card` has read without an error."""
    return bytes.fromhex(json.loads(text)["signature"])


def _parse_hex(text: object, field: str, where: str) -> bytes:
    try:
        if isinstance(text, str) and text == text.lower() and " " not in text:
            return bytes.fromhex(text)
    except ValueError:
        pass
    what = f"{field} is not lower-case hexadecimal"
    raise InputError("card-field", what, where=where, remedy=_CARD_REMEDY)


def _signed(public_key: PublicKey, context: bytes, payload: bytes, signature: bytes) -> bool:
    message = cose.to_be_signed(context, key_id(public_key), payload)
    return verify(public_key, signature, message)


@dataclass(frozen=True, slots=True, kw_only=True)
class Charter:
    """The founding document; whether all founders signed it, `check_charter` says.

    Attributes:
        name: the federation's name, of a centre name's form.
        founders: by name.
        payload: the signed bytes, as received.
        signatures: (key id, signature), by key id; each is verified.
    """

    name: str
    created_ms: int
    founders: tuple[Card, ...]
    rules: Rules
    payload: bytes
    signatures: tuple[tuple[bytes, bytes], ...]

    @property
    def federation_id(self) -> FederationId:
        """SHA-256 of the payload."""
        return FederationId(hashlib.sha256(self.payload).digest())

    def keys(self) -> VerifyKeys:
        """The founders' keys."""
        return VerifyKeys((card.name, card.public_key) for card in self.founders)

    def founder(self, name: str) -> Card | None:
        """The founder of that name, None if there is none."""
        return next((card for card in self.founders if card.name == name), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class CharterCheck:
    """Which founders signed a charter, by name."""

    signed: tuple[CentreName, ...]
    missing: tuple[CentreName, ...]

    @property
    def complete(self) -> bool:
        """Whether the federation may start."""
        return not self.missing


def draft_charter(cards: Iterable[Card], rules: Rules, name: str, created_ms: int) -> Charter:
    """A charter that nobody has signed yet.

    Raises:
        InputError: `charter-founders` (too few, too many, two of one name), `charter-name`,
            `charter-created`, `key-shared`.
    """
    founders = sorted(cards, key=lambda card: card.name)
    payload = encode(
        {
            0: FORMAT_VERSION,
            1: name,
            2: created_ms,
            3: [card.to_wire() for card in founders],
            4: dict(rules.to_wire()),
        }
    )
    return _parse_payload(payload)


def sign_charter(charter: Charter, name: CentreName, signer: Signer) -> Charter:
    """The charter with the founder's signature (again, if it was there).

    Raises:
        InputError: `charter-not-founder`: the charter does not name this centre.
        StateError: `charter-signer`: the signer does not hold the key on the founder's card.
    """
    card = charter.founder(name)
    if card is None:
        raise InputError(
            "charter-not-founder",
            f"{name} is not among the founders of {charter.name}",
            remedy="draft a new charter from the cards of all founders",
        )
    kid = key_id(card.public_key)
    signature = signer.sign(cose.to_be_signed(CHARTER_CONTEXT, kid, charter.payload))
    if not _signed(card.public_key, CHARTER_CONTEXT, charter.payload, signature):
        raise StateError(
            "charter-signer",
            f"this is not the key on the card of {name}",
            remedy="sign with the key that the card was made from",
        )
    return _with_signatures(charter, [*charter.signatures, (kid, signature)])


def check_charter(charter: Charter) -> CharterCheck:
    """Which founders have signed and which have not; the signatures were verified on decoding."""
    kids = {kid for kid, _ in charter.signatures}
    signed = {card.name: key_id(card.public_key) in kids for card in charter.founders}
    return CharterCheck(
        signed=tuple(name for name, done in signed.items() if done),
        missing=tuple(name for name, done in signed.items() if not done),
    )


def merge_charters(copies: Sequence[Charter]) -> Charter:
    """One charter with the signatures of all copies (at least one copy).

    Raises:
        InputError: `charter-differs`: the copies are not of one charter.
    """
    if any(copy.payload != copies[0].payload for copy in copies):
        raise InputError(
            "charter-differs",
            "the copies are of different charters, so their signatures can't be merged",
            remedy="let every founder sign a copy of one draft",
        )
    return _with_signatures(copies[0], [pair for copy in copies for pair in copy.signatures])


def encode_charter(charter: Charter) -> bytes:
    """The charter file: `[payload, [COSE_Sign1 with null payload, ...]]`, by key id."""
    return encode(
        [
            charter.payload,
            [[cose.protected(kid), {}, None, signature] for kid, signature in charter.signatures],
        ]
    )


def decode_charter(data: bytes, *, where: str = "charter") -> Charter:
    """The charter of a charter file, complete or not; every signature in it is good.

    Raises:
        InputError: `charter-form`, `charter-signature`, `charter-signer-unknown`, as
            `draft_charter`, `Card.from_wire` and `Rules.from_wire`, or a `cbor-...` code.
    """
    match decode(data, limit=CHARTER_BYTES_MAX, where=where):
        case [bytes(payload), list(messages)]:
            charter = _parse_payload(payload, where=where)
        case _:
            raise InputError("charter-form", "not a charter file", where=where)
    keys = charter.keys()
    signatures: list[tuple[bytes, bytes]] = []
    for message in messages:
        kid, signature = _parse_detached(message, where)
        owner = keys.owner(kid)
        if owner is None:
            what = f"a signature by the key {kid.hex()}, which no founder has"
            raise InputError("charter-signer-unknown", what, where=where)
        if not keys.verify(kid, signature, cose.to_be_signed(CHARTER_CONTEXT, kid, payload)):
            what = f"the signature of {owner} is not of this charter"
            raise InputError("charter-signature", what, where=where)
        signatures.append((kid, signature))
    if any(not a[0] < b[0] for a, b in pairwise(signatures)):
        raise InputError("charter-form", "the signatures are not ascending by key", where=where)
    return replace(charter, signatures=tuple(signatures))


def _parse_detached(message: CborItem, where: str) -> tuple[bytes, bytes]:
    """Key id and signature of a COSE_Sign1 message whose payload is null."""
    match message:
        case [bytes(protected), dict(unprotected), None, bytes(signature)] if not unprotected:
            kid = cose.kid_of(protected)
            if kid is not None:
                return kid, signature
    raise InputError("charter-form", "not a detached COSE_Sign1 message", where=where)


def _with_signatures(charter: Charter, pairs: Iterable[tuple[bytes, bytes]]) -> Charter:
    return replace(charter, signatures=tuple(sorted(dict(pairs).items())))


def _parse_payload(payload: bytes, *, where: str = "charter") -> Charter:
    item = decode(payload, limit=CHARTER_BYTES_MAX, where=where)
    match item:
        case {
            0: int(version),
            1: str(name),
            2: created,
            3: list(cards),
            4: dict(rules),
            **unknown,
        } if type(version) is int and version == FORMAT_VERSION and not unknown:
            pass
        case _:
            what = f"not a charter of version {FORMAT_VERSION}"
            raise InputError("charter-form", what, where=where)
    if not CENTRE_NAME.match(name):
        raise InputError(
            "charter-name",
            f"{name!r} is not a name of a federation",
            where=where,
            remedy="use a lower-case letter, then up to 30 lower-case letters, digits and hyphens",
        )
    created_ms = U48.parse(created)
    if created_ms is None:
        raise InputError("charter-created", f"{created!r} is not a time in ms", where=where)
    founders = tuple(Card.from_wire(card, where=where) for card in cards)
    if not 1 <= len(founders) <= CENTRES_MAX:
        what = f"a federation has 1 to {CENTRES_MAX} founders, not {len(founders)}"
        raise InputError("charter-founders", what, where=where)
    if any(not a.name < b.name for a, b in pairwise(founders)):
        what = "the founders' names are not ascending, each once"
        raise InputError("charter-founders", what, where=where, remedy="give each centre one card")
    charter = Charter(
        name=name,
        created_ms=created_ms,
        founders=founders,
        rules=Rules.from_wire(rules),
        payload=payload,
        signatures=(),
    )
    charter.keys()  # refuses a key that two founders share
    return charter
