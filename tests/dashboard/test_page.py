"""The default dashboard in a real browser, on the Starlette runner."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import httpx

from tests.browser import needs_browser
from tests.conftest import PATIENCE, Serve, free_port
from tests.dashboard.chromium import Chromium, Page
from tests.dashboard.conftest import SERVED
from tests.servers.command import serving, until

pytestmark = needs_browser

KEY = "a-key-to-try"
WATCH = """(() => {
  globalThis.told = [];  // the output each time that it has changed while the run goes on
  const note = () => document.querySelector("#status").innerText.includes("running") && told.push(output.textContent);
  const all = { childList: true, characterData: true, subtree: true };
  new MutationObserver(note).observe(document.querySelector("#output"), all);
})()"""
CTRL = 2
ROOT = Path(__file__).parents[2]


@contextmanager
def opened(browser: Chromium, url: str, *, width: int = 1280, dark: bool = False) -> Iterator[Page]:
    """The page at `url`; at the end it has complained of nothing and asked nobody else for anything."""
    with browser.page(url, width=width, dark=dark) as page:
        yield page
        page.run("new Promise((resolve) => setTimeout(resolve))")
        assert page.complaints == []
        origins = {f"{parts.scheme}://{parts.netloc}" for parts in map(urlsplit, page.requests)}
        parts = urlsplit(url)
        assert origins == {f"{parts.scheme}://{parts.netloc}"}


def keep_picture(page: Page, name: str) -> None:
    """Write a picture of the page into the folder SCREENSHOTS, where that is set: pictures in the documentation."""
    folder = os.environ.get("SCREENSHOTS")
    if folder:
        Path(folder).mkdir(parents=True, exist_ok=True)
        page.screenshot(Path(folder) / f"{name}.png")


def add_wine(page: Page, name: str = "Riesling", year: str = "2021") -> None:
    page.until("document.querySelector('#start') !== null")
    page.push("Add an item", "#run")
    page.type(page.field("Name"), name)
    page.type(page.field("Year"), year)


def choose_mode(page: Page, mode: str) -> None:
    page.click(f"input[name=mode][value={mode}]")


def marked(page: Page) -> dict[str, str]:
    """Return what is marked in the graph: the state of each step."""
    found: dict[str, str] = page.run(
        "Object.fromEntries([...document.querySelectorAll('.graph .node')].map((each) =>"
        " [each.querySelector('title').textContent.split(',')[0], each.dataset.state]))"
    )
    return found


def overflow(page: Page) -> int:
    width: int = page.run("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    return width


def test_a_streamed_run_is_watched(browser: Chromium, shop: str) -> None:
    """The form's values run; text comes as it is told, steps are marked and listed, the result is shown in two ways."""
    with opened(browser, shop) as page:
        add_wine(page)
        assert page.text("h1") == "order"
        page.until_says("#about-it", "Packs an order of wines")
        assert set(marked(page)) == {"gather", "pack", "tell", "gild"}
        page.run(WATCH)
        page.click("#start")
        page.until_says("#status", "completed")
        told = page.run("told")
        text = page.text("#output")
        assert text == "Riesling 2021 red, 1 in all"
        assert any(text.startswith(part) and part != text for part in told if part)
        assert marked(page) == {"gather": "completed", "pack": "completed", "tell": "completed", "gild": ""}
        page.until("document.querySelectorAll('#live tbody tr').length === 3")
        page.until_says("#result", "receipt: Riesling 2021 red, 1 in all")
        keep_picture(page, "dashboard")
        page.push("As JSON", "#result")
        assert json.loads(page.text("#result pre")) == {"receipt": "Riesling 2021 red, 1 in all"}


