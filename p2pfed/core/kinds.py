"""The kinds of values that fields of records and cards hold, by their CDDL names."""

from __future__ import annotations

import re

from p2pfed.core.fields import POSITION, byte_string, integer, sequence_of, text
from p2pfed.core.ids import CENTRE_NAME
from p2pfed.core.keys import KEY_BYTES, SIGNATURE_BYTES
from p2pfed.core.limits import (
    CHECKPOINT_TREES_BYTES_MAX,
    EPOCH_MAX,
    HEADER_BYTES_MAX,
    RULES_BYTES_MAX,
    STATE_DIGESTS_BYTES_MAX,
    VOTES_MAX,
)

_WORD = re.compile(r"[a-z0-9][a-z0-9._+-]{0,63}\Z")
# No controls, line ends or bidirectional overrides. Named by code point: `str.isprintable` follows
# the Unicode version of the Python in use, and nodes would differ.
_LINE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069]*\Z")
_ADDRESS = re.compile(r"(\[[0-9a-fA-F:.]{2,45}\]|[A-Za-z0-9._-]{1,200}):[0-9]{1,5}\Z")

U16 = integer("u16", 0, 65535)
U32 = integer("u32", 0, (1 << 32) - 1)
U48 = integer("u48", 0, (1 << 48) - 1)
COUNT = integer("count", 1, 1 << 24)
AMOUNT = integer("amount", 0, (1 << 56) - 1)
HEADER = byte_string("cose-header", 1, HEADER_BYTES_MAX)
BALANCE = integer("balance", -1_000_000, 1_000_000)
DIGEST = byte_string("digest", 32, 32)
WORD = text("word", lambda value: _WORD.match(value) is not None)
LINE = text("line", lambda value: _LINE.match(value) is not None)
ADDRESS = text("address", lambda value: _ADDRESS.match(value) is not None)
CENTRE = text("centre", lambda value: CENTRE_NAME.match(value) is not None)
WORDS = sequence_of("words", WORD)
CENTRES = sequence_of("centres", CENTRE)
EPOCH = integer("epoch", 0, EPOCH_MAX)
PUBLIC_KEY = byte_string("public-key", KEY_BYTES, KEY_BYTES)
SIGNATURE = byte_string("signature", SIGNATURE_BYTES, SIGNATURE_BYTES)
RULES = byte_string("rules-bytes", 1, RULES_BYTES_MAX)
SUBJECT = text("subject", lambda value: not value or CENTRE_NAME.match(value) is not None)
CLAIMS = sequence_of("claims", POSITION, 1)
VOTES = sequence_of("votes", POSITION, VOTES_MAX)
TREES = byte_string("tree-heads", 1, CHECKPOINT_TREES_BYTES_MAX)
DIGESTS = byte_string("state-section-digests", 1, STATE_DIGESTS_BYTES_MAX)
