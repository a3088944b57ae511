"""Asking a running deployment; what it refuses is one line, never a traceback."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, TypeVar, cast
from urllib.parse import urlsplit

import click

from asgipipe.cli.tables import cell
from asgipipe.errors import UserError

if TYPE_CHECKING:
    import httpx

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
        self.url = _checked(url)
        if key is not None and not (key.isascii() and key.isprintable()):
            raise click.UsageError("the key holds characters that no key has: only visible ASCII can be sent")
        self._headers = {} if key is None else {"authorization": f"Bearer {key}"}

    def client(self) -> "httpx.Client":
        """Return a client whose relative URLs lie below the deployment's."""
        import httpx

        return httpx.Client(base_url=self.url, headers=self._headers, timeout=_TIMEOUT, follow_redirects=False)

    def get(self, path: str, query: Mapping[str, object] | None = None) -> dict[str, object]:
        """Return the JSON object at a path. Raises RemoteError."""
        return self.ask("GET", path, query)

    def ask(self, method: str, path: str, query: Mapping[str, object] | None = None) -> dict[str, object]:
        """Send a request without a body and return the JSON object of the answer. Raises RemoteError."""
        import httpx

        given = {name: str(value) for name, value in (query or {}).items() if value is not None}
        try:
            with self.client() as client:
                answer = client.request(method, path, params=given)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise RemoteError(f"{self.url} cannot be reached: {str(error) or type(error).__name__}") from None
        if answer.is_error:
            raise RemoteError(self.reason(answer), answer.status_code)
        return self._object(answer)

    def reason(self, answer: "httpx.Response") -> str:
        """Return why a deployment refused."""
        if answer.status_code == 401:
            if self._headers:
                return f"{self.url} does not know the key of --key or ASGIPIPE_KEY"
            return f"{self.url} needs a key: give --key, or set ASGIPIPE_KEY"
        try:
            detail = self._object(answer).get("detail")
        except RemoteError:
            if answer.status_code == 404:
                return str(self.stranger())
            detail = None
        return f"{self.url} answered {answer.status_code}: {cell(str(detail or answer.reason_phrase), 500)}"

    def stranger(self) -> RemoteError:
        """Return the error for what no deployment answers."""
        return RemoteError(f"{self.url} does not answer like a deployment of asgipipe; is the URL right?")

    def _object(self, answer: "httpx.Response") -> dict[str, object]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict):
            raise self.stranger()
        return cast("dict[str, object]", found)


def _checked(url: str) -> str:
    """Return a URL as others are put below it; what is wrong with it is said without what may be a password."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, right = urlsplit(""), False
    if not right or parts.query or parts.fragment:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise click.UsageError(f"{shown!r} is not the URL of a deployment, such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise click.UsageError("a deployment knows no user and password: leave them out of the URL, and give --key")
    return url.rstrip("/")


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
