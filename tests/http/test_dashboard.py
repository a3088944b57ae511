import asyncio
import json
import re
from pathlib import Path
from urllib.parse import unquote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgipipe.errors import DefinitionError
from asgipipe.http.dashboard import ASSETS, PARTS, Dashboard, dashboard
from asgipipe.http.files import StaticFile
from tests.conftest import Answer, exchange

BROWSER = b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"
RESERVED = ("invoke", "docs", "api")
SECRET = b"not for the world"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a built single-page application with a secret beside its folder."""
    (tmp_path / "secret").write_bytes(SECRET)
    (tmp_path / "secret.html").write_bytes(SECRET)
    folder = tmp_path / "dist"
    for path, content in {
        "index.html": "<title>mine</title>",
        "assets/index-BxYz12ab.js": "1",
        "guide/index.html": "<title>guide</title>",
        ".env": "KEY=1",
    }.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(content)
    return folder


@pytest.fixture
def mine(folder: Path) -> Dashboard:
    return dashboard(folder, reserved=RESERVED)


def ask(board: Dashboard, path: str, accept: bytes = BROWSER) -> Answer | None:
    file = board.lookup(path, accept)
    return None if file is None else asyncio.run(exchange(file, path))


def body(board: Dashboard, path: str, accept: bytes = BROWSER) -> bytes | None:
    answer = ask(board, path, accept)
    return None if answer is None else answer.body


def test_files_and_index_are_found(mine: Dashboard) -> None:
    """The root and a folder with a trailing slash give their index.html, and files themselves, whatever is accepted."""
    assert body(mine, "/", b"*/*") == b"<title>mine</title>"
    assert body(mine, "/index.html", b"") == b"<title>mine</title>"
    assert body(mine, "/guide/", b"*/*") == b"<title>guide</title>"
    assert body(mine, "/assets/index-BxYz12ab.js", b"*/*") == b"1"


@pytest.mark.parametrize("path", ["/runs", "/runs/", "/runs/7/steps", "/invoked", "/réglages"])
def test_client_side_routes_give_the_index(mine: Dashboard, path: str) -> None:
    """A browser's navigation to a path that only the application's own script knows opens the application."""
    assert body(mine, path) == b"<title>mine</title>"


@pytest.mark.parametrize(
    "accept", [b"", b"*/*", b"application/json", b"text/*", b"text/html;q=0", b"text/html ; q=0.000"]
)
def test_only_pages_are_answered_with_the_index(mine: Dashboard, accept: bytes) -> None:
    """A program that asks for anything, or for JSON, is not given a page for a path that does not exist."""
    assert mine.lookup("/runs/7", accept) is None


@pytest.mark.parametrize("accept", [b"text/html", b"Text/HTML; charset=utf-8; q=0.1", b"application/xhtml+xml"])
def test_pages_are_asked_for_by_name(mine: Dashboard, accept: bytes) -> None:
    """Both page types count, in any case and with parameters."""
    assert mine.lookup("/runs/7", accept) is mine.index


@pytest.mark.parametrize("path", ["/invoke", "/invoke/", "/docs/assets", "/api/v1/nothing"])
def test_built_in_segments_are_no_client_side_routes(mine: Dashboard, path: str) -> None:
    """Below a built-in path nothing turns into a page, so that a mistyped API call stays an error."""
    assert mine.lookup(path, BROWSER) is None


@pytest.mark.parametrize("path", ["/missing.js", "/assets/missing.css", "/runs/photo.png", "/.env", "/.git/config.bak"])
def test_missing_assets_are_missing(mine: Dashboard, path: str) -> None:
    """A script or picture that is not there must not come as an HTML page, which browsers report so confusingly."""
    assert mine.lookup(path, BROWSER) is None


@pytest.mark.parametrize(
    "path",
    ["", "runs", "//runs", "/a//b", "/../secret", "/..", "/a/../secret", "/./runs", "/..\\secret", "/a\0", "/a\nb"],
)
def test_odd_paths_are_no_client_side_routes(mine: Dashboard, path: str) -> None:
    """Paths that no link of an application spells get no page."""
    assert mine.lookup(path, BROWSER) is None


SEGMENT = st.sampled_from(
    [
        "..",
        ".",
        "",
        "%2e%2e",
        "%2E.",
        "..%2f",
        "..\\",
        "\\",
        "\0",
        "secret",
        "secret.html",
        "assets",
        "dist",
        "~",
        "C:",
        "etc",
    ]
)


@settings(max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(path=st.one_of(st.text(), st.lists(SEGMENT, max_size=6).map("/".join)), decodings=st.integers(0, 2))
def test_nothing_outside_the_folder_is_ever_found(folder: Path, path: str, decodings: int) -> None:
    """However a path is spelt, and however often a server decoded it, what is found is one of the listed files."""
    board = dashboard(folder)
    for _ in range(decodings):
        path = unquote(path)
    known = {folder / name for name in ("index.html", "guide/index.html", "assets/index-BxYz12ab.js")}
    for candidate in (path, f"/{path}", f"/{folder}/{path}", str(folder.parent / "secret")):
        file = board.lookup(candidate, BROWSER)
        assert file is None or (isinstance(file, StaticFile) and file.path in known)


def test_without_a_folder_there_is_the_default() -> None:
    """The default is a dashboard like any other: a page, what it loads, client-side routes; nothing in it is inline."""
    board = dashboard(None, reserved=RESERVED)
    page = body(board, "/")
    assert page is not None
    assert b"asgipipe" in page
    assert b"<style" not in page
    assert b"style=" not in page
    assert not re.search(rb"<script[^>]*>[^<]", page)
    style = ask(board, "/dashboard/style.css", b"text/css")
    assert style is not None
    assert style.header(b"content-type") == b"text/css; charset=utf-8"
    assert style.header(b"cache-control") == b"no-cache"
    assert style.header(b"etag")
    assert body(board, "/trips/7") == page
    assert board.lookup("/docs/nothing", BROWSER) is None


def test_the_default_is_small_and_whole() -> None:
    """Each of its files is served, and loaded by name with the page; together they stay below 100 kB."""
    names = {path.name for path in ASSETS.iterdir()}
    assert names == {"index.html", *PARTS}
    page = (ASSETS / "index.html").read_text()
    assert set(re.findall(r'"dashboard/([^"]+)"', page)) == {"paths.js", *PARTS}
    assert sum((ASSETS / name).stat().st_size for name in names) < 100_000


@pytest.mark.parametrize(
    ("root", "invoke", "relative"),
    [
        ("", "/invoke", "./invoke"),
        ("/root", "/root/api/v1/run", "./api/v1/run"),
        ("", "/a b:c/é", "./a%20b%3Ac/%C3%A9"),
    ],
)
def test_the_default_is_told_where_the_endpoints_are(root: str, invoke: str, relative: str) -> None:
    """Its script gets their paths relative to the dashboard's root."""
    board = dashboard(None, root=root, paths={"invoke": invoke})
    module = body(board, "/dashboard/paths.js", b"*/*")
    assert module is not None
    assert json.loads(module.removeprefix(b"export const paths = ").removesuffix(b";\n")) == {"invoke": relative}
    found = board.lookup("/dashboard/paths.js")
    assert found is not None
    headed = asyncio.run(exchange(found, "/dashboard/paths.js", method="HEAD"))
    assert (headed.body, headed.header(b"content-length")) == (b"", b"%d" % len(module))


def test_a_folder_that_cannot_be_a_dashboard_is_refused_by_name(folder: Path) -> None:
    """Missing, a file, or without index.html: the message names the setting, and the folder as the user wrote it."""
    empty = folder / "assets"
    for wrong, reason in [
        (folder / "missing", "no such folder"),
        (folder / "\0", "no such folder"),
        (folder / ("x" * 300), "(no such folder|cannot be looked at)"),
        (folder / "index.html", "this is a file"),
        (empty, "holds no index.html"),
    ]:
        with pytest.raises(DefinitionError, match=rf"dashboard_files_path '\./ui': .*{reason}"):
            dashboard(wrong, written="./ui")


def test_the_folder_is_named_when_nothing_else_is_known(folder: Path) -> None:
    """Without the user's own words the path itself is named."""
    with pytest.raises(DefinitionError, match="dist/missing"):
        dashboard(folder / "missing")


def test_an_index_that_is_a_link_to_elsewhere_does_not_count(folder: Path) -> None:
    """A folder whose index.html leads out of it has none."""
    (folder / "index.html").unlink()
    (folder / "index.html").symlink_to(folder.parent / "secret.html")
    with pytest.raises(DefinitionError, match=r"holds no index\.html"):
        dashboard(folder)
