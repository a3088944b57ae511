import asyncio
import json
from collections.abc import Sequence

import pytest

from asgipipe.errors import HTTPError, StorageFullError, TooManyRequestsError, UnavailableError
from asgipipe.http.sse import RETRY, frame
from tests.http.endpoints.stages import Stage, on_stage
from tests.http.wire import JSON, Ask, invoke, until

DONE = "pipeline_completed"
KEY = (b"idempotency-key", b"k1")
ASYNC = "/invoke?mode=async"
STREAM = "/invoke?mode=stream"

# Accepted


def test_accepted() -> None:
    """202 comes with where the job is; what was asked for is what was submitted."""

    async def scene(stage: Stage) -> None:
        body = {"parameters": {"number": 3}, "run_name": "three", "timeout": 5}
        answer = await stage.ask(invoke(body, path=f"{ASYNC}&priority=7&delay=1.5&max_attempts=2"))
        (job,) = stage.jobs.jobs
        assert answer.status == 202
        assert answer.json() == {
            "job_id": job,
            "run_id": job,
            "status": "pending",
            "status_url": f"/jobs/{job}",
            "stream_url": f"/stream/{job}",
        }
        assert answer.header(b"location") == f"/jobs/{job}".encode()
        assert answer.header(b"vary") == b"Accept, Prefer"
        assert answer.header(b"preference-applied") is None
        assert answer.header(b"idempotent-replayed") is None
        (submission,) = stage.jobs.submitted
        assert submission.parameters == {"number": 3, "text": ""}
        assert (submission.run_name, submission.timeout) == ("three", 5)
        assert (submission.priority, submission.delay, submission.max_attempts) == (7, 1.5, 2)
        assert stage.deployment.metrics.snapshot().total_executions == 0

    on_stage(scene)


def test_preferred() -> None:
    """`Prefer: respond-async` is honoured, and the answer says so."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(invoke(None, (b"prefer", b"respond-async, wait=5")))
        assert (answer.status, answer.header(b"preference-applied")) == (202, b"respond-async")
        sync = await stage.ask(invoke(None, (b"prefer", b"respond-async"), path="/invoke?mode=sync"))
        assert (sync.status, sync.header(b"preference-applied")) == (200, None)

    on_stage(scene)


@pytest.mark.parametrize(
    ("root_path", "settings", "base", "jobs", "stream"),
    [
        ("", {"root_url_path": "/r", "api_url_path": "/v1"}, "/r/v1", "/r/v1/jobs", "/r/v1/stream"),
        ("/proxy", {}, "", "/proxy/jobs", "/proxy/stream"),
        ("/a b/", {"jobs_url_path": "/work/all"}, "", "/a%20b/work/all", "/a%20b/stream"),
        ("//evil", {"stream_url_path": "/events"}, "", "/evil/jobs", "/evil/events"),
    ],
)
def test_where_it_is(root_path: str, settings: dict[str, object], base: str, jobs: str, stream: str) -> None:
    """The links hold below prefixes, mounts and proxies, and are found there."""

    async def scene(stage: Stage) -> None:
        asked = Ask("POST", f"{root_path}{base}/invoke?mode=async", scope={"root_path": root_path})
        answer = await stage.ask(asked)
        (job,) = stage.jobs.jobs
        assert answer.json()["status_url"] == f"{jobs}/{job}"
        assert answer.json()["stream_url"] == f"{stream}/{job}"
        path = answer.json()["status_url"].replace("%20", " ")
        assert (await stage.ask(Ask("GET", path, scope={"root_path": root_path}))).status in (200, 404)

    on_stage(scene, settings)


def test_what_is_switched_off() -> None:
    """A link to an endpoint that is not there would be a lie."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(invoke(path=ASYNC))
        assert answer.status == 202
        assert (answer.json()["status_url"], answer.json()["stream_url"]) == (None, None)
        assert answer.header(b"location") is None
        assert (await stage.ask(Ask("GET", "/jobs"))).status == 404

    on_stage(scene, {"include_default_endpoints": ["INVOKE"]})


@pytest.mark.parametrize("path", [ASYNC, STREAM])
@pytest.mark.parametrize(
    "error", [UnavailableError("The store cannot be reached."), StorageFullError(), TooManyRequestsError()]
)
def test_not_accepted(path: str, error: HTTPError) -> None:
    """What the store refuses is refused before anything is answered, in a stream too."""

    async def scene(stage: Stage) -> None:
        stage.jobs.refusal = error
        answer = await stage.ask(invoke(path=path))
        assert answer.status == error.status
        assert answer.problem["detail"] == error.detail

    on_stage(scene)


