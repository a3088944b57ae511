"""What is sent and what is made of the answers, without a network."""

import json
import pickle
import time
from typing import Any

import httpx
import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from asgipipe import CapturePolicy, pipeline
from asgipipe.client import (
    AnswerTimeoutError,
    BusyError,
    ClientError,
    ConflictRefusedError,
    DeploymentClient,
    ForeignAnswerError,
    InputRefusedError,
    InvocationError,
    InvocationTimeoutError,
    KeyRefusedError,
    OutputMismatchError,
    RefusedError,
    Retry,
    UnknownError,
    UnreachableError,
)
from asgipipe.errors import DefinitionError
from tests.client.scripted import AT_ONCE, JOB, Played, envelope, in_turn, job

URL = "http://flow.test/api"
PROBLEM = {"content-type": "application/problem+json"}


def client(played: Played, **options: Any) -> "DeploymentClient[Any]":
    return DeploymentClient(URL, **{"auth_key": "correct-horse", "retries": AT_ONCE, **options}, http=played.http)


def ok(**outputs: object) -> httpx.Response:
    return httpx.Response(200, json=envelope(**outputs))


def refused(status: int, detail: str = "No.", headers: dict[str, str] | None = None, **more: object) -> httpx.Response:
    document = {"type": f"urn:asgipipe:n{status}", "title": "T", "status": status, "detail": detail, **more}
    return httpx.Response(status, json=document, headers={**PROBLEM, **(headers or {})})


class City(BaseModel):
    name: str
    zip_code: int = 0


# What is sent


def test_an_invocation_is_one_request() -> None:
    """Parameters from a mapping and by name, the run's name, time-out and capture make the body; keys are headers."""
    played = in_turn(ok(a=1))
    found = client(played).invoke(
        {"run_name": "a parameter", "city": City(name="London")},
        days=2,
        run_name="mine",
        timeout=5,
        capture_override="full",
    )
    (request,) = played.asked
    assert (request.method, str(request.url)) == ("POST", f"{URL}/invoke?mode=sync")
    assert json.loads(request.content) == {
        "parameters": {"run_name": "a parameter", "city": {"name": "London", "zip_code": 0}, "days": 2},
        "run_name": "mine",
        "timeout": 5,
        "capture_override": {"mode": "full"},
    }
    assert request.headers["authorization"] == "Bearer correct-horse"
    assert len(request.headers["idempotency-key"]) == 32
    assert request.extensions["timeout"]["read"] == pytest.approx(35.0, abs=1.0)
    assert (found.value, found.outputs, found.run_id) == ({"a": 1}, {"a": 1}, JOB)


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        (CapturePolicy(mode="CUSTOM", logs="all"), {"mode": "CUSTOM", "logs": "all"}),
        ({"mode": "custom", "logs": "all"}, {"mode": "CUSTOM", "logs": "all"}),
        ("sampled(0.5)", {"mode": "sampled", "rate": 0.5}),
    ],
)
def test_capture_in_every_form(override: Any, expected: dict[str, object]) -> None:
    """A policy, its members, and the short form of one are sent as members."""
    played = in_turn(ok())
    client(played).invoke(capture_override=override)
    assert json.loads(played.asked[0].content)["capture_override"] == expected


def test_a_model_gives_the_parameters_that_were_set() -> None:
    """The fields of a model that nobody has set are left to the pipeline's own defaults."""
    played = in_turn(ok())
    client(played).invoke(City(name="London"))
    assert json.loads(played.asked[0].content)["parameters"] == {"name": "London"}


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"city": object()}, "no JSON form"),
        ({"idempotency_key": "a b"}, "visible ASCII"),
        ({"idempotency_key": ""}, "visible ASCII"),
        ({"capture_override": "everything"}, "capture_override: "),
    ],
)
def test_what_cannot_be_sent(arguments: dict[str, Any], expected: str) -> None:
    """What cannot be sent is refused before anything is."""
    played = in_turn()
    with pytest.raises((TypeError, ValueError), match=expected):
        client(played).invoke(**arguments)
    with pytest.raises(TypeError, match="by name and in the mapping: city"):
        client(played).invoke({"city": "London"}, city="Paris")
    assert played.asked == []


@pytest.mark.parametrize(
    ("url", "options", "expected"),
    [
        ("flow", {}, "'flow' is not the URL of a deployment"),
        ("ftp://flow.test", {}, "is not the URL"),
        ("http://flow.test/?key=hunter2", {}, "'http://flow.test/' is not the URL"),
        ("http://ada:hunter2@flow.test", {}, "leave them out"),
        ("http://flow.test", {"auth_key": "hunter2\n"}, "the key holds characters"),
        ("http://flow.test", {"auth_key": ""}, "the key holds characters"),
        ("http://flow.test", {"timeout": 0}, "positive number"),
    ],
)
def test_wrong_clients(url: str, options: dict[str, Any], expected: str) -> None:
    """A URL, key or time-out that can be none is refused at once, without a secret in the message."""
    with pytest.raises(ValueError, match=expected) as caught:
        DeploymentClient(url, **options)
    assert "hunter2" not in str(caught.value)


