"""Errors and their HTTP status, in both directions.

The daemon's side writes them, the client's reads them back as the same exceptions: so the command
line says what the daemon would have said.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Final, TypedDict

from p2pfed.errors import ExecutorError, InputError, P2pfedError, StateError, StorageError

_BRANCHES: Final[dict[int, type[P2pfedError]]] = {
    HTTPStatus.BAD_REQUEST: InputError,
    HTTPStatus.FORBIDDEN: StateError,
    HTTPStatus.NOT_FOUND: StateError,
    HTTPStatus.METHOD_NOT_ALLOWED: StateError,
    HTTPStatus.CONFLICT: StateError,
    HTTPStatus.BAD_GATEWAY: ExecutorError,
    HTTPStatus.SERVICE_UNAVAILABLE: StateError,
    HTTPStatus.INSUFFICIENT_STORAGE: StorageError,
}


_STATES: Final[dict[str, int]] = {
    "control-read-only": HTTPStatus.FORBIDDEN,
    "owner-denied": HTTPStatus.FORBIDDEN,
    "control-busy": HTTPStatus.SERVICE_UNAVAILABLE,
}
"""Refusals with a status of their own."""


class ErrorView(TypedDict):
    """An error as it goes over the control API."""

    code: str
    what: str
    where: str
    remedy: str


def status_of(error: P2pfedError) -> int:
    """The status for an error: 400, 403, 404, 409, 502, 503, 507, or 500 if it is in no branch."""
    match error:
        case InputError():
            return HTTPStatus.BAD_REQUEST
        case StateError() if error.code.endswith("-unknown"):
            return HTTPStatus.NOT_FOUND
        case StateError():
            return _STATES.get(error.code, HTTPStatus.CONFLICT)
        case ExecutorError():
            return HTTPStatus.BAD_GATEWAY
        case StorageError():
            return HTTPStatus.INSUFFICIENT_STORAGE
    return HTTPStatus.INTERNAL_SERVER_ERROR


def error_view(error: P2pfedError) -> ErrorView:
    """The error as the body of an answer."""
    return {"code": error.code, "what": error.what, "where": error.where, "remedy": error.remedy}


def error_from(status: int, body: object) -> P2pfedError:
    """The error that an answer of this status and body stands for; never raises."""
    parts = dict.fromkeys(("code", "what", "where", "remedy"), "")
    if isinstance(body, dict):
        parts |= {name: str(body[name]) for name in parts if name in body}
    return _BRANCHES.get(status, P2pfedError)(
        parts["code"] or "control-answer",
        parts["what"] or f"the daemon answered with HTTP status {status}",
        where=parts["where"],
        remedy=parts["remedy"],
    )
