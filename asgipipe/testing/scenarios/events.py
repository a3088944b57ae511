"""The events of a job as Server-Sent Events: GET /stream/{job_id}, and POST /invoke with `mode=stream`."""

import asyncio
import json
import re

from asgipipe.testing.client import Ask, Client, patience
from asgipipe.testing.headers import assert_once
from asgipipe.testing.jobs import (
    TERMINAL,
    EventText,
    Record,
    alike,
    blocks_of,
    canceled,
    counted,
    ended,
    event_text,
    first_event,
    followed,
    known,
    submission,
    submitted,
    unmarked,
    until,
    until_counted,
)
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, KEPT_EVENTS
from asgipipe.testing.trial import Trial

MEMBERS = ["id", "event_type", "job_id", "run_id", "timestamp", "step_name", "data"]
RFC_3339 = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z").fullmatch

TOLD = [
    ("pipeline_started", None),
    ("step_started", "spell"),
    ("progress", "spell"),
    ("log", "spell"),
    *[("output_delta", "spell")] * 2,
    ("step_completed", "spell"),
    ("output_delta", None),
    ("pipeline_completed", None),
]
"""The events of a run of the specimen `telling`, each with its step."""


@scenario(sockets=True, stores=True)
async def the_events_of_a_job_are_those_of_its_run(trial: Trial) -> None:
    """All that a run tells is an event with the contract's members, numbered without gaps, the envelope at the end."""
    client, reference = await trial.client("telling", BEARER), await trial.reference("telling", BEARER)
    parameters = {"name": "ab", "deltas": 1}
    job_id, theirs = await submitted(client, parameters), await submitted(reference, parameters)
    text = await followed(client, job_id)
    assert [(event["event_type"], event["step_name"]) for event in text.events] == TOLD
    assert text.ids == list(range(1, len(TOLD) + 1))
    for event in text.events:
        assert list(event) == MEMBERS
        assert (event["job_id"], event["run_id"]) == (job_id, job_id)
        assert RFC_3339(event["timestamp"]), event
    assert [event["timestamp"] for event in text.events] == sorted(event["timestamp"] for event in text.events)
    data = {event["event_type"]: event["data"] for event in text.events[:-2]}
    assert data["progress"] == {"fraction": 0.5, "message": "half of it", "step_name": "spell"}
    assert data["log"] == {"level": "warning", "logger": "conformance", "message": "spelling ab"}
    assert data["output_delta"] == {"delta": "b"}
    job = await known(client, job_id)
    assert text.events[-1]["data"] == job["result"]
    assert job["progress"] == data["progress"]
    expected = await followed(reference, theirs)
    assert _unmarked(text) == _unmarked(expected)


@scenario(sockets=True, stores=True)
async def a_job_that_is_retried_says_so_and_ends_once(trial: Trial) -> None:
    """Each attempt that raises is an event, numbers go on, and the one terminal event is the last one of all."""
    client = await trial.client("telling", BEARER)
    job_id = await submitted(client, {"name": "a", "fail": True})
    text = await followed(client, job_id)
    assert text.ids == list(range(1, len(text.ids) + 1))
    counts = {kind: text.types.count(kind) for kind in ("pipeline_started", "step_failed", "retrying")}
    assert counts == {"pipeline_started": 2, "step_failed": 2, "retrying": 1}, text.types
    assert [kind for kind in text.types if kind in TERMINAL] == ["pipeline_failed"]
    assert text.types[-1] == "pipeline_failed"
    job = await known(client, job_id)
    assert (job["status"], job["attempt"]) == ("failed", 2), job
    assert text.events[-1]["data"] == job["result"]


