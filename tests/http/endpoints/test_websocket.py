import asyncio
import gc
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import pytest

from asgipipe import Deployment
from asgipipe.errors import TooManyRequestsError, UnavailableError
from asgipipe.http.endpoints.websocket import Connection
from asgipipe.jobs.jobs import Submission
from asgipipe.testing.client import JSON, Ask, WebSocket, WebSocketClosed, WebSocketRefused, invoke
from asgipipe.testing.inprocess import InProcessClient
from tests.conftest import lifespan
from tests.http.held import HeldJobs
from tests.http.wire import until
from tests.running import Settings

UNKNOWN = "00000000-0000-7000-8000-000000000000"
DONE = "pipeline_completed"


def echo(number: int = 1, text: str = "", ratio: float = 0.5) -> int:
    return number


@dataclass
class Stage:
    """A deployment whose jobs a test moves on itself."""

    jobs: HeldJobs
    deployment: Deployment
    client: InProcessClient

    @asynccontextmanager
    async def connected(self) -> AsyncIterator["Talk"]:
        async with self.client.websocket("/stream") as socket:
            yield Talk(socket)


@dataclass
class Talk:
    socket: WebSocket

    async def say(self, message: object) -> None:
        await self.socket.send(message if isinstance(message, str | bytes) else json.dumps(message))

    async def hear(self) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(await self.socket.receive())
        return frame

    async def ask(self, message: object) -> dict[str, Any]:
        await self.say(message)
        return await self.hear()

    async def closed(self) -> int:
        with pytest.raises(WebSocketClosed) as closed:
            await self.socket.receive()
        return closed.value.code


def on_stage(scene: Callable[[Stage], Awaitable[None]], settings: Settings | None = None) -> None:
    async def main() -> None:
        deployment = Deployment(echo, settings, layers=())
        jobs = HeldJobs()
        setattr(deployment.service, "jobs", jobs)  # noqa: B010  # in the place of the real ones
        async with lifespan(deployment.asgi_app):
            before = asyncio.all_tasks()
            await scene(Stage(jobs, deployment, InProcessClient(deployment.asgi_app)))
            assert not jobs.following
            assert asyncio.all_tasks() == before
        assert deployment.lifecycle.active == 0

    asyncio.run(main())


# Invoking


@pytest.mark.parametrize(
    ("message", "parameters"),
    [
        ({"type": "invoke", "parameters": {"number": 2}}, {"number": 2, "text": "", "ratio": 0.5}),
        ({"type": "invoke"}, {"number": 1, "text": "", "ratio": 0.5}),
        ({"parameters": {"text": "ä"}}, {"number": 1, "text": "ä", "ratio": 0.5}),
        ({"parameters": None}, {"number": 1, "text": "", "ratio": 0.5}),
        ({}, {"number": 1, "text": "", "ratio": 0.5}),
    ],
)
def test_a_run_is_accepted_and_followed(message: object, parameters: Mapping[str, object]) -> None:
    """In the full form and as a bare body: an `accepted`, then each event with its `type`, to the terminal one."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            accepted = await talk.ask(message)
            (job_id,) = stage.jobs.jobs
            assert accepted == {"type": "accepted", "id": None, "job_id": job_id, "run_id": job_id}
            stage.jobs.happen(job_id, "pipeline_started", "log")
            stage.jobs.happen(job_id, DONE, data=b'{"success":true}')
            events = [await talk.hear() for _ in range(3)]
            assert [event["type"] for event in events] == ["pipeline_started", "log", DONE]
            assert all(event["type"] == event["event_type"] for event in events)
            assert [(event["id"], event["job_id"]) for event in events] == [(1, job_id), (2, job_id), (3, job_id)]
            assert events[-1]["data"] == {"success": True}
        assert stage.jobs.submitted == [Submission(dict(parameters))]
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_run_name_and_timeout_are_those_of_the_body() -> None:
    """What POST /invoke takes, a message takes too."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            await talk.ask({"type": "invoke", "run_name": "mine", "timeout": 2.5})
        (submission,) = stage.jobs.submitted
        assert (submission.run_name, submission.timeout) == ("mine", 2.5)

    on_stage(scene)


