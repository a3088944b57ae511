"""Streams that break off, and what a client does about it."""

import socket
import time

import httpx
import pytest

from asgipipe.client import (
    BusyError,
    DeploymentClient,
    ForeignAnswerError,
    InvocationError,
    Retry,
    UnknownError,
    UnreachableError,
    following,
)
from asgipipe.testing.client import soon
from tests.client.scripted import (
    AT_ONCE,
    JOB,
    STREAM_HEAD,
    Act,
    after,
    answer,
    envelope,
    event,
    header,
    in_turn,
    job,
    problem,
    reset,
    scripted,
    stream,
    until_left,
)

END = event(3, "pipeline_completed", envelope(a=1))


def test_each_event_once() -> None:
    """A follower comes back after breaks of every kind, from where it was, and gives each event once."""
    half = stream(event(1)) + event(2)[:-20]
    acts = [
        after(half, reset),
        reset,
        problem(503),
        stream(event(1), event(2), b": still here\n\n"),
        stream(event(2), END),
    ]
    with scripted(*acts) as server, DeploymentClient(server.url, retries=AT_ONCE) as client:
        events = client.job(JOB).stream()
        assert [one.id for one in events] == [1, 2, 3]
        assert (events.job_id, events.last_event_id) == (JOB, 3)
        assert events.result().outputs == {"a": 1}
    assert [header(request, "last-event-id") for request in server.asked] == ["0", "1", "1", "1", "2"]


def test_a_streamed_run_goes_on_as_its_job() -> None:
    """A run that a stream began is followed by its job's id when the connection is lost, and not begun again."""
    acts = [after(stream(event(1)), reset), stream(event(2), END)]
    with scripted(*acts) as server, DeploymentClient(server.url, retries=AT_ONCE) as client:
        assert [one.id for one in client.stream(city="London")] == [1, 2, 3]
    first, second = server.asked
    assert first.startswith(b"POST /invoke?mode=stream ")
    assert second.startswith(f"GET /stream/{JOB} ".encode())


def test_a_run_that_nobody_knows_the_begin_of() -> None:
    """Before its first event a stream is begun again with its key; without one, it is not."""
    with (
        scripted(after(STREAM_HEAD, reset), stream(event(1), event(2), END)) as server,
        DeploymentClient(server.url, retries=AT_ONCE) as client,
    ):
        assert client.stream().result().outputs == {"a": 1}
    first, second = [header(request, "idempotency-key") for request in server.asked]
    assert first == second is not None
    with (
        scripted(after(STREAM_HEAD, reset)) as server,
        DeploymentClient(server.url, retries=AT_ONCE) as client,
        pytest.raises(UnreachableError, match="cannot be reached"),
    ):
        client.stream(idempotency_key=None).result()


def test_a_stream_that_was_read_to_its_end() -> None:
    """204 ends a stream; what came of the job is asked for."""
    with (
        scripted(
            b"HTTP/1.1 204 No Content\r\nconnection: close\r\n\r\n", answer(200, job("completed", result=envelope(a=1)))
        ) as server,
        DeploymentClient(server.url) as client,
    ):
        assert client.job(JOB).stream(after=3).result().outputs == {"a": 1}
    assert header(server.asked[0], "last-event-id") == "3"


def test_a_job_that_failed() -> None:
    """The last event of a failed job is an event like others; its result raises."""
    last = event(1, "pipeline_failed", envelope(success=False))
    with scripted(stream(last)) as server, DeploymentClient(server.url) as client:
        events = client.job(JOB).stream()
        assert [(one.event_type, one.terminal, one.delta) for one in events] == [("pipeline_failed", True, None)]
        with pytest.raises(InvocationError, match="it broke"):
            events.result()


