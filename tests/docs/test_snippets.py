"""What the page on streams has for web pages, in a real browser on a page of another origin."""

import json
from pathlib import Path

import httpx
import pytest

from tests import documents
from tests.browser import Site, needs_browser, showing, site
from tests.conftest import PATIENCE, Serve, Server
from tests.servers.command import until

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "stream-results.md"
BLOCKS = documents.blocks(PAGE)
KEY = "correct?horse>battery"
"""Its base64 has characters that base64url has not."""
HEADERS = {"authorization": f"Bearer {KEY}"}


def snippet(text: str) -> str:
    """Return the JavaScript of the page in which `text` stands."""
    (found,) = (block.text for block in BLOCKS if block.language == "javascript" and text in block.text)
    return found


def told(page: Site, script: str, folder: Path) -> object:
    """Show the page with this script in a browser, and return the first that it tells."""
    page.script = script
    with showing(page.origin, folder / "profile"):
        until(lambda: page.told, "what the page says")
    return page.told[0]


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
        assert told(page, script, tmp_path) == ["The river", closed]


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
        assert told(page, script, tmp_path) == ["pipeline_started", "The ", "river ", "pipeline_completed"]


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
        assert told(page, script, tmp_path) == ["accepted", "pipeline_started", "output_delta", "pipeline_completed"]
