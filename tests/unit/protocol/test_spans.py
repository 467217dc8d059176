from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from p2pfed.protocol.spans import Spans

small = st.integers(0, 30)


@given(st.lists(st.tuples(small, small).map(sorted)))
def test_spans_know_what_is_new_and_never_touch(spans: list[list[int]]) -> None:
    found, plain = Spans(), set[int]()
    for first, last in spans:
        numbers = set(range(first, last + 1))
        assert found.add(first, last) == len(numbers - plain)
        plain |= numbers
        assert found.high == max(plain)
    assert {n for n in range(32) if n in found} == plain
    assert len(found) == sum(n - 1 not in plain for n in plain)


def test_no_span_has_no_member() -> None:
    assert Spans().high == -1
    assert 0 not in Spans()
