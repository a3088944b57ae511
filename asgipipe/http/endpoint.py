"""What is served at one path for one method, and what the OpenAPI document says about it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from asgipipe.http.types import ASGIApp


@dataclass(frozen=True, slots=True)
class Operation:
    """An OpenAPI 3.1 operation; schemas refer to `components` as `#/components/schemas/<name>`."""

    operation_id: str
    summary: str
    description: str = ""
    tags: tuple[str, ...] = ()
    parameters: tuple[Mapping[str, object], ...] = ()
    request_body: Mapping[str, object] | None = None
    responses: Mapping[str, Mapping[str, object]] = field(default_factory=dict)
    components: Mapping[str, Mapping[str, object]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One row of the deployment's table.

    `path` is complete below the deployment's mount point and may hold `{name}` and `{name:path}` templates; `method` is
    upper case. `operation` is None for what the OpenAPI document leaves out, such as dashboard files; those of our own
    endpoints are made when the document is asked for. An `app` that `needs_framework` is a handler with the framework's
    own types.
    """

    path: str
    method: str
    app: ASGIApp
    name: str
    auth_required: bool = True
    operation: Operation | Callable[[], Operation] | None = None
    needs_framework: bool = False

    def described(self) -> Operation | None:
        return self.operation() if callable(self.operation) else self.operation


@dataclass(frozen=True, slots=True)
class Socket:
    """A WebSocket of the deployment's own; it needs the key, and `path` is complete as that of an endpoint."""

    path: str
    app: ASGIApp
    name: str
