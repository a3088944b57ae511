"""WebSocket /stream: runs that are begun, followed and cancelled by messages."""

import base64
import json
from typing import Any

import pytest

from asgipipe.testing.client import SUBPROTOCOLS, Ask, Client, WebSocket, WebSocketClosed, WebSocketRefused
from asgipipe.testing.jobs import NOBODY, TERMINAL
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, KEY, ORIGIN
from asgipipe.testing.trial import Trial

TARGET = "/stream"

Frame = dict[str, Any]  # any JSON object


async def hear(socket: WebSocket) -> Frame:
    frame: Frame = json.loads(await socket.receive())
    return frame


async def ask(socket: WebSocket, message: object) -> Frame:
    await socket.send(message if isinstance(message, str | bytes) else json.dumps(message))
    return await hear(socket)


async def events_of(socket: WebSocket) -> list[Frame]:
    """Return all events up to the terminal one."""
    events = [await hear(socket)]
    while events[-1]["type"] not in TERMINAL:
        events.append(await hear(socket))
    return events


async def refused(client: Client, headers: dict[str, str]) -> int:
    """Return the status with which a handshake is refused, which it must be."""
    with pytest.raises(WebSocketRefused) as refusal:
        async with client.websocket(TARGET, headers):
            raise AssertionError(f"accepted with {headers}")
    return refusal.value.status


@scenario(sockets=True)
async def a_websocket_runs_the_pipeline(trial: Trial) -> None:
    """In the full form and as a bare body: `accepted` with the client's id, then every event, the envelope last."""
    parameters = {"name": "ä", "times": 2}
    for name in ("keyed", "through"):
        client = await trial.client(name)
        async with client.websocket(TARGET, BEARER) as socket:
            for message in ({"type": "invoke", "parameters": parameters, "id": [1]}, {"parameters": parameters}):
                accepted = await ask(socket, message)
                job_id = accepted["job_id"]
                assert accepted == {"type": "accepted", "id": message.get("id"), "job_id": job_id, "run_id": job_id}
                events = await events_of(socket)
                assert [event["id"] for event in events] == list(range(1, len(events) + 1))
                assert {event["job_id"] for event in events} == {job_id}
                assert all(event["type"] == event["event_type"] for event in events)
                assert events[0]["type"] == "pipeline_started"
                assert events[-1]["type"] == "pipeline_completed"
                assert events[-1]["data"]["outputs"] == {"output": "ää"}, events[-1]


