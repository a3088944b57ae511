"""The contenders do the same work, and the harness notices one that does not. Nothing is timed."""

import asyncio
import json
from functools import cache

import pytest

from tests.benchmarks import answering, asgi, inprocess, inside, layers
from tests.benchmarks.answering import Answer
from tests.benchmarks.answers import WrongAnswerError, without_ids_and_times
from tests.benchmarks.contenders import CONTENDERS, Contender
from tests.benchmarks.tasks import COMFORT, INVOKE, Parameters, Task

OTHER: Parameters = {"city": "\u00c5rhus", "temperature": -7.25, "humidity": 0.9}
# FastAPI's and pydantic's own defaults let an endpoint written by hand take a member that nobody asked for.
WRONG: dict[str, Parameters] = {"missing": {}, "wrong type": {"city": 1}}


@cache
def asked(name: str) -> tuple[Answer, Answer, list[Answer]]:
    """Start a contender once; return its answers to the measured request, to other parameters and to wrong ones."""
    contender = CONTENDERS[name]
    if not contender.available:
        pytest.skip(f"{contender.framework} is not installed")
    task = contender.task
    first, other, *refused = answering.answers(
        contender, task.request, task.body(OTHER), *(task.body(parameters) for parameters in WRONG.values())
    )
    return first, other, refused


every_contender = pytest.mark.parametrize("contender", CONTENDERS.values(), ids=CONTENDERS)
every_computing_one = pytest.mark.parametrize(
    "contender", [contender for contender in CONTENDERS.values() if contender.computes], ids=lambda found: found.name
)
every_task = pytest.mark.parametrize("task", [INVOKE, COMFORT], ids=lambda task: task.path)


@every_contender
def test_the_measured_request_gets_the_same_answer(contender: Contender) -> None:
    """Every contender answers the load generator's request with the same JSON, apart from ids and times."""
    (status, answer), _, _ = asked(contender.name)
    contender.task.verify(contender.name, status, answer)


@every_computing_one
def test_the_answer_is_computed_from_the_request(contender: Contender) -> None:
    """Other parameters give another answer."""
    _, (status, answer), _ = asked(contender.name)
    assert status == 200
    assert without_ids_and_times(answer) == contender.task.expected(str(OTHER["city"]), -7.25, 0.9)


@every_computing_one
def test_a_wrong_request_is_refused(contender: Contender) -> None:
    """Nobody is faster because it checks less: each contender refuses what the others refuse."""
    _, _, refused = asked(contender.name)
    assert [status for status, _ in refused] == [422] * len(WRONG)


@pytest.mark.parametrize("name", ["reference", "asgipipe_starlette_async"])
def test_an_unknown_parameter_is_refused(name: str) -> None:
    """The reference checks what asgipipe checks, unknown members too."""
    [(status, _)] = answering.answers(CONTENDERS[name], INVOKE.body({"city": "x", "wind": 1}))
    assert status == 422


@pytest.mark.parametrize("name", ["reference", "asgipipe_starlette_async"])
def test_every_run_has_an_id_of_its_own(name: str) -> None:
    """Ids are made anew for each request."""
    found = answering.answers(CONTENDERS[name], INVOKE.request, INVOKE.request)
    ids = [json.loads(answer)["metadata"]["run_id"] for _, answer in found]
    assert ids[0] != ids[1]


@pytest.mark.parametrize("subject", layers.variants(), ids=lambda subject: subject.name)
def test_a_variant_with_less_gives_the_same_answer(subject: inprocess.Subject) -> None:
    """Switching a layer off changes the cost of an answer, never the answer."""
    [(status, answer)] = answering.post(subject.load(), subject.task.path, subject.task.request)
    subject.task.verify(subject.name, status, answer)


def right_answer() -> dict[str, object]:
    [(_, answer)] = answering.answers(CONTENDERS["reference"], INVOKE.request)
    document: dict[str, object] = json.loads(answer)
    return document


@pytest.mark.parametrize(
    "change",
    [{"success": False}, {"outputs": {}}, {"error": "x"}, {"execution_time": 0}, {"metadata": {}}, {"more": 1}],
    ids=lambda change: next(iter(change)),
)
def test_a_wrong_answer_is_noticed(change: dict[str, object]) -> None:
    """A contender that leaves something out is named and stops the measurement."""
    with pytest.raises(WrongAnswerError, match="lazy answered"):
        INVOKE.verify("lazy", 200, json.dumps({**right_answer(), **change}).encode())


def test_a_refusal_is_noticed() -> None:
    """A contender that refuses the request is reported with its status and body."""
    with pytest.raises(WrongAnswerError, match="strict answered 401: no"):
        INVOKE.verify("strict", 401, b"no")


@every_task
def test_the_measured_request_leaves_a_default_to_be_filled_in(task: Task) -> None:
    """The body that is sent has the parameters that the answer is computed from, but for one."""
    assert task.body(OTHER) != task.request
    assert b"humidity" not in task.request


def test_every_application_is_measured_in_process() -> None:
    """The in-process harness calls each application and gives each a cost."""
    names = ("constant", "reference", "starlette_comfort")
    subjects = {name: inprocess.subject(name) for name in names}
    costs = asyncio.run(inprocess.measure(subjects, iterations=2, repeats=2))
    assert list(costs) == list(names)
    assert all(0 < cost < float("inf") for cost in costs.values())


def test_a_failure_apart_is_reported() -> None:
    """A contender that cannot be asked in its own process is named, with what that process said."""
    broken = Contender("nobody", "", "tests.benchmarks.contenders.nobody:app", "django")
    with pytest.raises(RuntimeError, match=r"nobody ended with status 1: [\s\S]*KeyError"):
        answering.answers(broken, b"")


def test_the_inside_is_measured_part_by_part() -> None:
    """The layers, the endpoint, the service and the sending have a time of their own, each more than nothing."""
    parts = asyncio.run(inside.measure_inside(iterations=2, repeats=2))
    *layers_found, endpoint, service, sending = parts
    assert layers_found
    assert (endpoint, service, sending) == (inside.ENDPOINT, inside.SERVICE, inside.SENDING)
    assert all(seconds > 0 for seconds in parts.values())


def test_an_application_that_fails_to_start_is_reported() -> None:
    """A failed lifespan startup is an error with the application's message, not a measurement."""

    async def app(scope: asgi.Scope, receive: asgi.Receive, send: asgi.Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.failed", "message": f"no {scope['type']} today"})

    with pytest.raises(RuntimeError, match="no lifespan today"):
        answering.post(app, INVOKE.path, INVOKE.request)