# What is repeated


def test_what_passes_is_sent_again_with_the_same_key() -> None:
    """An invocation is repeated where a connection is lost or the deployment is busy, always with one key."""
    played = in_turn(httpx.ReadError("reset"), refused(503), refused(429), ok(a=1))
    assert client(played).invoke().outputs == {"a": 1}
    assert len(played.asked) == 4
    assert len({request.headers["idempotency-key"] for request in played.asked}) == 1


def test_the_pause_is_what_the_deployment_asks_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After is waited for, up to a bound; beyond that, or the time of the call, the caller is told at once."""
    slept: list[float] = []
    monkeypatch.setattr(time, "sleep", slept.append)
    waiting = Retry(first=0.0, most_asked=7.0)
    played = in_turn(refused(429, headers={"retry-after": "7"}), ok())
    client(played, retries=waiting).invoke()
    assert slept == [7.0]
    for asked, options in (("8", {"retries": waiting}), ("40", {"timeout": 30.0})):
        played = in_turn(refused(429, headers={"retry-after": asked}))
        with pytest.raises(BusyError) as caught:
            client(played, **options).invoke()
        assert caught.value.retry_after == float(asked)
        assert str(caught.value) == f"{URL}/invoke answered 429: No; try again in {asked} s"
    assert slept == [7.0]


def test_attempts_are_bounded() -> None:
    """After the last attempt the caller gets what it has brought."""
    played = in_turn(*[refused(503, "Starting.") for _ in range(3)])
    with pytest.raises(BusyError, match="Starting; try again later"):
        client(played, retries=Retry(times=2, first=0.0)).invoke()
    assert len(played.asked) == 3
    played = in_turn(*[httpx.ConnectError("refused") for _ in range(3)])
    with pytest.raises(UnreachableError, match="cannot be reached: refused"):
        client(played, retries=Retry(times=2, first=0.0)).info()
    assert len(played.asked) == 3


def test_without_a_key_nothing_is_sent_twice() -> None:
    """Without an Idempotency-Key an invocation is repeated only where it was certainly not sent."""
    for lost in (httpx.ReadError("reset"), refused(503)):
        played = in_turn(lost)
        with pytest.raises(ClientError):
            client(played).invoke(idempotency_key=None)
        assert "idempotency-key" not in played.asked[0].headers
    played = in_turn(httpx.ConnectError("refused"), httpx.ConnectTimeout("slow"), ok())
    client(played).invoke(idempotency_key=None)


@pytest.mark.parametrize("status", [400, 401, 413, 415, 422, 500])
def test_what_would_be_refused_again_is_not_repeated(status: int) -> None:
    """A mistake in the request is told at once."""
    played = in_turn(refused(status))
    with pytest.raises(RefusedError):
        client(played).invoke()
    assert len(played.asked) == 1


def test_a_run_of_ours_that_goes_on_is_waited_for() -> None:
    """409 after an attempt that was lost is that attempt, still running: its answer is asked for until it is there."""
    played = in_turn(
        httpx.ReadError("reset"),
        *[refused(409) for _ in range(6)],
        httpx.Response(200, json=envelope(a=1), headers={"idempotent-replayed": "true"}),
    )
    found = client(played).invoke(idempotency_key="mine")
    assert (found.outputs, found.replayed) == ({"a": 1}, True)
    with pytest.raises(ConflictRefusedError):
        client(in_turn(refused(409))).invoke(idempotency_key="mine")


def test_the_deadline_holds_for_all_attempts() -> None:
    """No attempt is begun after the time of the call, and the message says what to do."""
    now = [0.0]

    def slow(request: httpx.Request) -> httpx.Response:
        now[0] += request.extensions["timeout"]["read"]
        raise httpx.ReadTimeout("slow")

    played = Played(slow)
    with pytest.raises(AnswerTimeoutError, match=r"within 30 s; the run may go on.*submit the run as a job") as caught:
        client(played, retries=Retry(clock=lambda: now[0])).invoke()
    assert isinstance(caught.value, TimeoutError)
    assert len(played.asked) == 1


# What comes back


def test_runs_that_failed() -> None:
    """A run that failed raises with its envelope, or returns it; past its deadline it is a TimeoutError, too."""
    for status, kind in ((500, InvocationError), (504, InvocationTimeoutError)):
        failed = httpx.Response(status, json=envelope(success=False))
        with pytest.raises(kind, match=f"ran one .{JOB}., which failed: it broke") as caught:
            client(in_turn(failed)).invoke()
        assert caught.value.invocation.error == "it broke"
        found = client(in_turn(httpx.Response(status, json=envelope(success=False)))).invoke(raise_on_failure=False)
        assert (found.success, found.outputs, found.run_id) == (False, None, JOB)
        with pytest.raises(InvocationError):
            _ = found.value


def test_what_a_gateway_says_is_no_run() -> None:
    """JSON of a gateway's with the status of a failed run is repeated, and refused as what it is."""
    played = in_turn(*[httpx.Response(504, json={"message": "Endpoint request timed out"}) for _ in range(2)])
    with pytest.raises(BusyError, match="answered 504"):
        client(played, retries=Retry(times=1, first=0.0)).invoke()
    with pytest.raises(RefusedError, match="answered 500"):
        client(in_turn(httpx.Response(500, json={"message": "Internal server error"}))).invoke()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, RefusedError),
        (401, KeyRefusedError),
        (403, KeyRefusedError),
        (404, UnknownError),
        (409, ConflictRefusedError),
        (422, InputRefusedError),
        (429, BusyError),
        (503, BusyError),
        (507, BusyError),
    ],
)
def test_refusals(status: int, kind: type[RefusedError]) -> None:
    """Each status has its error, with the members of the problem document; errors survive pickling."""
    errors = [{"loc": ["parameters", "days", 0], "msg": "too few", "type": "x"}]
    answers = [refused(status, "Bad days.", errors=errors, run_id="r", job_id="j") for _ in range(9)]
    with pytest.raises(kind) as caught:
        client(in_turn(*answers), retries=0).invoke()
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301  # our own
        assert type(error) is kind
        assert (error.status, error.type, error.title) == (status, f"urn:asgipipe:n{status}", "T")
        assert (error.detail, error.errors, error.run_id, error.job_id) == ("Bad days.", errors, "r", "j")
        assert str(error).startswith(f"{URL}/invoke answered {status}: Bad days: parameters.days.0: too few")


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(404, html="<p>nothing</p>"),
        httpx.Response(200, html="<p>hello</p>"),
        httpx.Response(200, json=["hello"]),
        httpx.Response(200, json={"success": True}),
        httpx.Response(204),
        httpx.Response(200, content=b'{"success"', headers={"content-type": "application/json"}),
    ],
)
def test_strangers(answer: httpx.Response) -> None:
    """What does not answer like a deployment is said to be none."""
    with pytest.raises(ForeignAnswerError, match="is the URL right"):
        client(Played(lambda _: answer)).invoke()


