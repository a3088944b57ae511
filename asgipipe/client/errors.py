"""What can go wrong when a deployment is called.

UserError
└── ClientError                    a call did not succeed; the message says what to do
    ├── UnreachableError           there was no connection, or it broke off
    ├── AnswerTimeoutError         no answer in the time given (a TimeoutError, too)
    ├── ForeignAnswerError         what answered does not do so like a deployment, or redirected elsewhere
    ├── OutputMismatchError        the outputs are not of the type that the client was given
    ├── RefusedError               a problem document (RFC 9457); knows its `status`, `type`, `title`, `detail`
    │   ├── KeyRefusedError        401, 403  the key is missing or wrong
    │   ├── UnknownError           404       no such job or run, or the endpoint is switched off
    │   ├── ConflictRefusedError   409       the job has ended, or the Idempotency-Key is in use
    │   ├── InputRefusedError      422       the parameters are refused; `errors` says where
    │   └── BusyError              408, 429, 502, 503, 504, 507  not now; `retry_after` says when, if it is known
    └── InvocationError            the run was executed and did not complete; `invocation` is its envelope
        ├── InvocationTimeoutError    its deadline passed (a TimeoutError, too)
        └── InvocationCanceledError   somebody cancelled it

Keys appear in none of them. They are no HTTPErrors: a pipeline that calls another deployment and lets one of these
escape has failed, and does not refuse its own request.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from asgipipe.errors import UserError
from asgipipe.settings.fields import printable

if TYPE_CHECKING:
    from asgipipe.client.models import Invocation

STRANGE = "does not answer like a deployment of asgipipe; is the URL right?"
"""Why something is a ForeignAnswerError, mostly."""

_LONGEST = 500
"""Characters of a foreign text in a message."""


class ClientError(UserError):
    """A call that did not succeed; `url` is what was called."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(url, reason)
        self.url = url
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.url} {self.reason}"


class UnreachableError(ClientError):
    pass


class AnswerTimeoutError(ClientError, TimeoutError):
    pass


class ForeignAnswerError(ClientError):
    """`status` is that of the answer, None where there was none to speak of."""

    def __init__(self, url: str, reason: str, status: int | None = None) -> None:
        super().__init__(url, reason)
        self.status = status


class OutputMismatchError(ClientError):
    pass


class RefusedError(ClientError):
    """A request that the deployment refused, with the members of its problem document.

    `type` is stable (`urn:asgipipe:<slug>`); `errors` are the `{loc, msg, type}` of a 422; `retry_after` is in seconds.
    """

    hint = ""

    def __init__(
        self, url: str, status: int, problem: Mapping[str, object] | None = None, *, retry_after: float | None = None
    ) -> None:
        members = problem or {}
        super().__init__(url, f"answered {status}")
        self.status = status
        self.problem = dict(members)
        self.type = str(members.get("type", "about:blank"))
        self.title = str(members.get("title", ""))
        self.detail = str(members.get("detail") or self.title)
        self.errors = _errors_in(members.get("errors"))
        self.run_id = _text(members.get("run_id"))
        self.job_id = _text(members.get("job_id"))
        self.retry_after = retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        return _rebuilt, (type(self), self.url, self.status, self.problem, self.retry_after)

    def __str__(self) -> str:
        parts = (f"{self.url} {self.reason}", _line(self.detail), _places(self.errors))
        text = ": ".join(part.rstrip(".") for part in parts if part)
        return f"{text}; {self.hint}" if self.hint else text


class KeyRefusedError(RefusedError):
    hint = "give the key of the deployment as auth_key"


class UnknownError(RefusedError):
    pass


class ConflictRefusedError(RefusedError):
    pass


class InputRefusedError(RefusedError):
    pass


class BusyError(RefusedError):
    @property
    def hint(self) -> str:  # type: ignore[override]  # it depends on the answer
        return "try again later" if self.retry_after is None else f"try again in {self.retry_after:g} s"


_BY_STATUS: dict[int, type[RefusedError]] = {
    401: KeyRefusedError,
    403: KeyRefusedError,
    404: UnknownError,
    409: ConflictRefusedError,
    422: InputRefusedError,
    **dict.fromkeys((408, 429, 502, 503, 504, 507), BusyError),
}


def refusal(
    url: str, status: int, problem: Mapping[str, object] | None, *, retry_after: float | None = None
) -> RefusedError:
    """Return the error for an answer with a status of 400 or more; `problem` is None where it has no such document."""
    return _BY_STATUS.get(status, RefusedError)(url, status, problem, retry_after=retry_after)


class InvocationError(ClientError):
    """A run that was executed and did not complete; its `invocation` has the error, the run's id and its parameters."""

    def __init__(self, url: str, invocation: "Invocation[Any]") -> None:
        super().__init__(url, _told(invocation))
        self.invocation = invocation

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.url, self.invocation)


class InvocationTimeoutError(InvocationError, TimeoutError):
    pass


class InvocationCanceledError(InvocationError):
    pass


def _told(invocation: "Invocation[Any]") -> str:
    name, run_id = _line(invocation.metadata.run_name), _line(invocation.run_id)
    return f"ran {name} ({run_id}), which failed: {_line(str(invocation.error))}"


def _rebuilt(
    kind: type[RefusedError], url: str, status: int, problem: Mapping[str, object], retry_after: float | None
) -> RefusedError:
    return kind(url, status, problem, retry_after=retry_after)


def _errors_in(value: object) -> Sequence[Mapping[str, object]]:
    return [dict(one) for one in value if isinstance(one, Mapping)] if isinstance(value, list) else []


def _places(errors: Sequence[Mapping[str, object]]) -> str:
    told = [f"{'.'.join(map(str, _parts(one.get('loc'))))}: {one.get('msg')}" for one in errors]
    return _line(", ".join(told))


def _parts(loc: object) -> Sequence[object]:
    return loc if isinstance(loc, list) else [loc]


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _line(text: str) -> str:
    """Return a text of the other side's on one line, without what could steer a terminal."""
    shown = printable(text)
    return shown if len(shown) <= _LONGEST else f"{shown[: _LONGEST - 1]}…"
