"""Where the members listened when this centre was invited: the daemon's first contacts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from p2pfed.core.ids import CentreName

CONTACTS_FILE: Final = "contacts.json"
"""In the state folder: `{centre: "host:port"}`. Newer addresses come from the ledger."""


def read_contacts(state: Path) -> dict[CentreName, str]:
    """The contacts that `p2pfed join` wrote; none if it did not, or if the file is not readable."""
    try:
        content = json.loads((state / CONTACTS_FILE).read_text(encoding="utf-8"))
        return {CentreName(centre): str(address) for centre, address in content.items()}
    except (OSError, ValueError, AttributeError):
        return {}