def test_redirects_are_not_followed() -> None:
    """The key goes to the given address alone, also with an httpx client that follows redirects."""
    played = Played(lambda _: httpx.Response(307, headers={"location": "http://evil.test/a"}))
    following = played.http
    following.follow_redirects = True
    with pytest.raises(ForeignAnswerError, match=r"redirects to http://evil.test/a, which is not followed") as caught:
        DeploymentClient(URL, auth_key="correct-horse", http=following).info()
    assert caught.value.status == 307
    assert [request.url.host for request in played.asked] == ["flow.test"]


def test_large_answers() -> None:
    """An answer is read up to a bound."""
    with pytest.raises(ForeignAnswerError, match="more than 1000 bytes"):
        client(Played(lambda _: httpx.Response(200, content=b"x" * 1001)), max_answer=1000).metrics()


def test_foreign_texts_are_one_short_line() -> None:
    """What the other side says does not steer a terminal, nor fill it."""
    with pytest.raises(RefusedError) as caught:
        client(in_turn(refused(400, "a\nb\x1b[31m" + "x" * 10_000))).invoke()
    assert str(caught.value).startswith(f"{URL}/invoke answered 400: a\\nb\\x1b[31mxxx")
    assert len(str(caught.value)) < 600


def test_the_key_is_nowhere() -> None:
    """Neither the client, nor its errors, nor what led to them shows the key."""
    played = Played(lambda _: refused(401))
    one = client(played)
    with pytest.raises(KeyRefusedError) as caught:
        one.invoke()
    shown = f"{one!r} {caught.value} {caught.value!r} {vars(caught.value)} {one._calls.caller!r} {one.job(JOB)!r}"
    with pytest.raises(UnreachableError) as lost:
        client(Played(lambda _: (_ for _ in ()).throw(httpx.ConnectError("no"))), retries=0).invoke()
    shown += f"{lost.value!r} {lost.value.__cause__!r} {vars(lost.value)}"
    assert "correct-horse" not in shown


# Outputs as types


