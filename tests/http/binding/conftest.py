import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeVar

import pytest
from pydantic_core import from_json

from asgipipe.http.binding.bound import Bound, Limits, bind
from asgipipe.http.types import Message, Scope

T = TypeVar("T")

JSON = (b"content-type", b"application/json")
PATIENCE = 30.0


@dataclass
class Answer:
    """What an endpoint sent; `messages` are all of them, `ended` says whether the last one closed the answer."""

    messages: list[Message] = field(default_factory=list)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"])

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.messages[0]["headers"])

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.messages[1:])

    @property
    def ended(self) -> bool:
        return not self.messages[-1].get("more_body", False)

    @property
    def json(self) -> object:
        return from_json(self.body, allow_inf_nan=False)

    @property
    def problem(self) -> dict[str, object]:
        """The members of a problem document, checked to be one."""
        assert self.headers[b"content-type"] == b"application/problem+json"
        document = self.json
        assert isinstance(document, dict)
        assert document["status"] == self.status
        return document

    @property
    def places(self) -> set[tuple[object, ...]]:
        """Where the values of a 422 are."""
        assert self.status == 422
        errors = self.problem["errors"]
        assert isinstance(errors, list)
        return {tuple(error["loc"]) for error in errors}


async def in_thread(function: Callable[[], T]) -> T:
    """Stand in for a deployment's own threads."""
    return await asyncio.to_thread(function)


class Ask(Protocol):
    def __call__(
        self,
        handler: object,
        body: bytes = b"",
        *,
        query: str | bytes = b"",
        path: str = "/x",
        method: str = "POST",
        values: Mapping[str, object] = ...,
        headers: Sequence[tuple[bytes, bytes]] = (JSON,),
        limits: Limits = ...,
    ) -> Answer: ...


LIMITS = Limits(max_body_size=10_000, receive_timeout=PATIENCE, request_timeout=PATIENCE)


def made(handler: object, *, path: str = "/x", method: str = "POST", limits: Limits = LIMITS) -> Bound:
    return bind(handler, name="endpoint", path=path, method=method, limits=limits, run_in_thread=in_thread)


def scope_of(
    *, method: str = "POST", query: bytes = b"", values: Mapping[str, object] | None = None, headers: object = (JSON,)
) -> Scope:
    return {
        "type": "http",
        "method": method,
        "path": "/x",
        "query_string": query,
        "headers": list(headers),  # type: ignore[call-overload]
        "path_params": dict(values or {}),
    }


@pytest.fixture
def ask() -> Ask:
    """Return a function that binds a handler, sends it one request and returns the answer."""

    def ask(
        handler: object,
        body: bytes = b"",
        *,
        query: str | bytes = b"",
        path: str = "/x",
        method: str = "POST",
        values: Mapping[str, object] | None = None,
        headers: Sequence[tuple[bytes, bytes]] = (JSON,),
        limits: Limits = LIMITS,
    ) -> Answer:
        bound = made(handler, path=path, method=method, limits=limits)
        answer = Answer()

        async def run() -> None:
            messages: asyncio.Queue[Message] = asyncio.Queue()
            messages.put_nowait({"type": "http.request", "body": body, "more_body": False})

            async def send(message: Message) -> None:
                answer.messages.append(message)

            raw = query.encode() if isinstance(query, str) else query
            scope = scope_of(method=method, query=raw, values=values, headers=headers)
            await asyncio.wait_for(bound.app(scope, messages.get, send), PATIENCE)

        asyncio.run(run())
        return answer

    return ask


@pytest.fixture
def scope() -> Callable[..., Scope]:
    return scope_of


@pytest.fixture
def bound() -> Callable[..., Bound]:
    return made


@pytest.fixture
def threads() -> Callable[[Callable[[], T]], Awaitable[T]]:
    return in_thread


@pytest.fixture
def main_thread() -> int:
    return threading.get_ident()