def test_leaving_a_stream_closes_its_connection() -> None:
    """Whoever leaves a stream before its end is gone for the server, too."""
    left: list[bytes] = []

    def watch(connection: socket.socket) -> None:
        connection.sendall(stream(event(1)))
        left.append(connection.recv(1))

    with scripted(watch) as server, DeploymentClient(server.url) as client, client.job(JOB).stream() as events:
        assert next(events).id == 1
    assert left == [b""]


def test_a_quiet_stream_is_asked_for_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream on which nothing comes, not even a comment, is given up for another one, as often as that happens."""
    monkeypatch.setattr(following, "SILENCE", 0.2)
    quiet = after(stream(b": hello\n\n"), until_left)
    acts = [quiet, quiet, *[stream(event(1, "pipeline_completed", envelope()))] * 20]  # should a busy machine need more
    with scripted(*acts) as server, DeploymentClient(server.url, retries=Retry(patience=0.0)) as client:
        assert [one.id for one in client.job(JOB).stream()] == [1]


def test_a_deployment_that_stays_away() -> None:
    """A deployment that was lost is asked for a bounded time; comments alone do not show that it is back."""
    lost = [httpx.Response(200, headers={"content-type": "text/event-stream"}, content=event(1))]
    cut = httpx.Response(200, headers={"content-type": "text/event-stream"}, content=b": cannot be read now\n\n")
    played = in_turn(*lost, *[cut] * 10_000)
    retry = Retry(first=0.001, longest=0.001, patience=0.1)
    client = DeploymentClient("http://flow.test", retries=retry, http=played.http)
    with pytest.raises(UnreachableError, match="was lost: the server ended the stream; the job may go on"):
        client.job(JOB).stream().result()


def test_what_was_never_there() -> None:
    """A deployment that has not answered yet is not waited for so long, and its reason is told."""
    began = time.monotonic()
    with (
        DeploymentClient("http://127.0.0.1:9", retries=Retry(times=2, first=0.0)) as client,
        pytest.raises(UnreachableError, match="cannot be reached"),
    ):
        client.job(JOB).stream().result()
    with (
        scripted(problem(429), problem(429)) as server,
        DeploymentClient(server.url, retries=Retry(times=1, first=0.0)) as client,
        pytest.raises(BusyError),
    ):
        client.stream().result()
    assert time.monotonic() - began < soon(5)


@pytest.mark.parametrize(
    ("act", "kind"),
    [
        (problem(404, "There is no job of this id."), UnknownError),
        (answer(200, {"hello": "there"}), ForeignAnswerError),
        (stream(b"data: hello\n\n"), ForeignAnswerError),
        (stream(b'data: {"id": 1}\n\n'), ForeignAnswerError),
    ],
)
def test_what_is_no_stream_of_ours(act: bytes, kind: type[Exception]) -> None:
    """What will not get better is told at once."""
    unknown = [answer(404, b"no", content_type="text/plain")] * 3  # where the endpoints might be instead
    with (
        scripted(act, *unknown) as server,
        DeploymentClient(server.url, retries=AT_ONCE) as client,
        pytest.raises(kind),
    ):
        client.job(JOB).stream().result()


def test_an_event_without_end() -> None:
    """An event that does not end is not collected for ever."""
    with (
        scripted(stream(b"data: " + b"x" * 1000)) as server,
        DeploymentClient(server.url, max_answer=1000) as client,
        pytest.raises(ForeignAnswerError),
    ):
        client.job(JOB).stream().result()


@pytest.mark.parametrize("act", [STREAM_HEAD, after(STREAM_HEAD, until_left)], ids=["closed", "quiet"])
def test_a_run_is_not_begun_twice(act: Act, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a key a stream that ends before its first event is not begun again, however it ended."""
    monkeypatch.setattr(following, "SILENCE", 0.5)
    with (
        scripted(act) as server,
        DeploymentClient(server.url, retries=AT_ONCE) as client,
        pytest.raises(UnreachableError, match="was lost"),
    ):
        client.stream(idempotency_key=None).result()