@pytest.mark.parametrize("path", [ASYNC, STREAM])
@pytest.mark.parametrize(
    ("body", "status"), [(b"{", 400), ({"parameters": {"x": 1}}, 422), ({"timeout": 0}, 422), (b"[]", 422)]
)
def test_bad_bodies(path: str, body: object, status: int) -> None:
    """A body is read before anything is accepted, as for a run that is waited for."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(invoke(body, path=path))
        assert (answer.status, stage.jobs.submitted) == (status, [])
        assert answer.problem

    on_stage(scene)


def test_accepted_again() -> None:
    """The same key gives the same job; it was submitted once."""

    async def scene(stage: Stage) -> None:
        first = await stage.ask(invoke(None, KEY, path=ASYNC))
        again = await stage.ask(invoke(None, KEY, path=ASYNC))
        assert (first.status, first.header(b"idempotent-replayed")) == (202, None)
        assert (again.status, again.header(b"idempotent-replayed")) == (202, b"true")
        assert first.body == again.body
        assert first.header(b"location") == again.header(b"location")
        assert len(stage.jobs.submitted) == 1

    on_stage(scene)


# Streamed


def streamed(*headers: tuple[bytes, bytes], path: str = STREAM, body: object = None) -> Ask:
    return invoke(body, *headers, path=path)


@pytest.mark.parametrize(("path", "headers"), [(STREAM, []), ("/invoke", [(b"accept", b"text/event-stream")])])
def test_a_stream(path: str, headers: Sequence[tuple[bytes, bytes]]) -> None:
    """The answer is the events of the run from the first to the terminal one."""

    async def scene(stage: Stage) -> None:
        client = stage.client(streamed(*headers, path=path, body={"parameters": {"number": 2}}))
        await client.hears(RETRY)
        (job,) = stage.jobs.jobs
        stage.jobs.happen(job, "pipeline_started")
        await client.hears(b"id: 1\n")
        stage.jobs.happen(job, DONE)
        answer = await client.done()
        assert answer.body == RETRY + b"".join(map(frame, stage.jobs.events[job]))
        assert answer.header(b"content-type") == b"text/event-stream"
        assert answer.header(b"vary") == b"Accept, Prefer"
        assert stage.jobs.submitted[0].parameters == {"number": 2, "text": ""}
        assert stage.jobs.canceled == []

    on_stage(scene)


@pytest.mark.parametrize(("policy", "canceled"), [(None, True), ("cancel", True), ("continue", False)])
@pytest.mark.parametrize("server_cancels", [False, True])
def test_a_client_that_leaves(policy: str | None, canceled: bool, server_cancels: bool) -> None:
    """Its run is cancelled unless `on_disconnect` says otherwise, whichever way the server tells of it."""

    async def scene(stage: Stage) -> None:
        client = stage.client(streamed())
        await client.hears(RETRY)
        (job,) = stage.jobs.jobs
        if server_cancels:
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
        else:
            await client.leave()
        if canceled:
            await until(lambda: stage.jobs.canceled)
        assert stage.jobs.canceled == ([(job, "the client went away", "client")] if canceled else [])

    on_stage(scene, {"on_disconnect": policy})


def test_a_client_that_leaves_while_the_server_stops() -> None:
    """The job is not the client's any more: it goes on, here or elsewhere."""

    async def scene(stage: Stage) -> None:
        client = stage.client(streamed())
        await client.hears(RETRY)
        stage.deployment.lifecycle.begin_drain()
        await client.leave()
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_a_stream_that_the_server_ends() -> None:
    """A job that goes on elsewhere is not cancelled when its stream ends here."""

    async def scene(stage: Stage) -> None:
        client = stage.client(streamed())
        await client.hears(RETRY)
        stage.jobs.end_followers(next(iter(stage.jobs.jobs)))
        answer = await client.done()
        assert answer.complete
        assert b": the server is stopping" in answer.body
        assert stage.jobs.canceled == []

    on_stage(scene)


def test_a_stream_with_a_used_key() -> None:
    """It follows the first run from its beginning; whoever leaves it cancels nothing, for it is not theirs."""

    async def scene(stage: Stage) -> None:
        first = stage.client(streamed(KEY))
        await first.hears(RETRY)
        (job,) = stage.jobs.jobs
        stage.jobs.happen(job, "log")
        again, leaving = stage.client(streamed(KEY)), stage.client(streamed(KEY))
        await again.hears(b"id: 1\n")
        await leaving.hears(b"id: 1\n")
        await leaving.leave()
        stage.jobs.happen(job, DONE)
        one, other = await first.done(), await again.done()
        assert one.body == other.body
        assert one.header(b"idempotent-replayed") is None
        assert other.header(b"idempotent-replayed") == b"true"
        assert (stage.jobs.canceled, len(stage.jobs.submitted)) == ([], 1)

    on_stage(scene)


def test_a_stream_holds_no_place_of_a_request() -> None:
    """As many runs as are wanted can be watched beside `max_concurrency` requests at work."""

    async def scene(stage: Stage) -> None:
        clients = [stage.client(streamed()) for _ in range(3)]
        for client in clients:
            await client.hears(RETRY)
        assert (await stage.ask(invoke())).status == 200
        for job in stage.jobs.jobs:
            stage.jobs.happen(job, DONE)
        for client in clients:
            await client.done()

    on_stage(scene, {"max_concurrency": 1, "max_queue": 0})


def test_too_many_streams() -> None:
    """The run is refused before it is accepted."""

    async def scene(stage: Stage) -> None:
        stage.deployment.app_runner._built_in._streams._places.free = 0
        answer = await stage.ask(streamed())
        assert (answer.status, stage.jobs.submitted) == (429, [])

    on_stage(scene)


def test_through_a_body_in_pieces() -> None:
    """Nothing of the body is left in the way of noticing that the client leaves."""

    async def scene(stage: Stage) -> None:
        asked = Ask("POST", STREAM, [JSON, (b"content-length", b"2")], json.dumps({}).encode())
        client = stage.client(asked)
        await client.hears(RETRY)
        await client.leave()
        await until(lambda: stage.jobs.canceled)

    on_stage(scene)
