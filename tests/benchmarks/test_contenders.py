"""The contenders do the same work, and the harness notices one that does not. Nothing is timed."""

import asyncio
import json

import pytest

from tests.benchmarks import asgi, inside, layers, workload
from tests.benchmarks.answers import WrongAnswerError, expected, verify, without_ids_and_times
from tests.benchmarks.contenders import CONTENDERS, Contender

OTHER: dict[str, str | float] = {"city": "\u00c5rhus", "temperature": -7.25, "humidity": 0.9}


def post(app: asgi.ASGIApp, *bodies: bytes) -> list[tuple[int, bytes]]:
    async def send_all() -> list[tuple[int, bytes]]:
        async with asgi.running(app):
            return [await asgi.call(app, body) for body in bodies]

    return asyncio.run(send_all())


def load(contender: Contender) -> asgi.ASGIApp:
    if not contender.available:
        pytest.skip(f"{contender.requires} is not installed")
    return contender.load()


every_contender = pytest.mark.parametrize("contender", CONTENDERS.values(), ids=CONTENDERS)
every_computing_one = pytest.mark.parametrize(
    "contender", [contender for contender in CONTENDERS.values() if contender.computes], ids=lambda found: found.name
)


@every_contender
def test_the_measured_request_gets_the_same_answer(contender: Contender) -> None:
    """Every contender answers the load generator's request with the same JSON, apart from ids and times."""
    [(status, answer)] = post(load(contender), workload.BODY)
    verify(contender.name, status, answer)


@every_computing_one
def test_the_answer_is_computed_from_the_request(contender: Contender) -> None:
    """Other parameters give another answer, and every run has an id of its own."""
    other = json.dumps({"parameters": OTHER}).encode()
    (status, answer), (_, again) = post(load(contender), other, other)
    assert status == 200
    assert without_ids_and_times(answer) == expected(str(OTHER["city"]), -7.25, 0.9)
    assert json.loads(answer)["metadata"]["run_id"] != json.loads(again)["metadata"]["run_id"]


@every_computing_one
@pytest.mark.parametrize(
    "body",
    [b'{"parameters": {}}', b'{"parameters": {"city": 1}}', b'{"parameters": {"city": "x", "wind": 1}}'],
    ids=["missing", "wrong type", "unknown"],
)
def test_a_wrong_request_is_refused(contender: Contender, body: bytes) -> None:
    """Nobody is faster because it checks less: each contender refuses what the others refuse."""
    [(status, _)] = post(load(contender), body)
    assert status == 422


@pytest.mark.parametrize("name", layers.VARIANTS)
def test_a_variant_with_less_gives_the_same_answer(name: str) -> None:
    """Switching a layer off changes the cost of an answer, never the answer."""
    [(status, answer)] = post(layers.VARIANTS[name].load(), workload.BODY)
    verify(name, status, answer)


def right_answer() -> dict[str, object]:
    [(_, answer)] = post(CONTENDERS["reference"].load(), workload.BODY)
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
        verify("lazy", 200, json.dumps({**right_answer(), **change}).encode())


def test_a_refusal_is_noticed() -> None:
    """A contender that refuses the request is reported with its status and body."""
    with pytest.raises(WrongAnswerError, match="strict answered 401: no"):
        verify("strict", 401, b"no")


def test_the_load_generator_sends_the_parameters() -> None:
    """The body that is sent and the parameters that the answer is computed from are the same."""
    assert json.loads(workload.BODY) == {"parameters": workload.PARAMETERS}


def test_layers_are_measured_for_every_application() -> None:
    """The in-process harness calls each application and gives each a cost."""
    names = ("constant", "reference")
    costs = asyncio.run(layers.measure({name: CONTENDERS[name].load for name in names}, iterations=2, repeats=2))
    assert list(costs) == list(names)
    assert all(0 < cost < float("inf") for cost in costs.values())


def test_the_inside_is_measured_part_by_part() -> None:
    """The layers, the endpoint, the service and the sending have a time of their own, each more than nothing."""
    parts = asyncio.run(layers.measure_inside(iterations=2, repeats=2))
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
        post(app, workload.BODY)
