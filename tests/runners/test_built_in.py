"""Which built-in endpoints there are, where, and what a dashboard of the user's looks like."""

import asyncio
import threading
from pathlib import Path

import pytest

from asgipipe import Deployment
from asgipipe.errors import DefinitionError
from asgipipe.settings import DeploymentDefaultEndpoints
from tests.conftest import needs_docs
from tests.http.wire import Ask, Reply, ask, ask_one, invoke, reply, until
from tests.runners.extras import BEARER, KEY, PAGE, hello

PATHS = {
    "docs": "/docs",
    "redoc": "/redoc",
    "openapi": "/openapi.json",
    "invoke": "/invoke",
    "health": "/health",
    "ready": "/ready",
    "info": "/info",
    "metrics": "/metrics",
    "status": "/status",
    "jobs": "/jobs",
    "stream": "/stream",
    "runs": "/runs",
    "dashboard": "/",
}
SWITCHED = {
    "DOCS": {"docs", "openapi"},
    "REDOC": {"redoc", "openapi"},
    "INVOKE": {"invoke"},
    "HEALTH": {"health", "ready"},
    "INFO": {"info"},
    "METRICS": {"metrics"},
    "STATUS": {"status"},
    "JOBS": {"jobs"},
    "STREAM": {"stream"},
    "RUNS": {"runs"},
    "DASHBOARD": {"dashboard"},
    "DOC": {"docs", "redoc", "openapi"},
    "API": {"invoke", "health", "ready", "info", "metrics", "status", "jobs", "stream", "runs"},
    "NONE": set(),
    "ALL": set(PATHS),
}
BELOW_API = frozenset(SWITCHED["API"])


def asked(name: str, path: str) -> Ask:
    if name == "stream":  # at the path itself there is a WebSocket only; below it, another method is refused
        return Ask("POST", f"{path}/job")
    return invoke({}, path=path) if name == "invoke" else Ask(path=path)


def expected(name: str) -> int:
    return 405 if name == "stream" else 200


def documented(name: str, path: str) -> str:
    return f"{path}/{{job_id}}" if name == "stream" else path


def served(made: dict[str, object], paths: dict[str, str]) -> set[str]:
    """Return the names of what answers; everything else must be a problem 404."""
    replies = dict(zip(paths, ask(hello, made, *(asked(name, path) for name, path in paths.items())), strict=True))
    for name, each in replies.items():
        assert each.status in (expected(name), 404)
        assert each.status != 404 or each.problem["type"] == "urn:asgipipe:not-found"
    return {name for name, each in replies.items() if each.status != 404}


def test_every_flag_is_tried() -> None:
    """The table above has each of them."""
    assert set(SWITCHED) == set(DeploymentDefaultEndpoints.__members__)


@pytest.mark.parametrize("flag", SWITCHED)
def test_endpoints_are_switched_on_one_by_one(flag: str) -> None:
    """Only what is named is served, and an unknown path is a 404 either way."""
    assert served({"include_default_endpoints": flag}, PATHS) == SWITCHED[flag]


@pytest.mark.parametrize("flag", [flag for flag in SWITCHED if flag not in ("ALL", "NONE")])
def test_what_is_switched_off_is_gone_everywhere(flag: str) -> None:
    """It is neither in the document nor in /info, and the rest stays."""
    left = ~DeploymentDefaultEndpoints[flag] & DeploymentDefaultEndpoints.ALL
    made: dict[str, object] = {"include_default_endpoints": left}
    gone = SWITCHED[flag] - ({"openapi"} if flag in ("DOCS", "REDOC") else set())
    assert served(made, PATHS) == set(PATHS) - gone
    document, info = ask(hello, made, Ask(path="/openapi.json"), Ask(path="/info"))
    for name in gone - {"dashboard"}:
        if document.status == 200:
            assert documented(name, PATHS[name]) not in document.json()["paths"]
        if info.status == 200:
            assert info.json()["app"][f"{name}_url_path"] is None


