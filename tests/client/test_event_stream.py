import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.client.event_stream import EventStreamParser, EventTooLongError

STREAM = (
    b"\xef\xbb\xbfretry: 1000\r\rid: 1\nevent: log\n"
    b'data: {"a": "\xe2\x80\xa8"}\r\n\r\n: still here\n\ndata: 1\rdata:2\ndata\n\nid: a\0b\nevent: x\n\nid\n'
    b"data:  3\n\ndata: cut"
)
EXPECTED = [(b'{"a": "\xe2\x80\xa8"}', "log", "1"), (b"1\n2\n", "message", "1"), (b" 3", "message", "")]


def parsed(pieces: list[bytes]) -> list[tuple[bytes, str, str]]:
    parser = EventStreamParser()
    found = [message for piece in pieces for message in parser.feed(piece)]
    return [(message.data, message.event, message.last_event_id) for message in found]


@given(st.lists(st.integers(0, len(STREAM)), max_size=20))
def test_pieces_of_any_size(cuts: list[int]) -> None:
    """However a stream is cut, the events of the standard come out of it and nothing else: not what has no data, nor
    what has not ended.
    """
    places = [0, *sorted(cuts), len(STREAM)]
    assert parsed([STREAM[begin:end] for begin, end in itertools.pairwise(places)]) == EXPECTED


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n"])
def test_ends_of_lines(end: bytes) -> None:
    """Lines end with LF, CR or CRLF, also where a piece ends between the two."""
    text = end.join([b"data: a", b"data: b", b"", b"data: c", b"", b""])
    expected = [(b"a\nb", "message", ""), (b"c", "message", "")]
    assert parsed([text]) == parsed([text[index : index + 1] for index in range(len(text))]) == expected


def test_what_has_no_end_is_not_collected() -> None:
    """One line, and one event of many lines, may only be so long; what does not belong to an event does not count."""
    parser = EventStreamParser(longest=10)
    assert len(list(parser.feed(b"data: 1234\n\n" * 5))) == 5
    assert list(parser.feed(b":12345678\n" * 5)) == []
    with pytest.raises(EventTooLongError):
        list(parser.feed(b"data: 1\ndata: 2\n"))
    unending = EventStreamParser(longest=10)
    assert [*unending.feed(b"12345"), *unending.feed(b"12345")] == []
    with pytest.raises(EventTooLongError):
        list(unending.feed(b"1"))
