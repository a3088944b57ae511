"""Asking a running deployment; what it refuses is one line, never a traceback."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

import click

from asgipipe.cli.tables import cell
from asgipipe.client.address import checked_key, checked_url
from asgipipe.client.errors import STRANGE, ClientError, RefusedError
from asgipipe.errors import UserError

if TYPE_CHECKING:
    import httpx

    from asgipipe.client.caller import Caller
    from asgipipe.client.retry import Retry

F = TypeVar("F", bound=Callable[..., object])

_TIMEOUT = 30.0


class RemoteError(UserError):
    """A deployment that cannot be reached, or that refused; `status` is None when there was no answer."""

    def __init__(self, message: str, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class Remote:
    """The API of a running deployment at `url`: its root, with `root_url_path` and `api_url_path` if it has them."""

    def __init__(self, url: str, key: str | None = None) -> None:
        try:
            self.url, self._key = checked_url(url), checked_key(key)
        except ValueError as error:
            raise click.UsageError(str(error)) from None

    def client(self) -> "httpx.Client":
        """Return what the connections are made by."""
        import httpx

        from asgipipe.client.base import DIRECT

        return httpx.Client(mounts=DIRECT)

    def caller(self, retry: "Retry") -> "Caller":
        from asgipipe.client.caller import MAX_ANSWER, Caller

        return Caller(self.url, auth_key=self._key, retry=retry, timeout=_TIMEOUT, max_answer=MAX_ANSWER)

    def get(self, *path: str, query: Mapping[str, object] | None = None) -> dict[str, object]:
        """Return the JSON object that an endpoint has, by its name and the segments behind it. Raises RemoteError."""
        return self.ask("GET", *path, query=query)

    def ask(self, method: str, *path: str, query: Mapping[str, object] | None = None) -> dict[str, object]:
        """Send a request without a body and return the JSON object of the answer. Raises RemoteError."""
        from asgipipe.client.caller import Request
        from asgipipe.client.retry import Retry
        from asgipipe.client.sync import Driver

        endpoint, *segments = path
        request = Request(method, endpoint, tuple(segments), query or {})
        with self.explained(), self.client() as http:
            return Driver(http).run(self.caller(Retry(times=0)).ask(request)).document()

    @contextmanager
    def explained(self) -> Iterator[None]:
        """Raise RemoteError for what a client raises."""
        try:
            yield
        except RefusedError as error:
            raise RemoteError(self._refusal(error), error.status) from None
        except ClientError as error:
            raise RemoteError(f"{self.url} {error.reason}") from None

    def stranger(self) -> RemoteError:
        """Return the error for what no deployment answers."""
        return RemoteError(f"{self.url} {STRANGE}")

    def _refusal(self, error: RefusedError) -> str:
        if error.status == 401:
            known = self._key is not None
            way_out = "does not know the key of --key or" if known else "needs a key: give --key, or set"
            return f"{self.url} {way_out} ASGIPIPE_KEY"
        return f"{self.url} answered {error.status}: {cell(error.detail or 'nothing is said why', 500)}"


def remote(url: str, key: str | None, store: str | None, config_file: str | None) -> Remote:
    """Return the deployment at a URL. Raises UsageError when a store is named as well."""
    if store is not None or config_file is not None:
        raise click.UsageError("--url is a running deployment, --store and --config name a store: give one of the two")
    return Remote(url, key)


def remote_options(command: F) -> F:
    """Give a command `--url` and `--key`."""
    key = click.option(
        "--key",
        metavar="KEY",
        envvar="ASGIPIPE_KEY",
        help="The key of the deployment. Others on this machine can see it in the process list: prefer ASGIPIPE_KEY.",
    )
    url = click.option("--url", metavar="URL", help="A running deployment, such as http://127.0.0.1:8000.")
    return url(key(command))


def store_option(command: F) -> F:
    """Give a command `--store`."""
    option = click.option(
        "--store",
        metavar="STORE",
        help="The store to read, as the setting store_url. By default that of the settings.",
    )
    return option(command)