def test_a_refusal_is_shown_at_its_field(browser: Chromium, shop: str) -> None:
    """The messages of a 422 stand at their fields, which are marked as invalid; the first of them has the focus."""
    with opened(browser, shop) as page:
        add_wine(page, name="R", year="soon")
        page.click("#start")
        name, year = page.field("Name"), page.field("Year")
        page.until_says(f"{name}-error", "at least 2 characters")
        page.until_says(f"{year}-error", "valid integer")
        assert page.run("[...document.querySelectorAll('[aria-invalid=true]')].map((each) => '#' + each.id)") == [
            name,
            year,
        ]
        assert page.run("'#' + document.activeElement.id") == name
        assert f"{year.removeprefix('#')}-error" in page.run(
            f"document.querySelector('{year}').getAttribute('aria-describedby')"
        )
        page.type(name, "Riesling")
        page.type(year, "2021")
        page.click("#start")
        page.until_says("#status", "completed")
        assert page.run("document.querySelectorAll('[aria-invalid=true]').length") == 0


def test_a_job_is_watched_and_cancelled(browser: Chromium, shop: str) -> None:
    """While it goes on its step and its progress are shown; the button cancels it, which the list of jobs says too."""
    with opened(browser, shop) as page:
        add_wine(page)
        page.type(page.field("Wait"), "60")
        choose_mode(page, "async")
        page.click("#start")
        page.until_says("#live", "half of them are packed")
        assert marked(page)["pack"] == "running"
        assert page.run("document.querySelector('progress').value") == 0.5
        assert page.run("document.querySelector('#start').disabled") is False
        page.until_says("#jobs tbody tr", "running")
        page.click("#cancel")
        page.until_says("#status", "canceled")
        assert marked(page)["pack"] == "canceled"
        page.until_says("#jobs tbody tr", "canceled")


def test_a_failure_is_told_as_text(browser: Chromium, shop: str) -> None:
    """A run that is waited for and fails shows its message, and what looks like markup in it stays text."""
    with opened(browser, shop) as page:
        page.until("document.querySelector('#start') !== null")
        choose_mode(page, "sync")
        page.click("#start")
        page.until_says("#status", "failed")
        page.until_says("#result", "there is nothing to pack <b>")
        page.click("#start")
        page.until("document.querySelector('#start').disabled === false")


def test_a_recorded_run_is_looked_at(browser: Chromium, shop: str) -> None:
    """The lists show what has run; a recorded run opens with its steps, and its parameters go into the form."""
    parameters = {"wines": [{"name": "Merlot", "year": 2019}], "colour": "white", "gift": True}
    envelope = httpx.post(f"{shop}/invoke", json={"parameters": parameters}).json()
    with opened(browser, shop) as page:
        row = f"#runs tr[data-id='{envelope['metadata']['run_id']}']"
        page.until_says(row, "completed")
        page.click(f"{row} [data-action=show]")
        page.until_says("#result", "MERLOT 2019 WHITE, 1 IN ALL")
        page.until("document.querySelectorAll('#live tbody tr').length === 4")
        assert set(marked(page).values()) == {"completed"}
        page.push("Put these into the form", "#result")
        assert page.run(f"document.querySelector('{page.field('Name')}').value") == "Merlot"
        assert page.run(f"document.querySelector('{page.field('Gift')}').checked") is True
        page.until_says("#metrics", "Runs in all")


def test_every_kind_of_field_gives_its_value(browser: Chromium, shop: str) -> None:
    """Choices, alternatives, numbers beyond 2^53, maps, what may be none and free JSON arrive as they were given."""
    with opened(browser, shop) as page:
        add_wine(page)
        page.choose(page.field("colour"), "white")
        page.choose("select[aria-label='Way: which kind']", "Pickup")
        page.type(page.field("Shop"), "by the river")
        page.choose("select[aria-label='Note: which kind']", "text")
        page.type(page.field("text"), "two\nlines")
        page.choose("select[aria-label='Prices: which kind']", "object")
        page.push("Add an entry", "#run")
        page.type("#run input.name", "Riesling")
        page.type(page.field("Value"), "9.5")
        page.type(page.field("Number"), "12345678901234567890")
        choose_mode(page, "sync")
        page.run("document.querySelector('#run > details').open = true")
        page.until_says("#code", "12345678901234567890")
        page.push("Edit as JSON", "#run")
        assert json.loads(page.run(f"document.querySelector('{page.field('Parameters')}').value"))["way"] == {
            "kind": "pickup",
            "shop": "by the river",
        }
        page.push("Edit as a form", "#run")
        page.run("for (const each of document.querySelectorAll('#run details')) each.open = true")
        page.type("#run-name", "all-kinds")
        page.click("#start")
        page.until_says("#status", "completed")
    assert parameters_of(shop, "all-kinds") == {
        "wines": [{"name": "Riesling", "year": 2021, "tags": []}],
        "colour": "white",
        "way": {"kind": "pickup", "shop": "by the river"},
        "note": "two\nlines",
        "prices": {"Riesling": 9.5},
        "wait": 0,
        "number": 12345678901234567890,
        "gift": False,
    }


