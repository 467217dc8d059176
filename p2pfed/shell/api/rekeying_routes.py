"""The routes for this centre's own key and epoch."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from p2pfed.core.kinds import EPOCH, LINE
from p2pfed.errors import InputError
from p2pfed.shell.api.requests import read_body, refuse_unknown
from p2pfed.shell.door import Door


async def _rotate(door: Door, _request: Request) -> Response:
    return JSONResponse({"key": await door.rekeying.rotate()})


async def _declare(door: Door, request: Request) -> Response:
    items = await read_body(request)
    refuse_unknown(items, ("reason", "epoch"), "request")
    reason, epoch = items.get("reason", ""), items.get("epoch")
    if not isinstance(reason, str) or LINE.parse(reason) is None:
        raise InputError("request-field-value", "reason is not a line of at most 256 bytes")
    if epoch is not None and EPOCH.parse(epoch) is None:
        raise InputError("request-field-value", "epoch is not the number of an epoch")
    return JSONResponse({"epoch": await door.rekeying.declare_epoch(reason, epoch)}, 201)


REKEYING_ROUTES: Final[
    tuple[tuple[str, str, Callable[[Door, Request], Awaitable[Response]]], ...]
] = (
    ("POST", "/key/rotate", _rotate),
    ("POST", "/epochs", _declare),
)
"""Method, path below /v1, handler."""
