"""A host that speaks nonsense costs itself its connection and nobody else anything."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio
import trio.testing

from p2pfed.node.events import (
    PayloadFetched,
)
from p2pfed.shell.bulk_wire import (
    Refused,
    Want,
    Wire,
    encode_message,
)
from p2pfed.shell.connections import connect
from p2pfed.shell.tls import BULK_PROTOCOL
from tests.unit.shell.peers import ALPHA, BETA, tls_of
from tests.unit.shell.transfers import (
    CLAIM,
    giver,
    payload_in,
    taker,
)

HOSTS: dict[str, bytes] = {
    "nonsense": b"\x00\x00\x00\x05hello",
    "a huge message": b"\xff\xff\xff\xff",
    "an empty message": bytes(4),
    "a message out of turn": encode_message(Want(0)),
}


@pytest.mark.parametrize("case", HOSTS)
async def test_a_host_that_speaks_nonsense_gets_a_refusal_and_the_home_goes_on(
    tmp_path: Path, case: str
) -> None:
    async with giver(tmp_path) as home, taker(tmp_path) as host:
        stream = await connect(tls_of(BETA), BULK_PROTOCOL, ALPHA, home.peer.address)
        await stream.send_all(HOSTS[case])
        answer = await Wire(stream).receive()
        assert isinstance(answer, Refused) and answer.final
        await trio.aclose_forcefully(stream)
        sealed = payload_in(home.spool)
        host.ask(home.peer, sealed)
        await home.hand_over(sealed)
        assert await host.event() == PayloadFetched(claim_id=CLAIM)
