"""Answers that come piece by piece, and WebSockets."""

import asyncio

import pytest

from asgipipe.testing.client import Ask, Client, WebSocketClosed, WebSocketRefused, patience
from asgipipe.testing.headers import SECURE
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, PIECE
from asgipipe.testing.trial import Trial

ENDLESS = ("/ticks", "/ticks-in-thread")


async def _open_streams(client: Client) -> int:
    count: int = (await client.get("/open")).json()
    return count


async def _until_closed(client: Client, count: int) -> None:
    async with patience():
        while await _open_streams(client) > count:  # noqa: ASYNC110  # it may be another process that counts
            await asyncio.sleep(0.01)


@scenario(sockets=True)
async def a_stream_arrives_while_it_is_produced(trial: Trial) -> None:
    """Pieces of an endless stream arrive, in order, so nothing waits for its end; leaving ends it."""
    for name in ("full", "through"):
        client = await trial.client(name, BEARER)
        before = await _open_streams(client)
        for target in ENDLESS:
            async with client.stream(Ask("GET", target)) as stream:
                assert stream.status == 200
                received = b""
                async for piece in stream:
                    received += piece
                    if len(received) > 10 * len(PIECE):
                        break
                assert set(received) == set(PIECE.encode())
            await _until_closed(client, before)


@scenario(sockets=True)
async def a_stream_that_raises_does_not_look_complete(trial: Trial) -> None:
    """What was yielded arrives, and then the answer breaks off."""
    client = await trial.client("full")
    answer = await client.send(Ask("GET", "/breaks-off"))
    assert (answer.status, answer.body, answer.complete) == (200, PIECE.encode(), False), answer


@scenario(sockets=True)
async def a_stream_that_raises_breaks_off_through_native_middleware(trial: Trial) -> None:
    """Native middleware, which may make a response of its own from the pieces, does not put an end to them."""
    client = await trial.client("through", BEARER)
    answer = await client.send(Ask("GET", "/breaks-off"))
    assert (answer.status, answer.body, answer.complete) == (200, PIECE.encode(), False), answer


@scenario(sockets=True)
async def a_stream_has_every_header_once(trial: Trial) -> None:
    """Secure headers and the request id stand on answers that come piece by piece."""
    for name in ("full", "through"):
        client = await trial.client(name, BEARER)
        async with client.stream(Ask("GET", "/ticks")) as stream:
            names = [name.lower() for name, _ in stream.headers]
            assert [each for each in SECURE if names.count(each) != 1] == [], names


@scenario(sockets=True)
async def a_websocket_echoes(trial: Trial) -> None:
    """Text and bytes, both ways, and the code with which it is closed."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        for target, headers in (("/echo", BEARER), ("/echo-open", {})):
            async with client.websocket(target, headers) as socket:
                for message in ("text", "Grüße", "", b"\x00\xff", b""):
                    await socket.send(message)
                    assert await socket.receive() == message, (name, target)
                await socket.send("close 4001")
                with pytest.raises(WebSocketClosed) as closed:
                    await socket.receive()
                assert closed.value.code == 4001


@scenario(sockets=True)
async def a_websocket_needs_the_key(trial: Trial) -> None:
    """A handshake without the key is refused, at a WebSocket's path and anywhere else."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        for target in ("/echo", "/echo/", "//echo", "/nowhere", "/info", "/own"):
            with pytest.raises(WebSocketRefused) as refused:
                async with client.websocket(target):
                    raise AssertionError(f"{target} was accepted")
            assert refused.value.status in {401, 403}, target


@scenario(sockets=True)
async def a_websocket_to_no_websocket_is_refused(trial: Trial) -> None:
    """Where no WebSocket is served a handshake is refused, with the key too."""
    client = await trial.client("keyed")
    for target in ("/nowhere", "/info", "/invoke", "/named/x"):
        with pytest.raises(WebSocketRefused) as refused:
            async with client.websocket(target, BEARER):
                raise AssertionError(f"{target} was accepted")
        assert 400 <= refused.value.status < 500, (target, refused.value.status)