def parameters_of(origin: str, run_name: str) -> object:
    """Return what a run was recorded with, once it is."""
    found: list[dict[str, str]] = []

    def recorded() -> bool:
        runs = httpx.get(f"{origin}/runs").json()["runs"]
        found[:] = [run for run in runs if run["run_name"] == run_name and run["status"] == "completed"]
        return bool(found)

    until(recorded, f"the record of {run_name}")
    return httpx.get(f"{origin}/runs/{found[0]['run_id']}").json()["parameters"]


PROGRAMS = {
    "curl": ("bash", "-c"),
    "Python": (sys.executable, "-c"),
    "JavaScript": ("node", "--input-type=module", "-e"),
}


def test_the_copied_request_runs(browser: Chromium, shop: str) -> None:
    """What the page offers to copy sends the same request from a shell and from programs, quotes and all."""
    beginnings = {"curl": "curl ", "Python": "import json", "JavaScript": "const answer"}
    with opened(browser, shop) as page:
        add_wine(page, name="""L'"\u00e9t\u00e9\\ $x""")
        choose_mode(page, "sync")
        page.run("document.querySelector('#run > details').open = true")
        for language, program in PROGRAMS.items():
            page.choose("select[aria-label=Language]", language)
            page.until_says("#code", beginnings[language])
            if shutil.which(program[0]) and (language != "curl" or shutil.which("curl")):
                code = page.text("#code")
                done = subprocess.run([*program, code], capture_output=True, text=True, timeout=PATIENCE, check=False)
                assert "\u00e9t\u00e9" in done.stdout, (code, done.stdout, done.stderr)
                assert "$x 2021 red, 1 in all" in done.stdout


def test_the_key_is_asked_for_and_stays_in_memory(browser: Chromium, tmp_path: Path) -> None:
    """It is asked for once, again when it was wrong; runs and lists send it; nothing stores it, a reload asks anew."""
    with (
        serving(SERVED / "shop.py:order", folder=tmp_path, environment={"ASGIPIPE_AUTH_KEY": KEY}) as running,
        opened(browser, running.origin) as page,
    ):
        page.until("document.querySelector('#ask')?.open")
        assert page.run("document.activeElement.id") == "ask-key"
        page.type("#ask-key", "wrong")
        page.press("Enter")
        page.until_says("#ask-error", "refused")
        page.type("#ask-key", KEY)
        page.press("Enter")
        add_wine(page)
        page.click("#start")
        page.until_says("#status", "completed")
        page.until_says("#jobs", "completed")
        assert page.run("document.querySelector('#ask').open") is False
        assert page.call("Network.getCookies")["cookies"] == []
        assert KEY not in page.run("JSON.stringify([{ ...localStorage }, { ...sessionStorage }, location.href])")
        assert KEY not in page.run("document.documentElement.outerHTML")
        page.call("Page.reload")
        page.until("document.querySelector('#ask')?.open")


def test_a_job_is_followed_past_the_end_of_its_server(browser: Chromium, tmp_path: Path) -> None:
    """When the server is killed the page comes back to the one that takes its place, and sees the next attempt end."""
    serve = partial(serving, SERVED / "shop.py:order", "--port", free_port(), folder=tmp_path)
    with browser.page() as page:
        with serve() as running:
            page.call("Page.navigate", url=running.origin)
            add_wine(page)
            page.type(page.field("Wait"), "1")
            choose_mode(page, "async")
            page.click("#start")
            page.until_says("#live", "half of them are packed")
        with serve():
            page.until_says("#status", "completed")
            assert page.text("#output") == "Riesling 2021 red, 1 in all"
            page.until("document.querySelectorAll('#live tbody tr').length === 4")
            assert marked(page)["pack"] == "completed"
        assert page.complaints == []


