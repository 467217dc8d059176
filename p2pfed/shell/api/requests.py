"""What callers may send, read strictly: an unknown field is an error, never ignored.

A caller who misspells `walltime_s` must hear of it, not get an hour.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Callable, Mapping
from contextlib import aclosing
from typing import Any, Final, get_args

from starlette.requests import Request

from p2pfed.core.fields import wire_fields
from p2pfed.core.ids import JobId, parse_position
from p2pfed.core.records import Offer
from p2pfed.errors import InputError
from p2pfed.shell.answers import JobState
from p2pfed.shell.door import JobQuery, JobRequest, JobScope, OfferRequest
from p2pfed.shell.jobscript import check_request, parse_variable, sorted_words

REQUEST_BYTES_MAX: Final = 1 << 20
"""The JSON of one call."""
JOBS_LISTED_MAX: Final = 10_000
"""Jobs in one answer."""


def job_id_of(request: Request) -> JobId:
    """The job that the path names.

    Raises:
        InputError: `position`.
    """
    return JobId(parse_position(request.path_params["job_id"]))


async def read_body(request: Request) -> dict[str, Any]:
    """The JSON object that the request carries.

    Raises:
        InputError: `request-json`, `request-too-large`.
    """
    data = b""
    async with aclosing(request.stream()) as body:
        async for chunk in body:
            data += chunk
            if len(data) > REQUEST_BYTES_MAX:
                break
    return parse_json(data, where=f"{request.method} {request.url.path}")


def parse_json(data: bytes, *, where: str) -> dict[str, Any]:
    """The JSON object in `data`; no bytes at all stand for an empty one.

    Raises:
        InputError: `request-json`, `request-too-large`.
    """
    if len(data) > REQUEST_BYTES_MAX:
        raise InputError(
            "request-too-large", f"the JSON has more than {REQUEST_BYTES_MAX} bytes", where=where
        )
    try:
        found = json.loads(data) if data.strip() else {}
    except (ValueError, RecursionError) as error:
        raise InputError("request-json", f"this is not JSON: {error}", where=where) from None
    if not isinstance(found, dict):
        raise InputError("request-json", "the JSON is not an object", where=where)
    return found


def parse_job_request(items: Mapping[str, Any], base: JobRequest) -> tuple[JobRequest, list[str]]:
    """`base` (what the script says) with the fields of `items` in its place, and `executable`.

    Raises:
        InputError: `request-field-unknown`, `request-field-value`, `script-request`.
    """
    where = "request"
    fields: dict[str, Callable[[Any, str], Any]] = {
        **dict.fromkeys(
            ("name", "stdout", "stderr", "resource_class", "work_class", "data_class"), _text
        ),
        **dict.fromkeys(
            (
                *("nodes", "cores_per_node", "gpus_per_node", "memory_mib_per_node"),
                *("walltime_s", "signal", "signal_s"),
            ),
            _integer,
        ),
        **dict.fromkeys(("features", "allow", "deny"), _words),
        **dict.fromkeys(("arguments", "fetch", "checkpoint", "executable"), _texts),
        "environment": _environment,
    }
    refuse_unknown(items, fields, where)
    values = {name: fields[name](value, f"{where}: {name}") for name, value in items.items()}
    executable = list(values.pop("executable", ()))
    request = dataclasses.replace(base, **values)
    check_request(request)
    return request, executable


def parse_offer_request(items: Mapping[str, Any]) -> OfferRequest:
    """The offer that the JSON describes: `template`, `nodes`, `until_ms`, or `terms`.

    Raises:
        InputError: `request-field-unknown`, `request-field-value`, `request-field-missing`.
    """
    where = "request"
    refuse_unknown(items, {"template", "nodes", "until_ms", "terms"}, where)
    if ("template" in items) == ("terms" in items):
        raise InputError(
            "request-field-missing", "exactly one of template and terms is needed", where=where
        )
    if "terms" in items:
        extra = [name for name in ("nodes", "until_ms") if name in items]
        if extra:
            raise InputError(
                "request-field-value", f"{extra[0]} belongs into the terms", where=where
            )
        return OfferRequest(terms=_offer(items["terms"]))
    return OfferRequest(
        template=_text(items["template"], f"{where}: template"),
        nodes=_positive(items["nodes"], f"{where}: nodes") if "nodes" in items else None,
        until_ms=_positive(items["until_ms"], f"{where}: until_ms")
        if "until_ms" in items
        else None,
    )


def _offer(terms: object) -> Offer:
    where = "request: terms"
    if not isinstance(terms, dict):
        raise InputError("request-field-value", "terms is not an object", where=where)
    known = {field.name: field for field in wire_fields(Offer)}
    refuse_unknown(terms, known, where)
    values: dict[str, Any] = {}
    for name, field in known.items():
        if name not in terms:
            if field.optional:
                continue
            raise InputError("request-field-missing", f"{name} is missing", where=where)
        value = terms[name]
        if isinstance(value, list) and all(isinstance(item, str) for item in value):
            value = list(sorted_words(value))
        parsed = field.kind.parse(value)
        if parsed is None:
            raise InputError(
                "request-field-value", f"{name} is not a valid {field.kind.name}", where=where
            )
        values[name] = parsed
    return Offer(**values)


def parse_job_query(query: Mapping[str, str]) -> JobQuery:
    """The jobs that a query string asks for: `scope`, `state` (joined by commas), `limit`.

    Raises:
        InputError: `request-field-unknown`, `request-field-value`.
    """
    where = "query"
    refuse_unknown(query, {"scope", "state", "limit"}, where)
    found = JobQuery()
    if "scope" in query:
        scope = _choice(query["scope"], get_args(JobScope), "scope")
        found = dataclasses.replace(found, scope=scope)
    if query.get("state"):
        states = tuple(
            _choice(state, get_args(JobState), "state") for state in query["state"].split(",")
        )
        found = dataclasses.replace(found, states=states)
    return dataclasses.replace(found, limit=_limit(query, found.limit, where))


def parse_limit(query: Mapping[str, str], default: int) -> int:
    """The `limit` of a query string that knows nothing else.

    Raises:
        InputError: `request-field-unknown`, `request-field-value`.
    """
    refuse_unknown(query, {"limit"}, "query")
    return _limit(query, default, "query")


def _limit(query: Mapping[str, str], default: int, where: str) -> int:
    text = query.get("limit", str(default))
    if not re.match(r"[0-9]{1,6}\Z", text) or not 1 <= int(text) <= JOBS_LISTED_MAX:
        raise InputError(
            "request-field-value",
            f"limit is {text!r}, not a number from 1 to {JOBS_LISTED_MAX}",
            where=where,
        )
    return int(text)


def _choice(value: str, choices: tuple[Any, ...], name: str) -> Any:
    if value not in choices:
        raise InputError(
            "request-field-value",
            f"{name} is {value!r}",
            where="query",
            remedy=f"use one of {', '.join(choices)}",
        )
    return value


def refuse_unknown(items: Mapping[str, Any], known: Any, where: str) -> None:
    """Raises for a field that is not known here.

    Raises:
        InputError: `request-field-unknown`.
    """
    for name in items:
        if name not in known:
            raise InputError(
                "request-field-unknown",
                f"there is no field {name!r}",
                where=where,
                remedy=f"known here: {', '.join(sorted(known))}",
            )


def _wrong(value: object, wanted: str, where: str) -> InputError:
    shown = json.dumps(value)
    shown = shown if len(shown) <= 60 else shown[:57] + "..."
    return InputError("request-field-value", f"{shown} is not {wanted}", where=where)


def _text(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.isprintable() or not value:
        raise _wrong(value, "a line of text", where)
    return value


def _integer(value: object, where: str) -> int:
    if type(value) is not int:
        raise _wrong(value, "a whole number", where)
    return value


def _positive(value: object, where: str) -> int:
    if type(value) is not int or not 0 < value < 1 << 48:
        raise _wrong(value, "a whole number above 0", where)
    return value


def _texts(value: object, where: str) -> tuple[str, ...]:
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise _wrong(value, "a list of texts", where)
    return tuple(value)


def _words(value: object, where: str) -> tuple[str, ...]:
    return sorted_words(_texts(value, where))


def _environment(value: object, where: str) -> tuple[tuple[str, str], ...]:
    if not isinstance(value, dict) or not all(isinstance(v, str) for v in value.values()):
        raise _wrong(value, "an object of texts", where)
    return tuple(parse_variable(f"{k}={v}", where=where) for k, v in sorted(value.items()))
