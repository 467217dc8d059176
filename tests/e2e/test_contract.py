"""The control API of a real daemon, called as its contract describes it and in every other way.

schemathesis reads docs/reference/openapi.json and makes calls of each operation, valid and invalid
ones. Whatever comes, the answer has a status and a form that the contract states, nothing fails
inside the daemon, and it goes on.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, settings
from schemathesis import Case
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from tests.e2e.federation import Federation

CONTRACT = Path(__file__).parents[2] / "docs" / "reference" / "openapi.json"
CALLS_EACH = 6
"""Calls of each operation: some fifty operations, and a call costs a synced write."""
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ENDLESS = "/events"
"""A feed never ends, so it has no whole answer to look at."""

schema = schemathesis.openapi.from_dict(json.loads(CONTRACT.read_text())).exclude(path=ENDLESS)


@pytest.fixture(scope="module")
def caller() -> Iterator[httpx.Client]:
    """Connected to the daemon of a federation's one centre, which has an offer and a job."""
    with Federation.found("alpha", opened=("alpha",)) as federation:
        alpha = federation["alpha"]
        alpha.start()
        alpha.until_writing()
        alpha.submit("#!/bin/sh\necho here\n")
        socket = str(alpha.folder / "run" / "control.sock")
        # A connection each: one that rests is closed by the daemon, at times just as it is used.
        transport = httpx.HTTPTransport(
            uds=socket, limits=httpx.Limits(max_keepalive_connections=0)
        )
        with httpx.Client(transport=transport, timeout=60) as client:
            yield client
        assert alpha.running and alpha.starts == 1
        assert "Traceback" not in alpha.log


@schema.parametrize()
@settings(
    max_examples=CALLS_EACH,
    deadline=None,
    derandomize=True,
    phases=[Phase.explicit, Phase.generate],
    suppress_health_check=list(HealthCheck),
)
def test_every_answer_is_one_that_the_contract_states(
    case: Case[Any], caller: httpx.Client
) -> None:
    # What schemathesis makes is written for requests, which can't call a Unix socket.
    kwargs = case.as_transport_kwargs(base_url="http://p2pfed/v1")
    call: Any = requests.Request(**kwargs).prepare()
    body = call.body.encode() if isinstance(call.body, str) else call.body or b""
    answer = caller.request(call.method, call.url, headers=dict(call.headers), content=body)
    case.validate_response(answer, checks=CHECKS)
