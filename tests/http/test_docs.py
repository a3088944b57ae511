import asyncio
import re
import subprocess
import sys
from html import unescape
from pathlib import Path
from urllib.parse import unquote, urljoin

import pytest

from asgipipe.http import docs
from asgipipe.http.docs import INSTALL, docs_endpoints
from asgipipe.http.endpoint import Endpoint, Operation
from asgipipe.http.openapi import openapi_document
from asgipipe.http.types import ASGIApp, Receive, Scope, Send
from tests.conftest import Answer, exchange, needs_docs

PATHS = [
    ("/docs", "/redoc", "/openapi.json"),
    ("/root/api docs/ui", "/root/redoc", "/root/openapi.json"),
    ("/", "/redoc/", "/a/b/openapi.json"),
    ("/x:y/docs", "/x:y", "/x:y/open:api.json"),
]


async def nothing(scope: Scope, receive: Receive, send: Send) -> None:
    raise AssertionError("the documentation calls no endpoint")


def rows(paths: tuple[str | None, str | None, str] = PATHS[0], title: str = "T", *, csp: bool = True) -> list[Endpoint]:
    served = [
        Endpoint(
            "/invoke",
            "POST",
            nothing,
            "invoke",
            operation=Operation("invoke", "Score <b>wines</b>", components={"Wine": {"type": "object"}}),
        ),
        Endpoint("/health", "GET", nothing, "health", auth_required=False, operation=Operation("health", "Well?")),
    ]
    document = openapi_document(title=title, description="", version="1", endpoints=served, has_keys=True)
    docs_path, redoc_path, openapi_path = paths
    return docs_endpoints(
        docs_path=docs_path,
        redoc_path=redoc_path,
        openapi_path=openapi_path,
        title=title,
        document=lambda: document,
        csp_enabled=csp,
    )


