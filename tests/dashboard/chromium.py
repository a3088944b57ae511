"""A real browser that tests operate by the DevTools protocol; its pages know what they complained of and fetched."""

import base64
import itertools
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import ClientConnection, connect

from tests.browser import showing
from tests.servers.command import PATIENCE, until

MOST = 256 * 1024 * 1024  # bytes of one message: a screenshot


class Chromium:
    """One browser process; each page has a profile of its own."""

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection
        self._numbers = itertools.count(1)
        self.pages: dict[str, Page] = {}

    def call(self, method: str, session: str | None = None, **parameters: object) -> dict[str, Any]:
        """Send a command and return its result; events that come meanwhile go to their pages."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": parameters}
        self._connection.send(json.dumps(message if session is None else {**message, "sessionId": session}))
        while True:
            answer = self._receive()
            if answer.get("id") == number:
                assert "error" not in answer, (method, answer["error"])
                result: dict[str, Any] = answer["result"]
                return result

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._connection.recv(PATIENCE))
        page = self.pages.get(message.get("sessionId", ""))
        if page is not None and "method" in message:
            page.take(message["method"], message["params"])
        return message

    @contextmanager
    def page(self, url: str = "about:blank", *, width: int = 1280, dark: bool = False) -> Iterator["Page"]:
        """Open a page with empty storage, `width` pixels wide."""
        context = self.call("Target.createBrowserContext")["browserContextId"]
        target = self.call("Target.createTarget", url="about:blank", browserContextId=context)["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = self.pages[session] = Page(self, session)
        try:
            for domain in ("Page", "Runtime", "Log", "Network", "Audits", "Accessibility"):
                page.call(f"{domain}.enable")
            page.call(
                "Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1, mobile=width < 600
            )
            scheme = {"name": "prefers-color-scheme", "value": "dark" if dark else "light"}
            page.call("Emulation.setEmulatedMedia", features=[scheme])
            page.call("Page.navigate", url=url)
            yield page
        finally:
            del self.pages[session]
            self.call("Target.disposeBrowserContext", browserContextId=context)


class Page:
    """`complaints` are exceptions, console errors and violations of the policy; `requests` are URLs."""

    def __init__(self, browser: Chromium, session: str) -> None:
        self._browser = browser
        self._session = session
        self.complaints: list[str] = []
        self.requests: list[str] = []

    def take(self, event: str, told: Mapping[str, Any]) -> None:
        if event == "Runtime.exceptionThrown":
            self.complaints.append(json.dumps(told["exceptionDetails"]))
        elif event == "Runtime.consoleAPICalled" and told["type"] in ("error", "warning", "assert"):
            self.complaints.append(json.dumps(told["args"]))
        # The browser itself logs each answer with an error status, such as the 401 that makes the page ask for the key.
        elif event == "Log.entryAdded" and told["entry"]["source"] != "network":
            self.complaints.append(told["entry"]["text"])
        elif event == "Audits.issueAdded" and told["issue"]["code"] != "GenericIssue":
            self.complaints.append(json.dumps(told["issue"]))
        elif event == "Network.requestWillBeSent":
            self.requests.append(told["request"]["url"])

    def call(self, method: str, **parameters: object) -> dict[str, Any]:
        return self._browser.call(method, self._session, **parameters)

    def run(self, script: str) -> Any:
        """Return the JSON value of an expression, or of the promise that it is."""
        answer = self.call("Runtime.evaluate", expression=script, awaitPromise=True, returnByValue=True)
        assert "exceptionDetails" not in answer, answer["exceptionDetails"]
        return answer["result"].get("value")

    def until(self, script: str) -> Any:
        """Return the value of an expression once it is true."""
        found: list[Any] = [None]

        def holds() -> bool:
            found[0] = self.run(script)
            return found[0] not in (None, False, 0, "", [])  # an element is an empty object here

        try:
            until(holds, script)
        except AssertionError:
            raise AssertionError(f"{script} never held; {self.complaints}; the page:\n{self.text()}") from None
        return found[0]

    def text(self, selector: str = "body") -> str:
        return str(self.run(f"document.querySelector({json.dumps(selector)})?.innerText ?? ''"))

    def until_says(self, selector: str, text: str) -> None:
        self.until(f"document.querySelector({json.dumps(selector)})?.innerText.includes({json.dumps(text)})")

    def click(self, selector: str) -> None:
        """Click an element with the mouse, where it can be seen."""
        quoted = json.dumps(selector)
        self.until(f"document.querySelector({quoted}) !== null")
        box = self.run(
            f"(() => {{ const each = document.querySelector({quoted}); each.scrollIntoView({{ block: 'center' }});"
            " const box = each.getBoundingClientRect(); return [box.x + box.width / 2, box.y + box.height / 2]; })()"
        )
        at = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self.call("Input.dispatchMouseEvent", type=kind, **at)

    def push(self, text: str, within: str = "main") -> None:
        """Push the last button that says `text`."""
        self.until(
            f"(() => {{ const said = [...document.querySelectorAll({json.dumps(within + ' button')})].filter((each) =>"
            f" each.textContent === {json.dumps(text)}); said.at(-1)?.click(); return said.length; }})()"
        )

    def field(self, label: str) -> str:
        """Return a selector for the control with this label."""
        found = self.until(
            "(() => { const label = [...document.querySelectorAll('label')].find((each) =>"
            f" each.textContent.replace(' required', '') === {json.dumps(label)}); return label && label.htmlFor; }})()"
        )
        return f"#{found}"

    def type(self, selector: str, text: str) -> None:
        """Put a text in the place of what a control holds."""
        self.until(f"document.querySelector({json.dumps(selector)}) !== null")
        self.run(
            f"(() => {{ const each = document.querySelector({json.dumps(selector)}); each.focus(); each.select(); }})()"
        )
        self.press("Delete")
        self.call("Input.insertText", text=text)

    def choose(self, selector: str, text: str) -> None:
        """Choose what a select element shows as `text`."""
        self.run(
            f"(() => {{ const each = document.querySelector({json.dumps(selector)});"
            f" each.value = [...each.options].find((one) => one.text === {json.dumps(text)}).value;"
            " each.dispatchEvent(new Event('input', { bubbles: true }));"
            " each.dispatchEvent(new Event('change', { bubbles: true })); })()"
        )

    def press(self, key: str, *, modifiers: int = 0) -> None:
        codes = {"Enter": 13, "Tab": 9, "Delete": 46, "Escape": 27, " ": 32}
        pressed = {"key": key, "code": key, "windowsVirtualKeyCode": codes[key], "modifiers": modifiers}
        text = {"Enter": {"text": "\r"}, " ": {"text": " "}}.get(key, {})
        self.call("Input.dispatchKeyEvent", type="keyDown", **pressed, **text)
        self.call("Input.dispatchKeyEvent", type="keyUp", **pressed)

    def tree(self) -> list[tuple[str, str]]:
        """Return what a screen reader is told: role and name of every element that is not ignored."""
        nodes = self.call("Accessibility.getFullAXTree")["nodes"]
        told = [node for node in nodes if not node["ignored"]]
        return [(node["role"]["value"], node.get("name", {}).get("value", "")) for node in told]

    def screenshot(self, file: Path) -> None:
        picture = self.call("Page.captureScreenshot", format="png", captureBeyondViewport=True)
        file.write_bytes(base64.b64decode(picture["data"]))


@contextmanager
def chromium(profile: Path) -> Iterator[Chromium]:
    """Run a browser whose profile is the folder `profile`."""
    told = profile / "DevToolsActivePort"
    with showing("about:blank", profile):
        until(lambda: told.exists() and told.read_text().count("\n"), "the browser's address")
        port, path = told.read_text().split()
        with connect(f"ws://127.0.0.1:{port}{path}", max_size=MOST, compression=None) as connection:
            yield Chromium(connection)
