import asyncio
import json
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner, Result

from asgipipe.cli.main import cli
from asgipipe.cli.remote import Remote
from asgipipe.errors import UserError
from tests.tracking.serving import arithmetic, fragile, run_once


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with a run that failed and, later, one that did not."""
    folder = tmp_path_factory.mktemp("store")
    asyncio.run(run_once(fragile, folder, "full", fail=True))
    asyncio.run(run_once(arithmetic, folder, "full", x=4))
    return folder / "store.db"


def run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"TZ": "UTC", **environ}).invoke(cli, ["run", *arguments])


def listed(store: Path, *arguments: str) -> list[dict[str, object]]:
    result = run("list", "--store", str(store), "--json", *arguments)
    assert result.exit_code == 0, result.output
    found: list[dict[str, object]] = json.loads(result.stdout)["runs"]
    return found


def test_the_table(store: Path) -> None:
    """The list is a table, newest run first."""
    result = run("list", "--store", str(store))
    head, first, second = result.stdout.splitlines()
    assert head.split() == ["RUN", "PIPELINE", "STATUS", "STARTED", "TOOK", "ERROR"]
    assert first.split()[1:3] == ["arithmetic", "completed"]
    assert second.split()[1:3] == ["fragile", "failed"]
    assert second.endswith("no such luck")


def test_filters_and_pages(store: Path) -> None:
    """The list is filtered and paged as that of the endpoint is."""
    assert [one["status"] for one in listed(store, "--status", "failed")] == ["failed"]
    assert [one["pipeline_name"] for one in listed(store, "--pipeline", "arithmetic")] == ["arithmetic"]
    (first,) = listed(store, "--limit", "1")
    (second,) = listed(store, "--limit", "1", "--cursor", str(first["run_id"]))
    assert (first["pipeline_name"], second["pipeline_name"]) == ("arithmetic", "fragile")
    assert f"--cursor {first['run_id']}" in run("list", "--store", str(store), "--limit", "1").stdout


def test_one_run(store: Path) -> None:
    """A run is shown with its facts, steps and log records, or whole as JSON."""
    run_id = str(listed(store)[0]["run_id"])
    shown = run("show", run_id, "--store", str(store)).stdout
    for expected in (run_id, "completed", '{"x": 4}', '{"output": 9}', "2 add_one", "adding to 8"):
        assert expected in shown
    whole = json.loads(run("show", run_id, "--store", str(store), "--json").stdout)
    assert (whole["outputs"], len(whole["steps"])) == ({"output": 9}, 2)


def test_no_store(tmp_path: Path) -> None:
    """Where nothing was recorded the list says so and makes nothing."""
    result = run("list", "--store", str(tmp_path / "none" / "store.db"))
    assert (result.exit_code, result.stdout) == (0, "No recorded runs.\n")
    assert not (tmp_path / "none").exists()


def test_a_store_that_cannot_be_reached(tmp_path: Path) -> None:
    """A place where no store can be opened is one message, which names it."""
    (tmp_path / "store.db").mkdir()
    result = run("list", "--store", str(tmp_path / "store.db"))
    assert isinstance(result.exception, UserError), result.exception
    assert str(tmp_path / "store.db") in str(result.exception)


def test_unknown_runs(store: Path) -> None:
    """A run that nobody knows is one message."""
    result = run("show", "none", "--store", str(store))
    assert isinstance(result.exception, UserError)
    assert str(result.exception) == "there is no recorded run none"


def test_the_store_of_the_settings(store: Path, tmp_path: Path) -> None:
    """Without --store it is the one that the settings name."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"settings: {{deployment: {{store_url: {store}}}}}")
    assert "arithmetic" in run("list", "--config", str(file)).stdout
    assert "arithmetic" in run("list", ASGIPIPE_STORE_URL=str(store)).stdout


@pytest.fixture
def deployment(monkeypatch: pytest.MonkeyPatch) -> list[httpx.Request]:
    """A deployment at http://weather.test/api with a key; the list holds what it was asked."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        if request.headers.get("authorization") != "Bearer secret":
            return httpx.Response(401, json={"detail": "A valid key is required."})
        if request.url.path == "/api/runs":
            return httpx.Response(200, json={"runs": [], "next_cursor": None})
        return httpx.Response(404, json={"detail": "There is no recorded run of this id."})

    def client(remote: Remote) -> httpx.Client:
        transport = httpx.MockTransport(answer)
        return httpx.Client(transport=transport)

    monkeypatch.setattr(Remote, "client", client)
    return asked


def test_a_running_deployment(deployment: list[httpx.Request]) -> None:
    """With --url the runs are those of a deployment, asked with the key of the environment."""
    result = run("list", "--url", "http://weather.test/api/", "--status", "failed", ASGIPIPE_KEY="secret")
    assert (result.exit_code, result.stdout) == (0, "No recorded runs.\n")
    assert str(deployment[0].url) == "http://weather.test/api/runs?status=failed&limit=20"
    missing = run("show", "a/b", "--url", "http://weather.test/api", "--key", "secret")
    assert str(missing.exception) == "there is no recorded run a/b"
    assert deployment[1].url.raw_path.startswith(b"/api/runs/a%2Fb?")


def test_what_a_deployment_refuses(deployment: list[httpx.Request]) -> None:
    """A refusal is one line that says what to do."""
    result = run("list", "--url", "http://weather.test/api")
    assert str(result.exception) == "http://weather.test/api needs a key: give --key, or set ASGIPIPE_KEY"


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["--url", "weather"], "'weather' is not the URL of a deployment"),
        (["--url", "http://a.test", "--store", "x.db"], "give one of the two"),
    ],
)
def test_wrong_command_lines(arguments: list[str], expected: str) -> None:
    """What cannot be asked is refused with status 2."""
    result = run("list", *arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())


def test_nobody_there() -> None:
    """A deployment that cannot be reached is one message."""
    result = run("list", "--url", "http://127.0.0.1:9")
    assert isinstance(result.exception, UserError)
    assert str(result.exception).startswith("http://127.0.0.1:9 cannot be reached")
