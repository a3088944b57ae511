import json
import logging
import os
import pty
import re
import subprocess
import sys
from collections.abc import Iterator

import pytest

from tests.cli.project import Project


@pytest.fixture(autouse=True)
def logged() -> Iterator[None]:
    """Completion silences logging for the rest of its process, which here goes on."""
    yield
    logging.disable(logging.NOTSET)


def test_the_list(weather: Project) -> None:
    """A table says of each deployment how it is now; --json all that may be known of it; filters leave some out."""
    head, row = weather.ask("deployment", "list").stdout.splitlines()
    assert head.split() == ["NAME", "STATUS", "URL", "SNAPSHOT", "DEPLOYER", "OWNER", "UPDATED"]
    assert re.match(r"weather +RUNNING +http://127\.0\.0\.1:\d+ +weather-1 +local +ada +", row)
    (found,) = weather.ask("deployment", "list", "--json", "--owner=ada").json["deployments"]
    assert (found["status"], found["environment"], found["auth_enabled"]) == ("RUNNING", ["TOKEN"], True)
    nothing = weather.ask("deployment", "list", "--owner=bob")
    assert (nothing.status, nothing.stdout) == (0, "")
    assert f"No deployments in {weather.store}" in nothing.stderr


def test_the_description(weather: Project) -> None:
    """A page says what it takes and gives, how it is called, with options that exist, and what was done to it."""
    page = weather.ask("deployment", "describe", "weather").stdout
    for expected in (
        r"Status +RUNNING",
        r"Access +with a key",
        r"Environment +TOKEN=\*+\n",
        r"city +string +required",
        r"curl http://127\.0\.0\.1:\d+/invoke -H \"Authorization: Bearer \$ASGIPIPE_KEY\"",
        r"asgipipe deployment invoke weather --city=text\n",
        r"asgipipe deployment logs -f weather",
        r"ada +deployed +snapshot weather-1, revision 1",
    ):
        assert re.search(expected, page), (expected, page)
    document = weather.ask("deployment", "describe", "weather", "--json").json
    assert document["input_schema"]["required"] == ["city"]
    assert [entry["action"] for entry in document["history"]] == ["deployed"]


def test_the_log(weather: Project) -> None:
    """What the pipeline printed is in it, and --tail leaves the lines before out."""
    weather.ask("deployment", "invoke", "weather", "--city=Bergen")
    assert "asked for Bergen" in weather.ask("deployment", "logs", "weather").stdout.splitlines()
    assert len(weather.ask("deployment", "logs", "weather", "--tail=1").stdout.splitlines()) == 1


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("describe", "wether"), 1, "there is no deployment 'wether'; did you mean 'weather'?"),
        (("delete", "nothing"), 1, "there is no deployment 'nothing'"),
        (("list", "--cursor=x"), 1, "cursor: give the one of a page before"),
        (("list", "--store=ftp://somewhere"), 2, "--store: expected the path of a file, postgresql://"),
        (("list", "--store=memory:"), 3, "a store in memory does not: set store_url"),
        (("update", "weather", "nothing"), 1, "there is no snapshot 'nothing'"),
        (("update", "weather", "--env=_NOT_SET_"), 2, "--env takes NAME=VALUE"),
    ],
)
def test_mistakes(weather: Project, arguments: tuple[str, ...], status: int, said: str) -> None:
    """Each is one message, with the status that tells what kind of mistake it is."""
    done = weather.ask("deployment", *arguments)
    assert done.status == status, done
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("words", "completed"),
    [
        ("asgipipe deployment describe w", ["plain,weather"]),
        ("asgipipe deployment invoke w", ["plain,weather"]),
        ("asgipipe deployment invoke weather --ci", ["plain,--city"]),
        ("asgipipe snapshot describe w", ["plain,weather-1"]),
        ("asgipipe deployer describe l", ["plain,local"]),
        ("asgipipe deployment invoke nothing --ci", []),
        ("asgipipe deployment describe --store broken.db w", []),
    ],
)
def test_completion(weather: Project, words: str, completed: list[str]) -> None:
    """Names and options are completed; where they cannot be, nothing disturbs what is being typed."""
    (weather.folder / "broken.db").write_text("no database")
    given = words.replace("broken.db", str(weather.folder / "broken.db"))
    count = str(len(given.split()) - 1)
    done = weather.ask(_ASGIPIPE_COMPLETE="bash_complete", COMP_WORDS=given, COMP_CWORD=count)
    assert (done.stdout.split(), done.stderr) == (completed, "")


def test_no_secret_is_shown(weather: Project) -> None:
    """Neither values of the environment nor keys are in what any command prints."""
    key = json.loads((weather.folder / "config" / "credentials.json").read_text())["keys"].popitem()[1]
    for command in (
        ("deployment", "list"),
        ("deployment", "describe", "weather"),
        ("snapshot", "list"),
        ("snapshot", "describe", "weather-1"),
        ("deployer", "list"),
        ("deployer", "describe", "local"),
    ):
        for form in ((), ("--json",)):
            done = weather.ask(*command, *form)
            assert done.status == 0, done
            assert "canary" not in done.stdout + done.stderr
            assert key not in done.stdout + done.stderr
    assert key not in weather.ask("deployment", "logs", "weather").stdout


@pytest.mark.parametrize(("environ", "colored"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_colors_are_for_terminals(weather: Project, environ: dict[str, str], colored: bool) -> None:
    """A terminal gets colors, but not from a command that is told to leave them out."""
    ours, theirs = pty.openpty()
    arguments = [sys.executable, "-m", "asgipipe", "deployment", "provision", "weather"]
    subprocess.run(arguments, cwd=weather.folder, env={**weather.environ, **environ}, stdout=theirs, check=True)
    os.close(theirs)
    shown = os.read(ours, 65536)
    os.close(ours)
    assert b"weather is RUNNING" in shown
    assert (b"\x1b" in shown) is colored
