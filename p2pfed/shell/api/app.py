"""The routes of the control API."""

from __future__ import annotations

import json
import logging
import shutil
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Final

import trio
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import Route

from p2pfed.core.ids import OfferId, parse_position
from p2pfed.core.limits import PAYLOAD_BYTES_MAX
from p2pfed.errors import InputError, P2pfedError, StateError
from p2pfed.shell.answers import JobResult, Notice
from p2pfed.shell.api.control_routes import CONTROL_ROUTES
from p2pfed.shell.api.council_routes import COUNCIL_ROUTES
from p2pfed.shell.api.errors import error_view, status_of
from p2pfed.shell.api.gate import Gate, who_of
from p2pfed.shell.api.privacy_routes import PRIVACY_ROUTES
from p2pfed.shell.api.rekeying_routes import REKEYING_ROUTES
from p2pfed.shell.api.requests import (
    job_id_of,
    parse_job_query,
    parse_job_request,
    parse_json,
    parse_offer_request,
    read_body,
)
from p2pfed.shell.api.upload import Upload
from p2pfed.shell.door import Door, JobRequest, Submission
from p2pfed.shell.jobscript import JobScript, parse_job_script
from p2pfed.store.files import disk_errors

Handler = Callable[[Door, Request], Awaitable[Response]]
_LOG: Final = logging.getLogger("p2pfed.control")


def make_app(door: Door, gate: Gate) -> Starlette:
    """The ASGI application that serves `door` to those whom `gate` lets through."""
    routes = [
        Route(f"/v1{path}", partial(_guarded, handler, door, gate), methods=[method])
        for method, path, handler in ROUTES
    ]
    return Starlette(routes=routes, exception_handlers={HTTPException: _no_route})


async def _guarded(handler: Handler, door: Door, gate: Gate, request: Request) -> Response:
    """Every error becomes an answer; one that nobody foresaw is logged with its trace.

    Whatever a call came to is in the log of calls before its answer leaves.
    """
    outcome = "given-up"  # the caller hung up, or the daemon ended, before there was an answer
    try:
        with gate.admitted(request):
            answer = await handler(door, request)
        outcome = str(answer.status_code)
        return answer
    except P2pfedError as error:
        outcome = error.code
        return JSONResponse(error_view(error), status_of(error))
    except ClientDisconnect:
        return Response(status_code=400)  # nobody reads it
    except Exception:  # noqa: BLE001 - one bad request must not end the daemon
        _LOG.exception("the control API failed at %s %s", request.method, request.url.path)
        failure = P2pfedError(
            "internal-error",
            "the daemon failed at this request; it goes on",
            where=f"{request.method} {request.url.path}",
            remedy="the daemon's log holds the trace; please report it",
        )
        outcome = failure.code
        return JSONResponse(error_view(failure), 500)
    finally:
        gate.note(request, outcome)


