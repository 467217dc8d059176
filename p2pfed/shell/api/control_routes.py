"""The routes for a centre's own orders."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from p2pfed.core.ids import CENTRE_NAME, CentreName, ClaimId, parse_position
from p2pfed.core.kinds import LINE
from p2pfed.errors import InputError
from p2pfed.node.admission import Mode
from p2pfed.shell.api.gate import who_of
from p2pfed.shell.api.requests import job_id_of, parse_limit, read_body, refuse_unknown
from p2pfed.shell.door import Door

DECISIONS_LISTED: Final = 100
"""Decisions in an answer that names no limit."""


def _reason(items: dict[str, Any]) -> str:
    reason = items.get("reason", "")
    if not isinstance(reason, str) or LINE.parse(reason) is None:
        raise InputError("request-field-value", "the reason is not a line of at most 256 bytes")
    return reason


async def _read(request: Request, *known: str) -> dict[str, Any]:
    items = await read_body(request)
    refuse_unknown(items, (*known, "reason"), "request")
    return items


async def _state(door: Door, _request: Request) -> Response:
    return JSONResponse(door.control.state())


async def _set_mode(door: Door, request: Request) -> Response:
    items = await _read(request, "mode")
    wanted = next((mode for mode in Mode if mode.value == items.get("mode")), None)
    if wanted is None:
        known = ", ".join(mode.value for mode in Mode)
        raise InputError(
            "request-field-value", f"mode is {items.get('mode')!r}", remedy=f"use one of {known}"
        )
    state = await door.control.set_mode(wanted, who=who_of(request), reason=_reason(items))
    return JSONResponse(state)


async def _block(door: Door, request: Request) -> Response:
    items = await _read(request)
    name = request.path_params["centre"]
    if not CENTRE_NAME.match(name):
        raise InputError("request-field-value", f"{name!r} is not a centre's name")
    state = await door.control.block(
        CentreName(name),
        blocked=request.method != "DELETE",
        who=who_of(request),
        reason=_reason(items),
    )
    return JSONResponse(state)


async def _hold(door: Door, request: Request) -> Response:
    items = await _read(request)
    job_id = job_id_of(request)
    held = request.url.path.endswith("/hold")
    await door.control.hold(job_id, held=held, who=who_of(request), reason=_reason(items))
    return JSONResponse({"job": door.job(job_id)["job"]})


async def _requests(door: Door, _request: Request) -> Response:
    return JSONResponse({"requests": door.control.requests()})


async def _answer(door: Door, request: Request) -> Response:
    items = await _read(request, "approve")
    approve = items.get("approve")
    if not isinstance(approve, bool):
        raise InputError("request-field-value", "approve is not true or false")
    claim_id = ClaimId(parse_position(request.path_params["claim_id"]))
    await door.control.answer(claim_id, approve=approve, who=who_of(request), reason=_reason(items))
    return JSONResponse({"claim_id": str(claim_id), "approved": approve})


async def _decisions(door: Door, request: Request) -> Response:
    limit = parse_limit(request.query_params, DECISIONS_LISTED)
    return JSONResponse({"decisions": await door.control.decisions(limit)})


async def _reconcile(door: Door, request: Request) -> Response:
    refuse_unknown(request.query_params, ("since_ms",), "query")
    text = request.query_params.get("since_ms", "0")
    if not text.isascii() or not text.isdigit() or len(text) > 15:
        raise InputError("request-field-value", f"since_ms is {text!r}, no time in ms")
    return JSONResponse(await door.control.reconcile(int(text)))


async def _reload(door: Door, request: Request) -> Response:
    return JSONResponse({"restart": await door.control.reload(who_of(request))})


CONTROL_ROUTES: Final[
    tuple[tuple[str, str, Callable[[Door, Request], Awaitable[Response]]], ...]
] = (
    ("GET", "/control", _state),
    ("POST", "/control", _set_mode),
    ("POST", "/control/blocked/{centre}", _block),
    ("DELETE", "/control/blocked/{centre}", _block),
    ("POST", "/control/reload", _reload),
    ("POST", "/jobs/{job_id}/hold", _hold),
    ("POST", "/jobs/{job_id}/release", _hold),
    ("GET", "/requests", _requests),
    ("POST", "/requests/{claim_id}", _answer),
    ("GET", "/decisions", _decisions),
    ("GET", "/reconcile", _reconcile),
)
"""Method, path below /v1, handler."""