@pytest.mark.parametrize("given", ["a", 7, 1.5, None, True, [1, {"a": None}], {"x": []}, 10**30])
@pytest.mark.parametrize("bare", [True, False])
def test_the_id_comes_back(given: object, bare: bool) -> None:
    """Any JSON, with the acceptance and with errors."""
    kind = {} if bare else {"type": "invoke"}

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            assert (await talk.ask({**kind, "id": given}))["id"] == given
            refused = await talk.ask({**kind, "id": given, "parameters": {"nowhere": 1}})
            assert (refused["type"], refused["status"], refused["id"]) == ("error", 422, given)
            assert (await talk.ask({"type": "subscribe", "id": given, "job_id": UNKNOWN}))["id"] == given
            assert (await talk.ask({"type": "cancel", "id": given, "job_id": UNKNOWN}))["id"] == given

    on_stage(scene)


def test_an_id_beyond_floats_makes_no_invalid_frame() -> None:
    """A number that is infinite as a float comes back as null: RFC 8259 has no Infinity."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            frame = await talk.ask(f'{{"type": "cancel", "id": 1e999, "job_id": "{UNKNOWN}"}}')
            assert (frame["status"], frame["id"]) == (404, None)

    on_stage(scene)


# Messages that are refused


def subscribing(job_id: str, more: str = "") -> str:
    return f'{{"type": "subscribe", "job_id": "{job_id}"{more}}}'


BAD: dict[str, tuple[str | bytes, int]] = {
    "not JSON": ("{", 400),
    "nothing": ("", 400),
    "binary": (b'{"type": "invoke"}', 400),
    "NaN": ('{"parameters": {"ratio": NaN}}', 400),
    "a lone surrogate": ('{"parameters": {"text": "\\ud800"}}', 400),
    "nested too deeply": ("[" * 5000, 400),
    "a list": ("[]", 400),
    "a text": ('"invoke"', 400),
    "null": ("null", 400),
    "an unknown type": ('{"type": "hello"}', 400),
    "a type that is no text": ('{"type": {"a": 1}}', 400),
    "a type that is null": ('{"type": null}', 400),
    "unknown member": ('{"type": "invoke", "secret-4711": 1}', 422),
    "wrong parameter": ('{"parameters": {"number": "secret-4711"}}', 422),
    "unknown parameter": ('{"parameters": {"other": "secret-4711"}}', 422),
    "infinite": ('{"parameters": {"ratio": 1e999}}', 422),
    "timeout": ('{"timeout": -1}', 422),
    "subscribe to nothing": ('{"type": "subscribe"}', 422),
    "subscribe to a number": ('{"type": "subscribe", "job_id": 4711}', 422),
    "subscribe to no id": (subscribing("secret-4711"), 404),
    "subscribe to an unknown job": (subscribing(UNKNOWN), 404),
    "subscribe before the first": (subscribing(UNKNOWN, ', "last_event_id": -1'), 422),
    "subscribe after a text": (subscribing(UNKNOWN, ', "last_event_id": "4"'), 422),
    "subscribe after a huge number": (subscribing(UNKNOWN, f', "last_event_id": {10**30}'), 422),
    "subscribe with more": (subscribing(UNKNOWN, ', "more": 1'), 422),
    "cancel nothing": ('{"type": "cancel"}', 422),
    "cancel an unknown job": (f'{{"type": "cancel", "job_id": "{UNKNOWN}"}}', 404),
}


def test_a_bad_message_never_closes_the_connection() -> None:
    """Each is answered with an error frame of the problem's status, title and detail, which echoes nothing of it."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            for name, (message, status) in BAD.items():
                frame = await talk.ask(message)
                assert (frame["type"], frame["status"]) == ("error", status), (name, frame)
                assert isinstance(frame["title"], str), name
                assert ("errors" in frame) == (status == 422), name
                assert "secret-4711" not in str([each["msg"] for each in frame.get("errors", ())]), name
                assert "secret-4711" not in frame["detail"], name
            assert (await talk.ask({}))["type"] == "accepted"

    on_stage(scene)


