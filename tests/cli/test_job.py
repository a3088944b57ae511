"""`asgipipe job`, against stores without a server, deployments that are played, and the real thing."""

import asyncio
import contextlib
import json
import os
import pty
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import click
import httpx
import pytest
from click.shell_completion import ShellComplete
from click.testing import CliRunner, Result

from asgipipe import get_step_context, pipeline, step
from asgipipe.cli import deployed_jobs, job_table
from asgipipe.cli.main import cli
from asgipipe.cli.remote import Remote
from asgipipe.errors import UnavailableError, UserError
from asgipipe.jobs.records import Job
from asgipipe.stores.database import Database
from tests.jobs.submitting import ended, submitted, working
from tests.servers.command import PATIENCE, serving

FLOW = """
import logging, pathlib, time
from asgipipe import get_step_context, pipeline, step

log = logging.getLogger("user.code")

@step
def work(hold: bool) -> int:
    context = get_step_context()
    context.progress(0.5, "half way")
    context.emit("first ")
    log.warning("working")
    while hold and not pathlib.Path("go").exists():
        if context.cancelled:
            break
        time.sleep(0.01)
    context.emit("last\\n")
    return 7

@step
def check(fail: bool, seven: int) -> int:
    if fail:
        raise ValueError("no such luck")
    return seven

@pipeline
def flow(fail: bool = False, hold: bool = False) -> int:
    return check(fail, work(hold))
"""


@step
def greet(name: str) -> str:
    get_step_context().progress(0.25, "waking up")
    get_step_context().emit(f"hello {name}\n")
    if name == "nobody":
        raise ValueError("nobody is there")
    return name


@pipeline
def greeting(name: str = "you") -> str:
    return greet(name)


@pipeline
def other() -> int:
    return 1


def job(*arguments: str, **environ: str) -> Result:
    return CliRunner(env={"TZ": "UTC", **environ}).invoke(cli, ["job", *arguments])


async def fill(store: Path) -> list[str]:
    """Leave a completed, a failed and, of another deployment, a pending job; return their ids."""
    async with working(greeting, store) as deployment:
        completed = await submitted(deployment, {"name": "moon"})
        await ended(deployment, completed.id)
        failed = await submitted(deployment, {"name": "nobody"})
        await ended(deployment, failed.id)
    async with working(other, store, run_jobs=False) as deployment:
        pending: Job = await submitted(deployment)
    return [completed.id, failed.id, pending.id]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "store.db"


@pytest.fixture
def ids(store: Path) -> list[str]:
    return asyncio.run(fill(store))


def listed(store: Path, *arguments: str) -> list[str]:
    result = job("list", "--store", str(store), "--json", *arguments)
    assert result.exit_code == 0, result.output
    return [one["job_id"] for one in json.loads(result.stdout)["jobs"]]


# The store


def test_the_table(store: Path, ids: list[str]) -> None:
    """The list is a table of all deployments that share the store, newest job first."""
    lines = job("list", "--store", str(store)).stdout.splitlines()
    assert lines[0].split() == ["JOB", "STATUS", "PIPELINE", "CREATED", "TOOK", "PROGRESS", "ERROR"]
    assert [line.split()[:3] for line in lines[1:]] == [
        [ids[2], "pending", "other"],
        [ids[1], "failed", "greeting"],
        [ids[0], "completed", "greeting"],
    ]
    assert lines[2].endswith("25%       nobody is there")


def test_filters(store: Path, ids: list[str]) -> None:
    """The list is filtered by several statuses and a deployment's name, and read on with a cursor."""
    completed, failed, pending = ids
    assert listed(store, "--status", "failed") == [failed]
    assert listed(store, "--status", "failed", "--status", "pending") == [pending, failed]
    assert listed(store, "--deployment", "other") == [pending]
    assert listed(store, "--deployment", "none") == []
    page = json.loads(job("list", "--store", str(store), "--json", "--limit", "2").stdout)
    assert (len(page["jobs"]), page["total"]) == (2, 3)
    assert listed(store, "--cursor", page["next_cursor"]) == [completed]
    assert f"--cursor {page['next_cursor']}" in job("list", "--store", str(store), "--limit", "2").stderr


