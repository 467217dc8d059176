"""Another key for a running daemon, and another epoch: the two acts by which a centre goes on.

The new key is on disk before the ledger names it. When the record is durable the file changes
places, and the next connection presents the new key; nobody has to be restarted.
"""

from __future__ import annotations

import os
from typing import TypedDict

import trio

from p2pfed.core.keyring import write_rotation
from p2pfed.node.events import ChangeKey, DeclareEpoch
from p2pfed.shell.brain import Brain
from p2pfed.shell.config import CentreConfig, read_passphrase
from p2pfed.shell.tls import Tls, key_fingerprint
from p2pfed.store.keyfile import CentreKey
from p2pfed.store.keyfiles import former_keys, next_key, promote


class RotationView(TypedDict):
    """A key that was rotated: the record that says so, the new public key and its fingerprint."""

    record: str
    public_key: str
    fingerprint: str


class Rekeying:
    """Changes the key and the epoch of one daemon's centre.

    Args:
        brain: runs the node.
        config: where the key lies.
        key: the one in use.
        tls: what presents it.
    """

    def __init__(self, brain: Brain, config: CentreConfig, key: CentreKey, tls: Tls) -> None:
        self._brain = brain
        self._config = config
        self._key = key
        self._tls = tls
        self._busy = trio.Lock()

    async def rotate(self) -> RotationView:
        """Makes a key, has old and new key sign that it follows, and uses it from then on."""
        async with self._busy:
            node, path = self._brain.node, self._config.key.file
            passphrase = read_passphrase(self._config.key, os.environ)
            fresh = await trio.to_thread.run_sync(next_key, path, passphrase)
            record = write_rotation(node.federation.id, node.me.feed, fresh.public_key, fresh)
            position = await self._brain.ask(
                lambda number: ChangeKey(request=number, record=record, signer=fresh)
            )
            await trio.to_thread.run_sync(promote, path, self._key)
            self._key = fresh
            former = await trio.to_thread.run_sync(former_keys, path, passphrase)
            self._tls.set_own(fresh.private, [key.private for key in former])
            return RotationView(
                record=position,
                public_key=fresh.public_key.hex(),
                fingerprint=key_fingerprint(fresh.public_key),
            )

    async def declare_epoch(self, reason: str, epoch: int | None) -> int:
        """Begins a new epoch without a vote; returns its number."""
        answer = await self._brain.ask(
            lambda number: DeclareEpoch(request=number, reason=reason, epoch=epoch)
        )
        return int(answer)
