"""What the page on streams has for web pages, in a real browser on a page of another origin."""

import json
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests import documents
from tests.browser import needs_browser, showing
from tests.conftest import PATIENCE, Serve, Server

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "stream-results.md"
BLOCKS = documents.blocks(PAGE)
KEY = "correct?horse>battery"
"""Its base64 has characters that base64url has not."""
HEADERS = {"authorization": f"Bearer {KEY}"}


def snippet(text: str) -> str:
    """Return the JavaScript of the page in which `text` stands."""
    (found,) = (block.text for block in BLOCKS if block.language == "javascript" and text in block.text)
    return found


class Site(ThreadingHTTPServer):
    """Serves one page with a script, and keeps what the script posts."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.script = ""
        self.told: list[object] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def shows(self, script: str, folder: Path) -> object:
        """Show the page with this script in a browser, and return the first that it posts by `tell(...)`."""
        tell = 'const tell = (what) => fetch("/", { method: "POST", body: JSON.stringify(what) });'
        self.script = f"<!doctype html><body><script type=module>{tell}\n{script}</script>"
        deadline = time.monotonic() + PATIENCE
        with showing(self.origin, folder / "profile"):
            while not self.told:
                assert time.monotonic() < deadline, "the page says nothing"
                time.sleep(0.02)
        return self.told[0]


class Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self._answer(200, self.server.script.encode())

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def site() -> Iterator[Site]:
    with Site() as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()


def deployed(serve: Serve, folder: Path, page: Site, **settings: str) -> Server:
    """Serve the program of the page's first screen, for web pages of `page`'s origin."""
    (program,) = (block.text for block in BLOCKS if block.text.startswith("# story.py"))
    (folder / "story.py").write_text(program, encoding="utf-8")
    cors = {"ASGIPIPE_CORS": json.dumps({"allow_origins": [page.origin]})}
    return serve("story.py", cwd=folder, env=cors | settings)


def submitted(server: Server) -> str:
    answer = httpx.post(
        f"{server.url}/invoke?mode=async", json={"parameters": {"words": 2}}, headers=HEADERS, timeout=PATIENCE
    )
    return str(answer.json()["job_id"])


@needs_browser
def test_event_source(serve: Serve, tmp_path: Path) -> None:
    """The lines with EventSource write the pieces of output into the page."""
    with site() as page:
        server = deployed(serve, tmp_path, page)
        lines = snippet("new EventSource").replace("`/stream/", f"`{server.url}/stream/")
        script = f"""const jobId = "{submitted(server)}";\n{lines}
        const state = () => [document.body.innerText.trim(), source.readyState];
        source.addEventListener("pipeline_completed", () => tell(state()));"""
        closed = 2
        assert page.shows(script, tmp_path) == ["The river", closed]


@needs_browser
def test_fetch_with_a_key(serve: Serve, tmp_path: Path) -> None:
    """The functions around fetch, which the page shows under node, follow a job in a browser too, with its key."""
    with site() as page:
        server = deployed(serve, tmp_path, page, ASGIPIPE_AUTH_KEY=KEY)
        url = f"{server.url}/stream/{submitted(server)}"
        script = f"""{snippet("// follow.mjs")}
        const seen = [];
        for await (const event of follow("{url}", "{KEY}")) seen.push(event.data.delta ?? event.event_type);
        tell(seen);"""
        assert page.shows(script, tmp_path) == ["pipeline_started", "The ", "river ", "pipeline_completed"]


@needs_browser
def test_websocket_with_a_key(serve: Serve, tmp_path: Path) -> None:
    """The lines with WebSocket send a key that the deployment takes."""
    pytest.importorskip("websockets")  # without it uvicorn has no WebSockets
    with site() as page:
        server = deployed(serve, tmp_path, page, ASGIPIPE_AUTH_KEY=KEY)
        lines = snippet("new WebSocket").replace("wss://example.org", server.url.replace("http", "ws", 1))
        script = f"""const key = "{KEY}";\n{lines}
        const seen = [];
        socket.onopen = () => socket.send(JSON.stringify({{ type: "invoke", parameters: {{ words: 1 }} }}));
        socket.onmessage = (message) => {{
          seen.push(JSON.parse(message.data).type);
          if (seen.at(-1) === "pipeline_completed") tell(seen);
        }};"""
        assert page.shows(script, tmp_path) == ["accepted", "pipeline_started", "output_delta", "pipeline_completed"]
