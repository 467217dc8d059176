"""The routes about who this centre's jobs are of."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from p2pfed.errors import InputError
from p2pfed.shell.answers import DisclosureView
from p2pfed.shell.api.gate import who_of
from p2pfed.shell.api.requests import job_id_of, read_body, refuse_unknown
from p2pfed.shell.door import Door

_USER_BYTES_MAX: Final = 256


async def _disclose(door: Door, request: Request) -> Response:
    found = await door.privacy.disclose(job_id_of(request), who=who_of(request))
    view = DisclosureView(
        federation_id=found.federation.hex(),
        job_id=str(found.job_id),
        user=found.user,
        opening=found.opening.hex(),
    )
    return JSONResponse({"disclosure": view})


async def _forget(door: Door, request: Request) -> Response:
    items = await read_body(request)
    refuse_unknown(items, ("user",), "request")
    user = items.get("user")
    if not isinstance(user, str) or not 0 < len(user) <= _USER_BYTES_MAX:
        raise InputError("request-field-value", "user is not the name of an account")
    return JSONResponse({"jobs": await door.privacy.forget(user, who=who_of(request))})


PRIVACY_ROUTES: Final[
    tuple[tuple[str, str, Callable[[Door, Request], Awaitable[Response]]], ...]
] = (
    ("POST", "/jobs/{job_id}/disclosure", _disclose),
    ("POST", "/forget", _forget),
)
"""Method, path below /v1, handler."""
