"""What the clients for programs that wait and for those that await have in common."""

from collections.abc import Mapping
from typing import Any, Generic, TypedDict

import httpx

from asgipipe.client.address import checked_key, checked_url
from asgipipe.client.caller import MAX_ANSWER, Caller
from asgipipe.client.calls import Calls
from asgipipe.client.models import T
from asgipipe.client.outputs import decoder
from asgipipe.client.retry import Retry
from asgipipe.pipelines.pipeline import Pipeline

TIMEOUT = 30.0
_CONNECT_TIMEOUT = 10.0
"""Seconds in which a connection has to be made."""


DIRECT: Mapping[str, None] = dict.fromkeys(("all://localhost", "all://127.0.0.1", "all://[::1]"))
"""Where no proxy of the environment stands between: keys of services on this machine are nothing for others."""


class Options(TypedDict, total=False):
    """What both clients take."""

    auth_key: str | None
    timeout: float | None
    retries: int | Retry
    max_answer: int


class BaseClient(Generic[T]):
    """The deployment at `url`: its root, with `root_url_path` and `api_url_path` if it has them.

    With `pipeline` the value of an invocation is what that pipeline returns; with `output_type`, all outputs by name as
    that type. `timeout` is the seconds in which a call has to be answered, repetitions included and the time of the run
    not, if it has one; None waits for ever. `retries` says how often requests are sent again that may be: those that
    only read, and those with an Idempotency-Key, which runs get unless it is None. `max_answer` is the size of the
    largest answer, in bytes. `http` is used for the connections, with its own proxies and certificates, and not closed;
    redirects are not followed, and the key is sent nowhere else.

    Raises ValueError for what can be no URL, key or timeout. Every call may raise a ClientError
    (asgipipe.client.errors).
    """

    def __init__(
        self,
        url: str,
        *,
        pipeline: Pipeline[..., Any] | None = None,
        output_type: object | None = None,
        auth_key: str | None = None,
        timeout: float | None = TIMEOUT,
        retries: int | Retry = 3,
        max_answer: int = MAX_ANSWER,
    ) -> None:
        if timeout is not None and timeout <= 0:
            raise ValueError("timeout is a positive number of seconds, or None")
        retry = retries if isinstance(retries, Retry) else Retry(times=retries)
        root, key = checked_url(url), checked_key(auth_key)
        caller = Caller(root, auth_key=key, retry=retry, timeout=timeout, max_answer=max_answer)
        self._calls: Calls[T] = Calls(caller, decoder(pipeline, output_type))

    @property
    def url(self) -> str:
        return self._calls.caller.root

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.url!r})"


def httpx_timeout(seconds: float | None) -> httpx.Timeout:
    """Return the time-outs of a request that may wait for so long each time that it waits."""
    connect = _CONNECT_TIMEOUT if seconds is None else min(seconds, _CONNECT_TIMEOUT)
    return httpx.Timeout(seconds, connect=connect)
