"""An event stream by hand: one ASGI function, a queue for each follower, each event encoded once for all of them.

What waits for a follower is sent in one piece.

It sends what the pipeline of `feed` makes asgipipe send, from memory: there is nobody who could come back for it.
"""

import asyncio
import json
from datetime import UTC, datetime
from typing import Final
from uuid import uuid4

from tests.benchmarks.asgi import Receive, Scope, Send
from tests.benchmarks.contenders import gate
from tests.benchmarks.contenders.reference import read_body, respond

JOB_ID: Final = str(uuid4())
_HEADERS: Final = [(b"content-type", b"text/event-stream"), (b"cache-control", b"no-store, no-transform")]
_END: Final = b""

_followers: set["asyncio.Queue[bytes]"] = set()
_feeding: set["asyncio.Task[None]"] = set()


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["method"] == "GET":
        await follow(send)
        return
    count = json.loads(await read_body(receive))["parameters"]["count"]
    if count:
        _feeding.add(asyncio.ensure_future(feed(count)))
    await respond(send, 202 if count else 200, json.dumps({"job_id": JOB_ID}).encode())


async def follow(send: Send) -> None:
    events: asyncio.Queue[bytes] = asyncio.Queue()
    _followers.add(events)
    await send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
    await send({"type": "http.response.body", "body": b"retry: 1000\n\n", "more_body": True})
    ended = False
    while not ended:
        waiting = [await events.get()]
        while not events.empty():
            waiting.append(events.get_nowait())
        ended = waiting[-1] is _END
        await send({"type": "http.response.body", "body": b"".join(waiting), "more_body": True})
    await send({"type": "http.response.body", "body": b"", "more_body": False})


async def feed(count: int) -> None:
    await gate.opened()
    for number in range(count):
        event = frame(number + 1, "output_delta", {"delta": f"event number {number}"})
        for follower in _followers:
            follower.put_nowait(event)
        await asyncio.sleep(0)
    for follower in _followers:
        follower.put_nowait(frame(count + 1, "pipeline_completed", {"success": True}))
        follower.put_nowait(_END)


def frame(number: int, kind: str, data: object) -> bytes:
    event = {
        "id": number,
        "event_type": kind,
        "job_id": JOB_ID,
        "run_id": JOB_ID,
        "timestamp": datetime.now(UTC).isoformat(),
        "step_name": None,
        "data": data,
    }
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(event)}\n\n".encode()
