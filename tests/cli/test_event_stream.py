import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.cli.event_stream import LineTooLongError, lines, messages

STREAM = (
    b'retry: 1000\n\nid: 1\nevent: log\ndata: {"a": "\xe2\x80\xa8"}\r\n\r\n: still here\n\ndata: 1\ndata:2\n\ndata: cut'
)


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_pieces_of_any_size(cuts: list[int]) -> None:
    """However a stream is cut, its events, its comments and nothing else come out; what has not ended does not."""
    places = [0, *sorted(cuts), len(STREAM)]
    pieces = [STREAM[begin:end] for begin, end in itertools.pairwise(places)]
    assert list(messages(pieces)) == [b'{"a": "\xe2\x80\xa8"}', b"", b"1\n2"]


def test_lines_without_end() -> None:
    """What sends no end of a line is not collected for ever."""
    assert list(lines([b"12345\n", b"123"], longest=5)) == [b"12345"]
    with pytest.raises(LineTooLongError):
        list(lines([b"123", b"456"], longest=5))
