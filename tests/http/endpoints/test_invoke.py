import asyncio
import json
import logging
import subprocess
import sys
import textwrap
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from enum import Enum
from typing import Annotated, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import AfterValidator, BaseModel, Field, FiniteFloat

from asgipipe import DefinitionError, Deployment, pipeline, step
from asgipipe.http.endpoints.invoke import InvokeBody
from asgipipe.http.types import ASGIApp, Message
from asgipipe.pipelines.pipeline import as_pipeline
from tests.conftest import PATIENCE, lifespan
from tests.http.wire import JSON, Ask, Reply, ask, ask_one, deployed, http_scope, invoke, reply, until
from tests.running import started


class Config(BaseModel):
    rate: float = 0.5


def configured(config: Config, default: list[float] = []) -> float:  # noqa: B006  # a copy for each run
    return config.rate


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b'{"parameters":{"config":{"rate":1e400}}}', ["parameters", "config", "rate"]),
        (b'{"parameters":{"config":{},"default":[1.0,-1e999]}}', ["parameters", "default", 1]),
        (b'{"parameters":{"config":{"rate":1' + b"0" * 310 + b"}}}", ["parameters", "config", "rate"]),
    ],
)
def test_no_infinity_gets_in(body: bytes, place: list[str | int]) -> None:
    """A number that is infinite once it is read is refused where it stands, also inside models, whose own settings
    allow it, and whatever the parameter is called.
    """
    (error,) = ask_one(configured, invoke(body)).problem["errors"]
    assert error == {"loc": place, "msg": "Input should be a finite number", "type": "finite_number"}


# Validators of the user's


def raising(error: Exception) -> Callable[[int], int]:
    def check(value: int) -> int:
        raise error

    return check


@pytest.mark.parametrize("error", [ValueError("must be even"), AssertionError("must be even")])
def test_a_validator_that_refuses(error: Exception) -> None:
    """ValueError and AssertionError are how a validator says no."""

    def served(x: Annotated[int, AfterValidator(raising(error))]) -> int:
        return x

    answer = ask_one(served, invoke({"parameters": {"x": 1}}))
    assert answer.status == 422
    assert answer.problem["errors"][0]["loc"] == ["parameters", "x"]
    assert "must be even" in answer.problem["errors"][0]["msg"]


@pytest.mark.parametrize("text", ["x" * 1_000_000, "a\nb"])
def test_what_a_validator_says_is_bounded(text: str) -> None:
    """Its message is cut."""

    def served(x: Annotated[int, AfterValidator(raising(ValueError(text)))]) -> int:
        return x

    answer = ask_one(served, invoke({"parameters": {"x": 1}}))
    assert answer.status == 422
    assert len(answer.problem["errors"][0]["msg"]) <= 500


@pytest.mark.parametrize(
    "error",
    [
        KeyError("/srv/secret"),
        TypeError("/srv/secret"),
        ZeroDivisionError(),
        RuntimeError("/srv/secret"),
        ValueError("\ud800"),
    ],
)
def test_a_validator_that_fails(error: Exception, caplog: pytest.LogCaptureFixture) -> None:
    """Anything else it raises is a failure of the server's: a 500 that says nothing, and a log record that says why."""

    def served(x: Annotated[int, AfterValidator(raising(error))]) -> int:
        return x

    failed, after = ask(served, {}, invoke({"parameters": {"x": 1}}), Ask("GET", "/health"))
    assert failed.problem["type"] == "urn:asgipipe:internal"
    assert b"/srv/secret" not in failed.body
    assert after.status == 200
    assert [record.levelno for record in caplog.records if record.levelno >= logging.ERROR] == [logging.ERROR]


# Types that cannot be served


def test_a_type_without_json_form() -> None:
    """The error names the pipeline, the parameter and the type."""

    class Socket: ...

    def served(x: Socket) -> int:
        return 1

    with pytest.raises(
        DefinitionError, match=r"pipeline 'served': parameter 'x' has type .*Socket, which has no JSON form"
    ):
        _ = as_pipeline(served).contract


def test_pydantics_own_words_are_kept() -> None:
    """Where pydantic knows the way out, the error says it."""

    def constrained(x: Annotated[int, Field(discriminator="a")]) -> int:
        return 1

    with pytest.raises(
        DefinitionError, match=r"parameter 'x' has type int, which cannot be served: .*discriminated union"
    ):
        _ = as_pipeline(constrained).contract


# Outputs


def output_of(target: Callable[..., object]) -> object:
    schema = as_pipeline(target).contract.output_schema
    properties = schema["properties"]
    assert isinstance(properties, dict)
    return {key: value for key, value in properties["output"].items() if key != "title"}


def plain() -> float:
    return float("nan")


def nested() -> list[float]:
    return [float("inf")]


