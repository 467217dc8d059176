"""The routes for the members' decisions: proposals, votes, rules, leaving, disputes."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from p2pfed.core.charter import Card, card_signature, parse_card
from p2pfed.core.ids import ClaimId, Position, parse_centre_name, parse_position
from p2pfed.core.kinds import AMOUNT, LINE
from p2pfed.core.records import ProposalKind
from p2pfed.core.rules import Rules
from p2pfed.errors import InputError
from p2pfed.shell.api.requests import job_id_of, read_body, refuse_unknown
from p2pfed.shell.council_views import kind_name
from p2pfed.shell.door import Door
from p2pfed.shell.governing import ProposalRequest

_KINDS: Final = {kind_name(kind): kind for kind in ProposalKind}


def _line(items: dict[str, Any], name: str) -> str:
    value = items.get(name, "")
    if not isinstance(value, str) or LINE.parse(value) is None:
        raise InputError("request-field-value", f"{name} is not a line of at most 256 bytes")
    return value


def _amount(items: dict[str, Any], name: str) -> int | None:
    value = items.get(name)
    if value is not None and AMOUNT.parse(value) is None:
        raise InputError("request-field-value", f"{name} is not a whole number, not negative")
    return value


def _flag(items: dict[str, Any], name: str) -> bool:
    value = items.get(name, False)
    if not isinstance(value, bool):
        raise InputError("request-field-value", f"{name} is not true or false")
    return value


def _position(request: Request, name: str) -> Position:
    return parse_position(request.path_params[name])


async def _read(request: Request, *known: str) -> dict[str, Any]:
    items = await read_body(request)
    refuse_unknown(items, known, "request")
    return items


def _parse_proposal(items: dict[str, Any]) -> ProposalRequest:
    kind = next((k for name, k in _KINDS.items() if name == items.get("kind")), None)
    if kind is None:
        raise InputError(
            "request-field-value",
            f"kind is {items.get('kind')!r}",
            remedy=f"use one of {', '.join(_KINDS)}",
        )
    rules = items.get("rules")
    if rules is not None and not isinstance(rules, dict):
        raise InputError("request-field-value", "rules is not an object")
    subject, claim_id = items.get("subject"), items.get("claim_id")
    return ProposalRequest(
        kind=kind,
        reason=_line(items, "reason"),
        deadline_ms=_amount(items, "deadline_ms"),
        subject=None if subject is None else parse_centre_name(str(subject)),
        card=None if items.get("card") is None else _parse_card(items["card"]),
        rules=None if rules is None else Rules.from_mapping(rules),
        claim_id=None if claim_id is None else ClaimId(parse_position(str(claim_id))),
        core_s=_amount(items, "core_s") or 0,
        gpu_s=_amount(items, "gpu_s") or 0,
    )


def _parse_card(text: object) -> tuple[Card, bytes]:
    if not isinstance(text, str):
        raise InputError("request-field-value", "card is not the text of a card file")
    return parse_card(text), card_signature(text)


async def _proposals(door: Door, _request: Request) -> Response:
    return JSONResponse({"proposals": door.governance.proposals()})


async def _proposal(door: Door, request: Request) -> Response:
    return JSONResponse({"proposal": door.governance.proposal(_position(request, "proposal_id"))})


async def _proposed_rules(door: Door, request: Request) -> Response:
    found = door.governance.proposed_rules(_position(request, "proposal_id"))
    return JSONResponse({"rules": found})


async def _propose(door: Door, request: Request) -> Response:
    items = await _read(
        request, "kind", "reason", "deadline_ms", "subject", "card", "rules", "claim_id",
        "core_s", "gpu_s",
    )  # fmt: skip
    found = await door.governance.propose(_parse_proposal(items))
    return JSONResponse({"proposal": found}, 201)


async def _vote(door: Door, request: Request) -> Response:
    items = await _read(request, "in_favour", "reason")
    if "in_favour" not in items:
        raise InputError("request-field-missing", "a vote says in_favour: true or false")
    found = await door.governance.vote(
        _position(request, "proposal_id"),
        in_favour=_flag(items, "in_favour"),
        reason=_line(items, "reason"),
    )
    return JSONResponse({"proposal": found})


async def _withdraw(door: Door, request: Request) -> Response:
    found = await door.governance.withdraw(_position(request, "proposal_id"))
    return JSONResponse({"proposal": found})


async def _leave(door: Door, request: Request) -> Response:
    items = await _read(request, "reason")
    return JSONResponse({"leave": await door.governance.leave(_line(items, "reason"))})


async def _rules(door: Door, _request: Request) -> Response:
    return JSONResponse({"rules": door.governance.rules()})


async def _versions(door: Door, _request: Request) -> Response:
    return JSONResponse({"versions": door.governance.versions()})


async def _why_rules(door: Door, _request: Request) -> Response:
    return JSONResponse(door.governance.why_rules())


async def _why_member(door: Door, request: Request) -> Response:
    name = parse_centre_name(request.path_params["centre"])
    return JSONResponse(door.governance.why_member(name))


async def _invitation(door: Door, _request: Request) -> Response:
    return JSONResponse(door.governance.invitation())


async def _disputes(door: Door, _request: Request) -> Response:
    return JSONResponse({"disputes": door.governance.disputes()})


async def _dispute(door: Door, request: Request) -> Response:
    items = await _read(request, "core_s", "gpu_s", "reason")
    found = await door.governance.dispute(
        job_id_of(request),
        core_s=_amount(items, "core_s"),
        gpu_s=_amount(items, "gpu_s"),
        reason=_line(items, "reason"),
    )
    return JSONResponse({"dispute": found})


async def _settle(door: Door, request: Request) -> Response:
    items = await _read(request, "core_s", "gpu_s")
    found = await door.governance.settle(
        ClaimId(_position(request, "claim_id")),
        core_s=_amount(items, "core_s") or 0,
        gpu_s=_amount(items, "gpu_s") or 0,
    )
    return JSONResponse({"dispute": found})


COUNCIL_ROUTES: Final[
    tuple[tuple[str, str, Callable[[Door, Request], Awaitable[Response]]], ...]
] = (
    ("GET", "/members/{centre}/why", _why_member),
    ("GET", "/invitation", _invitation),
    ("GET", "/proposals", _proposals),
    ("POST", "/proposals", _propose),
    ("GET", "/proposals/{proposal_id}", _proposal),
    ("GET", "/proposals/{proposal_id}/rules", _proposed_rules),
    ("POST", "/proposals/{proposal_id}/vote", _vote),
    ("POST", "/proposals/{proposal_id}/withdraw", _withdraw),
    ("POST", "/leave", _leave),
    ("GET", "/rules", _rules),
    ("GET", "/rules/why", _why_rules),
    ("GET", "/versions", _versions),
    ("GET", "/disputes", _disputes),
    ("POST", "/disputes/{claim_id}/settle", _settle),
    ("POST", "/jobs/{job_id}/dispute", _dispute),
)
"""Method, path below /v1, handler."""