@scenario(sockets=True)
async def an_event_stream_is_one_to_the_letter(trial: Trial) -> None:
    """The type, no caching, `retry` once and first, each header once, and an end after the terminal event."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name, BEARER), await trial.reference(name, BEARER)
        job_id, theirs = await submitted(client, {"name": "a"}), await submitted(reference, {"name": "a"})
        await ended(reference, theirs)
        answer, expected = await client.get(f"/stream/{job_id}"), await reference.get(f"/stream/{theirs}")
        assert (answer.status, answer.complete) == (200, True), answer
        assert answer.header("content-type") == "text/event-stream"
        assert "no-transform" in (answer.header("cache-control") or ""), answer
        assert answer.body.startswith(b"retry: "), answer
        assert_once(answer)
        text = event_text(answer.body)
        assert (len(text.retries), text.types[-1]) == (1, "pipeline_completed")
        assert sorted(answer.names) == sorted(expected.names)
        assert unmarked(answer.body.decode()) == unmarked(expected.body.decode())
        replayed = await client.get(f"/stream/{job_id}")
        assert replayed.body == answer.body


@scenario(sockets=True, stores=True)
async def an_event_stream_goes_on_after_the_last_event_id(trial: Trial) -> None:
    """It begins after `Last-Event-ID`; at or past the terminal event it is a 204, so that EventSource stops."""
    client = await trial.client("keyed", BEARER)
    job_id = await submitted(client, {"name": "a"})
    whole = (await followed(client, job_id)).events
    for last in range(len(whole)):
        assert (await followed(client, job_id, last_event_id=str(last))).events == whole[last:], last
    for strange in ("x", "-1", ""):
        assert (await followed(client, job_id, last_event_id=strange)).events == whole, strange
    for past in (len(whole), len(whole) + 1, 10**17):
        answer = await client.get(f"/stream/{job_id}", last_event_id=str(past))
        assert (answer.status, answer.body) == (204, b""), (past, answer)
        assert_once(answer)


@scenario(sockets=True, stores=True)
async def events_arrive_while_the_job_runs(trial: Trial) -> None:
    """What has happened comes first, then silence is broken by comments, and a second follower misses nothing."""
    client = await trial.client("telling", BEARER)
    job_id = await submitted(client, {"name": "ab", "pause": 60.0})
    text = EventText()
    async with client.stream(Ask("GET", f"/stream/{job_id}")) as stream, patience():
        async for block in blocks_of(stream):
            text.add(block)
            if text.types[-1:] == ["step_completed"] and block.startswith(":"):
                break
        assert (await known(client, job_id))["status"] == "running"
        second = asyncio.create_task(followed(client, job_id, last_event_id=str(text.ids[-1])))
        await canceled(client, job_id)
        later = await second
    assert later.types == ["pipeline_canceled"], later
    assert later.ids == [text.ids[-1] + 1]


@scenario(sockets=True, stores=True)
async def events_that_are_no_longer_kept_are_said_to_be_gone(trial: Trial) -> None:
    """From the oldest kept event on, after a `log` event that says how many are missing."""
    client = await trial.client("telling", BEARER)
    job_id = await submitted(client, {"name": "a", "deltas": 3 * KEPT_EVENTS})
    await ended(client, job_id)
    for last in ("0", "2"):
        text = await followed(client, job_id, last_event_id=last)
        assert text.types[0] == "log", text.types[:3]
        assert "no longer kept" in text.events[0]["data"]["message"], text.events[0]
        assert text.events[0]["data"]["level"] == "warning", text.events[0]
        assert text.ids == list(range(text.ids[0], text.ids[0] + len(text.ids)))
        assert len(text.ids) <= KEPT_EVENTS + 1
        assert text.types[-1] == "pipeline_completed"


@scenario(sockets=True, stores=True)
async def a_streamed_run_is_a_job_that_is_followed(trial: Trial) -> None:
    """`mode=stream` answers with the events of a new job, which is then found like any other."""
    for name in ("keyed", "through"):
        client, reference = await trial.client(name, BEARER), await trial.reference(name, BEARER)
        ask = submission({"name": "ab"}, "mode=stream")
        answer, expected = await client.send(ask), await reference.send(ask)
        assert (answer.status, answer.complete) == (200, True), answer
        assert_once(answer)
        assert alike(answer) == alike(expected)
        text = event_text(answer.body)
        assert text.events[-1]["data"]["outputs"] == {"output": "ab"}
        job = await known(client, text.events[0]["job_id"])
        assert (job["status"], job["result"]) == ("completed", text.events[-1]["data"])
        assert (await followed(client, job["job_id"])).events == text.events


@scenario(sockets=True)
async def what_a_run_does_when_its_client_leaves_is_a_setting(trial: Trial) -> None:
    """By default a streamed run is cancelled and a sync one goes on; `on_disconnect` changes either."""
    usual, cancelling, continuing = [await trial.client(name, BEARER) for name in ("keyed", "telling", "limited")]
    assert await _left_streaming(usual) == "canceled"
    assert await _left_streaming(continuing, pause=0.1) == "completed"
    assert await _left_waiting(usual, pause=0.1) == "successful"
    assert await _left_waiting(cancelling, pause=60.0) == "canceled"


async def _left_streaming(client: Client, pause: float = 60.0) -> str:
    """Leave a streamed run as soon as it has begun, and return how it ends."""
    ask = submission({"name": "a", "pause": pause}, "mode=stream")
    async with client.stream(ask) as stream:
        job_id: str = (await first_event(stream))["job_id"]
    status: str = (await until(client, job_id, "completed", "failed", "canceled"))["status"]
    return status


async def _left_waiting(client: Client, pause: float) -> str:
    """Leave a run that is waited for as soon as it has begun, and return as what it is counted."""
    names = ("successful", "failed", "canceled")
    before = await counted(client)
    asking = asyncio.create_task(client.send(submission({"name": "a", "pause": pause}, "")))
    await until_counted(client, lambda now: now["in_flight"] > before["in_flight"] or _has_ended(now, before))
    asking.cancel()
    after = await until_counted(client, lambda now: _has_ended(now, before))
    return next(name for name in names if after[f"{name}_executions"] > before[f"{name}_executions"])


def _has_ended(now: Record, before: Record) -> bool:
    return bool(now["total_executions"] > before["total_executions"])


def _unmarked(text: EventText) -> str:
    return unmarked(json.dumps(text.events, separators=(",", ":")))