def finite() -> FiniteFloat:
    return 1.5


def bounded() -> Annotated[float, Field(ge=0, le=1)]:
    return 0.5


@pytest.mark.parametrize(
    ("target", "schema"),
    [
        (plain, {"type": ["number", "null"]}),
        (nested, {"type": "array", "items": {"type": ["number", "null"]}}),
        (finite, {"type": "number"}),
        (bounded, {"type": "number", "minimum": 0, "maximum": 1}),
    ],
)
def test_the_schema_of_a_float_tells_of_null(target: Callable[..., object], schema: object) -> None:
    """NaN and infinity become null, so the schema allows it, unless the type promises that the number is finite."""
    assert output_of(target) == schema


def test_the_schema_of_a_parameter_does_not() -> None:
    """Null is not accepted for a float."""
    schema = as_pipeline(configured).contract.input_schema
    assert "null" not in json.dumps(schema)


# Bodies that are wrong a million times


class Row(BaseModel):
    values: list[int] = []


HOSTILE = {
    "wrong items": ("list[int]", "b'{\"parameters\":{\"x\":[' + b'\"\",' * (MIB // 3) + b'1]}}'"),
    "wrong items in a model": (
        "dict[str, Row]",
        'b\'{"parameters":{"x":{"a":{"values":[\' + b\'"",\' * (MIB // 3) + b\'1]}}}}\'',
    ),
    "a union": ("int | str | list[bool]", "b'{\"parameters\":{\"x\":[' + b'[],' * (MIB // 3) + b'1]}}'"),
    "unknown members": ("int", "b'{\"parameters\":{' + b','.join(b'\"%x\":1' % i for i in range(MIB // 10)) + b'}}'"),
    "an unknown member": ("int", "b'{\"zzz\":[' + b'[],' * (MIB // 3) + b'1]}'"),
    "no JSON at the end": ("list[int]", "b'{\"parameters\":{\"x\":[' + b'1,' * (MIB // 2) + b'x]}}'"),
}
MEMORY_PER_BYTE = 80
"""What reading a body into Python's objects costs at most, refused or not: an empty list of 3 bytes takes 64."""


