from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from p2pfed.core.codec import decode
from p2pfed.core.limits import BLOCKS_PER_FRAME_BYTES, FRAME_BYTES_MAX
from p2pfed.errors import InputError, StateError
from p2pfed.protocol.framing import FrameReader, frame, frame_blocks


@given(
    bodies=st.lists(st.binary(min_size=1, max_size=40), max_size=8),
    cuts=st.lists(st.integers(1, 9), max_size=60),
)
def test_frames_come_out_as_they_went_in_wherever_the_stream_is_cut(
    bodies: list[bytes], cuts: list[int]
) -> None:
    stream = b"".join(map(frame, bodies))
    reader, found = FrameReader(), []
    for size in [*cuts, len(stream)]:
        found += list(reader.feed(stream[:size]))
        stream = stream[size:]
    assert found == bodies
    assert reader.buffered_bytes == 0


def test_half_a_frame_is_no_frame() -> None:
    reader = FrameReader()
    assert list(reader.feed(frame(b"whole")[:-1])) == []
    assert reader.buffered_bytes == len(frame(b"whole")) - 1


def test_a_huge_frame_is_refused_by_its_length_alone() -> None:
    with pytest.raises(InputError) as caught:
        list(FrameReader().feed((FRAME_BYTES_MAX + 1).to_bytes(4, "big")))
    assert caught.value.code == "protocol-frame-too-long"


def test_an_empty_frame_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        list(FrameReader().feed(bytes(4)))
    assert caught.value.code == "protocol-frame-empty"


def test_the_limit_may_be_raised_between_two_frames_of_one_piece() -> None:
    reader, found = FrameReader(limit=4), []
    for body in reader.feed(frame(b"tiny") + frame(b"longer")):
        reader.limit = 10
        found.append(body)
    assert found == [b"tiny", b"longer"]


@pytest.mark.parametrize("size", [0, FRAME_BYTES_MAX + 1])
def test_a_frame_that_no_peer_takes_is_our_bug(size: int) -> None:
    with pytest.raises(StateError):
        frame(bytes(size))


@given(st.lists(st.integers(1, BLOCKS_PER_FRAME_BYTES + 5), max_size=5))
def test_blocks_are_batched_in_order_and_a_large_one_travels_alone(sizes: list[int]) -> None:
    blocks = [bytes([number]) * size for number, size in enumerate(sizes)]
    found: list[bytes] = []
    for body in FrameReader().feed(frame_blocks(blocks)):
        item = decode(body, limit=FRAME_BYTES_MAX)
        assert isinstance(item, dict)
        batch = item[1]
        assert isinstance(batch, list)
        assert len(batch) == 1 or sum(len(b) for b in batch if isinstance(b, bytes)) <= (
            BLOCKS_PER_FRAME_BYTES
        )
        found += [b for b in batch if isinstance(b, bytes)]
    assert found == blocks
