import asyncio
import json
import threading
from collections.abc import Callable
from contextvars import ContextVar
from functools import partial
from typing import Annotated, Literal, TypeVar
from uuid import UUID

from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, Field

from asgipipe.http.binding.bound import Limits, bind
from asgipipe.http.types import Message
from tests.http.binding.conftest import JSON, Answer, Ask, in_thread, scope_of

T = TypeVar("T")


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: Annotated[int, Field(ge=1, le=9)]


class Dog(BaseModel):
    kind: Literal["dog"]
    friends: dict[str, float]


class Home(BaseModel):
    pets: list[Annotated[Cat | Dog, Field(discriminator="kind")]] = []
    key: UUID | None = None
    rest: dict[str, object] = {}


async def move(home: Home, n: int = 0, tags: list[float] = []) -> dict[str, object]:  # noqa: B006  # as users write it
    return {"home": home, "n": n, "tags": tags}


LIMITS = Limits(max_body_size=100_000, receive_timeout=30, request_timeout=30)
MOVE = bind(move, name="move", path="/move", method="POST", limits=LIMITS, run_in_thread=in_thread).app


def sent_to_move(body: bytes, query: bytes = b"", content_type: bytes = b"application/json") -> Answer:
    answer = Answer()

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        answer.messages.append(message)

    headers = [(b"content-type", content_type)]
    asyncio.run(MOVE(scope_of(query=query, headers=headers), receive, send))
    return answer


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["cat", "dog", "kind"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["pets", "kind", "lives", "friends", "key", "rest", "x"]), inner, max_size=4)
    ),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=200) | VALUES.map(lambda value: json.dumps(value).encode()), st.binary(max_size=40))
def test_no_input_is_a_server_error(body: bytes, query: bytes) -> None:
    """Whatever is sent as body and query is answered with 200 or a refusal that is a proper problem document."""
    answer = sent_to_move(body, query)
    assert answer.status in (200, 400, 422)
    assert answer.ended
    if answer.status == 200:
        assert isinstance(answer.json, dict)
    else:
        assert isinstance(answer.problem["detail"], str)


@settings(max_examples=50, deadline=None)
@given(st.binary(max_size=40))
def test_no_content_type_is_a_server_error(content_type: bytes) -> None:
    """Whatever the content type says, the answer is 200 or 415."""
    assert sent_to_move(b'{"pets": []}', content_type=content_type).status in (200, 415)


def test_the_answer_of_a_good_request_is_what_was_sent() -> None:
    """A body that fits comes through whole, and unequal types of the same shape are told apart by their tag."""
    home = {
        "pets": [{"kind": "cat", "lives": 9}, {"kind": "dog", "friends": {"a": 1.5}}],
        "key": None,
        "rest": {"x": [1]},
    }
    answer = sent_to_move(json.dumps(home).encode(), b"n=3&tags=1&tags=2.5")
    assert answer.json == {"home": home, "n": 3, "tags": [1.0, 2.5]}


def test_all_kinds_of_callables(ask: Ask) -> None:
    """Functions, coroutine functions, methods, callable objects and partials of them are served alike."""

    class Scaler:
        factor = 3

        def scale(self, x: int) -> int:
            return x * self.factor

        async def later(self, x: int) -> int:
            return x * self.factor

        def __call__(self, x: int) -> int:
            return x * self.factor

    class Later:
        async def __call__(self, x: int) -> int:
            return x * 3

    def scale(x: int, factor: int) -> int:
        return x * factor

    async def later(x: int, factor: int) -> int:
        return x * factor

    def deferred(x: int) -> object:
        return later(x, 3)

    handlers = [Scaler().scale, Scaler().later, Scaler(), Later(), partial(scale, factor=3), partial(later, factor=3)]
    assert [ask(handler, query="x=2").json for handler in (*handlers, deferred)] == [6] * 7


def test_sync_handlers_leave_the_event_loop(ask: Ask) -> None:
    """A sync handler and the serialisation of its result run in a thread, an async one in place."""

    def plain() -> int:
        return threading.get_ident()

    async def waiting() -> int:
        return threading.get_ident()

    assert ask(plain).json != threading.get_ident()
    assert ask(waiting).json == threading.get_ident()


def test_the_executor_is_the_callers(ask: Ask) -> None:
    """Sync handlers run through the `run_in_thread` that was given, in the context of the request."""
    calls: list[str] = []
    place: ContextVar[str] = ContextVar("place", default="nowhere")

    async def run_in_thread(function: Callable[[], T]) -> T:
        calls.append("run")
        return function()

    def handler() -> str:
        return place.get()

    bound = bind(handler, name="h", path="/x", method="GET", limits=LIMITS, run_in_thread=run_in_thread)
    answer = Answer()

    async def run() -> None:
        place.set("here")

        async def send(message: Message) -> None:
            answer.messages.append(message)

        await bound.app(scope_of(headers=(JSON,)), asyncio.Queue().get, send)

    asyncio.run(run())
    assert (answer.json, calls) == ("here", ["run"])
