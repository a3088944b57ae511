"""uvicorn's worker for gunicorn, as plain users have it, but for the header that would stand beside ours."""

from typing import Any, ClassVar

from uvicorn_worker import UvicornWorker


class Worker(UvicornWorker):  # type: ignore[misc]  # it ships no types
    # `server: uvicorn` would be a second one: the worker cannot be told otherwise on the command line.
    CONFIG_KWARGS: ClassVar[dict[str, Any]] = {**UvicornWorker.CONFIG_KWARGS, "server_header": False}