@pytest.mark.parametrize("case", HOSTILE)
def test_a_refusal_costs_no_more_than_reading(case: str) -> None:
    """Of 4 MiB in which everything is wrong, a refusal of bounded size is made in the memory that reading takes."""
    annotation, body = HOSTILE[case]
    program = f"""
        import resource
        from pydantic import BaseModel
        from asgipipe.errors import HTTPError
        from asgipipe.http.endpoints.invoke import InvokeBody
        from asgipipe.pipelines.pipeline import as_pipeline

        class Row(BaseModel):
            values: list[int] = []

        def served(x: {annotation}) -> int:
            return 1

        MIB = 4 * 2**20
        reader = InvokeBody(as_pipeline(served).contract)
        body = {body}

        def refuse(body):
            try:
                reader.read(body)
            except HTTPError as error:
                return error
            raise AssertionError("nothing was refused")

        refuse(body[:20_000])
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        error = refuse(body)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024
        print(error.status, len(error.errors or ()), len(str(error.errors)), grown // len(body))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, timeout=PATIENCE, check=True
    )
    status, listed, size, memory = map(int, done.stdout.split())
    assert status == (400 if case == "no JSON at the end" else 422)
    assert listed <= 100
    assert size < 20_000
    assert memory <= MEMORY_PER_BYTE


def test_a_large_body_is_refused_at_its_first_wrong_item() -> None:
    """A small one lists every wrong item, a large one the first of each list."""

    def served(x: list[int]) -> int:
        return len(x)

    small, large, right = ask(
        served, {}, *(invoke({"parameters": {"x": items}}) for items in (["a"] * 5, ["a"] * 5000, [1] * 50_000))
    )
    assert len(small.problem["errors"]) == 5
    assert large.problem["errors"] == [
        {"loc": ["parameters", "x", 0], "msg": "Input should be a valid integer", "type": "int_type"}
    ]
    assert right.json()["outputs"] == {"output": 50_000}


class Colour(Enum):
    RED = "red"


def typed(
    name: str,
    number: int = 1,
    ratio: float = 0.5,
    tags: list[str] = [],  # noqa: B006  # a copy for each run
    table: dict[str, int] = {},  # noqa: B006  # a copy for each run
    colour: Colour = Colour.RED,
    maybe: int | None = None,
    anything: Any = None,
) -> str:
    return name


READER = InvokeBody(as_pipeline(typed).contract)


def verdict(body: bytes) -> int:
    async def main() -> int:
        return (await reply(TYPED, Ask("POST", "/invoke", [JSON], body))).status

    return asyncio.run(main())


TYPED: ASGIApp = deployed(pipeline(blocking=False)(typed))

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=12,
)
names = st.sampled_from(["name", "number", "ratio", "tags", "table", "colour", "maybe", "anything", "other"])
bodies = st.one_of(
    st.binary(max_size=200),
    st.text(max_size=200).map(lambda text: text.encode("utf-8", "surrogatepass")),
    json_values.map(lambda value: json.dumps(value).encode()),
    st.dictionaries(
        st.sampled_from(["parameters", "run_name", "timeout", "capture_override", "other"]),
        json_values | st.dictionaries(names, json_values),
    ).map(lambda value: json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")),
)


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(body=bodies)
def test_no_body_is_the_servers_fault(body: bytes) -> None:
    """Any bytes at all are answered, and never with a 5xx; at 200, all of them can be read as JSON again."""
    assert verdict(body) in {200, 400, 422}


@settings(max_examples=100, deadline=None)
@given(query=st.binary(max_size=100), content_type=st.binary(max_size=60))
def test_no_query_or_content_type_is_the_servers_fault(query: bytes, content_type: bytes) -> None:
    """Nor are any bytes in the query or in a header."""

    async def main() -> Reply:
        headers = [(b"content-type", content_type), (b"accept", content_type), (b"prefer", content_type)]
        asked = Ask("POST", "/invoke", headers, b'{"parameters":{"name":"a"}}', scope={"query_string": query})
        return await reply(TYPED, asked)

    assert asyncio.run(main()).status in {200, 400, 415}


# When the client goes away


class Client:
    """A client of one request that can leave at any moment."""

    def __init__(self, app: ASGIApp, asked: Ask) -> None:
        self.inbox: asyncio.Queue[Message] = asyncio.Queue()
        self.sent: list[Message] = []
        self.task = asyncio.ensure_future(app(http_scope(asked), self.inbox.get, self._send))

    async def _send(self, message: Message) -> None:
        self.sent.append(message)

    def send_body(self, body: bytes = b"", *, more: bool = False) -> None:
        self.inbox.put_nowait({"type": "http.request", "body": body, "more_body": more})

    def leave(self) -> None:
        self.inbox.put_nowait({"type": "http.disconnect"})

    async def done(self) -> None:
        await asyncio.wait_for(self.task, PATIENCE)


class Work:
    """A pipeline that waits between two steps, in each of the three ways to run one."""

    def __init__(self) -> None:
        self.seen: list[str] = []
        self.gate = threading.Event()
        self.opened = asyncio.Event()

    def sync(self, x: int = 1) -> int:
        first(self)
        self.gate.wait(PATIENCE)
        second(self)
        return x

    async def coroutine(self, x: int = 1) -> int:
        first(self)
        await self.opened.wait()
        second(self)
        return x

    def generator(self, x: int = 1) -> Iterator[str]:
        first(self)
        yield "a"
        self.gate.wait(PATIENCE)
        second(self)
        yield "b"

    async def async_generator(self, x: int = 1) -> AsyncIterator[str]:
        first(self)
        yield "a"
        await self.opened.wait()
        second(self)
        yield "b"

    def open(self) -> None:
        self.gate.set()
        self.opened.set()


@step
def first(work: Work) -> None:
    work.seen.append("first")


@step
def second(work: Work) -> None:
    work.seen.append("second")


async def settled(deployment: Deployment) -> bool:
    """Nothing is left of a request or a run."""
    await until(lambda: deployment.metrics.snapshot().in_flight == 0 and deployment.lifecycle.active == 0)
    answer = await reply(deployment.asgi_app, Ask("GET", "/metrics"))
    return bool(answer.json()["in_flight"] == 0)


KINDS = ["sync", "coroutine", "generator", "async_generator"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("policy", ["continue", None])
def test_a_run_goes_on_without_its_client(kind: str, policy: str | None) -> None:
    """By default, and with `continue`, a sync run is finished whether or not anybody waits for it."""

    async def main() -> None:
        work = Work()
        async with started(getattr(work, kind), {"on_disconnect": policy}) as deployment:
            client = Client(deployment.asgi_app, invoke())
            client.send_body()
            await until(lambda: work.seen)
            client.leave()
            await asyncio.sleep(0)
            work.open()
            await client.done()
            assert work.seen == ["first", "second"]
            assert await settled(deployment)
            assert deployment.metrics.snapshot().successful_executions == 1

    asyncio.run(main())


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_is_cancelled_with_its_client(kind: str) -> None:
    """With `cancel` it ends at its next await or step boundary, no later step runs, and it counts as cancelled."""

    async def main() -> None:
        work = Work()
        async with started(getattr(work, kind), {"on_disconnect": "cancel", "max_concurrency": 1}) as deployment:
            client = Client(deployment.asgi_app, invoke())
            client.send_body()
            await until(lambda: work.seen)
            client.leave()
            await client.done()
            assert deployment.metrics.snapshot().canceled_executions == 1
            work.open()
            assert await settled(deployment)
            assert work.seen == ["first"]
            following = await reply(deployment.asgi_app, Ask("GET", "/health"))
            assert following.status == 200

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["continue", "cancel"])
def test_a_client_that_stays_gets_its_answer(policy: str) -> None:
    """Watching for the client changes nothing for those who stay."""

    async def main() -> None:
        work = Work()
        work.open()
        async with started(work.coroutine, {"on_disconnect": policy}) as deployment:
            answer = await reply(deployment.asgi_app, invoke())
            assert (answer.status, answer.json()["outputs"]) == (200, {"output": 1})
            assert await settled(deployment)

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["continue", "cancel"])
@pytest.mark.parametrize("sent", [[], [b"{"]])
def test_a_client_that_leaves_before_its_body_is_complete(policy: str, sent: list[bytes]) -> None:
    """Nothing is run, nothing is answered."""

    async def main() -> None:
        work = Work()
        async with started(work.coroutine, {"on_disconnect": policy}) as deployment:
            client = Client(deployment.asgi_app, invoke())
            for chunk in sent:
                client.send_body(chunk, more=True)
            client.leave()
            await client.done()
            assert (client.sent, work.seen) == ([], [])
            assert await settled(deployment)

    asyncio.run(main())


@pytest.mark.parametrize("policy", ["continue", "cancel"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_server_that_cancels_the_request(policy: str, kind: str) -> None:
    """Some servers cancel the task of a client that left: the run ends with it, and nothing of it is left."""

    async def main() -> None:
        work = Work()
        async with started(getattr(work, kind), {"on_disconnect": policy}) as deployment:
            client = Client(deployment.asgi_app, invoke())
            client.send_body()
            await until(lambda: work.seen)
            client.task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await client.task
            work.open()
            assert await settled(deployment)
            assert deployment.metrics.snapshot().canceled_executions == 1

    asyncio.run(main())


# Deadlines


async def endless(x: int = 1) -> int:
    await asyncio.Event().wait()
    return x


def test_the_deadline_of_the_request() -> None:
    """A run that takes longer than `timeout` is a 504 envelope that says so."""
    answer = ask_one(endless, invoke({"timeout": 0.02, "run_name": "late"}))
    assert answer.status == 504
    assert answer.header(b"content-type") == b"application/json"
    envelope = answer.json()
    assert list(envelope) == ["success", "outputs", "execution_time", "metadata", "error"]
    assert (envelope["success"], envelope["outputs"]) == (False, None)
    assert envelope["error"] == "the run did not finish within 0.02 s"
    assert (envelope["metadata"]["run_name"], envelope["metadata"]["parameters_used"]) == ("late", {"x": 1})


def test_the_deadline_of_the_deployment() -> None:
    """A request can shorten `request_timeout`, never lengthen it."""
    shorter, longer = ask(endless, {"request_timeout": 0.05}, invoke({"timeout": 0.01}), invoke({"timeout": 60}))
    assert shorter.json()["error"] == "the run did not finish within 0.01 s"
    assert longer.json()["error"] == "the run did not finish within 0.05 s"


def test_no_deadline() -> None:
    """With `request_timeout: null` only a request's own timeout counts."""
    within, late = ask(
        typed,
        {"request_timeout": None},
        invoke({"parameters": {"name": "a"}}),
        invoke({"parameters": {"name": "a"}, "timeout": 1e9}),
    )
    assert (within.status, late.status) == (200, 200)


def test_a_deadline_in_a_thread_is_answered_at_once() -> None:
    """A sync run is answered at its deadline although its thread goes on; no later step runs in it."""

    async def main() -> None:
        work = Work()
        async with started(work.sync) as deployment:
            answer = await reply(deployment.asgi_app, invoke({"timeout": 0.05}))
            assert answer.status == 504
            assert answer.json()["metadata"]["parameters_used"] == {"x": 1}
            work.open()
            assert await settled(deployment)
            assert work.seen == ["first"]

    asyncio.run(main())


def test_runs_do_not_share_anything() -> None:
    """Many runs at once get their own answers."""

    async def slow(x: int) -> int:
        await asyncio.sleep(0)
        return x

    async def main() -> None:
        app = deployed(slow)
        async with lifespan(app):
            replies = await asyncio.gather(*(reply(app, invoke({"parameters": {"x": x}})) for x in range(200)))
            assert [each.json()["outputs"]["output"] for each in replies] == list(range(200))
            assert len({each.json()["metadata"]["run_id"] for each in replies}) == 200

    asyncio.run(main())
