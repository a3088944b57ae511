"""Where a deployment is, and where its endpoints are.

The paths of endpoints can be moved by settings (`invoke_url_path`, `root_url_path`, ...). They are taken to be the
default ones until one of them is not found, and are then learned from the service itself: from `/info`, the OpenAPI
document, or, at the root of a server, `/pipelines`. Each of the first two knows its own path, so what stands before
it in the URL that answered is where the deployment is mounted: prefixes that a proxy takes away do not matter.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import quote, urlsplit

NAMES = ("invoke", "health", "ready", "info", "metrics", "status", "jobs", "stream", "runs")


@dataclass(frozen=True, slots=True)
class Endpoints:
    """The URL of each endpoint; those that are switched off are missing. `learned` is False for the default ones."""

    urls: Mapping[str, str]
    learned: bool = False

    def url(self, name: str, *segments: str) -> str | None:
        """Return the URL of an endpoint, with `segments` behind it."""
        found = self.urls.get(name)
        return None if found is None else "/".join((found, *(quote(segment, safe="") for segment in segments)))

    def below(self, root: str) -> bool:
        return all(url.startswith(f"{root}/") for url in self.urls.values())


def and_above(root: str) -> list[str]:
    """Return a root and the folders that it is in, on the same host."""
    parts = urlsplit(root)
    segments = parts.path.split("/")
    return [f"{parts.scheme}://{parts.netloc}{'/'.join(segments[:count])}" for count in range(len(segments), 0, -1)]


def default_endpoints(root: str) -> Endpoints:
    return Endpoints({name: f"{root}/{name}" for name in NAMES})


def from_info(url: str, document: Mapping[str, object]) -> Endpoints | None:
    """Return what the answer of `/info` at `url` says; None when it is none."""
    app = document.get("app")
    if not isinstance(app, dict):
        return None
    return _placed(url, "info", {name: app.get(f"{name}_url_path") for name in NAMES})


def from_openapi(url: str, document: Mapping[str, object]) -> Endpoints | None:
    """Return what the OpenAPI document at `url` says; None when it is none of a deployment's."""
    paths = document.get("paths")
    if not isinstance(paths, dict):
        return None
    found: dict[str, object] = {}
    for path, item in paths.items():
        for operation in item.values() if isinstance(item, dict) else ():
            if isinstance(operation, dict) and isinstance(operation.get("operationId"), str):
                found.setdefault(operation["operationId"], path.partition("/{")[0])
    if "invoke" not in found and "info" not in found:
        return None
    return _placed(url, "openapi", found)


def _placed(url: str, own: str, paths: Mapping[str, object]) -> Endpoints | None:
    own_path = paths.get(own)
    if not isinstance(own_path, str) or not url.endswith(own_path):
        return None
    mount = url.removesuffix(own_path)
    # A path begins with a slash, so the URL's host is that of the mount, whatever the document says.
    right = {name: path for name in NAMES if isinstance(path := paths.get(name), str) and path.startswith("/")}
    return Endpoints({name: mount + path for name, path in right.items()}, learned=True)


def served_at(url: str, document: Mapping[str, object]) -> list[str]:
    """Return the roots of the deployments that a server's `/pipelines` at `url` lists; none when it is none."""
    listed = document.get("pipelines")
    parts = urlsplit(url)
    if not isinstance(listed, list):
        return []
    paths = [one.get("url") for one in listed if isinstance(one, dict)]
    return [
        f"{parts.scheme}://{parts.netloc}{path.rstrip('/')}"
        for path in paths
        if isinstance(path, str) and path.startswith("/")
    ]


def checked_url(url: str) -> str:
    """Return a URL as others are put below it. Raises ValueError, without saying what may be a password."""
    try:
        parts = urlsplit(url)
        right = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        parts, right = urlsplit(""), False
    if not right or parts.query or parts.fragment:
        shown = url.rpartition("@")[2].partition("?")[0]
        raise ValueError(f"{shown!r} is not the URL of a deployment, such as http://127.0.0.1:8000")
    if "@" in parts.netloc:
        raise ValueError("a deployment knows no user and password: leave them out of the URL, and give its key")
    return url.rstrip("/")


def checked_key(key: str | None) -> str | None:
    """Return a key that can be sent. Raises ValueError."""
    if key is not None and not (key.isascii() and key.isprintable() and key.strip()):
        raise ValueError("the key holds characters that no key has: only visible ASCII can be sent")
    return key
