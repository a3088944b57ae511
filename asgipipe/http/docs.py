"""The documentation pages: Swagger UI and ReDoc from local files, or a plain page of our own where those are missing.

No page changes once it was asked for. Its links are relative to the page itself, so they hold under any
mount point, with and without a `root_path`, and behind proxies that say nothing about the prefix they cut off.
"""

import importlib.util
import posixpath
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, partial
from html import escape
from pathlib import Path
from urllib.parse import quote

from pydantic_core import to_json

from asgipipe.http.endpoint import Endpoint
from asgipipe.http.files import StaticFile
from asgipipe.http.responses import HTML, respond
from asgipipe.http.types import HeaderList, Receive, Scope, Send

Document = Mapping[str, object]
MakeDocument = Callable[[], Document]

ASSETS = Path(__file__).parent / "assets" / "docs"
SIDECAR = "drf_spectacular_sidecar"  # carries the files of Swagger UI and ReDoc; of extra `asgipipe[docs]`
INSTALL = 'pip install "asgipipe[docs]"'

# ReDoc writes its styles into the page and searches in a worker made from a blob, so its page needs more than others.
REDOC_POLICY = (
    "default-src 'none'",
    "script-src 'self'",
    "style-src 'self' 'unsafe-inline'",
    "img-src 'self' data:",
    "font-src 'self'",
    "connect-src 'self'",
    "worker-src blob:",
    "frame-ancestors 'none'",
    "base-uri 'none'",
    "form-action 'self'",
)
REDOC_CSP = (b"content-security-policy", "; ".join(REDOC_POLICY).encode())

SWAGGER_BODY = """<div id="swagger-ui" data-openapi="{openapi}"></div>
<script src="{assets}/swagger-ui-bundle.js"></script>
<script src="{assets}/swagger-init.js"></script>"""
REDOC_BODY = """<redoc spec-url="{openapi}"></redoc>
<script src="{assets}/redoc.standalone.js"></script>"""


@dataclass(frozen=True, slots=True)
class Viewer:
    """A program that shows the document.

    `files` are taken from `folder` of the installed package, `own_files` from ours. `policy` is the header that its
    page needs where the default policy would be too strict.
    """

    name: str
    folder: str
    files: tuple[str, ...]
    own_files: tuple[str, ...]
    stylesheet: str
    body: str
    policy: HeaderList = ()

    def assets(self) -> dict[str, StaticFile] | None:
        """Return the files by name, or None when they are not installed."""
        package = _sidecar()
        if package is None or not all((package / self.folder / name).is_file() for name in self.files):
            return None
        files = {name: package / self.folder / name for name in self.files}
        files |= {name: ASSETS / name for name in self.own_files}
        return {name: StaticFile.trusted(path) for name, path in files.items()}


SWAGGER = Viewer(
    name="docs",
    folder="swagger-ui-dist",
    files=("swagger-ui-bundle.js", "swagger-ui.css"),
    own_files=("swagger-init.js",),
    stylesheet="swagger-ui.css",
    body=SWAGGER_BODY,
)
REDOC = Viewer(
    name="redoc",
    folder="redoc/bundles",
    files=("redoc.standalone.js",),
    own_files=("redoc.css",),
    stylesheet="redoc.css",
    body=REDOC_BODY,
    policy=(REDOC_CSP,),
)


def _sidecar() -> Path | None:
    """Find the package's files without importing it: it imports Django."""
    spec = importlib.util.find_spec(SIDECAR)
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "static" / SIDECAR


@dataclass(frozen=True, slots=True)
class Page:
    """A page that never changes; `body` makes it."""

    body: Callable[[], bytes]
    headers: HeaderList = ()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await respond(send, 200, HTML, self.body(), self.headers)


def docs_endpoints(
    *,
    docs_path: str | None,
    redoc_path: str | None,
    openapi_path: str,
    title: str,
    document: MakeDocument,
    csp_enabled: bool = True,
) -> list[Endpoint]:
    """Return the rows of the documentation: its pages, and one row for each file they load.

    A page whose path is None is left out. `csp_enabled` says whether answers carry the default policy: then the ReDoc
    page brings its own, wider one. `document` makes what the plain page shows; the others fetch it from `openapi_path`.
    """
    rows: list[Endpoint] = []
    for viewer, path in ((SWAGGER, docs_path), (REDOC, redoc_path)):
        if path is not None:
            rows += _rows(viewer, path, openapi_path, title=title, document=document, csp_enabled=csp_enabled)
    return rows


def _rows(
    viewer: Viewer, path: str, openapi_path: str, *, title: str, document: MakeDocument, csp_enabled: bool
) -> list[Endpoint]:
    assets = viewer.assets()
    folder = f"{path.rstrip('/')}/assets"
    links = {"openapi": _link(path, openapi_path), "assets": _link(path, folder)}
    if assets is None:
        assets = {"docs.css": StaticFile.trusted(ASSETS / "docs.css")}
        stylesheet, body = f"{links['assets']}/docs.css", partial(_plain, title, document, links["openapi"])
        page = Page(cache(lambda: _html(title, stylesheet, body())))
    else:
        html = _html(title, f"{links['assets']}/{viewer.stylesheet}", viewer.body.format(**links))
        page = Page(lambda: html, viewer.policy if csp_enabled else ())
    rows = [Endpoint(path, "GET", page, viewer.name, auth_required=False)]
    for name, file in assets.items():
        rows.append(Endpoint(f"{folder}/{name}", "GET", file, f"{viewer.name}:{name}", auth_required=False))
    return rows


def _link(page: str, target: str) -> str:
    """Return `target` relative to `page`, as it stands in an attribute."""
    relative = quote(posixpath.relpath(target, posixpath.dirname(page)))
    # `./`: the first segment of a relative link may not hold a colon (RFC 3986 section 4.2).
    return escape(relative if relative.startswith("../") else f"./{relative}")


def _html(title: str, stylesheet: str, body: str) -> bytes:
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(title)}</title>
<link rel="icon" href="data:,">
<link rel="stylesheet" href="{stylesheet}">
</head>
<body>
{body}
</body>
</html>
""".encode()


def _plain(title: str, make_document: MakeDocument, openapi: str) -> str:
    """Return a readable page without any script."""
    document = make_document()
    rows = "\n".join(_plain_row(document, path, method) for path, method in _operations(document))
    schemas = "\n".join(
        f"<h3>{escape(name)}</h3>\n<pre>{escape(to_json(schema, indent=2, inf_nan_mode='null').decode())}</pre>"
        for name, schema in _members(document, "components", "schemas").items()
    )
    return f"""<main>
<h1>{escape(title)}</h1>
<p>The same for programs: <a href="{openapi}">{openapi}</a>. To try requests in the browser:</p>
<pre>{escape(INSTALL)}</pre>
<table>
<thead><tr><th>Method</th><th>Path</th><th>Summary</th><th>Key</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<h2>Schemas</h2>
{schemas}
</main>"""


def _operations(document: Document) -> list[tuple[str, str]]:
    return [(path, method) for path in _members(document, "paths") for method in _members(document, "paths", path)]


def _plain_row(document: Document, path: str, method: str) -> str:
    operation = _members(document, "paths", path, method)
    needed = "needed" if operation.get("security", document.get("security")) else "not needed"
    cells = (method.upper(), path, str(operation.get("summary", "")), needed)
    return f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def _members(document: Document, *keys: str) -> Mapping[str, object]:
    """Return the object at `keys`, empty where there is none."""
    found: object = document
    for key in keys:
        found = found.get(key) if isinstance(found, Mapping) else None
    return found if isinstance(found, Mapping) else {}