def test_the_same_errors_as_over_http() -> None:
    """The entries of a 422 are those that POST /invoke gives for the same body."""
    body = {"parameters": {"number": "x", "other": 1}, "timeout": 0, "more": None}

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            frame = await talk.ask({**body, "type": "invoke", "id": 1})
        answer = await stage.client.send(Ask("POST", "/invoke", JSON, json.dumps(body).encode()))
        problem = answer.json()
        assert problem["status"] == 422
        assert {name: frame[name] for name in ("status", "title", "detail", "errors")} == {
            name: problem[name] for name in ("status", "title", "detail", "errors")
        }

    on_stage(scene)


@pytest.mark.parametrize("error", [TooManyRequestsError(), UnavailableError("The store is away.")])
def test_a_refused_submit_is_an_error_frame(error: Any) -> None:
    """When jobs are at their limit, or the store is away, the message hears it, and the connection stays."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            stage.jobs.refusal = error
            frame = await talk.ask({"id": 1})
            assert (frame["id"], frame["status"], frame["detail"]) == (1, error.status, error.detail)
            stage.jobs.refusal = None
            assert (await talk.ask({}))["type"] == "accepted"

    on_stage(scene)


def test_a_failure_of_ours_is_logged_and_says_nothing(caplog: pytest.LogCaptureFixture) -> None:
    """Whatever a store raises is a 500 without anything internal; submitting, and following."""

    async def scene(stage: Stage) -> None:
        known = stage.jobs.add()
        async with stage.connected() as talk:
            stage.jobs.refusal = OSError("/secret/path")
            for message in ({}, {"type": "subscribe", "job_id": known}):
                frame = await talk.ask(message)
                assert frame["status"] == 500
                assert "secret" not in json.dumps(frame)

    with caplog.at_level(logging.ERROR, "asgipipe"):
        on_stage(scene)
    assert caplog.text.count("OSError: /secret/path") == 2


def test_a_message_that_is_too_large_ends_the_connection() -> None:
    """1009, in bytes, text or binary; one of exactly the limit passes."""
    limit = 1024

    async def scene(stage: Stage) -> None:
        for large in ("x" * (limit + 1), "ä" * (limit // 2 + 1), b"x" * (limit + 1)):
            async with stage.connected() as talk:
                whole = json.dumps({"type": "invoke", "parameters": {"text": ""}})
                fitting = whole.replace('""', f'"{"x" * (limit - len(whole))}"')
                assert (await talk.ask(fitting))["type"] == "accepted"
                await talk.say(large)
                assert await talk.closed() == 1009

    on_stage(scene, {"max_message_size": limit})


# Subscribing


def test_a_subscription_reads_on_after_the_last_event() -> None:
    """From the first event without a number, else after it; a number that no event has yet counts as none."""

    async def scene(stage: Stage) -> None:
        job_id = stage.jobs.add()
        stage.jobs.happen(job_id, "pipeline_started", "log", "log")
        for last, first in ((None, 1), (0, 1), (2, 3), (99, 1)):
            async with stage.connected() as talk:
                given = {} if last is None else {"last_event_id": last}
                frame = await talk.ask({"type": "subscribe", "job_id": job_id.upper(), **given})
                assert frame["id"] == first
        stage.jobs.happen(job_id, DONE)
        async with stage.connected() as talk:
            await talk.say({"type": "subscribe", "job_id": job_id, "last_event_id": 99})
            assert (await talk.ask("?"))["type"] == "error"  # nothing came before it
            await until(lambda: not stage.jobs.following)
            assert (await talk.ask({"type": "subscribe", "job_id": job_id, "last_event_id": 3}))["type"] == DONE

    on_stage(scene)


def test_one_job_is_followed_once() -> None:
    """A second subscription to it is a conflict; when the first has ended it is none."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            job_id = (await talk.ask({}))["job_id"]
            assert (await talk.ask({"type": "subscribe", "job_id": job_id}))["status"] == 409
            stage.jobs.happen(job_id, DONE)
            assert (await talk.hear())["type"] == DONE
            await until(lambda: not stage.jobs.following)
            assert (await talk.ask({"type": "subscribe", "job_id": job_id}))["type"] == DONE

    on_stage(scene)


