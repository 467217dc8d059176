"""A daemon that is out of file descriptors says so in one line, however often it happens."""

from __future__ import annotations

import errno
import logging

import pytest
import trio
import trio.lowlevel
import trio.testing

from p2pfed.shell.logs import without_stack


class Exhausted(trio.abc.Listener[trio.abc.Stream]):
    """Has no descriptor for the first caller, and then nobody calls."""

    def __init__(self) -> None:
        self.asked = 0

    async def accept(self) -> trio.abc.Stream:
        self.asked += 1
        if self.asked == 1:
            raise OSError(errno.EMFILE, "Too many open files")
        await trio.sleep_forever()
        raise AssertionError("nobody calls")

    async def aclose(self) -> None:
        await trio.lowlevel.checkpoint()


async def test_no_free_descriptor_is_one_line_without_a_stack(
    caplog: pytest.LogCaptureFixture, autojump_clock: trio.testing.MockClock
) -> None:
    listener, logger = Exhausted(), logging.getLogger("trio.serve_listeners")
    logger.addFilter(without_stack)
    try:
        with trio.move_on_after(5):
            await trio.serve_listeners(trio.aclose_forcefully, [listener])
    finally:
        logger.removeFilter(without_stack)
    assert listener.asked == 2
    (record,) = caplog.records
    assert "EMFILE" in record.getMessage()
    assert record.exc_info is None
