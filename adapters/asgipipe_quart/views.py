"""ASGI applications as views of Quart's, and Quart's responses as ASGI messages."""

import asyncio
from collections.abc import AsyncGenerator

from quart import Response
from quart.utils import encode_headers
from quart.wrappers.response import DataBody
from werkzeug import Response as WerkzeugResponse
from werkzeug.datastructures import Headers

from asgipipe.errors import HTTPError
from asgipipe.http.binding.stream import while_connected
from asgipipe.http.bridge import answer
from asgipipe.http.problems import send_problem
from asgipipe.http.types import ASGIApp, HeaderList, Message, Receive, Scope, Send
from asgipipe_quart.tap import Tap, tap_of


async def answered(app: ASGIApp, scope: Scope) -> Response:
    """Run `app` for the current request and return its answer; `scope` has a tap."""
    tap = tap_of(scope)
    receive = tap.reader
    tap.take()

    async def run(scope: Scope, _: Receive, send: Send) -> None:
        await app(scope, receive, send)

    try:
        got = await answer(run, scope, receive)
    except asyncio.CancelledError:
        tap.hang_up()
        raise
    chunks = None if got.chunks is None else _until_closed(got.chunks, tap)
    return response(got.status, got.headers, chunks or got.body or b"")


async def connected(app: ASGIApp, scope: Scope) -> None:
    """Run `app` for the current WebSocket, on the connection itself; `scope` has a tap."""
    tap = tap_of(scope)
    tap.take()
    tap.end_with_view()
    connect: list[Message] = [{"type": "websocket.connect"}]  # Quart has had the server's

    async def receive() -> Message:
        return connect.pop() if connect else await tap.receive()

    await app(scope, receive, tap.send)


async def refusal(error: HTTPError) -> Response:
    """Return the problem document of `error`, with the headers it has everywhere."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    await send_problem(send, error)
    start, body = sent
    return response(start["status"], start["headers"], body["body"])


def response(status: int, headers: HeaderList, body: bytes | AsyncGenerator[bytes, None]) -> Response:
    """Return a response with exactly these headers, which Quart does not cut off after a time of its own."""
    made = Response(body, status)
    made.headers = Headers([(_text(name), _text(value)) for name, value in headers])
    made.timeout = None
    return made


def response_app(made: Response | WerkzeugResponse) -> ASGIApp:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        await send_connected(made, receive, send)

    return app


async def send_connected(made: Response | WerkzeugResponse, receive: Receive, send: Send) -> None:
    """Send a response; a stream ends when the client goes away."""
    if isinstance(made, Response) and not isinstance(made.response, DataBody):
        await while_connected(send_response(made, send), receive)
    else:
        await send_response(made, send)


async def send_response(made: Response | WerkzeugResponse, send: Send) -> None:
    await send({"type": "http.response.start", "status": made.status_code, "headers": encode_headers(made.headers)})
    async for piece in _pieces(made):
        body = piece.encode() if isinstance(piece, str) else piece
        await send({"type": "http.response.body", "body": body, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _pieces(made: Response | WerkzeugResponse) -> AsyncGenerator[str | bytes, None]:
    if isinstance(made, Response):
        async with made.response as body:
            async for piece in body:
                yield piece
    else:
        for piece in made.response:
            yield piece


async def _until_closed(chunks: AsyncGenerator[bytes, None], tap: Tap) -> AsyncGenerator[bytes, None]:
    try:
        async for chunk in chunks:
            yield chunk
    except (asyncio.CancelledError, GeneratorExit):
        tap.hang_up()
        raise
    finally:
        await chunks.aclose()


def _text(value: bytes) -> str:
    """Quart writes header values in UTF-8: what is valid in it comes out as it was."""
    try:
        return value.decode()
    except UnicodeDecodeError:
        return value.decode("latin-1")