@pytest.mark.parametrize("name", [name for name in PATHS if name != "dashboard"])
def test_each_path_can_be_moved(name: str) -> None:
    """It answers at the new path alone, keeps its openness, and the document and /info say where it is."""
    made: dict[str, object] = {f"{name}_url_path": "/moved/here", "auth_key": KEY}
    key = [] if name in ("docs", "redoc", "openapi", "health", "ready") else [BEARER]
    new, old, document, info = ask(
        hello,
        made,
        _with(asked(name, "/moved/here"), key),
        _with(asked(name, PATHS[name]), [BEARER]),
        Ask(path="/moved/here" if name == "openapi" else "/openapi.json"),
        Ask(path="/moved/here" if name == "info" else "/info", headers=[BEARER]),
    )
    assert (new.status, old.status) == (expected(name), 404)
    assert info.json()["app"][f"{name}_url_path"] == "/moved/here"
    if name not in ("docs", "redoc"):
        assert documented(name, "/moved/here") in document.json()["paths"]
    if key:
        assert ask_one(hello, asked(name, "/moved/here"), made).status == 401


def _with(one: Ask, headers: list[tuple[bytes, bytes]]) -> Ask:
    return Ask(one.method, one.path, [*one.headers, *headers], one.body)


@pytest.mark.parametrize(("root", "api"), [("/w", ""), ("", "/v1"), ("/w/x", "/api/v1")])
def test_prefixes(root: str, api: str) -> None:
    """`root_url_path` is in front of everything, `api_url_path` besides in front of the API."""
    paths = {name: f"{root}{api if name in BELOW_API else ''}{path}" for name, path in PATHS.items()}
    made: dict[str, object] = {"root_url_path": root, "api_url_path": api}
    assert served(made, paths) == set(PATHS)
    assert served(made, {name: path for name, path in PATHS.items() if path != paths[name]}) == set()


# Probes under load


@pytest.mark.parametrize("replaced", [False, True])
def test_probes_are_never_throttled(replaced: bool) -> None:
    """With every place taken /health and /ready answer, those of the user's too; another custom endpoint does not."""
    gate = threading.Event()
    entered = threading.Event()

    def waiting() -> str:
        entered.set()
        gate.wait(30)
        return "done"

    async def fine() -> str:
        return "fine"

    custom = [
        {"path": "/wait", "method": "GET", "handler": waiting},
        {"path": "/other", "method": "GET", "handler": fine},
    ]
    if replaced:
        custom += [{"path": path, "method": "GET", "handler": fine} for path in ("/health", "/ready")]
    custom.append({"path": "/health", "method": "POST", "handler": fine})
    deployment = Deployment(hello, {"max_concurrency": 1, "max_queue": 0, "custom_endpoints": custom}, layers=())

    async def main() -> list[Reply]:
        await deployment.start()
        first = asyncio.ensure_future(reply(deployment.asgi_app, Ask(path="/wait")))
        await until(entered.is_set)
        asks = [
            Ask(path="/health"),
            Ask("HEAD", "/health"),
            Ask(path="/ready"),
            Ask(path="/metrics"),
            Ask(path="/other"),
            Ask("POST", "/health"),
        ]
        replies = [await reply(deployment.asgi_app, one) for one in asks]
        gate.set()
        assert (await first).status == 200
        await deployment.stop()
        return replies

    try:
        statuses = [each.status for each in asyncio.run(main())]
    finally:
        gate.set()
    assert statuses == [200, 200, 200, 200, 429, 429]


