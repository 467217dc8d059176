"""Reading `centre.toml` again while the daemon runs, by SIGHUP or `p2pfed reload`.

The file is checked whole before anything of it applies. Offer templates, admission, export and
retention apply at once; what the daemon was built from (names, paths, keys, the executor) only at
the next start, and whoever asked is told which of that changed.
"""

from __future__ import annotations

import dataclasses
import logging
from collections.abc import Callable
from typing import Final

import trio

from p2pfed.errors import P2pfedError
from p2pfed.node.events import PolicyChanged
from p2pfed.shell.brain import Brain
from p2pfed.shell.config import CentreConfig, load_config

log = logging.getLogger("p2pfed.reload")

AT_ONCE: Final = frozenset({"offers", "admission", "admit", "export", "retention"})
"""Parts of the configuration that apply without a restart."""


class Reloader:
    """Reads the configuration again and hands it to whoever uses it.

    Args:
        config: what the daemon was started with.
        brain: its node gets the admission policy.
        take: is given the new configuration.
    """

    def __init__(
        self, config: CentreConfig, brain: Brain, take: Callable[[CentreConfig], None]
    ) -> None:
        self._started_with = config
        self._brain = brain
        self._take = take

    async def reload(self, who: str) -> list[str]:
        """Applies the file as it is now; returns what of it waits for a restart.

        Raises:
            InputError: `config-…`: something in it is wrong, and nothing was changed.
        """
        try:
            path = self._started_with.path
            config = await trio.to_thread.run_sync(load_config, path)
        except P2pfedError as error:
            log.error("the configuration stays as it was: %s", error)
            raise
        self._take(config)
        await self._brain.events.send(PolicyChanged(policy=config.policy, who=who))
        names = [field.name for field in dataclasses.fields(config)]
        changed = [n for n in names if getattr(config, n) != getattr(self._started_with, n)]
        waiting = [name for name in changed if name not in AT_ONCE]
        log.info("configuration read again by order of %s", who)
        if waiting:
            log.warning("these changes apply at the next start: %s", ", ".join(waiting))
        return waiting
