"""What one connection may do, in one table; a breach costs the peer its connection.

These limits are local to a pair of daemons, not part of what is replicated. The size of a frame and
how blocks are batched into frames stand in `p2pfed.core.limits`, beside the size of a block.
"""

from __future__ import annotations

from typing import Final

PROTOCOL_VERSION: Final = 1

HELLO_BYTES_MAX: Final = 4096
"""A frame before the peer has said a valid Hello."""
SOFTWARE_BYTES_MAX: Final = 64
BYE_TEXT_BYTES_MAX: Final = 256
FEEDS_MAX: Final = 4096
"""Feeds in one Frontier or Have, and feeds of which a peer may name heads at all."""
WANT_RANGES_MAX: Final = 1024
WANT_BLOCKS_MAX: Final = 4096
"""Blocks that one Want may ask for."""
WANT_NAMED_MAX: Final = 1024
"""Blocks that one WantNamed may ask for."""
NAMED_BLOCKS_MAX: Final = 65_536
"""Blocks that one link asks for by id, or may ask us for."""
REPEATED_BLOCKS_MAX: Final = 4096
"""Blocks that one link may ask for a second time (a peer may have had to drop some)."""
STALE_HEADS_MAX: Final = 4096
"""Heads in a peer's Haves that say no more than what it had said before."""
PING_BURST_MAX: Final = 16
PING_REFILL_MS: Final = 500
"""Half of `PING_MS_MIN`: a busy listener reads pings closer together than they were sent."""
"""Pings beyond the burst are answered at most once in this time."""

PUSH_LAG_BLOCKS_MAX: Final = 64
"""A peer that still has to ask for more of our own blocks than this is told of new ones instead."""

FETCH_BLOCKS_MAX: Final = 2048
"""Blocks asked for or held back unadmitted, all feeds together; well below PENDING_BLOCKS_MAX."""
FETCH_BYTES_MAX: Final = 16 << 20
"""The same in bytes, estimated from the blocks that came."""
FEED_WINDOW_BLOCKS_MAX: Final = 256
"""Blocks beyond the admitted head that are fetched of one feed."""
LINK_WINDOW_BLOCKS_MAX: Final = 512
"""Blocks that one link is asked for at a time."""
LINK_WINDOW_BYTES_MAX: Final = 4 << 20
RUN_BLOCKS_MAX: Final = 64
"""Consecutive blocks of one feed that are asked of the same peer in one go."""
FETCH_TIMEOUT_MS: Final = 20_000
"""A range that has not come after this time is asked of others; after twice this the link goes."""
RELAY_MS: Final = 300
"""How long a block is left to its linked author before others are asked for it."""

HELLO_TIMEOUT_MS: Final = 10_000
PING_MS_MIN: Final = 1000
PINGS_MISSED_MAX: Final = 2
"""A link whose ping is unanswered for this many ping intervals is dead."""

ACTIVE_PEERS: Final = 16
"""Federations of up to this many centres form a full mesh."""
SPARSE_LINKS: Final = 8
"""Links that a centre of a larger federation opens by itself."""
SPARSE_LINKS_MAX: Final = 32
"""Links that it accepts."""
ROTATE_MS: Final = 300_000
"""In a larger federation one link is replaced by a random other one after this to twice this."""
BACKOFF_MS_MIN: Final = 1000
BACKOFF_MS_MAX: Final = 60_000
YIELD_MS: Final = 1000
"""Of a pair, the greater name leaves the lesser this head start in dialling."""
REST_MS: Final = 600_000
"""A peer that takes us for no member any more is dialled again after half to all of this."""
PENALTY_MS_MIN: Final = 60_000
PENALTY_MS_MAX: Final = 600_000
"""A peer that broke the protocol is neither dialled nor answered for this long, doubling."""
