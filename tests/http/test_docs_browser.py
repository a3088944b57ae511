"""The documentation pages in a real browser, under the policy that the secure headers set."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import uvicorn

from asgipipe.http.docs import docs_endpoints
from asgipipe.http.endpoint import Endpoint
from asgipipe.http.openapi import OpenAPIEndpoint, openapi_document
from asgipipe.http.operations import PipelineSchemas, health_operation, invoke_operation
from asgipipe.http.responses import JSON, TEXT, respond
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from tests.browser import needs_browser, showing
from tests.conftest import PATIENCE, free_port, needs_docs

KEY = "a-key-to-try"
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; font-src 'self'; "
    "connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; form-action 'self'"
)

# ReDoc shows its maker's logo from elsewhere and takes it away when that fails, which it always does here.
REDOC_LOGO = "https://cdn.redoc.ly/redoc/logo-mini.svg"

# Runs in the page before anything else; calls `steps()`, which each test's script defines, and sends what it returns.
PROBE = """
const violations = [];
document.addEventListener("securitypolicyviolation", (event) =>
  violations.push({ directive: event.effectiveDirective, uri: event.blockedURI }));
const until = async (find) => {
  for (;;) {
    const found = find();
    if (found) return found;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
};
const element = (selector) => until(() => document.querySelector(selector));
const type = (input, text) => {
  Object.getOwnPropertyDescriptor(HTMLInputElement.prototype, "value").set.call(input, text);
  input.dispatchEvent(new Event("input", { bubbles: true }));
};
addEventListener("load", async () => {
  const seen = await steps();
  await fetch("/deep/result", { method: "POST", body: JSON.stringify({ seen, violations }) });
});
"""

TRY_IT_OUT = """
const steps = async () => {
  (await element(".btn.authorize")).click();
  type(await element(".auth-container input"), "%s");
  (await element(".auth-btn-wrapper .authorize")).click();
  (await element(".auth-btn-wrapper .btn-done")).click();
  (await element("#operations-Runs-invoke .opblock-summary-control")).click();
  (await element("#operations-Runs-invoke .try-out__btn")).click();
  (await element("#operations-Runs-invoke .execute")).click();
  const status = await element(".live-responses-table tbody .response-col_status");
  return { status: status.textContent.trim(), summaries: document.querySelector("#swagger-ui").textContent };
};
"""
READ_REDOC = """
const steps = async () => {
  await until(() => document.body.textContent.includes("Score a wine"));
  type(await element("input[type=text]"), "wine");
  await element("[data-role='search:results'] li");
  return { summaries: document.body.textContent };
};
"""

pytestmark = [needs_browser, needs_docs]


class Site:
    """A deployment's documentation mounted at `/deep/mount`, with the probe added to each page."""

    def __init__(self, script: str) -> None:
        self.script = f"(() => {{{script}{PROBE}}})();".encode()
        self.invocations: list[dict[bytes, bytes]] = []
        self.result: asyncio.Future[dict[str, object]] = asyncio.get_running_loop().create_future()
        self.rows: dict[str, ASGIApp] = {row.path: row.app for row in self._endpoints()}

    def _endpoints(self) -> list[Endpoint]:
        schema = {"type": "object", "properties": {"age": {"type": "integer", "default": 3}}}
        outputs = {"type": "object", "properties": {"score": {"type": "number"}}}
        invoke = invoke_operation(
            summary="Score a wine",
            description="",
            schemas=PipelineSchemas(schema, outputs, required=False),
            required=False,
        )
        served = [
            Endpoint("/invoke", "POST", self._invoke, "invoke", operation=invoke),
            Endpoint("/health", "GET", self._invoke, "health", auth_required=False, operation=health_operation()),
        ]
        document = openapi_document(title="Wines", description="", version="1", endpoints=served, has_keys=True)
        pages = docs_endpoints(
            docs_path="/x/docs",
            redoc_path="/redoc",
            openapi_path="/openapi.json",
            title="Wines",
            document=lambda: document,
        )
        return [*served, *pages, Endpoint("/openapi.json", "GET", OpenAPIEndpoint(lambda: document), "openapi")]

    async def _invoke(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.invocations.append(dict(scope["headers"]))
        await respond(send, 200, JSON, b"{}")

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/deep")
        if path == "/probe.js":
            await respond(send, 200, (b"content-type", b"text/javascript"), self.script)
        elif path == "/result":
            self.result.set_result(json.loads(await _body(receive)))
            await respond(send, 200, TEXT, b"")
        else:
            row = self.rows[path.removeprefix("/mount")]
            await row({**scope, "root_path": "/deep/mount"}, receive, _with_probe(send))


async def _body(receive: Receive) -> bytes:
    body = b""
    while (message := await receive()).get("more_body"):
        body += message["body"]
    return body + bytes(message["body"])


def _with_probe(send: Send) -> Send:
    """Add the default policy where the answer has none, and the probe to pages."""
    start: list[Message] = []

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            start.append(message)
            return
        if start:
            first = start.pop()
            headers = dict(first["headers"])
            headers.setdefault(b"content-security-policy", POLICY.encode())
            if headers.get(b"content-type", b"").startswith(b"text/html"):
                body = message["body"].replace(b"<head>", b'<head><script src="/deep/probe.js"></script>')
                message = {**message, "body": body}
                headers[b"content-length"] = b"%d" % len(body)
            await send({**first, "headers": list(headers.items())})
        await send(message)

    return sending


@contextlib.asynccontextmanager
async def _served(site: Site, port: int) -> AsyncIterator[None]:
    server = uvicorn.Server(uvicorn.Config(site, port=port, lifespan="off", log_level="error"))
    task = asyncio.create_task(server._serve())  # without the signal handlers that `serve` installs
    try:
        yield
    finally:
        server.should_exit = server.force_exit = True
        await task


def _visit(path: str, script: str, profile: Path) -> tuple[dict[str, object], Site]:
    """Open the page at `path` and return what `script` saw, and the site it was shown by."""

    async def visit() -> tuple[dict[str, object], Site]:
        site, port = Site(script), free_port()
        async with _served(site, port):
            with showing(f"http://127.0.0.1:{port}{path}", profile):
                return await asyncio.wait_for(site.result, PATIENCE), site

    return asyncio.run(visit())


def test_swagger_ui_shows_operations_and_tries_one_with_a_key(tmp_path: Path) -> None:
    """Swagger UI renders below a mount point, sends a request with the key typed in, and violates no policy."""
    result, site = _visit("/deep/mount/x/docs", TRY_IT_OUT % KEY, tmp_path)
    assert result["violations"] == []
    seen = result["seen"]
    assert isinstance(seen, dict)
    assert seen["status"] == "200"
    assert "Score a wine" in seen["summaries"]
    assert "Whether the deployment is well" in seen["summaries"]
    assert [headers[b"authorization"] for headers in site.invocations] == [f"Bearer {KEY}".encode()]


def test_redoc_shows_and_searches_operations(tmp_path: Path) -> None:
    """ReDoc renders and searches below a mount point; all that its policy keeps away is its maker's logo."""
    result, _ = _visit("/deep/mount/redoc", READ_REDOC, tmp_path)
    assert "Score a wine" in str(result["seen"])
    violations = result["violations"]
    assert isinstance(violations, list)
    assert [violation for violation in violations if violation["uri"] != REDOC_LOGO] == []
