import asyncio
import json
from collections.abc import Awaitable, Callable

import pytest

from asgipipe.http.sse import EventStream, Frames, comment, frame, last_event_id
from asgipipe.http.types import Message
from asgipipe.jobs.records import Event
from tests.http.wire import until

JOB = "0192a0f0-0000-7000-8000-000000000000"


def event(number: int = 1, data: bytes = b"{}", kind: str = "log") -> Event:
    return Event(JOB, number, kind, "load", 0.0, data)


def test_a_frame() -> None:
    """It has the number, the type and the whole event, and an empty line at its end."""
    lines = frame(event(7, b'{"fraction":0.5}', "progress")).decode().split("\n")
    assert lines[:2] == ["id: 7", "event: progress"]
    assert lines[3:] == ["", ""]
    assert json.loads(lines[2].removeprefix("data: ")) == {
        "id": 7,
        "event_type": "progress",
        "job_id": JOB,
        "run_id": JOB,
        "timestamp": "1970-01-01T00:00:00.000000Z",
        "step_name": "load",
        "data": {"fraction": 0.5},
    }


@pytest.mark.parametrize("data", [b'{\n  "a": 1\n}', b'{"a":\r1}', b'{\r\n"a":1}'])
def test_json_with_line_breaks(data: bytes) -> None:
    """Line breaks between tokens would end the field: they become spaces."""
    made = frame(event(data=data))
    assert made.count(b"\n") == 4
    assert b"\r" not in made
    assert json.loads(made.split(b"data: ")[1])["data"] == {"a": 1}


@pytest.mark.parametrize(
    ("given", "number"),
    [
        (b"12", 12),
        (b"0", 0),
        (b"", 0),
        (b"-1", 0),
        (b"1.5", 0),
        (b"x", 0),
        (b"9" * 40, 0),
        (b"\xd9\xa1", 0),
        (b" 3", 0),
    ],
)
def test_the_last_event(given: bytes, number: int) -> None:
    """What is no number of ours is none, so that the stream starts at the beginning."""
    assert last_event_id({b"last-event-id": given}) == number
    assert last_event_id({}) == 0


def test_followers_share_frames() -> None:
    """An event is encoded once for all who get it; another one of the same number is not taken for it."""
    frames, first, same = Frames(), event(data=b'{"a":1}'), event(data=b'{"a":2}')
    assert list(frames.of([first])) == [frame(first)]
    assert frames._of(first) is frames._of(first)
    assert frames._of(same) == frame(same) != frames._of(first)


def test_what_is_kept_is_bounded() -> None:
    """The oldest frames make room; one that is larger than all the room is made and not kept."""
    frames = Frames(kept=2000)
    events = [event(number, b'{"a":"%b"}' % (b"x" * 300)) for number in range(1, 20)]
    for each in events:
        assert list(frames.of([each])) == [frame(each)]
    assert sum(len(made) for _, made in frames._made.values()) == frames._size <= 2000
    assert frames._made
    large = event(data=b'{"a":"%b"}' % (b"x" * 5000))
    assert list(frames.of([large])) == [frame(large)]
    assert frames._size == 0


@pytest.mark.parametrize("size", [10, 20_000, 100_000])
def test_frames_are_sent_in_pieces(size: int) -> None:
    """Small ones go out together, and what goes out at once is little, unless a single one is much."""
    events = [event(number, b'{"a":"%b"}' % (b"x" * size)) for number in range(1, 21)]
    pieces = list(Frames().of(events))
    assert b"".join(pieces) == b"".join(map(frame, events))
    assert all(len(piece) <= 65_536 or piece.count(b"id: ") == 1 for piece in pieces)
    assert len(pieces) == {10: 1, 20_000: 7, 100_000: 20}[size]


# The answer to one follower


def streaming(scene: Callable[[EventStream, list[bytes]], Awaitable[None]], heartbeat: float) -> list[Message]:
    sent: list[Message] = []

    async def main() -> None:
        async def send(message: Message) -> None:
            sent.append(message)

        stream = EventStream(send, heartbeat)
        try:
            await scene(stream, [])
        finally:
            stream.close()

    asyncio.run(main())
    return sent


def test_silence() -> None:
    """After each time of silence there is one comment; an event begins the time anew; the end is the last message."""

    async def scene(stream: EventStream, _: list[bytes]) -> None:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await stream.write(b"a")
        await asyncio.sleep(0.03)
        await stream.write(b"b")
        await until(lambda: stream._last > begun + 0.14)
        await stream.end()
        await asyncio.sleep(0.06)

    bodies = [message["body"] for message in streaming(scene, 0.05)]
    assert bodies[:2] == [b"a", b"b"]
    assert bodies[-1] == b""
    assert set(bodies[2:-1]) == {comment("still here")}
    assert 1 <= len(bodies[2:-1]) <= 3


def test_one_message_at_a_time() -> None:
    """While an event waits to be taken no comment is sent, and nothing waits behind it."""
    gate = asyncio.Event()
    sent: list[bytes] = []

    async def main() -> None:
        async def send(message: Message) -> None:
            await gate.wait()
            sent.append(message["body"])

        stream = EventStream(send, 0.01)
        writing = asyncio.create_task(stream.write(b"event"))
        await asyncio.sleep(0.05)
        assert stream._beat is None
        gate.set()
        await writing
        await stream.end()

    asyncio.run(main())
    assert sent == [b"event", b""]


def test_a_connection_that_is_gone() -> None:
    """A comment that cannot be sent troubles nobody: who sends the events will notice."""

    async def main() -> None:
        async def send(message: Message) -> None:
            raise OSError("gone")

        stream = EventStream(send, 0.01)
        await until(lambda: stream._beat is not None and stream._beat.done())
        stream.close()

    asyncio.run(main())