@scenario(sockets=True)
async def a_websocket_follows_any_job(trial: Trial) -> None:
    """A subscription replays a job of another connection, from its first event or after the given one."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        async with client.websocket(TARGET, BEARER) as socket:
            job_id = (await ask(socket, {"parameters": {"name": "a"}}))["job_id"]
            whole = await events_of(socket)
        async with client.websocket(TARGET, BEARER) as socket:
            await socket.send(json.dumps({"type": "subscribe", "job_id": job_id}))
            assert await events_of(socket) == whole
        async with client.websocket(TARGET, BEARER) as socket:
            await socket.send(json.dumps({"type": "subscribe", "job_id": job_id, "last_event_id": 2}))
            assert await events_of(socket) == whole[2:]


@scenario(sockets=True)
async def a_websocket_cancels_a_job(trial: Trial) -> None:
    """A job that runs ends as canceled; one that has ended is a conflict, and one that nobody knows is not found."""
    client = await trial.client("keyed")
    async with client.websocket(TARGET, BEARER) as socket:
        job_id = (await ask(socket, {"parameters": {"name": "a", "pause": 60}}))["job_id"]
        assert (await hear(socket))["type"] == "pipeline_started"
        await socket.send(json.dumps({"type": "cancel", "job_id": job_id}))
        events = await events_of(socket)
        assert events[-1]["type"] == "pipeline_canceled"
        done = (await ask(socket, {"parameters": {"name": "a"}}))["job_id"]
        await events_of(socket)
        for job_id, status in ((done, 409), (NOBODY, 404)):
            refusal = await ask(socket, {"type": "cancel", "job_id": job_id, "id": "mine"})
            assert (refusal["type"], refusal["id"], refusal["status"]) == ("error", "mine", status), refusal


@scenario(sockets=True)
async def a_run_is_cancelled_with_its_websocket(trial: Trial) -> None:
    """A run whose client goes away ends as canceled, unless the settings say that it goes on (`on_disconnect`)."""
    for name, pause, last in (("keyed", 60, "pipeline_canceled"), ("limited", 0.1, "pipeline_completed")):
        client = await trial.client(name)
        async with client.websocket(TARGET, BEARER) as socket:
            job_id = (await ask(socket, {"parameters": {"name": "a", "pause": pause}}))["job_id"]
            assert (await hear(socket))["type"] == "pipeline_started"
        async with client.websocket(TARGET, BEARER) as socket:
            await socket.send(json.dumps({"type": "subscribe", "job_id": job_id}))
            events = await events_of(socket)
            assert events[-1]["type"] == last, (name, events)


@scenario(sockets=True)
async def a_websocket_outlives_bad_messages(trial: Trial) -> None:
    """Each is answered by an error with the message's id and the problem's status, and the connection goes on."""
    client = await trial.client("keyed")
    bad: list[tuple[object, int]] = [
        ("{", 400),
        (b"{}", 400),
        ("[]", 400),
        ({"type": "hello", "id": 1}, 400),
        ({"type": "invoke", "id": 1}, 422),
        ({"parameters": {"name": 1}, "id": 1}, 422),
        ({"type": "subscribe", "job_id": NOBODY, "id": 1}, 404),
        ({"type": "subscribe", "id": 1}, 422),
    ]
    async with client.websocket(TARGET, BEARER) as socket:
        for message, status in bad:
            frame = await ask(socket, message)
            assert (frame["type"], frame["status"]) == ("error", status), (message, frame)
            assert {"title", "detail"} <= frame.keys(), frame
            assert frame.get("id") == (1 if isinstance(message, dict) else None), (message, frame)
        assert (await ask(socket, {"parameters": {"name": "a"}}))["type"] == "accepted"


@scenario(sockets=True)
async def a_message_that_is_too_large_closes_the_websocket(trial: Trial) -> None:
    """With 1009; the deployment answers the next one."""
    client = await trial.client("keyed")
    async with client.websocket(TARGET, BEARER) as socket:
        await socket.send("x" * (1024 * 1024 + 1))
        with pytest.raises(WebSocketClosed) as closed:
            await socket.receive()
        assert closed.value.code == 1009
    async with client.websocket(TARGET, BEARER) as socket:
        assert (await ask(socket, "?"))["status"] == 400


@scenario(sockets=True)
async def a_websocket_of_ours_needs_the_key(trial: Trial) -> None:
    """In the header, or as a subprotocol, which is then the one agreed on unless `asgipipe` is offered too."""
    bearer = "bearer." + base64.urlsafe_b64encode(KEY.encode()).decode().rstrip("=")
    for name in ("keyed", "through"):
        client = await trial.client(name)
        assert await refused(client, {}) in {401, 403}
        assert await refused(client, {SUBPROTOCOLS: "bearer.bm8"}) in {401, 403}
        for offered, agreed in ((bearer, bearer), (f"{bearer}, asgipipe", "asgipipe")):
            async with client.websocket(TARGET, {SUBPROTOCOLS: offered}) as socket:
                assert socket.subprotocol == agreed
                assert (await ask(socket, "?"))["status"] == 400


@scenario(sockets=True)
async def a_websocket_is_not_for_pages_of_others(trial: Trial) -> None:
    """A page of an origin that is neither the service's own nor allowed cannot open any, the user's own ones too."""
    for name in ("keyed", "through"):
        client = await trial.client(name)
        assert await refused(client, {**BEARER, "origin": "https://evil.example"}) == 403
        with pytest.raises(WebSocketRefused):
            async with client.websocket("/echo-open", {"origin": "https://evil.example"}):
                raise AssertionError("accepted")
        async with client.websocket(TARGET, {**BEARER, "origin": ORIGIN}) as socket:
            assert (await ask(socket, "?"))["status"] == 400


@scenario(sockets=True)
async def the_path_of_a_websocket_is_for_nothing_else(trial: Trial) -> None:
    """Requests to it are 404, whatever their method."""
    client = await trial.client("keyed", BEARER)
    for method in ("GET", "POST", "OPTIONS"):
        assert (await client.send(Ask(method, TARGET))).status == 404, method
