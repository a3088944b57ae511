"""Answers of ours as Django's responses."""

from collections.abc import Iterable

from django.http import HttpResponse, HttpResponseBase, StreamingHttpResponse
from django.http.response import ResponseHeaders
from pydantic_core import to_json

from asgipipe.errors import HTTPError
from asgipipe.http.bridge import Answer
from asgipipe.http.problems import PROBLEM, problem

Pairs = list[tuple[str, str]]


class Repeating(HttpResponseBase):
    """A response with headers that come more than once, such as cookies; Django's own headers are a dictionary."""

    repeated: Pairs = []

    def items(self) -> Iterable[tuple[str, str]]:
        return [*super().items(), *self.repeated]


class Whole(Repeating, HttpResponse):
    pass


class Streamed(Repeating, StreamingHttpResponse):
    pass


def response_of(answer: Answer) -> HttpResponseBase:
    """Return the response for an answer, with its headers and no others."""
    response = Streamed(answer.chunks) if answer.body is None else Whole(answer.body)
    response.status_code = answer.status
    headers, repeated = ResponseHeaders({}), Pairs()
    for raw_name, raw_value in answer.headers:
        name, value = raw_name.decode("latin-1"), raw_value.decode("latin-1")
        if name.lower() == "set-cookie" or name in headers:
            repeated.append((name, value))
        else:
            headers[name] = value
    response.headers, response.repeated = headers, repeated
    return response


def refusal(error: HTTPError) -> HttpResponseBase:
    """Return the problem document of `error`."""
    body = to_json(problem(error))
    return response_of(Answer(error.status, [PROBLEM, (b"content-length", b"%d" % len(body)), *error.headers], body))
