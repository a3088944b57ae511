"""Answers of ours as Django's responses."""

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.http.response import ResponseHeaders
from pydantic_core import to_json

from asgipipe.errors import HTTPError
from asgipipe.http.bridge import Answer, Chunks
from asgipipe.http.problems import PROBLEM, problem
from asgipipe.http.types import HeaderList

Content = bytes | Iterable[bytes] | AsyncIterable[bytes]
_WITHOUT_CONTENT = (204, 304)


class Repeating(HttpResponseBase):
    """A response with headers that come more than once, such as cookies; Django's own headers are a dictionary."""

    _resource_closers: list[Callable[[], None]]
    repeated: Sequence[tuple[str, str]] = ()

    def items(self) -> Iterable[tuple[str, str]]:
        return [*super().items(), *self.repeated]


class Whole(Repeating, HttpResponse):
    pass


class Streamed(Repeating, StreamingHttpResponse):
    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for piece in super().__aiter__():
                yield piece
        except ConnectionAbortedError:
            for close in self._resource_closers:  # Django leaves the body's file open when an answer breaks off
                close()
            raise


class Bodiless(Repeating, StreamingHttpResponse):
    """An answer that has no content, which is not the same as an empty one: CommonMiddleware would give it a length."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in tuple[bytes, ...]():
            yield piece


def response_of(status: int, headers: HeaderList, content: Content) -> HttpResponseBase:
    """Return the response with these headers and no others; `content` is streamed unless it is bytes."""
    if status in _WITHOUT_CONTENT or (content == b"" and not _has_length(headers)):  # as HEAD of a stream
        response: Repeating = Bodiless(())
    else:
        response = Whole(content) if isinstance(content, bytes) else Streamed(content)
    response.status_code = status
    own, repeated = ResponseHeaders({}), list[tuple[str, str]]()
    for raw_name, raw_value in headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() == "set-cookie" or name in own:
            repeated.append((name, value))
        else:
            own[name] = value
    response.headers, response.repeated = own, repeated
    return response


def _has_length(headers: HeaderList) -> bool:
    return any(name.lower() == b"content-length" for name, _ in headers)


def content_of(answer: Answer) -> bytes | Chunks:
    """Return what an answer of the bridge consists of."""
    if answer.chunks is not None:
        return answer.chunks
    return answer.body or b""


def refusal(error: HTTPError) -> HttpResponseBase:
    """Return the problem document of `error`."""
    body = to_json(problem(error))
    return response_of(error.status, [PROBLEM, (b"content-length", b"%d" % len(body)), *error.headers], body)
