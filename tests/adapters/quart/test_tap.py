"""The tap between the server and Quart."""

import asyncio
from collections.abc import Coroutine

import pytest

pytest.importorskip("quart")

from asgipipe.http.types import Message, Receive, Scope, Send
from asgipipe_quart.tap import Tap, Tapped
from tests.http.wire import until

LIMIT = 10


class Line:
    """A tap, with what the server has for it, and a task that reads as Quart does."""

    def __init__(self, *messages: Message | Exception) -> None:
        self._messages = list(messages)
        self.for_quart: list[Message] = []
        self.sent: list[Message] = []
        self.taken = 0
        self.tap = Tap(self._next, self._send, LIMIT)

    async def read_as_quart(self) -> None:
        while self._messages:
            self.for_quart.append(await self.tap.for_quart())

    async def _next(self) -> Message:
        self.taken += 1
        if not self._messages:
            await asyncio.Event().wait()
        message = self._messages.pop(0)
        if isinstance(message, Exception):
            raise message
        return message

    async def _send(self, message: Message) -> None:
        self.sent.append(message)


def piece(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


LEFT: Message = {"type": "http.disconnect"}


END: Message = {"type": "http.response.body", "body": b"", "more_body": False}


def told(scenario: Coroutine[object, object, None]) -> None:
    asyncio.run(scenario)


def test_both_see_a_body() -> None:
    """Quart has every piece, as functions around requests may ask for it, and so has what took the connection."""

    async def scenario() -> None:
        line = Line(piece(b"one"), piece(b"two", more=False))
        await line.read_as_quart()
        line.tap.take()
        assert [(await line.tap.receive())["body"] for _ in range(2)] == [b"one", b"two"]
        assert [message["body"] for message in line.for_quart] == [b"one", b"two"]

    told(scenario())


def test_what_is_too_large_is_not_kept() -> None:
    """The piece that goes beyond the limit is the last one; it is enough to refuse the body."""

    async def scenario() -> None:
        line = Line(*[piece(b"x" * 6)] * 5, LEFT)
        await line.read_as_quart()
        line.tap.take()
        kinds = [(await line.tap.receive())["type"] for _ in range(3)]
        assert kinds == ["http.request", "http.request", "http.disconnect"]
        assert len(line.for_quart) == 6

    told(scenario())


def test_what_quart_answers_itself_is_not_kept() -> None:
    """A tap that was left holds nothing, and passes on everything."""

    async def scenario() -> None:
        line = Line(piece(b"one"), LEFT)
        line.tap.leave()
        await line.read_as_quart()
        assert line.for_quart == [piece(b"one"), LEFT]

    told(scenario())


def test_a_disconnect_is_not_for_quart() -> None:
    """It would cancel the view; whoever took the connection is told, as often as it asks."""

    async def scenario() -> None:
        line = Line(piece(b"", more=False), LEFT)
        line.tap.take()
        reading = asyncio.ensure_future(line.read_as_quart())
        assert (await line.tap.receive())["type"] == "http.request"
        assert [await line.tap.receive() for _ in range(2)] == [LEFT, LEFT]
        assert (len(line.for_quart), reading.done()) == (1, False)
        reading.cancel()

    told(scenario())


def test_a_refusal_of_the_body_reaches_who_reads_it() -> None:
    """What the server's side raises is raised there; before the connection is taken, Quart's task has it."""

    async def scenario() -> None:
        with pytest.raises(ValueError, match="too large"):
            await Line(ValueError("too large")).read_as_quart()
        line = Line(ValueError("too large"))
        line.tap.take()
        reading = asyncio.ensure_future(line.read_as_quart())
        with pytest.raises(ValueError, match="too large"):
            await line.tap.receive()
        reading.cancel()

    told(scenario())


def test_a_slow_application_slows_its_client() -> None:
    """Of a WebSocket that was taken one message waits; Quart's own queue knows no limit."""

    async def scenario() -> None:
        messages: list[Message] = [{"type": "websocket.receive", "text": str(number)} for number in range(5)]
        line = Line({"type": "websocket.connect"}, *messages)
        line.for_quart.append(await line.tap.for_quart())
        line.tap.take()
        reading = asyncio.ensure_future(line.read_as_quart())
        await until(lambda: line.taken == 2)
        for _ in range(10):
            await asyncio.sleep(0)
        assert line.taken == 2
        assert [(await line.tap.receive())["text"] for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert [message["type"] for message in line.for_quart] == ["websocket.connect"]
        reading.cancel()

    told(scenario())


def test_hanging_up_is_a_disconnect() -> None:
    """Who took the connection is told so when nobody takes its answer any more."""

    async def scenario() -> None:
        line = Line()
        line.tap.take()
        waiting = asyncio.ensure_future(line.tap.receive())
        await asyncio.sleep(0)
        line.tap.hang_up()
        assert await waiting == LEFT

    told(scenario())


def test_quart_reads_no_further_after_its_answer() -> None:
    """Whether it reads already or not yet; what took the connection learns that the answer is over."""

    async def scenario() -> None:
        line = Line()
        line.tap.take()
        reading, waiting = asyncio.ensure_future(line.tap.for_quart()), asyncio.ensure_future(line.tap.receive())
        await until(lambda: line.taken)
        await line.tap.from_quart({**END, "more_body": True})
        assert not reading.done()
        await line.tap.from_quart(END)
        assert await waiting == LEFT
        await until(reading.cancelled)
        with pytest.raises(asyncio.CancelledError):
            await line.tap.for_quart()
        assert (line.taken, len(line.sent)) == (1, 2)

    told(scenario())


def test_quart_reads_no_further_after_its_view() -> None:
    """A WebSocket's view may end without a word to its client."""

    async def scenario() -> None:
        line = Line()
        reading = asyncio.ensure_future(line.tap.for_quart())

        async def view() -> None:
            line.tap.end_with_view()
            await until(lambda: line.taken)

        await asyncio.create_task(view())
        await until(reading.cancelled)

    told(scenario())


def test_the_opening_of_a_websocket_is_for_quart() -> None:
    """A view that is quick to take the connection gives its application an opening of its own."""

    async def scenario() -> None:
        line = Line({"type": "websocket.connect"}, {"type": "websocket.receive", "text": "one"})
        line.tap.take()
        reading = asyncio.ensure_future(line.read_as_quart())
        assert (await line.tap.receive())["text"] == "one"
        assert line.for_quart == [{"type": "websocket.connect"}]
        reading.cancel()

    told(scenario())


@pytest.mark.parametrize("errors", [[LookupError("one")], [LookupError("one"), ValueError("two")]])
def test_a_single_error_comes_as_it_is(errors: list[Exception]) -> None:
    """Quart's tasks are a group from 0.23 on, but what refuses a body is a single error; several stay together."""

    async def quart(scope: Scope, receive: Receive, send: Send) -> None:
        raise ExceptionGroup("of its tasks", errors)

    async def scenario() -> None:
        line = Line()
        with pytest.raises(LookupError if len(errors) == 1 else ExceptionGroup):
            await Tapped(quart, LIMIT)({"type": "http"}, line.tap.receive, line.tap.send)

    told(scenario())
