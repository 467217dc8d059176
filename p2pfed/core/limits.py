"""Every size and count that a stranger's bytes must respect, in one table.

A limit on what is replicated is part of the protocol: every node must refuse the same bytes, so
changing one changes the wire version. docs/reference/limits.md repeats the table and is checked
against this module.
"""

from __future__ import annotations

from typing import Final

# What is replicated: part of the wire format.
NESTING_MAX: Final = 8
"""Depth of arrays and maps in any decoded item."""
RECORDS_BYTES_MAX: Final = 1 << 20
"""Encoded records of one block."""
RECORDS_PER_BLOCK_MAX: Final = 4096
HEADER_BYTES_MAX: Final = 1 << 16
"""Signed header of one block (acks of every other feed included)."""
BLOCK_BYTES_MAX: Final = RECORDS_BYTES_MAX + HEADER_BYTES_MAX + 256
"""One block as it is stored and sent."""
ACKS_PER_BLOCK_MAX: Final = 1024
TEXT_BYTES_MAX: Final = 256
"""Any text in a record."""
LIST_ITEMS_MAX: Final = 64
"""Items in any list of a record (features, allow, deny, ...)."""
CHECKPOINT_TREES_BYTES_MAX: Final = 1 << 18
"""Heads and roots of all feeds in a checkpoint."""
STATE_DIGESTS_BYTES_MAX: Final = 1 << 19
BEARINGS_BYTES_MAX: Final = 1 << 30
"""What a newcomer takes from one peer to go on from a checkpoint."""
CHARTER_BYTES_MAX: Final = 1 << 20
CENTRES_MAX: Final = 1000
VOTES_MAX: Final = CENTRES_MAX
"""Votes that one Adopt names."""
RULES_BYTES_MAX: Final = 1 << 16
"""The encoded rules of a proposal."""
EPOCH_MAX: Final = 1 << 16
SEQ_NUM_MAX: Final = 1 << 48

# What one connection may do: local, a breach costs the peer its connection.
FRAME_BYTES_MAX: Final = 1 << 22
"""One message between peers."""
BLOCKS_PER_FRAME_BYTES: Final = 1 << 20
"""Blocks are batched into frames up to this size (a larger single block travels alone)."""

# What one node buffers: local, the excess is dropped and fetched again later.
PENDING_BLOCKS_MAX: Final = 4096
"""Blocks that wait for a predecessor, an ack or their time."""
PENDING_BYTES_MAX: Final = 64 << 20
UNSURE_BLOCKS_MAX: Final = 256
"""Blocks that wait because their key may come with what they name."""
UNSURE_BYTES_MAX: Final = 16 << 20
"""The same in bytes."""

# Payloads and results: local to a transfer.
PAYLOAD_BYTES_MAX: Final = 1 << 30
RESULT_BYTES_MAX: Final = 4 << 30
CHUNK_BYTES: Final = 1 << 18
ARCHIVE_MEMBERS_MAX: Final = 10_000
MANIFEST_BYTES_MAX: Final = 3 << 20
"""The encoded list of a payload's or result's files."""
MEMBER_PATH_BYTES_MAX: Final = 1024
"""The path of one file, as UTF-8."""
MEMBER_DEPTH_MAX: Final = 32
"""Folders and name in the path of one file."""
