"""The dashboard: files that are open to everybody, with a page for the routes that a script in it handles itself."""

import posixpath
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from urllib.parse import quote

from pydantic_core import to_json

from asgipipe.errors import DefinitionError
from asgipipe.http.files import FileTable, StaticFile
from asgipipe.http.responses import respond, without_body
from asgipipe.http.types import ASGIApp, Receive, Scope, Send

ASSETS = Path(__file__).parent / "assets" / "dashboard"
PARTS = (
    "api.js",
    "dashboard.js",
    "elements.js",
    "events.js",
    "form.js",
    "graph.js",
    "icon.svg",
    "metrics.js",
    "records.js",
    "run.js",
    "schema.js",
    "snippets.js",
    "style.css",
    "timeline.js",
    "tree.js",
)
"""What the default dashboard's page loads from the folder `dashboard` beside it, next to `paths.js`."""

INDEX = "index.html"
SCRIPT = (b"content-type", b"text/javascript; charset=utf-8")
PAGE_TYPES = frozenset({b"text/html", b"application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`files` by URL path; `reserved` are first segments (`invoke`, `docs`) that never become client-side routes."""

    files: Mapping[str, ASGIApp]
    index: ASGIApp
    reserved: frozenset[str]

    def lookup(self, path: str, accept: bytes = b"") -> ASGIApp | None:
        """Return the file that answers a GET or HEAD of `path` (with its leading slash, below the dashboard's root).

        `accept` is the Accept header: a page is what only a browser's navigation asks for, so `*/*` does not count.
        """
        file = self.files.get(path)
        if file is None and self._is_client_route(path) and _accepts_page(accept):
            return self.index
        return file

    def _is_client_route(self, path: str) -> bool:
        first, *rest = path.removeprefix("/").split("/")
        last = rest[-1] if rest else first
        if not path.startswith("/") or not first or first in self.reserved or "." in last:
            return False
        plain = path.isprintable() and "\\" not in path
        return plain and not any(segment in ("", ".", "..") for segment in (first, *rest[:-1]))


@dataclass(frozen=True, slots=True)
class PathsModule:
    """The module that tells the default dashboard where the built-in endpoints are.

    Its paths are relative to the dashboard's root, so they hold under any mount point and behind any proxy.
    """

    root: str
    paths: Mapping[str, str]

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        relative = {name: _link(self.root, path) for name, path in self.paths.items()}
        send = without_body(send) if scope["method"] == "HEAD" else send
        await respond(send, 200, SCRIPT, b"export const paths = %b;\n" % to_json(relative))


def _link(root: str, target: str) -> str:
    # `./`: the first segment of a relative link may not hold a colon (RFC 3986 section 4.2).
    return f"./{quote(posixpath.relpath(target, root or '/'))}"


def dashboard(
    folder: Path | None,
    *,
    written: str | None = None,
    reserved: Collection[str] = (),
    root: str = "",
    paths: Mapping[str, str] | None = None,
) -> Dashboard:
    """Return the dashboard in `folder`, or the default one when there is no folder.

    `written` is the folder as the user wrote it, for the message. `root` is the path in front of the dashboard, `paths`
    are those of the built-in endpoints, by name. Raises DefinitionError when the folder is missing, is no folder, holds
    no index.html or too many files.
    """
    files: dict[str, ASGIApp] = {}
    if folder is None:
        files |= _default_files()
        files["/dashboard/paths.js"] = PathsModule(root, paths or {})
    else:
        files |= _files(folder, f"dashboard_files_path {written or str(folder)!r}")
    for path in [path for path in files if path.endswith(f"/{INDEX}")]:
        files[path.removesuffix(INDEX)] = files[path]
    return Dashboard(files, files[f"/{INDEX}"], frozenset(reserved))


@cache
def _default_files() -> Mapping[str, StaticFile]:
    parts = {f"/dashboard/{name}": StaticFile.trusted(ASSETS / name) for name in PARTS}
    return {f"/{INDEX}": StaticFile.trusted(ASSETS / INDEX), **parts}


def _files(folder: Path, place: str) -> dict[str, StaticFile]:
    try:
        table = _table(folder)
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error}") from error
    except OSError as error:
        raise DefinitionError(f"{place}: the folder cannot be looked at: {error.strerror}") from error
    return {path: file for path in table if (file := table.get(path)) is not None}


def _table(folder: Path) -> FileTable:
    if "\0" in str(folder) or not folder.exists():
        raise DefinitionError("there is no such folder")
    if not folder.is_dir():
        raise DefinitionError(f"this is a file; give the folder that holds {INDEX}")
    table = FileTable(folder)
    if table.get(f"/{INDEX}") is None:
        raise DefinitionError(f"the folder holds no {INDEX}; give the folder that the dashboard is built into")
    return table


def _accepts_page(accept: bytes) -> bool:
    for choice in accept.lower().split(b","):
        media_type, *parameters = (part.strip() for part in choice.split(b";"))
        if media_type in PAGE_TYPES:
            return not any(_is_zero_quality(parameter) for parameter in parameters)
    return False


def _is_zero_quality(parameter: bytes) -> bool:
    name, _, value = parameter.replace(b" ", b"").partition(b"=")
    return name == b"q" and value.strip(b"0.") == b"" and value != b""