def test_subscriptions_are_bounded() -> None:
    """Row 10: of 1000 as many as `max_subscriptions` are followed; the others, and runs, are 429, until one ends."""
    limit = 5

    async def scene(stage: Stage) -> None:
        known = [stage.jobs.add() for _ in range(1000)]
        async with stage.connected() as talk:
            for job_id in known:
                await talk.say({"type": "subscribe", "job_id": job_id})
            frames = [await talk.hear() for _ in range(1000 - limit)]
            assert {frame["status"] for frame in frames} == {429}
            await until(lambda: stage.jobs.following == limit)
            assert (await talk.ask({}))["status"] == 429
            assert not stage.jobs.submitted
            stage.jobs.happen(known[0], DONE)
            assert (await talk.hear())["type"] == DONE
            await until(lambda: stage.jobs.following == limit - 1)
            assert (await talk.ask({}))["type"] == "accepted"

    on_stage(scene, {"max_subscriptions": limit})


def test_cancel() -> None:
    """A job is asked to end, by whomever it was begun; one that has ended is a conflict."""

    async def scene(stage: Stage) -> None:
        job_id, ended = stage.jobs.add(), stage.jobs.add()
        stage.jobs.happen(ended, DONE)
        async with stage.connected() as talk:
            await talk.say({"type": "cancel", "job_id": job_id.upper()})
            assert (await talk.ask({"type": "cancel", "job_id": ended, "id": 3}))["status"] == 409
        assert stage.jobs.canceled == [(job_id, None, "client")]

    on_stage(scene)


# The end


@pytest.mark.parametrize(("policy", "cancelled"), [(None, True), ("cancel", True), ("continue", False)])
def test_what_a_client_leaves_behind(policy: str | None, cancelled: bool) -> None:
    """Runs that were begun over the connection and go on are cancelled, unless told otherwise; others never are."""

    async def scene(stage: Stage) -> None:
        other = stage.jobs.add()
        async with stage.connected() as talk:
            ended = (await talk.ask({}))["job_id"]
            stage.jobs.happen(ended, DONE)
            assert (await talk.hear())["type"] == DONE
            left = (await talk.ask({}))["job_id"]
            stage.jobs.happen(other, "log")
            assert (await talk.ask({"type": "subscribe", "job_id": other}))["type"] == "log"
        expected = [(left, "the client went away", "client")] if cancelled else []
        assert stage.jobs.canceled == expected

    on_stage(scene, {"on_disconnect": policy})


def test_a_client_that_does_not_read_is_dropped() -> None:
    """Row 7: after `send_timeout` with a frame unread all of the connection ends, and what it began is cancelled."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            job_id = (await talk.ask({}))["job_id"]
            stage.jobs.happen(job_id, *["log"] * 5000)
            await until(lambda: stage.jobs.canceled)
            assert stage.jobs.following == 0
            stage.jobs.happen(job_id, DONE)

    on_stage(scene, {"send_timeout": 0.05})


def test_a_client_that_does_not_read_holds_up_nobody_else() -> None:
    """Its followers wait where they are; another connection hears everything meanwhile."""

    async def scene(stage: Stage) -> None:
        job_id = stage.jobs.add()
        async with stage.connected() as slow, stage.connected() as talk:
            await slow.say({"type": "subscribe", "job_id": job_id})
            await talk.say({"type": "subscribe", "job_id": job_id})
            stage.jobs.happen(job_id, *["log"] * 500)
            assert [(await talk.hear())["id"] for _ in range(500)] == list(range(1, 501))
            assert [(await slow.hear())["id"] for _ in range(500)] == list(range(1, 501))

    on_stage(scene)


def test_connections_are_told_of_a_drain() -> None:
    """1012 at once where nothing is followed, else with the last job; no more is begun, and none cancelled."""

    async def scene(stage: Stage) -> None:
        elsewhere = stage.jobs.add()
        async with stage.connected() as idle, stage.connected() as talk:
            job_id = (await talk.ask({}))["job_id"]
            await talk.say({"type": "subscribe", "job_id": elsewhere})
            await until(lambda: stage.jobs.following == 2)
            stage.deployment.lifecycle.begin_drain()
            assert await idle.closed() == 1012
            assert (await talk.ask({"type": "subscribe", "job_id": UNKNOWN}))["status"] == 503
            stage.jobs.happen(job_id, DONE)
            assert (await talk.hear())["type"] == DONE
            stage.jobs.end_followers(elsewhere)
            assert await talk.closed() == 1012
            with pytest.raises(WebSocketRefused) as refused:
                async with stage.connected():
                    pass
            assert refused.value.status == 503
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_nothing_is_cancelled_by_a_server_that_stops() -> None:
    """A client that goes while the server stops may have been sent away: its runs go on."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            await talk.ask({})
            stage.deployment.lifecycle.begin_drain()
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_a_cancelled_connection_leaves_no_task() -> None:
    """A server that cancels it gets its task back, followers included, and jobs are left alone."""

    async def scene(stage: Stage) -> None:
        async with stage.connected() as talk:
            await talk.ask({})
            await until(lambda: stage.jobs.following == 1)
            (task,) = [each for each in asyncio.all_tasks() if "_Conversation._run" in repr(each)]
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task
            assert stage.jobs.following == 0
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_a_connection_takes_no_place_of_a_request() -> None:
    """One that is open is no work: with a single place, another and a run are answered."""

    async def scene(stage: Stage) -> None:
        async with stage.connected(), stage.connected():
            assert (await stage.client.send(invoke())).status == 200

    on_stage(scene, {"max_concurrency": 1, "max_queue": 0})