def test_it_works_below_two_mount_points(browser: Chromium, serve: Serve) -> None:
    """Its links are relative: it runs jobs and shows lists below nested prefixes with a path of its own for the API."""
    program = (sys.executable, "-m", "uvicorn", "tests.dashboard.served.embedded:app")
    server = serve(program=program, env={"PYTHONPATH": str(ROOT)}, ready=False)
    url = f"{server.url}/shop/wines/"
    server.wait_until_ready()
    with opened(browser, url) as page:
        add_wine(page)
        choose_mode(page, "async")
        page.click("#start")
        page.until_says("#status", "completed")
        page.until_says("#jobs tbody tr", "completed")
        page.until_says("#metrics", "in all")
        assert all(request.startswith(url) for request in page.requests)


def test_what_is_switched_off_is_not_there(browser: Chromium, tmp_path: Path) -> None:
    """Without jobs, streams, runs and metrics a run can be waited for, and nothing else is offered or asked for."""
    endpoints = json.dumps(["DASHBOARD", "INVOKE", "INFO", "HEALTH"])
    with (
        serving(
            SERVED / "shop.py:order", "--set", f"include_default_endpoints={endpoints}", folder=tmp_path
        ) as running,
        opened(browser, running.origin) as page,
    ):
        add_wine(page)
        assert page.run("[...document.querySelectorAll('input[name=mode]')].map((each) => each.value)") == ["sync"]
        assert page.run("document.querySelectorAll('#jobs, #runs, #metrics, nav a').length") == 0
        page.click("#start")
        page.until_says("#result", "1 in all")


def test_it_is_dark_where_the_system_is(browser: Chromium, shop: str) -> None:
    """The colours follow the system's choice; the switch goes before it and is remembered."""
    background = "getComputedStyle(document.body).backgroundColor"
    with opened(browser, shop, dark=True) as page:
        page.until("document.querySelector('#start') !== null")
        dark = page.run(background)
        keep_picture(page, "dashboard-dark")
        page.choose("#theme", "light")
        light = page.run(background)
        assert dark != light
        page.call("Page.reload")
        page.until("document.querySelector('#start') !== null")
        assert page.run(background) == light
    with opened(browser, shop) as page:
        page.until("document.querySelector('#start') !== null")
        assert page.run(background) == light


def test_a_phone_shows_all_of_it(browser: Chromium, shop: str) -> None:
    """At 360 pixels nothing makes the page wider than the screen, before a run, after it, and with all parts open."""
    with opened(browser, shop, width=360) as page:
        add_wine(page, name="Trockenbeerenauslese" * 8)
        assert overflow(page) == 0
        page.click("#start")
        page.until_says("#status", "completed")
        keep_picture(page, "dashboard-phone")
        page.run("for (const each of document.querySelectorAll('details')) each.open = true")
        page.until_says("#jobs tbody tr", "completed")
        assert overflow(page) == 0


def test_it_can_be_read_aloud_and_used_by_keyboard(browser: Chromium, shop: str) -> None:
    """Every control has a name, the landmarks are there, and the form is filled and sent without a mouse."""
    with opened(browser, shop) as page:
        page.until("document.querySelector('#start') !== null")
        page.press("Tab")
        assert page.run("document.activeElement.className") == "skip"
        page.press("Enter")
        page.until("location.hash === '#run'")
        page.press("Tab")
        for _ in range(12):
            if page.run("document.activeElement.textContent") == "Add an item":
                break
            page.press("Tab")
        page.press("Enter")
        page.call("Input.insertText", text="Riesling")
        page.press("Tab")
        page.call("Input.insertText", text="2021")
        page.press("Enter", modifiers=CTRL)
        page.until_says("#status", "completed")
        told = page.tree()
    controls = {"button", "textbox", "combobox", "checkbox", "radio", "link", "progressbar"}
    assert [each for each in told if each[0] in controls and not each[1].strip()] == []
    assert {"banner", "main", "navigation", "region", "status"} <= {role for role, _ in told}
    assert ("region", "Metrics") in told
