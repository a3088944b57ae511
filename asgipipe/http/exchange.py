"""One request on its way through the layers.

The layers share this object (`scope["asgipipe"]`) and its one `send`, so that a layer which only adds headers costs an
assignment, not another wrapped `send`. It lies in the scope because context variables set inside an endpoint do not
reach outer layers on every framework.
"""

from collections.abc import Awaitable, Callable
from operator import itemgetter
from urllib.parse import quote

from asgipipe.http.types import ASGIApp, HeaderList, Message, Scope, Send

KEY = "asgipipe"
_name = itemgetter(0)
REQUEST_ID = b"x-request-id"

_LARGE = 64 * 1024
"""Bytes that servers write without waiting for the client: asyncio's own high-water mark."""


class DefaultHeaders:
    """Headers that every answer carries once, with the application's own value where it gave one."""

    __slots__ = ("items", "names")

    def __init__(self, items: HeaderList) -> None:
        self.items = list(items)
        self.names = frozenset((REQUEST_ID, *(name for name, _ in items)))

    def merge(self, headers: HeaderList, request_id: bytes) -> list[tuple[bytes, bytes]]:
        """Return `headers` with the request id and the missing defaults added.

        Names are compared without case; of several values for one of our names the last one is kept.
        """
        given = list(map(_name, headers))
        if self.names.isdisjoint(given) and b"".join(given).islower():
            return [*headers, *self.items, (REQUEST_ID, request_id)]
        own: dict[bytes, bytes] = {}
        others = []
        for name, value in headers:
            lower = name.lower()
            if lower in self.names:
                own[lower] = value
            else:
                others.append((name, value))
        return [*others, *((name, own.get(name, value)) for name, value in self.items), (REQUEST_ID, request_id)]


NO_DEFAULTS = DefaultHeaders(())


class Exchange:
    """A request and what is known of its answer.

    `path` lies below the deployment's mount point; `headers` has lower-case names, the last value where one is
    repeated. `defaults` are added to the answer. `file` is the dashboard's file that let the request in without a key,
    and that alone may answer it; `opened` is the method and path that let it in so, where it was an open endpoint.
    `release` gives back the request's place among the concurrent ones.
    """

    __slots__ = ("_send", "defaults", "file", "headers", "opened", "path", "release", "request_id", "started", "status")

    def __init__(
        self, send: Send, path: str, headers: dict[bytes, bytes], request_id: bytes, defaults: DefaultHeaders
    ) -> None:
        self._send = send
        self.path = path
        self.headers = headers
        self.request_id = request_id
        self.defaults = defaults
        self.started = False
        self.status = 0
        self.file: ASGIApp | None = None
        self.opened: str | None = None
        self.release: Callable[[], None] | None = None

    def let_in(self, scope: Scope) -> None:
        """Let the request in without a key, as what it is now."""
        self.opened = f"{scope.get('method')} {self.path}"

    def is_let_in(self, scope: Scope, path: str) -> bool:
        """False when middleware has made something else of a request that was let in for what it was."""
        return self.opened is None or self.opened == f"{scope.get('method')} {path}"

    def send(self, message: Message) -> Awaitable[None]:
        """Pass a message on to the server; the first one of an answer gets the headers all answers carry.

        It returns what the server's own `send` returned, which saves a coroutine for each message.
        """
        if not self.started:
            kind = message["type"]
            if kind in _STARTS:
                self.started = True
                self.status = message.get("status", 101)
                message["headers"] = self.defaults.merge(message.get("headers") or (), self.request_id)
            elif kind == "websocket.close":
                self.status = 403
        elif len(message.get("body", b"")) > _LARGE and not message.get("more_body", False):
            return self._send_large(message)
        return self._send(message)

    async def _send_large(self, message: Message) -> None:
        """Send a last piece that is large in two messages.

        Servers wait for their client before the message that follows a large one, not after it. So an answer that
        nobody takes keeps its request in its place, and such answers cannot become more than there are places.
        """
        await self._send({**message, "more_body": True})
        await self._send({"type": message["type"], "body": b""})


_STARTS = frozenset(("http.response.start", "websocket.accept", "websocket.http.response.start"))


def exchange_of(scope: Scope) -> Exchange:
    """Return the exchange that the outermost layer put into the scope."""
    exchange: Exchange = scope[KEY]
    return exchange


def local_path(scope: Scope) -> str:
    """Return the path below the mount point.

    The one place that knows about `root_path`: the ASGI specification and uvicorn have it at the front of `path`,
    gunicorn's ASGI worker and hypercorn leave `path` bare. Below a mount of Starlette's only the part that the mount
    added stands in such a path; `app_root_path` is the part that came from the server.
    """
    path: str = scope["path"]
    root: str = scope.get("root_path", "")
    if not root:
        return path
    local = below(path, root.rstrip("/"))
    if local is None:
        server: str = scope.get("app_root_path", "").rstrip("/")
        added = root.removeprefix(server).rstrip("/") if server else ""
        local = below(path, added) if added else None
    return path if local is None else local


def public_path(scope: Scope, path: str = "") -> str:
    """Return the path by which clients reach `path`, below the mount point and whatever the server stands behind.

    One slash in front: `//host/path` would be the address of another host.
    """
    root = scope.get("root_path", "").strip("/")
    return (f"/{quote(root)}" if root else "") + quote(path) or "/"


def below(path: str, prefix: str) -> str | None:
    """Return what of `path` lies below `prefix`, which ends without a slash; None when it lies elsewhere."""
    if path.startswith(prefix) and (len(path) == len(prefix) or path[len(prefix)] == "/"):
        return path[len(prefix) :]
    return None


def with_complete_path(scope: Scope, local: str) -> Scope:
    """Return a copy of `scope` as the ASGI specification has it: `path` begins with `root_path`.

    Frameworks disagree about bare paths: Starlette takes them, Quart answers 404. It is a copy because below a mount
    the scope may be that of another deployment, which keeps its own exchange there.
    """
    return {**scope, "path": scope["root_path"].rstrip("/") + local}
