"""Asking a deployment: where its endpoints are, when a request is repeated, and what its refusals mean."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar, cast
from urllib.parse import urlencode

import httpx
from pydantic import BaseModel, ValidationError
from pydantic_core import from_json

from asgipipe.client import effects
from asgipipe.client.address import Endpoints, and_above, default_endpoints, from_info, from_openapi, served_at
from asgipipe.client.effects import Flow, Head, Send
from asgipipe.client.errors import (
    STRANGE,
    AnswerTimeoutError,
    ClientError,
    ForeignAnswerError,
    UnknownError,
    UnreachableError,
    refusal,
)
from asgipipe.client.retry import HOPELESS, NOT_SENT, PASSING, Deadline, Retry, retry_after
from asgipipe.settings.fields import printable

M = TypeVar("M", bound=BaseModel)

MAX_ANSWER = 64 * 1024 * 1024
"""Bytes of an answer that a client takes unless it was told otherwise."""

JSON = "application/json"
PROBLEM = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Request:
    """A request to an endpoint, wherever that is.

    `repeatable` says that it does no harm to send it twice; with `key`, that is because of the Idempotency-Key. `open`
    says that it needs no auth key, and gets none. `advice` is for one that is not answered in time.
    """

    method: str
    endpoint: str
    segments: tuple[str, ...] = ()
    query: Mapping[str, object] = field(default_factory=dict)
    accept: str = f"{JSON}, {PROBLEM}"
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes | None = field(default=None, repr=False)
    repeatable: bool = True
    open: bool = False
    advice: str = "give the client a longer timeout"

    @property
    def key(self) -> str | None:
        return self.headers.get("idempotency-key")


@dataclass(frozen=True, slots=True)
class Answer:
    url: str
    status: int
    headers: Mapping[str, str]
    body: bytes = field(repr=False)

    @property
    def content_type(self) -> str:
        return media_type(self.headers)

    @property
    def is_envelope(self) -> bool:
        """True for the answer of a run; what a proxy says with the same status is none."""
        return self.content_type == JSON and "success" in (self.document_or_none() or {})

    def model(self, kind: type[M]) -> M:
        """Return the body as a model. Raises ForeignAnswerError."""
        try:
            return kind.model_validate_json(self.body)
        except ValidationError:
            raise self.strange() from None

    def document(self) -> dict[str, object]:
        """Return the JSON object of the body. Raises ForeignAnswerError."""
        found = self.document_or_none()
        if found is None:
            raise self.strange()
        return found

    def document_or_none(self) -> dict[str, object] | None:
        try:
            found = from_json(self.body)
        except ValueError:
            return None
        return cast("dict[str, object]", found) if isinstance(found, dict) else None

    def strange(self) -> ForeignAnswerError:
        return ForeignAnswerError(self.url, STRANGE, self.status)

    def error(self) -> ClientError:
        """Return what an answer that is no success means."""
        if 300 <= self.status < 400:
            place = printable(self.headers.get("location", "nowhere"))[:500]
            reason = f"redirects to {place}, which is not followed: give the URL where the deployment is"
            return ForeignAnswerError(self.url, reason, self.status)
        problem = self.document_or_none() if self.content_type in {JSON, PROBLEM} else None
        if self.status < 300 or (self.status == 404 and problem is None):
            return self.strange()
        return refusal(self.url, self.status, problem, retry_after=retry_after(self.headers))


def media_type(headers: Mapping[str, str]) -> str:
    return headers.get("content-type", "").partition(";")[0].strip().lower()


class Caller:
    """Knows one deployment. `timeout` is the seconds in which a call has to be answered, repetitions included."""

    def __init__(
        self, root: str, *, auth_key: str | None, retry: Retry, timeout: float | None, max_answer: int
    ) -> None:
        self.root = root
        self.retry = retry
        self.timeout = timeout
        self._endpoints = default_endpoints(root)
        self.max_answer = max_answer
        # Nobody can make a small answer grow beyond its bound while it is unpacked.
        self._headers = {"accept-encoding": "identity", "user-agent": "asgipipe"}
        self._auth_key = auth_key

    def deadline(self, seconds: float | None) -> Deadline:
        return Deadline(self.retry.clock, seconds)

    def ask(self, request: Request, deadline: Deadline | None = None) -> Flow[Answer]:
        """Return the answer to a request that succeeded. Raises ClientError."""
        answer = yield from self.answer(request, deadline or self.deadline(self.timeout))
        if not 200 <= answer.status < 300:
            raise answer.error()
        return answer

    def answer(self, request: Request, deadline: Deadline) -> Flow[Answer]:
        """Return the answer to a request, whatever its status."""
        answer = yield from self._repeated(request, self.url(request), deadline)
        if answer.status in {404, 405} and (yield from self.learn(deadline)):
            answer = yield from self._repeated(request, self.url(request), deadline)
        return answer

    def url(self, request: Request) -> str:
        """Return the URL of a request as it is known now. Raises UnknownError where the endpoint is switched off."""
        url = self._endpoints.url(request.endpoint, *request.segments)
        if url is None:
            detail = f"this deployment has no {request.endpoint} endpoint: it is switched off by its settings"
            raise UnknownError(self.root, 404, {"detail": detail})
        query = urlencode({name: str(value) for name, value in request.query.items() if value is not None})
        return f"{url}?{query}" if query else url

    def send(self, request: Request, url: str, timeout: float | None) -> Send:
        headers = {**self._headers, "accept": request.accept, **request.headers}
        if self._auth_key is not None and not request.open:
            headers["authorization"] = f"Bearer {self._auth_key}"
        if request.body is not None:
            headers["content-type"] = JSON
        return Send(request.method, url, headers, request.body, timeout)

    def body(self, url: str, head: Head, deadline: Deadline) -> Flow[Answer]:
        """Return the answer whose head has come. Raises ForeignAnswerError for one that is too large."""
        pieces: list[bytes] = []
        size = 0
        while (piece := (yield from effects.read())) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > self.max_answer:
                reason = f"answered more than {self.max_answer} bytes, which are the most that this client takes"
                raise ForeignAnswerError(_bare(url), reason, head.status)
            if deadline.passed:
                raise httpx.ReadTimeout("the answer did not end")
        return Answer(_bare(url), head.status, head.headers, b"".join(pieces))

    def _repeated(self, request: Request, url: str, deadline: Deadline) -> Flow[Answer]:
        attempts = Attempts(request, _bare(url), self.retry, deadline)
        while True:
            pause: float | None
            try:
                head = yield from effects.send(self.send(request, url, deadline.left))
                answer = yield from self.body(url, head, deadline)
            except httpx.RequestError as error:
                pause = attempts.after_error(error)
            else:
                pause = attempts.after_answer(answer)
                if pause is None:
                    return answer
            yield from effects.pause(pause)

    # Where the endpoints are

    def learn(self, deadline: Deadline) -> Flow[bool]:
        """Find out where the endpoints are, once; return whether they are elsewhere than it was thought."""
        if self._endpoints.learned:
            return False
        before = self._endpoints
        found = yield from self._described(self.root, deadline)
        if found is None:
            found = yield from self._listed(deadline)
        self._endpoints = replace(before, learned=True) if found is None else found
        return self._endpoints.urls != before.urls

    def _described(self, root: str, deadline: Deadline) -> Flow[Endpoints | None]:
        """Read `/info` at a root; else the OpenAPI document there, or above it, where it is without `api_url_path`."""
        documents = [(f"{above}/openapi.json", from_openapi) for above in and_above(root)]
        for url, read in [(f"{root}/info", from_info), *documents]:
            document = yield from self._document(url, deadline, open=read is from_openapi)
            found = None if document is None else read(url, document)
            if found is not None and found.below(root):
                return found
        return None

    def _listed(self, deadline: Deadline) -> Flow[Endpoints | None]:
        """Look for the only deployment of a server. Raises ForeignAnswerError when there are several."""
        url = f"{self.root}/pipelines"
        document = yield from self._document(url, deadline)
        roots = [] if document is None else served_at(url, document)
        if len(roots) > 1:
            raise ForeignAnswerError(self.root, f"serves several deployments; give the URL of one: {', '.join(roots)}")
        return (yield from self._described(roots[0], deadline)) if roots and roots[0] != self.root else None

    def _document(self, url: str, deadline: Deadline, *, open: bool = False) -> Flow[Mapping[str, object] | None]:
        answer = yield from self._repeated(Request("GET", "info", open=open), url, deadline)
        return answer.document_or_none() if answer.status == 200 else None


class Attempts:
    """The attempts at one request; each of its methods returns the pause before the next one."""

    def __init__(self, request: Request, url: str, retry: Retry, deadline: Deadline) -> None:
        self._request = request
        self._url = url
        self._retry = retry
        self._deadline = deadline
        self._failed = 0
        self._waits = 0

    def after_error(self, error: httpx.RequestError) -> float:
        """Raises AnswerTimeoutError or UnreachableError when there is no further attempt."""
        if self._deadline.passed:
            reason = f"did not answer within {self._deadline.seconds:g} s; {self._request.advice}"
            raise AnswerTimeoutError(self._url, reason) from error
        repeatable = self._request.repeatable or isinstance(error, NOT_SENT)
        pause = self._next(None) if repeatable and not isinstance(error, HOPELESS) else None
        if pause is None:
            raise UnreachableError(self._url, f"cannot be reached: {described(error)}") from error
        return pause

    def after_answer(self, answer: Answer) -> float | None:
        """None when it is the answer."""
        if answer.status == 409 and self._failed and self._request.key is not None:
            # An attempt of ours that was thought lost still runs: its answer will be given again.
            self._waits += 1
            pause = self._retry.pause(self._waits)
            return pause if pause is not None and self._deadline.allows(pause) else None
        if answer.status not in PASSING or not self._request.repeatable:
            return None
        if answer.status == 504 and answer.is_envelope:  # the run's own deadline has passed
            return None
        return self._next(retry_after(answer.headers))

    def _next(self, asked: float | None) -> float | None:
        self._failed += 1
        if self._failed > self._retry.times:
            return None
        pause = self._retry.pause(self._failed, asked)
        return pause if pause is not None and self._deadline.allows(pause) else None


def described(error: httpx.RequestError) -> str:
    return printable(str(error))[:500] or type(error).__name__


def _bare(url: str) -> str:
    """Return a URL as errors name it: a query may hold what the caller would not have in a log."""
    return url.partition("?")[0]