# Dashboards


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A source root with a dashboard in web/dist and a secret beside it."""
    dist = tmp_path / "web" / "dist"
    (dist / "assets").mkdir(parents=True)
    (dist / "index.html").write_text("<p>mine</p>")
    (dist / "assets" / "app.js").write_text("let mine")
    (dist / "info").write_text("a file where an endpoint is")
    (tmp_path / "secret.txt").write_text("secret")
    return tmp_path


@pytest.mark.parametrize("absolute", [False, True])
def test_the_dashboard_is_relative_to_the_source_root(folder: Path, absolute: bool) -> None:
    """Files, the page for client-side routes, and a 404 for what is missing; nothing outside of the folder."""
    written = str(folder / "web" / "dist") if absolute else "web/dist"
    app = Deployment(hello, {"dashboard_files_path": written}, layers=(), source_root=folder).asgi_app
    expected = {
        "/": b"<p>mine</p>",
        "/index.html": b"<p>mine</p>",
        "/assets/app.js": b"let mine",
        "/some/view": b"<p>mine</p>",
    }

    async def main() -> list[Reply]:
        paths = [*expected, "/assets/none.js", "/../secret.txt", "/%2e%2e/secret.txt", "/web/dist/index.html", "/info"]
        return [await reply(app, Ask("GET", path, [PAGE])) for path in paths]

    *found, missing, outside, encoded, nested, info = asyncio.run(main())
    assert [each.body for each in found] == list(expected.values())
    assert [each.status for each in (missing, outside, encoded, nested)] == [404] * 4
    assert info.json()["pipeline"]["name"] == "hello"


def test_the_dashboard_needs_no_key_and_opens_nothing(folder: Path) -> None:
    """Its files are open, endpoints of the same path are not."""
    made = {"dashboard_files_path": "web/dist", "auth_key": KEY, "root_url_path": "/w"}
    app = Deployment(hello, made, layers=(), source_root=folder).asgi_app

    async def main() -> list[Reply]:
        paths = ["/w/", "/w/assets/app.js", "/w/view", "/w/info", "/", "/w", "/view"]
        return [await reply(app, Ask("GET", path, [PAGE])) for path in paths]

    assert [each.status for each in asyncio.run(main())] == [200, 200, 200, 401, 401, 401, 401]


@pytest.mark.parametrize(
    ("written", "reason"),
    [
        ("nowhere", "there is no such folder"),
        ("secret.txt", "this is a file"),
        ("web", "the folder holds no index.html"),
    ],
)
def test_a_dashboard_that_is_not_there_is_refused(folder: Path, written: str, reason: str) -> None:
    """When the deployment is built, with the path as it was written."""
    with pytest.raises(DefinitionError, match=f"^dashboard_files_path '{written}': {reason}"):
        Deployment(hello, {"dashboard_files_path": written}, layers=(), source_root=folder)


def test_without_a_source_root_the_working_folder_counts(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a deployment that is made in a host."""
    monkeypatch.chdir(folder)
    assert ask_one(hello, Ask(), {"dashboard_files_path": "web/dist"}).body == b"<p>mine</p>"


# Pages under other headers


@needs_docs
@pytest.mark.parametrize(
    ("made", "expected"),
    [
        ({}, True),
        ({"secure_headers": {"csp": False}}, False),
        ({"secure_headers": {"csp": "default-src 'self'"}}, False),
        ({"include_default_middleware": "NONE"}, False),
        ({"include_default_middleware": "CORS"}, False),
        ({"include_default_middleware": "SECURE_HEADERS"}, True),
    ],
)
def test_the_policy_of_the_redoc_page(made: dict[str, object], expected: bool) -> None:
    """It widens our default policy, and brings none where that is switched off or replaced."""
    policy = ask_one(hello, Ask(path="/redoc"), made).header(b"content-security-policy") or b""
    assert (b"worker-src blob:" in policy) is expected


def test_endpoints_are_named_as_the_document_names_them() -> None:
    """The name of each, by which frameworks list it, is the id of its operation."""
    described = {row.name: row.described() for row in Deployment(hello).app_runner.routes.endpoints}
    ids = {name: operation.operation_id for name, operation in described.items() if operation is not None}
    assert {"invoke", "jobs", "job", "cancel_job", "stream", "openapi"} <= ids.keys()
    assert all(name == operation_id for name, operation_id in ids.items())