async def _no_route(request: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    answer = InputError(
        "request-path",
        f"the control API has no {request.method} {request.url.path}",
        remedy="docs/reference/openapi.json describes it",
    )
    return JSONResponse(error_view(answer), status)


# Questions


async def _status(door: Door, _request: Request) -> Response:
    return JSONResponse(door.status())


async def _peers(door: Door, _request: Request) -> Response:
    return JSONResponse({"peers": door.peers()})


async def _members(door: Door, _request: Request) -> Response:
    return JSONResponse({"members": door.members()})


async def _offers(door: Door, _request: Request) -> Response:
    return JSONResponse({"offers": door.offers(own=False)})


async def _own_offers(door: Door, _request: Request) -> Response:
    return JSONResponse({"offers": door.offers(own=True), "templates": door.templates()})


async def _jobs(door: Door, request: Request) -> Response:
    return JSONResponse({"jobs": door.jobs(parse_job_query(request.query_params))})


async def _job(door: Door, request: Request) -> Response:
    return JSONResponse(door.job(job_id_of(request)))


async def _explain(door: Door, request: Request) -> Response:
    return JSONResponse(door.explain(job_id_of(request)))


async def _balance(door: Door, _request: Request) -> Response:
    return JSONResponse({"balances": door.balance()})


async def _counters(door: Door, _request: Request) -> Response:
    return JSONResponse(door.counters())


# What changes something


async def _open_offer(door: Door, request: Request) -> Response:
    wanted = parse_offer_request(await read_body(request))
    return JSONResponse({"offer": await door.open_offer(wanted)}, 201)


async def _close_offer(door: Door, request: Request) -> Response:
    text = request.path_params.get("offer_id")
    offer_id = OfferId(parse_position(text)) if text is not None else None
    reason = request.query_params.get("reason", "")
    if len(reason.encode()) > 256 or not reason.isprintable():
        raise InputError("request-field-value", "the reason is not a line of at most 256 bytes")
    return JSONResponse({"closed": await door.close_offers(offer_id, reason)})


async def _cancel(door: Door, request: Request) -> Response:
    return JSONResponse({"job": await door.cancel(job_id_of(request))})


async def _submit(door: Door, request: Request) -> Response:
    staging = door.staging()
    with disk_errors(staging):
        folder = Path(tempfile.mkdtemp(prefix="upload-", dir=staging))
    try:
        submission, script = await _receive(request, folder)
        submission = replace(submission, user=who_of(request))
        job = await door.submit(submission)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return JSONResponse({"job": job, "remarks": list(script.options.remarks)}, 201)


async def _receive(request: Request, folder: Path) -> tuple[Submission, JobScript]:
    upload = Upload(request.headers.get("content-type", ""), folder)
    try:
        async with aclosing(request.stream()) as body:
            await _feed_upload(upload, body)
        upload.finish()
    finally:
        upload.close()
    return await trio.to_thread.run_sync(_read_upload, upload, folder)


async def _feed_upload(upload: Upload, body: AsyncIterator[bytes]) -> None:
    """What follows an error is read and dropped: a client hears why only when it has sent all."""
    failure: P2pfedError | None = None
    left = 2 * PAYLOAD_BYTES_MAX
    async for chunk in body:
        left -= len(chunk)
        if left < 0:
            break
        if chunk and failure is None:
            try:
                await trio.to_thread.run_sync(upload.feed, chunk)
            except P2pfedError as error:
                failure = error
    if failure is not None:
        raise failure


def _read_upload(upload: Upload, folder: Path) -> tuple[Submission, JobScript]:
    with disk_errors(folder):
        script = parse_job_script((folder / upload.script).read_bytes(), upload.script)
        items = parse_json(upload.request, where="request")
        request: JobRequest
        request, executable = parse_job_request(items, script.request())
        for path in executable:
            if path not in upload.paths:
                raise InputError(
                    "request-field-value", f"executable names {path!r}, which is no input"
                )
            (folder / path).chmod(0o700)
    return Submission(request=request, folder=folder), script


# Files and streams


def _find_file(result: JobResult, path: str) -> Path:
    """Only what the result lists is served: no path of a caller is ever joined blindly."""
    if all(file.path != path for file in result.files):
        raise StateError(
            "result-file-unknown",
            f"the result has no file {path!r}",
            remedy="the list of files shows what came back; --fetch asks for more",
        )
    return result.folder / path


async def _output(door: Door, request: Request) -> Response:
    stream = request.query_params.get("stream", "stdout")
    if stream not in ("stdout", "stderr"):
        raise InputError("request-field-value", f"stream is {stream!r}, not stdout or stderr")
    result = door.result(job_id_of(request))
    name = result.stdout if stream == "stdout" else result.stderr
    return FileResponse(_find_file(result, name), media_type="application/octet-stream")


async def _files(door: Door, request: Request) -> Response:
    result = door.result(job_id_of(request))
    return JSONResponse(
        {
            "stdout": result.stdout,
            "stderr": result.stderr,
            "files": [{"path": file.path, "size": file.size} for file in result.files],
        }
    )


async def _file(door: Door, request: Request) -> Response:
    result = door.result(job_id_of(request))
    path = _find_file(result, request.path_params["path"])
    return FileResponse(path, media_type="application/octet-stream")


async def _ledger(door: Door, _request: Request) -> Response:
    pieces = door.ledger()
    first = await anext(pieces, b"")  # an error here still has a status of its own

    async def body() -> AsyncIterator[bytes]:
        yield first
        async for piece in pieces:
            yield piece

    return StreamingResponse(body(), media_type="application/octet-stream")


async def _events(door: Door, _request: Request) -> Response:
    channel = door.watch()  # before the answer begins: whoever reads its start misses nothing
    return StreamingResponse(_feed(channel), media_type="text/event-stream")


async def _feed(channel: trio.MemoryReceiveChannel[Notice]) -> AsyncIterator[bytes]:
    async with channel:
        yield b": watching\n\n"
        async for notice in channel:
            data = json.dumps(notice, ensure_ascii=False, separators=(",", ":"))
            yield f"event: {notice['kind']}\ndata: {data}\n\n".encode()


ROUTES: Final[tuple[tuple[str, str, Handler], ...]] = (
    ("GET", "/status", _status),
    ("GET", "/peers", _peers),
    ("GET", "/members", _members),
    ("GET", "/offers", _offers),
    ("POST", "/offers", _open_offer),
    ("DELETE", "/offers", _close_offer),
    ("GET", "/offers/own", _own_offers),
    ("DELETE", "/offers/{offer_id}", _close_offer),
    ("GET", "/jobs", _jobs),
    ("POST", "/jobs", _submit),
    ("GET", "/jobs/{job_id}", _job),
    ("POST", "/jobs/{job_id}/cancel", _cancel),
    ("GET", "/jobs/{job_id}/explain", _explain),
    ("GET", "/jobs/{job_id}/output", _output),
    ("GET", "/jobs/{job_id}/files", _files),
    ("GET", "/jobs/{job_id}/files/{path:path}", _file),
    ("GET", "/balance", _balance),
    ("GET", "/counters", _counters),
    ("GET", "/ledger", _ledger),
    ("GET", "/events", _events),
    *CONTROL_ROUTES,
    *COUNCIL_ROUTES,
    *REKEYING_ROUTES,
    *PRIVACY_ROUTES,
)
"""Method, path below /v1, handler: one row for each operation of the contract."""
