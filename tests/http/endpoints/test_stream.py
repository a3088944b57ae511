import asyncio

import pytest

from asgipipe.errors import UnavailableError
from asgipipe.http.endpoints.stream import EventStreams
from asgipipe.http.sse import RETRY, frame
from tests.http.endpoints.stages import Stage, on_stage
from tests.http.wire import SECURE_HEADERS, Ask, until

DONE = "pipeline_completed"
UNKNOWN = "00000000-0000-7000-8000-000000000000"


def get(job_id: str, last: str | None = None, method: str = "GET") -> Ask:
    headers = [] if last is None else [(b"last-event-id", last.encode())]
    return Ask(method, f"/stream/{job_id}", headers)


def test_the_whole_story() -> None:
    """History comes first, then what happens; the answer ends after the terminal event."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, "pipeline_started", "step_started")
        client = stage.client(get(job))
        await client.hears(b"id: 2\n")
        stage.jobs.happen(job, "step_completed")
        await client.hears(b"id: 3\n")
        assert not client.task.done()
        stage.jobs.happen(job, DONE)
        answer = await client.done()
        assert answer.complete
        assert answer.body == RETRY + b"".join(map(frame, stage.jobs.events[job]))

    on_stage(scene)


def test_the_headers() -> None:
    """It is an event stream that nothing on the way may hold back, keep or compress; every header is there once."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, DONE)
        for method in ("GET", "HEAD"):
            answer = await stage.ask(get(job, method=method))
            assert answer.status == 200
            assert answer.header(b"content-type") == b"text/event-stream"
            assert answer.header(b"cache-control") == b"no-store, no-transform"
            assert answer.header(b"x-accel-buffering") == b"no"
            assert all(answer.header(name) for name in SECURE_HEADERS)
            assert bool(answer.body) is (method == "GET")

    on_stage(scene)


@pytest.mark.parametrize(
    ("last", "first"), [("2", 3), ("0", 1), ("", 1), ("x", 1), ("-2", 1), ("9" * 30, 1), ("4", 1), ("99", 1)]
)
def test_coming_back(last: str, first: int) -> None:
    """It goes on after the last event; a number that is no event's starts at the beginning."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, "log", "log", "log")
        client = stage.client(get(job, last))
        await client.hears(b"id: 3\n")
        assert client.body.startswith(RETRY + b"id: %d\n" % first)
        await client.leave()

    on_stage(scene)


@pytest.mark.parametrize(("last", "status"), [("1", 200), ("2", 204), ("3", 204), ("x", 200)])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_coming_back_after_the_end(last: str, status: int, method: str) -> None:
    """204 tells an EventSource that has seen the terminal event to stay away."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, "log", DONE)
        answer = await stage.ask(get(job, last, method))
        assert (answer.status, answer.complete) == (status, True)
        if status == 204:
            assert answer.body == b""
            assert answer.header(b"content-type") is None

    on_stage(scene)


@pytest.mark.parametrize("job_id", [UNKNOWN, "x", "0", "%2e", UNKNOWN.replace("-", ""), UNKNOWN + "0"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_nothing_to_follow(job_id: str, method: str) -> None:
    """A job that nobody knows is 404, and so is what cannot be the id of one."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(get(job_id, method=method))
        assert answer.status == 404
        if job_id == UNKNOWN and method == "GET":
            assert answer.problem["job_id"] == UNKNOWN

    on_stage(scene)


def test_ids_in_capitals() -> None:
    """A UUID is the same in any case (RFC 9562, section 4)."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, DONE)
        assert (await stage.ask(get(job.upper()))).status == 200

    on_stage(scene)


def test_a_follower_leaves() -> None:
    """Nothing is cancelled, whatever the policy; nothing of the follower is left."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        client = stage.client(get(job))
        await client.hears(RETRY)
        await client.leave()
        assert (stage.jobs.canceled, stage.jobs.following) == ([], 0)

    on_stage(scene, {"on_disconnect": "cancel"})


def test_the_server_cancels_the_request() -> None:
    """Some servers cancel what they wait for too long: nothing of the follower is left."""

    async def scene(stage: Stage) -> None:
        client = stage.client(get(stage.jobs.add()))
        await client.hears(RETRY)
        client.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await client.task

    on_stage(scene)


def test_the_server_stops() -> None:
    """A stream that ends before its job says so in a comment, which an EventSource takes no notice of; then it ends."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.happen(job, "log")
        client = stage.client(get(job))
        await client.hears(b"id: 1\n")
        stage.jobs.end_followers(job)
        answer = await client.done()
        assert answer.complete
        assert answer.body.endswith(b"\n\n: the server is stopping: come back, and go on at the last event\n\n")

    on_stage(scene)


def test_the_store_cannot_be_reached() -> None:
    """Before the first byte that is a 503, after it a comment and the end; neither is a failure of the server's."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        stage.jobs.refusal = UnavailableError("The store cannot be reached.")
        answer = await stage.ask(get(job))
        assert (answer.status, answer.complete) == (200, True)
        assert answer.body == RETRY + b": the events cannot be read now: come back, and go on at the last event\n\n"

        async def out_of_reach(_: str) -> None:
            raise UnavailableError("The store cannot be reached.")

        stage.jobs.get = out_of_reach  # type: ignore[assignment, method-assign]
        answer = await stage.ask(get(job))
        assert (answer.status, answer.header(b"retry-after")) == (503, b"1")

    on_stage(scene)


def test_silence() -> None:
    """After `stream_heartbeat` seconds without an event there is a comment."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        client = stage.client(get(job))
        await client.hears(b": still here\n\n")
        stage.jobs.happen(job, DONE)
        await client.hears(b"id: 1\n")
        await client.done()

    on_stage(scene, {"stream_heartbeat": 0.02})


def test_streams_hold_no_place_of_a_request() -> None:
    """More streams than `max_concurrency` are served, and requests beside them; each has a place among the streams."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        clients = [stage.client(get(job)) for _ in range(5)]
        for client in clients:
            await client.hears(RETRY)
        assert (await stage.ask(Ask("POST", "/invoke"))).status == 200
        streams: EventStreams = stage.deployment.app_runner._built_in._streams
        places = streams._places
        free, places.free = places.free, 0
        answer = await stage.ask(get(job))
        assert (answer.status, answer.header(b"retry-after")) == (429, b"1")
        places.free = free
        stage.jobs.happen(job, DONE)
        for client in clients:
            await client.done()
        assert places.free == free + 5

    on_stage(scene, {"max_concurrency": 1, "max_queue": 0})


def test_a_thousand_followers() -> None:
    """All of them get every event, and share its bytes."""

    async def scene(stage: Stage) -> None:
        job = stage.jobs.add()
        clients = [stage.client(get(job)) for _ in range(1000)]
        await until(lambda: stage.jobs.following == 1000)
        for number in range(3):
            stage.jobs.happen(job, "log", data=b'{"number":%d}' % number)
            await asyncio.sleep(0)
        stage.jobs.happen(job, DONE)
        for client in clients:
            await client.done()
        assert {client.body for client in clients} == {RETRY + b"".join(map(frame, stage.jobs.events[job]))}
        assert len(stage.deployment.app_runner._built_in._streams._frames._made) == 4

    on_stage(scene)


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS"])
def test_other_methods(method: str) -> None:
    """A stream is read, and nothing else."""

    async def scene(stage: Stage) -> None:
        answer = await stage.ask(get(stage.jobs.add(), method=method))
        assert (answer.status, answer.header(b"allow")) == (405, b"GET, HEAD")

    on_stage(scene)
