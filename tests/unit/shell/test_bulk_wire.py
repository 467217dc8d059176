"""Messages of bulk connections are read as they were written, or refused."""

from __future__ import annotations

import pytest

from p2pfed.core.codec import encode
from p2pfed.errors import InputError
from p2pfed.shell.bulk_wire import (
    AskPayload,
    AskResult,
    Contents,
    Done,
    HandedOver,
    Message,
    Named,
    Refused,
    Want,
    decode_message,
    encode_message,
)
from tests.unit.shell.transfers import (
    BLOCK,
    CLAIM,
)

MESSAGES: tuple[Message, ...] = (
    AskPayload(CLAIM),
    AskResult(CLAIM),
    HandedOver(BLOCK),
    Named(BLOCK),
    Contents(b"manifest"),
    Want(3),
    Done(),
    Refused("code", "text", final=True),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda m: type(m).__name__)
def test_a_message_is_read_as_it_was_written(message: Message) -> None:
    assert decode_message(encode_message(message)[4:]) == message


BAD_MESSAGES = {
    "unknown number": {0: 99},
    "no number": {1: 1},
    "claim is no position": {0: 1, 1: "alpha"},
    "short block id": {0: 3, 1: bytes(31)},
    "negative chunk": {0: 6, 1: -1},
    "refusal without a text": {0: 8, 1: "code", 3: True},
}


@pytest.mark.parametrize("case", BAD_MESSAGES)
def test_a_bad_message_is_refused(case: str) -> None:
    with pytest.raises(InputError) as caught:
        decode_message(encode(BAD_MESSAGES[case]))  # type: ignore[arg-type]  # a table of items
    assert caught.value.code == "bulk-message"


def test_a_strangers_text_can_not_write_to_the_terminal() -> None:
    message = decode_message(encode({0: 8, 1: "c", 2: "a\x1b[2Jb", 3: False}))
    assert message == Refused("c", "a?[2Jb", final=False)