def test_one_job(store: Path, ids: list[str]) -> None:
    """A job is shown by the beginning of its id with all that is known of it, or whole as JSON."""
    shown = job("show", ids[1][:-8].upper(), "--store", str(store)).stdout
    for expected in (ids[1], "failed", "25%  greet  waking up", "nobody is there", '"name": "nobody"', " UTC\n"):
        assert expected in shown
    whole = json.loads(job("show", ids[0], "--store", str(store), "--json").stdout)
    assert (whole["status"], whole["result"]["outputs"]) == ("completed", {"output": "moon"})


def test_beginnings_of_ids(store: Path, ids: list[str]) -> None:
    """A beginning that fits several jobs names them, one that fits none is an error, and so is no hexadecimal text."""
    several = job("show", "0", "--store", str(store))
    assert str(several.exception) == "several jobs begin with '0':" + "".join(f"\n  {one}" for one in reversed(ids))
    for text in ("ffff", "%", "not-an-id"):
        assert str(job("show", text, "--store", str(store)).exception) == f"there is no job {text!r}"
    assert str(job("show", ids[2], "--store", str(store), "--deployment", "greeting").exception).startswith("there is")


def test_a_pending_job_is_canceled(store: Path, ids: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelling needs no server: the job says who did it and why, and has its envelope and its last event."""
    monkeypatch.setattr("getpass.getuser", lambda: "ada")
    result = job("cancel", ids[2], "--reason", "too late", "--store", str(store))
    assert (result.exit_code, result.stdout) == (0, f"{ids[2]}  canceled\n")
    whole = json.loads(job("show", ids[2], "--store", str(store), "--json").stdout)
    assert (whole["canceled_by"], whole["cancel_reason"]) == ("ada", "too late")
    assert whole["result"]["metadata"]["deployment_name"] == "other"
    followed = job("follow", ids[2], "--store", str(store))
    assert (followed.exit_code, followed.stderr) == (4, "the job was canceled: too late\n")


def test_the_envelope_of_a_canceled_job(store: Path) -> None:
    """What the store does not say about a deployment is taken from a job of it that has completed."""

    async def left() -> str:
        async with working(greeting, store) as deployment:
            await ended(deployment, (await submitted(deployment)).id)
        async with working(greeting, store, run_jobs=False) as deployment:
            return (await submitted(deployment)).id

    pending = asyncio.run(left())
    assert job("cancel", pending, "--store", str(store)).exit_code == 0
    completed = listed(store, "--status", "completed")[0]
    metadata = [
        json.loads(job("show", one, "--store", str(store), "--json").stdout)["result"]["metadata"]
        for one in (pending, completed)
    ]
    names = ("deployment_id", "deployment_name", "snapshot_id", "snapshot_name", "pipeline_name")
    assert [metadata[0][name] for name in names] == [metadata[1][name] for name in names]


def test_what_cannot_be_canceled(store: Path, ids: list[str]) -> None:
    """Of several jobs each is tried; one that has ended, or is unknown, is a message and status 1."""
    result = job("cancel", ids[0], "ffff", ids[2], "--store", str(store))
    assert result.exit_code == 1
    assert result.stdout == f"{ids[2]}  canceled\n"
    assert result.stderr.splitlines() == [
        f"Error: {ids[0]}: The job has completed; it cannot be canceled any more.",
        "Error: ffff: there is no job 'ffff'",
    ]
    assert job("cancel", ids[2], "--store", str(store)).exit_code == 0


def test_following_what_has_ended(store: Path, ids: list[str]) -> None:
    """The events are told again: output on stdout, the rest on stderr, and the status tells how the job ended."""
    completed = job("follow", ids[0], "--store", str(store))
    assert (completed.exit_code, completed.stdout) == (0, "hello moon\n")
    said = [line[10:] for line in completed.stderr.splitlines()[:-1]]
    assert said == ["pipeline  started", "greet  started", "greet  25%  waking up", "greet  completed"]
    assert completed.stderr.splitlines()[-1].startswith("The job has completed in ")
    failed = job("follow", ids[1], "--store", str(store))
    assert failed.exit_code == 1
    assert failed.stderr.endswith(f"Error: {ids[1]} failed: nobody is there\n")


def test_events_as_json(store: Path, ids: list[str]) -> None:
    """With --json stdout is one event per line, as the contract has them, and nothing else."""
    result = job("follow", ids[0], "--store", str(store), "--json")
    events = [json.loads(line) for line in result.stdout.splitlines()]
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event_type"] == "pipeline_completed"
    assert events[-1]["data"]["outputs"] == {"output": "moon"}


def test_no_store(tmp_path: Path) -> None:
    """Where there is no store the list is empty, a job is an error, and nothing is made."""
    place = tmp_path / "none" / "store.db"
    empty = job("list", "--store", str(place), "--json")
    assert json.loads(empty.stdout) == {"jobs": [], "total": 0, "next_cursor": None}
    assert (empty.exit_code, empty.stderr) == (0, f"No jobs: there is no store at {place}.\n")
    for name in ("show", "cancel", "follow"):
        result = job(name, "0123", "--store", str(place))
        assert f"there is no store at {place}" in (result.stderr + str(result.exception))
        assert result.exit_code == 1
    assert not place.parent.exists()


def test_stores_that_cannot_be_read(store: Path, ids: list[str], tmp_path: Path) -> None:
    """A store of a newer version, of another program, or in memory is one message."""
    with contextlib.closing(sqlite3.connect(store)) as connection:
        connection.execute("PRAGMA user_version = 99")
    assert "upgrade asgipipe" in str(job("list", "--store", str(store)).exception)
    strange = tmp_path / "strange.db"
    strange.write_text("this is a text, and a long one, of more than sixteen bytes\n" * 20)
    assert "no SQLite database" in str(job("list", "--store", str(strange)).exception)
    assert "ask it by --url" in str(job("list", "--store", "memory:").exception)


def test_the_password_of_a_store_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """A store that cannot be reached is named without its password."""
    pytest.importorskip("psycopg")

    async def unreachable(_: Database) -> None:
        raise UnavailableError("The store cannot be reached.")

    monkeypatch.setattr("asgipipe.stores.postgresql.PostgreSQLDatabase.open", unreachable)
    monkeypatch.setattr("asgipipe.stores.postgresql.PostgreSQLDatabase.exists", lambda _: True)
    result = job("list", "--store", "postgresql://ada:hunter2@db.test/jobs?password=hunter2")
    assert isinstance(result.exception, UserError)
    assert re.fullmatch(r"postgresql://ada\S+@db\.test/jobs\S*: The store cannot be reached\.", str(result.exception))
    assert "hunter2" not in result.output + str(result.exception)


def test_the_store_of_the_settings(
    store: Path, ids: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without --store it is the one of the settings file, of the environment, or of the working directory."""
    file = tmp_path / "settings.yaml"
    file.write_text(f"settings: {{deployment: {{store_url: {store}}}}}")
    assert ids[0] in job("list", "--config", str(file)).stdout
    assert ids[0] in job("list", ASGIPIPE_STORE_URL=str(store)).stdout
    monkeypatch.chdir(tmp_path)
    assert str(tmp_path / ".asgipipe" / "store.db") in job("list").stderr


# How it looks


def row(**members: object) -> dict[str, object]:
    given = {"job_id": "0" * 36, "status": "failed", "pipeline_name": "flow", "created_at": "2026-01-02T03:04:05Z"}
    return {**given, "execution_time": 1.5, "error": None, "progress": {"fraction": 0.5}, **members}


@pytest.mark.parametrize("width", [60, 70, 80, 100, 120, 200])
def test_the_table_fits_the_terminal(width: int) -> None:
    """No line is wider than the terminal: the error is cut, then columns are left out, the id and status never."""
    lines = job_table.table([row(error="x" * 300), row(status="completed")], width)
    assert all(len(click.unstyle(line)) <= width for line in lines)
    assert all("0" * 36 in line for line in lines[1:])
    assert ("xxx" in lines[1]) == (width > 60)
    assert ("CREATED" in lines[0]) == (width >= 100)


def test_columns_that_nobody_needs() -> None:
    """What no job has gets no column."""
    assert "ERROR" not in job_table.table([row()], None)[0]
    assert "PROGRESS" not in job_table.table([row(progress=None)], None)[0]


def test_statuses_are_colored() -> None:
    """A status has a colour of its own, in the table and on the page."""
    red = click.style("failed", "red")
    assert red[:-4] in job_table.table([row()], None)[1]
    assert any(red in line for line in job_table.page(row()))


def test_nothing_steers_the_terminal() -> None:
    """Control characters of a job's texts are shown, never obeyed."""
    steering = row(error="\x1b[2J\nsecond line", parameters={"x": "\x9b2J"}, run_name="\x07")
    lines = "\n".join(job_table.page(steering)[5:])
    assert "\x1b[2J" not in lines
    assert "\x9b" not in lines
    assert f"\\x1b[2J\n{'':<12}second line" in lines


# A deployment, played

JOB = "01a1fc4d-92b2-7000-901f-57b8222e7732"


def frame(number: int, kind: str, **data: object) -> bytes:
    event = {"id": number, "event_type": kind, "step_name": None, "data": data, "timestamp": "2026-01-02T03:04:05Z"}
    return f"id: {number}\nevent: {kind}\ndata: {json.dumps(event, ensure_ascii=False)}\n\n".encode()


class Played:
    """A deployment at http://flow.test/api; `streams` are its answers to followers, one after the other."""

    def __init__(self) -> None:
        self.asked: list[httpx.Request] = []
        self.jobs = [row(job_id=JOB, status="completed")]
        self.streams: list[httpx.Response | BaseException] = []

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        path = request.url.path.removeprefix("/api")
        if path == request.url.path:
            return httpx.Response(404, html="<p>hello</p>")
        if request.headers.get("authorization") != "Bearer secret":
            return httpx.Response(401, json={"detail": "A valid key is required."})
        if path == "/jobs":
            status = request.url.params.get("status")
            jobs = [one for one in self.jobs if status in (None, one["status"])]
            return httpx.Response(200, json={"jobs": jobs, "total": len(jobs), "next_cursor": None})
        if path == f"/jobs/{JOB}":
            return httpx.Response(200, json=self.jobs[0])
        if path == f"/jobs/{JOB}/cancel":
            return httpx.Response(409, json={"detail": "The job has completed."})
        if path == f"/stream/{JOB}":
            stream = self.streams.pop(0)
            if isinstance(stream, BaseException):
                raise stream
            return stream
        return httpx.Response(404, json={"detail": "There is no job of this id."})


def sse(*pieces: bytes, status: int = 200) -> httpx.Response:
    return httpx.Response(status, headers={"content-type": "text/event-stream"}, content=b"".join(pieces))


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    deployment = Played()

    def client(remote: Remote) -> httpx.Client:
        transport = httpx.MockTransport(deployment.answer)
        return httpx.Client(transport=transport)

    monkeypatch.setattr(Remote, "client", client)
    monkeypatch.setattr(deployed_jobs, "_PAUSES", (0.0, 0.0))
    return deployment


def asking(*arguments: str) -> Result:
    return job(*arguments, "--url", "http://flow.test/api/", ASGIPIPE_KEY="secret")


def test_a_running_deployment(played: Played) -> None:
    """With --url the jobs are those of a deployment below a prefix, asked with the key of the environment."""
    assert JOB in asking("list").stdout
    assert str(played.asked[0].url) == "http://flow.test/api/jobs?limit=20"
    assert asking("show", JOB[:20]).stdout.startswith(f"Job         {JOB}\n")
    refused = asking("cancel", JOB, "--reason", "late")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "The job has completed." in refused.stderr
    assert played.asked[-1].url.params["reason"] == "late"


def test_several_statuses_of_a_deployment(played: Played) -> None:
    """A deployment lists one status at a time; several lists are one, newest first, cut at the limit."""
    newer, oldest = JOB.replace("01a1", "01a2"), JOB.replace("01a1", "01a0")
    played.jobs += [row(job_id=newer, status="failed"), row(job_id=oldest, status="failed")]
    page = json.loads(asking("list", "--status", "completed", "--status", "failed", "--limit", "2", "--json").stdout)
    assert [one["job_id"] for one in page["jobs"]] == [newer, JOB]
    assert page["total"] == 3
    assert page["next_cursor"] is not None


def test_a_stream_that_breaks_off(played: Played) -> None:
    """A follower comes back with the last event it has seen, tells each event once, and of the loss once."""
    played.streams = [
        sse(b"retry: 1000\n\n", frame(1, "output_delta", delta="a\u2028b\r")),
        httpx.ConnectError("refused"),
        sse(status=503),
        sse(frame(1, "output_delta", delta="again"), frame(2, "pipeline_completed", execution_time=2.0, error=None)),
    ]
    result = asking("follow", JOB)
    assert (result.exit_code, result.stdout_bytes.decode()) == (0, "a\u2028b\r")
    assert [one.headers["last-event-id"] for one in played.asked[1:]] == ["0", "1", "1", "1"]
    assert [line for line in result.stderr.splitlines() if "trying again" in line] == [
        "http://flow.test/api was lost: the server ended the stream; trying again for 60 s"
    ]
    assert result.stderr.endswith("The job has completed in 2.00 s.\n")


def test_a_quiet_stream(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A stream on which nothing comes, not even a comment, is asked for anew, as often as that happens."""

    def quiet() -> Iterator[bytes]:
        yield b"retry: 1000\n\n"
        raise httpx.ReadTimeout("nothing came")

    monkeypatch.setattr(deployed_jobs, "_PATIENCE", 0.0)
    headers = {"content-type": "text/event-stream"}
    played.streams = [httpx.Response(200, headers=headers, content=quiet()) for _ in range(5)]
    played.streams.append(sse(b": still here\n\n", frame(1, "pipeline_completed")))
    result = asking("follow", JOB)
    assert (result.exit_code, result.stderr) == (0, "The job has completed.\n")


def test_a_deployment_that_stays_lost(played: Played, monkeypatch: pytest.MonkeyPatch) -> None:
    """A deployment that cannot be reached any more is asked for a bounded time."""
    monkeypatch.setattr(deployed_jobs, "_PATIENCE", 0.05)
    monkeypatch.setattr(deployed_jobs, "_PAUSES", (0.01, 0.02))
    played.streams = [httpx.ConnectError("refused") for _ in range(100)]
    result = asking("follow", JOB)
    assert str(result.exception) == ("http://flow.test/api was lost: refused; the job may go on without being followed")


@pytest.mark.parametrize(
    ("stream", "expected"),
    [
        (httpx.Response(404, json={"detail": "There is no job of this id."}), "answered 404: There is no job"),
        (httpx.Response(200, html="<p>hello</p>"), "does not answer like a deployment"),
        (sse(b"data: hello\n\n"), "does not answer like a deployment"),
    ],
)
def test_streams_that_are_refused(played: Played, stream: httpx.Response, expected: str) -> None:
    """What will not get better is one message at once."""
    played.streams = [stream]
    result = asking("follow", JOB)
    assert isinstance(result.exception, UserError)
    assert expected in str(result.exception)


def test_a_stream_without_end(played: Played) -> None:
    """Where a deployment says that there is no more, the job itself tells how it ended."""
    played.streams = [httpx.Response(204)]
    assert asking("follow", JOB).exit_code == 0
    played.jobs[0] = row(job_id=JOB, status="running")
    played.streams = [httpx.Response(204)]
    assert "it did not: it is running" in str(asking("follow", JOB).exception)


def test_interrupted(played: Played) -> None:
    """Ctrl-C ends the command with 130 and says that the job goes on."""
    played.streams = [KeyboardInterrupt()]
    result = asking("follow", JOB)
    assert result.exit_code == 130
    assert result.stderr.startswith("The job goes on: ")


def test_what_a_deployment_refuses(played: Played) -> None:
    """A missing key, an unknown job and a page that is none of ours are one line each."""
    key = job("list", "--url", "http://flow.test/api")
    assert str(key.exception) == "http://flow.test/api needs a key: give --key, or set ASGIPIPE_KEY"
    wrong = job("list", "--url", "http://flow.test/api", "--key", "hunter2")
    assert str(wrong.exception) == "http://flow.test/api does not know the key of --key or ASGIPIPE_KEY"
    assert "There is no job of this id" in str(asking("show", JOB.replace("0", "1")).exception)
    assert str(asking("show", "ffff").exception) == "there is no job 'ffff'"
    missing = job("list", "--url", "http://flow.test", "--key", "secret")
    assert str(missing.exception).startswith("http://flow.test does not answer like a deployment")
    played.jobs = [{"status": "what another program may answer"}]
    assert "is the URL right?" in str(asking("list").exception)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["list", "--url", "flow"], "'flow' is not the URL of a deployment"),
        (["list", "--url", "http://[::1"], "is not the URL of a deployment"),
        (["list", "--url", "http://ada:hunter2@a.test"], "leave them out of the URL"),
        (["list", "--url", "http://ada:hunter2@a.test:99999"], "'a.test:99999' is not the URL"),
        (["list", "--url", "http://a.test", "--key", "hunter2\n"], "the key holds characters"),
        (["list", "--url", "http://a.test", "--store", "x.db"], "give one of the two"),
        (["list", "--url", "http://a.test", "--deployment", "x"], "give one"),
        (["list", "--status", "done"], "'done' is not one of"),
        (["list", "--limit", "501"], "not in the range"),
        (["cancel", JOB, "--reason", "x" * 501], "500 characters at most"),
        (["cancel"], "Missing argument"),
    ],
)
def test_wrong_command_lines(arguments: list[str], expected: str) -> None:
    """What cannot be asked is refused with status 2, without a secret in the message."""
    result = job(*arguments)
    assert result.exit_code == 2
    assert expected in " ".join(result.stderr.split())
    assert "hunter2" not in result.output


def test_nobody_there() -> None:
    """A deployment that cannot be reached is one message at once, for followers too."""
    for arguments in (["list"], ["follow", JOB]):
        result = job(*arguments, "--url", "http://127.0.0.1:9")
        assert isinstance(result.exception, UserError)
        assert str(result.exception).startswith("http://127.0.0.1:9 cannot be reached")


def test_completion_of_statuses() -> None:
    """A shell completes the statuses."""
    found = ShellComplete(cli, {}, "asgipipe", "_ASGIPIPE_COMPLETE").get_completions(["job", "list", "--status"], "c")
    assert [one.value for one in found] == ["completed", "canceled"]


@pytest.mark.parametrize("name", ["list", "show", "cancel", "follow"])
def test_help(name: str) -> None:
    """Each command explains itself and where it finds jobs."""
    result = job(name, "--help")
    assert result.exit_code == 0
    assert all(option in result.stdout for option in ("--url", "--key", "--store", "--config", "--deployment"))


# The real thing


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "flow.py").write_text(FLOW)
    return tmp_path


def submit(origin: str, **parameters: object) -> str:
    with httpx.Client(base_url=origin, timeout=PATIENCE) as client:
        answer = client.post("/invoke?mode=async", json={"parameters": parameters})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["job_id"])


IN_FOREGROUND = """
import runpy, signal, sys
signal.signal(signal.SIGINT, signal.default_int_handler)  # which shells take from what they start in the background
sys.argv[0] = "asgipipe"
runpy.run_module("asgipipe", run_name="__main__", alter_sys=True)
"""


@contextlib.contextmanager
def following(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """`asgipipe job follow` in a process of its own, with stdout and stderr apart."""
    process = subprocess.Popen(
        [sys.executable, "-c", IN_FOREGROUND, "job", "follow", *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])


def test_a_real_deployment(folder: Path) -> None:
    """Listing, showing, following and cancelling work by URL and, beside the server, from its file."""
    with serving("flow.py", folder=folder, environment={"ASGIPIPE_AUTH_KEY": "secret"}) as server:
        client = httpx.Client(base_url=server.origin, headers={"authorization": "Bearer secret"}, timeout=PATIENCE)
        with client:
            held, failed = [
                client.post("/invoke?mode=async", json={"parameters": parameters}).json()["job_id"]
                for parameters in ({"hold": True}, {"fail": True})
            ]
        place = ("--url", server.origin, "--key", "secret")
        store = ("--store", str(folder / ".asgipipe" / "store.db"))
        for where in (place, store):
            result = job("follow", failed, *where)
            assert (result.exit_code, result.stdout) == (1, "first last\n")
            assert "warning user.code: working" in result.stderr
            assert {held, failed} == {one["job_id"] for one in json.loads(job("list", *where, "--json").stdout)["jobs"]}
        with following(folder, held, *place, "--json") as by_url, following(folder, held, *store, "--json") as by_file:
            for process in (by_url, by_file):
                assert process.stdout is not None
                assert json.loads(process.stdout.readline())["event_type"] == "pipeline_started"
            assert job("cancel", held, *store).stdout == f"{held}  running: asked to end\n"
            assert by_url.wait(PATIENCE) == by_file.wait(PATIENCE) == 4
        assert json.loads(job("show", held, *place, "--json").stdout)["cancel_reason"] is None


def test_following_across_a_restart(folder: Path) -> None:
    """A job that a server hands over is followed on at the next one: each event once, and the end of it."""
    port = str(free_port())
    with serving("flow.py", "--port", port, "--drain-timeout", "0.1", folder=folder) as server:
        held = submit(server.origin, hold=True)
        with following(folder, held, "--url", server.origin, "--json") as process:
            assert process.stdout is not None
            first = process.stdout.readline()
            server.stop()
            (folder / "go").touch()
            with serving("flow.py", "--port", port, folder=folder):
                status = process.wait(PATIENCE)
            # Not by `communicate`, which passes by what `readline` has read ahead.
            rest, said = process.stdout.read(), "" if process.stderr is None else process.stderr.read()
    events = [json.loads(line) for line in [first, *rest.splitlines()]]
    assert status == 0, said
    assert [event["id"] for event in events] == list(range(1, len(events) + 1))
    assert events[-1]["event_type"] == "pipeline_completed"
    assert said.count("trying again") == 1
    assert job("follow", held, "--store", str(folder / ".asgipipe" / "store.db")).exit_code == 0


def test_ctrl_c(folder: Path, store: Path, ids: list[str]) -> None:
    """Ctrl-C while no server runs ends the command with 130 and leaves the job alone."""
    with following(folder, ids[2], "--store", str(store)) as process:
        assert process.stderr is not None
        assert "is pending" in process.stderr.readline()
        process.send_signal(signal.SIGINT)
        assert process.wait(PATIENCE) == 130
        assert "The job goes on" in process.stderr.read()
    assert listed(store, "--status", "pending") == [ids[2]]


def test_a_terminal(store: Path, ids: list[str]) -> None:
    """On a terminal a bar shows step and message, makes room for what is printed, and is gone in the end."""
    master, terminal = pty.openpty()
    arguments = [sys.executable, "-m", "asgipipe", "job", "follow", ids[0], "--store", str(store)]
    process = subprocess.Popen(arguments, stdout=terminal, stderr=terminal, stdin=terminal)
    os.close(terminal)
    written = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while piece := os.read(master, 65536):
            written += piece
    os.close(master)
    assert process.wait(PATIENCE) == 0
    text = written.decode()
    bar = "[######------------------]  25%  greet  waking up"
    assert f"\r{bar}\x1b[K\r\x1b[Khello moon\r\n" in text
    assert text.rpartition(bar)[2].startswith("\x1b[K\r\x1b[K")
    assert "The job has completed" in text
