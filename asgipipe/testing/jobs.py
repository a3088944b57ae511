"""What scenarios say about jobs: asking for one, following it to its end, and the event stream taken apart."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from asgipipe.testing.client import Answer, Ask, Client, Headers, Stream, invoke, patience

NOBODY = "00000000-0000-7000-8000-000000000000"
"""The id of a job that nobody knows."""

TERMINAL = frozenset({"pipeline_completed", "pipeline_failed", "pipeline_canceled"})

Record = dict[str, Any]
"""Any JSON object."""

_ID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[0-9a-f]{4}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z")
_SECONDS = re.compile(r'("execution_time":)\d[\d.e-]*')


@dataclass
class EventText:
    """An event stream, or the part of one that was read; `events` are the data of its events."""

    events: list[Record] = field(default_factory=list)
    retries: list[str] = field(default_factory=list)
    comments: list[str] = field(default_factory=list)

    @property
    def types(self) -> list[str]:
        return [event["event_type"] for event in self.events]

    @property
    def ids(self) -> list[int]:
        return [event["id"] for event in self.events]

    def add(self, block: str) -> None:
        """Take a block, which ends with an empty line: an event, a comment, or the time to come back after."""
        fields: dict[str, str] = {}
        for line in block.splitlines():
            name, _, value = line.partition(":")
            assert name not in fields, f"a field is repeated in {block!r}"
            fields[name] = value.removeprefix(" ")
        if "" in fields:
            self.comments.append(fields[""])
        if "retry" in fields:
            self.retries.append(fields["retry"])
        if "data" not in fields:
            return
        event: Record = json.loads(fields["data"])
        said = {"id": str(event["id"]), "event": event["event_type"]}
        assert {name: fields.get(name) for name in said} == said, f"the fields are not those of the event: {block!r}"
        self.events.append(event)


def event_text(body: bytes) -> EventText:
    """Take a whole event stream apart."""
    text = EventText()
    blocks = body.decode().split("\n\n")
    assert blocks.pop() == "", f"it ends within an event: {body[-100:]!r}"
    for block in blocks:
        text.add(block)
    return text


async def blocks_of(stream: Stream) -> AsyncIterator[str]:
    """Yield the blocks of an event stream as they come."""
    rest = b""
    async for piece in stream:
        *whole, rest = (rest + piece).split(b"\n\n")
        for block in whole:
            yield block.decode()


async def first_event(stream: Stream) -> Record:
    """Return the first event of an event stream, and leave the rest unread."""
    text = EventText()
    async for block in blocks_of(stream):
        text.add(block)
        if text.events:
            return text.events[0]
    raise AssertionError("the stream ended without an event")


def submission(
    parameters: Mapping[str, object], query: str = "mode=async", headers: Headers | None = None, **members: object
) -> Ask:
    """Return a POST to /invoke with a query and further headers."""
    ask = invoke(parameters, target=f"/invoke?{query}" if query else "/invoke", **members)
    return Ask(ask.method, ask.target, {**ask.headers, **(headers or {})}, ask.body)


async def submitted(client: Client, parameters: Mapping[str, object], query: str = "", **members: object) -> str:
    """Have a run accepted as a job, and return its id."""
    answer = await client.send(submission(parameters, f"mode=async&{query}", None, **members))
    assert answer.status == 202, answer
    job_id: str = answer.json()["job_id"]
    return job_id


async def known(client: Client, job_id: str) -> Record:
    """Return the job as GET /jobs/{job_id} has it."""
    answer = await client.get(f"/jobs/{job_id}")
    assert answer.status == 200, answer
    job: Record = answer.json()
    return job


async def followed(client: Client, job_id: str, **headers: str) -> EventText:
    """Return all that the event stream of a job says until it ends."""
    answer = await client.get(f"/stream/{job_id}", **headers)
    assert answer.status == 200, answer
    assert answer.complete, answer
    return event_text(answer.body)


async def ended(client: Client, job_id: str) -> Record:
    """Wait for the end of a job, and return it."""
    await followed(client, job_id)
    return await known(client, job_id)


async def until(client: Client, job_id: str, *states: str) -> Record:
    """Wait until a job is in one of `states`, and return it."""
    async with patience():
        while (job := await known(client, job_id))["status"] not in states:  # noqa: ASYNC110  # another process runs it
            await asyncio.sleep(0.01)
    return job


async def counted(client: Client) -> Record:
    """Return what GET /metrics counts."""
    counts: Record = (await client.get("/metrics")).json()
    return counts


async def until_counted(client: Client, expected: Callable[[Record], bool]) -> Record:
    """Wait until GET /metrics is as `expected`, and return it."""
    async with patience():
        while not expected(counts := await counted(client)):  # noqa: ASYNC110  # another process counts
            await asyncio.sleep(0.01)
    return counts


async def canceled(client: Client, *job_ids: str) -> None:
    """Cancel jobs and wait for their ends."""
    for job_id in job_ids:
        answer = await client.send(Ask("POST", f"/jobs/{job_id}/cancel"))
        assert answer.status == 202, answer
        await until(client, job_id, "canceled")


def alike(answer: Answer) -> tuple[int, str, str]:
    """Return what two answers have in common whose ids, times and durations differ: status, type and body."""
    kind = answer.header("content-type") or ""
    return answer.status, kind, unmarked(answer.body.decode())


def unmarked(text: str) -> str:
    """Return JSON without what a clock or a counter put into it."""
    text = _SECONDS.sub(r"\1<seconds>", text)
    return _ID.sub("<id>", _TIME.sub("<time>", text))
