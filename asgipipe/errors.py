"""Every exception asgipipe raises.

AsgipipeError
├── UserError                     a mistake that one clear message mends; the command line exits with `exit_code`
│   ├── SettingsError             one or more wrong settings, each with its place
│   ├── SourceError               an import string or target that leads nowhere
│   ├── DefinitionError           a step, pipeline, endpoint, middleware or extension that cannot be served as written
│   ├── StartupError              a hook or resource failed while the deployment started
│   ├── StoreError                a store that cannot be used: newer than this version, or none of ours
│   ├── DeploymentError           a deployment, snapshot or deployer that is not as an operation needs it
│   └── ServerError               the server cannot run: address taken, worker failed to start
├── HTTPError                     a request that is refused; knows its status and problem type (RFC 9457)
│   ├── BadRequestError           400  not JSON, bad query
│   ├── UnauthorizedError         401  key missing or wrong
│   ├── ForbiddenError            403  WebSocket handshakes, where a server cannot send 401
│   ├── NotFoundError             404
│   ├── MethodNotAllowedError     405
│   ├── RequestTimeoutError       408  the sender was too slow
│   ├── ConflictError             409  a job that has ended, a key that is in use
│   ├── BodyTooLargeError         413
│   ├── UnsupportedMediaTypeError 415
│   ├── ValidationError           422  parameters refused
│   ├── TooManyRequestsError      429  concurrency and queue limits reached
│   ├── HeadersTooLargeError      431
│   ├── InternalError             500  says nothing about the inside
│   ├── UnavailableError          503  starting, draining, the store cannot be reached
│   ├── DeadlineError             504  a custom endpoint passed its deadline
│   └── StorageFullError          507  the disk of the store is full
├── OutsideRunError               run context asked for where no run is
└── RunError                      a run that was started and did not finish well
    ├── RunTimeoutError           the run's deadline passed
    ├── StepTimeoutError          a step took longer than its `timeout`
    ├── StepExitError             a step raised SystemExit or KeyboardInterrupt
    └── OutputError               an output has no JSON form, or there are more or fewer than declared

RunCanceled is a BaseException beside the tree, like asyncio.CancelledError: `except Exception` in a pipeline must
not swallow it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

Headers = Sequence[tuple[bytes, bytes]]


class AsgipipeError(Exception):
    """The root of the tree."""


# Mistakes of the user's


class UserError(AsgipipeError):
    """A mistake in what the user wrote; `str(error)` is all they need to read."""

    exit_code: ClassVar[int] = 1


@dataclass(frozen=True, slots=True)
class SettingsIssue:
    """One wrong setting.

    `place` is where it was written (`settings.yaml:7:5`, `environment ASGIPIPE_CORS`, `--port`), `path` the dotted
    path of the field, `suggestion` the way out.
    """

    path: str
    message: str
    place: str | None = None
    suggestion: str | None = None

    def __str__(self) -> str:
        parts = [part for part in (self.place, self.path, self.message) if part]
        text = ": ".join(parts)
        return f"{text}; {self.suggestion}" if self.suggestion else text


class SettingsError(UserError):
    """Settings that were refused; `issues` holds every mistake found, not only the first."""

    exit_code = 2

    def __init__(self, issues: Sequence[SettingsIssue]) -> None:
        super().__init__(issues)
        self.issues = tuple(issues)

    def __str__(self) -> str:
        return "\n".join(str(issue) for issue in self.issues)


class SourceError(UserError):
    """An import string, or a target of `asgipipe serve`, that cannot be turned into an object."""

    exit_code = 2

    def __init__(self, source: str, reason: str) -> None:
        super().__init__(source, reason)
        self.source = source
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.source!r}: {self.reason}"


class DefinitionError(UserError):
    """Something the user defined cannot be served as it is written."""

    exit_code = 2


class StartupError(UserError):
    """The deployment did not start, so the process must not serve."""

    exit_code = 3


class StoreError(UserError):
    """The database of a store cannot be used as it is."""

    exit_code = 3


class DeploymentError(UserError):
    """What was asked of a deployment, a snapshot or a deployer cannot be done as things are."""


class ServerError(UserError):
    """The server cannot run."""

    exit_code = 3


# Requests that are refused


class HTTPError(AsgipipeError):
    """A refused request.

    `detail` goes to the client, so it never holds anything internal; `errors` is the list of a 422; `extra` are further
    members of the problem document, such as `run_id`.
    """

    status: ClassVar[int] = 500
    slug: ClassVar[str] = "internal"
    title: ClassVar[str] = "Internal Server Error"

    def __init__(
        self,
        detail: str,
        *,
        headers: Headers = (),
        errors: Sequence[Mapping[str, object]] | None = None,
        extra: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = tuple(headers)
        self.errors = errors
        self.extra = extra or {}


class BadRequestError(HTTPError):
    status, slug, title = 400, "bad-request", "Bad Request"


class UnauthorizedError(HTTPError):
    status, slug, title = 401, "unauthorized", "Unauthorized"

    def __init__(self, detail: str = "A valid key is required: send it as 'Authorization: Bearer <key>'.") -> None:
        super().__init__(detail, headers=((b"www-authenticate", b"Bearer"),))


class ForbiddenError(HTTPError):
    status, slug, title = 403, "forbidden", "Forbidden"


class NotFoundError(HTTPError):
    status, slug, title = 404, "not-found", "Not Found"

    def __init__(self, detail: str = "Nothing is served at this path.") -> None:
        super().__init__(detail)


class MethodNotAllowedError(HTTPError):
    status, slug, title = 405, "method-not-allowed", "Method Not Allowed"

    def __init__(self, allowed: Sequence[str]) -> None:
        allow = ", ".join(sorted(allowed))
        super().__init__(f"This path answers {allow}.", headers=((b"allow", allow.encode()),))


class RequestTimeoutError(HTTPError):
    status, slug, title = 408, "request-timeout", "Request Timeout"

    def __init__(self, detail: str = "The request did not arrive in time.") -> None:
        super().__init__(detail, headers=((b"connection", b"close"),))


class ConflictError(HTTPError):
    status, slug, title = 409, "conflict", "Conflict"


class BodyTooLargeError(HTTPError):
    status, slug, title = 413, "body-too-large", "Content Too Large"

    def __init__(self, limit: int) -> None:
        super().__init__(f"The body may have {limit} bytes at most.", headers=((b"connection", b"close"),))


class UnsupportedMediaTypeError(HTTPError):
    status, slug, title = 415, "unsupported-media-type", "Unsupported Media Type"

    def __init__(self, detail: str = "Send the body with content type application/json.") -> None:
        super().__init__(detail)


class ValidationError(HTTPError):
    status, slug, title = 422, "validation", "Unprocessable Content"


class TooManyRequestsError(HTTPError):
    status, slug, title = 429, "too-many-requests", "Too Many Requests"

    def __init__(
        self, retry_after: int = 1, *, detail: str = "The limits of concurrent and of waiting requests are reached."
    ) -> None:
        super().__init__(detail, headers=((b"retry-after", b"%d" % retry_after),))


class HeadersTooLargeError(HTTPError):
    status, slug, title = 431, "headers-too-large", "Request Header Fields Too Large"


class InternalError(HTTPError):
    def __init__(self, detail: str = "The server failed to answer; its log says why.") -> None:
        super().__init__(detail)


class UnavailableError(HTTPError):
    status, slug, title = 503, "unavailable", "Service Unavailable"

    def __init__(self, detail: str, *, retry_after: int = 1) -> None:
        super().__init__(detail, headers=((b"retry-after", b"%d" % retry_after),))


class DeadlineError(HTTPError):
    status, slug, title = 504, "deadline", "Gateway Timeout"

    def __init__(self, detail: str = "The deadline of this request passed.") -> None:
        super().__init__(detail)


class StorageFullError(HTTPError):
    status, slug, title = 507, "storage-full", "Insufficient Storage"

    def __init__(self, detail: str = "The server has no room left to keep this.") -> None:
        super().__init__(detail)


# Runs


class OutsideRunError(AsgipipeError, RuntimeError):
    """Something that belongs to a run was used outside of one."""


class RunError(AsgipipeError):
    """A run that was started and failed for a reason of ours, not an exception of the pipeline's."""


class RunTimeoutError(RunError):
    def __init__(self, seconds: float) -> None:
        super().__init__(seconds)
        self.seconds = seconds

    def __str__(self) -> str:
        return f"the run did not finish within {self.seconds:g} s"


class StepTimeoutError(RunError):
    def __init__(self, step: str, seconds: float) -> None:
        super().__init__(step, seconds)
        self.step = step
        self.seconds = seconds

    def __str__(self) -> str:
        return f"step {self.step!r} did not finish within {self.seconds:g} s"


class StepExitError(RunError):
    """Stands for a SystemExit or KeyboardInterrupt, which would stop the event loop if they left a task."""

    def __init__(self, step: str, cause: BaseException) -> None:
        super().__init__(step, cause)
        self.step = step
        self.cause = cause

    def __str__(self) -> str:
        return f"step {self.step!r} raised {type(self.cause).__name__}: {self.cause}"


class OutputError(RunError):
    """`str(error)` names the output, never the value."""


class RunCanceled(BaseException):
    """Raised inside a run at the next await or step boundary after it was cancelled."""