def test_nothing_is_kept_of_connections() -> None:
    """Row 29: after many of them, with followers, nothing of them is left in memory."""

    async def scene(stage: Stage) -> None:
        def count() -> int:
            gc.collect()
            return sum(type(each) is Connection for each in gc.get_objects())  # isinstance asks strange objects

        before = count()
        for _ in range(20):
            async with stage.connected() as talk:
                await talk.ask({})
        assert count() <= before

    on_stage(scene)


# The handshake


@pytest.mark.parametrize(
    ("offered", "agreed"),
    [
        ("", None),
        ("chat", None),
        ("asgipipe", "asgipipe"),
        ("chat, bearer.a2V5", "bearer.a2V5"),
        ("bearer.a2V5, asgipipe", "asgipipe"),
    ],
)
def test_the_subprotocol_is_one_that_was_offered(offered: str, agreed: str | None) -> None:
    """Ours by its name, else the one that holds the key: browsers give up where none of theirs was chosen."""

    async def scene(stage: Stage) -> None:
        headers = {"authorization": "Bearer key", **({"sec-websocket-protocol": offered} if offered else {})}
        async with stage.client.websocket("/stream", headers) as socket:
            assert socket.subprotocol == agreed

    on_stage(scene, {"auth_key": "key"})


def test_without_the_key_the_handshake_is_refused() -> None:
    """By header or subprotocol, else 401; never by the path."""

    async def scene(stage: Stage) -> None:
        for headers in ({}, {"authorization": "Bearer wrong"}, {"sec-websocket-protocol": "bearer.d3Jvbmc"}):
            with pytest.raises(WebSocketRefused) as refused:
                async with stage.client.websocket("/stream", headers):
                    pass
            assert refused.value.status == 401

    on_stage(scene, {"auth_key": "key"})


@pytest.mark.parametrize("path", ["/stream/", "//stream", "/Stream", "/stream/a"])
def test_only_its_path_is_a_websocket(path: str) -> None:
    """Another is no WebSocket of ours."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(WebSocketRefused) as refused:
            async with stage.client.websocket(path):
                pass
        assert refused.value.status == 404

    on_stage(scene)


def test_it_is_switched_off_with_stream() -> None:
    """Without STREAM it is as any path where no WebSocket is."""

    async def scene(stage: Stage) -> None:
        with pytest.raises(WebSocketRefused) as refused:
            async with stage.connected():
                pass
        assert refused.value.status == 404

    on_stage(scene, {"include_default_endpoints": ["INVOKE", "JOBS"]})


def test_it_moves_with_its_setting() -> None:
    """`stream_url_path` and the prefixes place it."""

    async def scene(stage: Stage) -> None:
        async with stage.client.websocket("/r/v1/live") as socket:
            assert (await Talk(socket).ask({}))["type"] == "accepted"

    on_stage(scene, {"root_url_path": "/r", "api_url_path": "/v1", "stream_url_path": "/live"})