@pytest.fixture
def without_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Act as if `asgipipe[docs]` were not installed."""
    monkeypatch.setattr(docs, "SIDECAR", "a_package_that_is_not_installed")


def ask(app: ASGIApp) -> Answer:
    return asyncio.run(exchange(app))


def links(page: bytes) -> list[str]:
    found = re.findall(r'(?:src|href|data-openapi|spec-url)="([^"]*)"', page.decode())
    return [unescape(link) for link in found if not link.startswith("data:")]


def check_links(table: dict[str, ASGIApp], paths: tuple[str, str, str], prefix: str) -> None:
    for page in paths[:2]:
        targets = [unquote(urljoin(f"http://h{prefix}{page}", link))[8:] for link in links(ask(table[page]).body)]
        assert f"{prefix}{paths[2]}" in targets
        assert all(target.removeprefix(prefix) in {*table, paths[2]} for target in targets), targets
        assert len(targets) > 1


@pytest.mark.parametrize("prefix", ["", "/mounted/deep"])
@pytest.mark.parametrize("paths", PATHS)
def test_links_hold_under_every_path_and_prefix(paths: tuple[str, str, str], prefix: str) -> None:
    """Resolved as a browser does, each link of both pages leads to a row of the table or to the document."""
    check_links({row.path: row.app for row in rows(paths)}, paths, prefix)


@pytest.mark.usefixtures("without_extra")
@pytest.mark.parametrize("paths", PATHS)
def test_links_of_the_plain_page_hold(paths: tuple[str, str, str]) -> None:
    """The same is true of the page that is shown where the extra is missing."""
    check_links({row.path: row.app for row in rows(paths)}, paths, "/mounted")


@needs_docs
def test_rows_are_open_and_undocumented() -> None:
    """Pages and their files need no key and are no part of the document; each is answered at one path for GET."""
    table = rows()
    assert {(row.method, row.auth_required, row.operation) for row in table} == {("GET", False, None)}
    assert [row.path for row in table] == [
        "/docs",
        "/docs/assets/swagger-ui-bundle.js",
        "/docs/assets/swagger-ui.css",
        "/docs/assets/swagger-init.js",
        "/redoc",
        "/redoc/assets/redoc.standalone.js",
        "/redoc/assets/redoc.css",
    ]
    assert len({row.name for row in table}) == len(table)


@pytest.mark.parametrize(("paths", "expected"), [((None, "/r", "/o"), "/r"), (("/d", None, "/o"), "/d")])
def test_each_page_can_be_left_out(paths: tuple[str | None, str | None, str], expected: str) -> None:
    """Without a path there is neither the page nor its files."""
    assert all(row.path.startswith(expected) for row in rows(paths))
    assert rows((None, None, "/o")) == []


@needs_docs
def test_assets_are_files_with_validators() -> None:
    """Scripts and styles come with their type and an ETag that spares the next download."""
    table = {row.path: row.app for row in rows()}
    answer = ask(table["/docs/assets/swagger-ui-bundle.js"])
    assert answer.header(b"content-type") == b"text/javascript; charset=utf-8"
    assert answer.header(b"cache-control") == b"no-cache"
    etag = answer.header(b"etag")
    assert etag is not None
    again = asyncio.run(exchange(table["/docs/assets/swagger-ui-bundle.js"], headers=[(b"if-none-match", etag)]))
    assert (again.status, again.body) == (304, b"")


def test_pages_have_nothing_inline() -> None:
    """No script, style or event handler stands in a page, so that the policy can forbid them."""
    for row in rows():
        answer = ask(row.app)
        if answer.header(b"content-type") == b"text/html; charset=utf-8":
            assert not re.search(rb"<script(?! src=)|<script[^>]*>[^<]|<style|style=|\son\w+=", answer.body)


@pytest.mark.usefixtures("without_extra")
def test_the_plain_page_has_no_script() -> None:
    """The page of our own shows everything without running anything."""
    for row in rows():
        assert not re.search(rb"<script|<style|style=|\son\w+=", ask(row.app).body)


@needs_docs
def test_only_redoc_brings_a_policy_of_its_own() -> None:
    """ReDoc needs inline styles and a blob worker, on its page alone, and only where there is a policy at all."""
    policies = {row.name: ask(row.app).header(b"content-security-policy") for row in rows()}
    policy = policies.pop("redoc")
    assert policy is not None
    assert b"style-src 'self' 'unsafe-inline'; " in policy
    assert b"worker-src blob:; " in policy
    assert b"script-src 'self'; " in policy
    assert set(policies.values()) == {None}
    assert {ask(row.app).header(b"content-security-policy") for row in rows(csp=False)} == {None}


@pytest.mark.usefixtures("without_extra")
def test_the_plain_page_shows_operations_and_schemas() -> None:
    """Without the extra both pages list what is served, what needs a key, the schemas, and how to get Swagger UI."""
    table = {row.path: row.app for row in rows()}
    assert sorted(table) == ["/docs", "/docs/assets/docs.css", "/redoc", "/redoc/assets/docs.css"]
    for path in ("/docs", "/redoc"):
        page = ask(table[path]).body.decode()
        assert INSTALL in unescape(page)
        assert "<td>POST</td><td>/invoke</td><td>Score &lt;b&gt;wines&lt;/b&gt;</td><td>needed</td>" in page
        assert "<td>GET</td><td>/health</td><td>Well?</td><td>not needed</td>" in page
        assert "<h3>Wine</h3>" in page
        assert "&quot;type&quot;: &quot;object&quot;" in page


@pytest.mark.parametrize("extra", [True, False])
def test_titles_are_text(extra: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """What users wrote never becomes markup."""
    if not extra:
        monkeypatch.setattr(docs, "SIDECAR", "a_package_that_is_not_installed")
    title = "</title><script>alert('1')</script>\"&"
    for row in rows(title=title):
        if not row.path.endswith((".js", ".css")):
            assert b"<script>alert" not in ask(row.app).body


@needs_docs
def test_the_installed_files_are_found_without_importing_the_package() -> None:
    """The package imports Django; building the documentation must not."""
    program = (
        "import sys; from asgipipe.http.docs import SWAGGER, REDOC; assert SWAGGER.assets() and REDOC.assets();"
        "assert not [m for m in sys.modules if m.split('.')[0] in ('django', 'drf_spectacular_sidecar')]"
    )
    subprocess.run([sys.executable, "-c", program], check=True, cwd=Path(__file__).parents[2])


def test_an_incomplete_package_counts_as_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package of that name without the files leads to the plain page, not to broken links."""
    (tmp_path / "half_a_package").mkdir()
    (tmp_path / "half_a_package" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(docs, "SIDECAR", "half_a_package")
    assert INSTALL in unescape(ask(rows()[0].app).body.decode())