class Forecast(BaseModel):
    city: str
    days: tuple[int, ...]


@pipeline
def forecast(city: str) -> Forecast:
    return Forecast(city=city, days=())


@pipeline
def pair() -> tuple[int, bytes]:
    return 1, b""


@pipeline
def nothing() -> None:
    pass


class Old:
    """What pydantic knows nothing of."""


class Outputs(TypedDict):
    output: Forecast


def test_outputs_as_what_the_pipeline_returns() -> None:
    """With the pipeline the value is of its return type, a tuple where it has several outputs."""
    answered = {"city": "Paris", "days": [1, 2]}
    found = DeploymentClient(URL, pipeline=forecast, http=in_turn(ok(output=answered)).http).invoke(city="Paris")
    assert found.value == Forecast(city="Paris", days=(1, 2))
    assert found.outputs == {"output": answered}
    both = DeploymentClient(URL, pipeline=pair, http=in_turn(ok(output_0=1, output_1="x")).http).invoke()
    assert both.value == (1, b"x")
    none = DeploymentClient(URL, pipeline=nothing, http=in_turn(ok(output=None)).http).invoke()
    assert none.value is None


def test_outputs_as_a_type() -> None:
    """With a type the value is all outputs by name, as that type."""
    played = in_turn(ok(output={"city": "Paris", "days": [1, 2]}))
    found = DeploymentClient(URL, output_type=Outputs, http=played.http).invoke(city="Paris")
    assert found.value == {"output": Forecast(city="Paris", days=(1, 2))}


def test_outputs_of_another_type() -> None:
    """Outputs that are not of the type say where, and not what they are."""
    with pytest.raises(
        OutputMismatchError, match=r"output\.days: Field required; it may serve another version"
    ) as caught:
        DeploymentClient(URL, pipeline=forecast, http=in_turn(ok(output={"city": "hunter2"})).http).invoke(city="x")
    assert "hunter2" not in str(caught.value)
    with pytest.raises(DefinitionError, match="output_type has type Old, which has no JSON form"):
        DeploymentClient(URL, output_type=Old)
    with pytest.raises(TypeError, match="the pipeline has its own"):
        DeploymentClient(URL, pipeline=forecast, output_type=Outputs)  # type: ignore[call-overload]


# Jobs


def test_pages_are_asked_for_as_they_are_read() -> None:
    """A list is read page by page, no further than its reader and its limit."""
    pages = [
        httpx.Response(200, json={"jobs": [job(), job()], "total": 5, "next_cursor": "b"}),
        httpx.Response(200, json={"jobs": [job(), job(), job()], "total": 5, "next_cursor": None}),
    ]
    played = in_turn(*pages)
    listed = client(played).jobs(status="completed", limit=4)
    assert played.asked == []
    assert len([next(listed), next(listed)]) == len(played.asked) + 1 == 2
    assert len(list(listed)) == 2
    assert [dict(request.url.params) for request in played.asked] == [
        {"status": "completed", "limit": "4"},
        {"status": "completed", "limit": "2", "cursor": "b"},
    ]


def test_a_job_is_waited_for_while_its_deployment_is_away() -> None:
    """Waiting goes on through restarts, and ends with the job."""
    played = in_turn(
        httpx.Response(200, json=job("running", progress={"fraction": 0.5, "message": "half", "step_name": None})),
        *[httpx.ConnectError("refused") for _ in range(9)],
        refused(503),
        httpx.Response(200, json=job("completed", result=envelope(a=1))),
    )
    assert client(played).job(JOB).result().outputs == {"a": 1}


def test_a_job_that_takes_too_long() -> None:
    """Waiting ends at the time given, and says that the job goes on."""
    played = Played(lambda _: httpx.Response(200, json=job("running")))
    with pytest.raises(AnswerTimeoutError, match=f"has not ended job {JOB} within 0.1 s; it goes on"):
        client(played).job(JOB).wait(0.1)
    assert 1 <= len(played.asked) <= 5


def test_segments_cannot_leave_their_place() -> None:
    """An id is one segment of a path, whatever it holds."""
    played = Played(lambda _: refused(404))
    with pytest.raises(UnknownError):
        client(played).job("../../admin?x=").show()
    assert played.asked[0].url.raw_path == b"/api/jobs/..%2F..%2Fadmin%3Fx%3D"


def test_probes() -> None:
    """ready() is False on 503, and neither probe is repeated."""
    played = in_turn(refused(503), httpx.Response(200, json={"status": "ready"}), refused(503, "Not healthy: x."))
    one = client(played)
    assert (one.ready(), one.ready()) == (False, True)
    with pytest.raises(BusyError, match="Not healthy: x"):
        one.health()
    assert len(played.asked) == 3
