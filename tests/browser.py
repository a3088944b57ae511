"""A real browser, and a site whose page says what it sees."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium found")

_PAGE = """<!doctype html><title>A page</title><body><script type="module">
let told = Promise.resolve();
const tell = (what) =>  // one after the other, so that they arrive in their order
  { told = told.then(() => fetch("/told", { method: "POST", body: JSON.stringify(what) })); };
%s
</script>"""


@contextlib.contextmanager
def showing(url: str, profile: Path) -> Iterator[None]:
    """Show a page around the block, in a browser whose profile is the folder `profile`."""
    browser = subprocess.Popen(
        [
            str(CHROMIUM),
            "--headless",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
            "--remote-debugging-port=0",
            f"--user-data-dir={profile}",
            url,
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        yield
    finally:
        os.killpg(browser.pid, signal.SIGKILL)
        browser.wait()


class Site(ThreadingHTTPServer):
    """Serves one page on an origin of its own, which runs `script`; `told` is what that gives to `tell(what)`."""

    def __init__(self, script: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.script = script
        self.told: list[Any] = []

    @property
    def origin(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class _Handler(BaseHTTPRequestHandler):
    server: Site

    def do_GET(self) -> None:
        self._answer(200, (_PAGE % self.server.script).encode())

    def do_POST(self) -> None:
        self.server.told.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
        self._answer(204, b"")

    def _answer(self, status: int, body: bytes) -> None:
        self.send_response(status)
        self.send_header("content-type", "text/html; charset=utf-8")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing: what the page tells is what counts."""


@contextlib.contextmanager
def site(script: str = "") -> Iterator[Site]:
    with Site(script) as made:
        thread = threading.Thread(target=made.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield made
        finally:
            made.shutdown()
            thread.join()
