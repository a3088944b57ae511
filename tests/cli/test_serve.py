import contextlib
import json
import os
import re
import signal
import socket
import textwrap
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.servers.command import MANY_WORKERS, SERVERS, Command, command, needs_gunicorn, serving, until

WEATHER = """
def weather(city: str, days: int = 3) -> str:
    "The weather in a city."
    return f"{city}: sunny for {days} days"
"""

SLOW = """
import asyncio, os, pathlib, time
from asgipipe import pipeline

def note(text):
    with open("notes.txt", "a") as file:
        file.write(f"{text}\\n")

def begin():
    note(f"begin {os.getpid()}")

def end():
    note(f"end {os.getpid()}")

async def wait_for(name):
    note(f"waiting {os.getpid()}")
    while not pathlib.Path(name).exists():
        await asyncio.sleep(0.01)
    return "released"

@pipeline(on_init=begin, on_cleanup=end)
async def slow(name: str) -> str:
    return await wait_for(name)

@pipeline(on_init=begin, on_cleanup=end)
def stuck(seconds: float) -> str:
    note(f"waiting {os.getpid()}")
    time.sleep(seconds)
    return "done"

@pipeline
def process() -> int:
    return os.getpid()

def fail():
    raise RuntimeError("no model file")

@pipeline(on_init=fail, on_cleanup=end)
def failing() -> int:
    return 1

def hang():
    note("hanging")
    time.sleep(3600)

@pipeline(on_cleanup=hang)
def hanging() -> int:
    return 1
"""

Write = Callable[[str, str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write(name: str, text: str) -> Path:
        path = tmp_path / name
        path.write_text(textwrap.dedent(text))
        return path

    return write


@pytest.fixture
def folder(tmp_path: Path, write: Write) -> Path:
    write("weather.py", WEATHER)
    write("slow.py", SLOW)
    return tmp_path


def notes(folder: Path) -> list[str]:
    path = folder / "notes.txt"
    return path.read_text().splitlines() if path.exists() else []


def invoke(running: Command, **parameters: object) -> httpx.Response:
    with running.client() as client:
        return client.post("/invoke", json={"parameters": parameters})


def noted(folder: Path, word: str, times: int = 1) -> None:
    until(lambda: sum(line.startswith(word) for line in notes(folder)) >= times, f"{word} in the notes")


def pids(folder: Path, word: str) -> list[str]:
    return sorted(line.split()[1] for line in notes(folder) if line.startswith(word))


def call_in_vain(running: Command, **parameters: object) -> None:
    """Call a server that is going to be stopped; whether and what it answers does not matter."""
    with contextlib.suppress(httpx.HTTPError):
        invoke(running, **parameters)


# What is served


def test_a_function_in_a_file_is_served_without_a_decorator(folder: Path) -> None:
    """A stranger's file is enough: its one function answers, and SIGTERM ends the server with status 0."""
    with serving("weather.py", folder=folder) as running:
        answer = invoke(running, city="Oslo").json()
        assert answer["outputs"] == {"output": "Oslo: sunny for 3 days"}
        assert running.stop() == 0


def test_the_banner_says_where_and_whether_a_key_is_needed_and_its_call_works(folder: Path) -> None:
    """The banner's URLs are right, and its curl line holds parameters that the pipeline accepts."""
    with serving("weather.py", folder=folder) as running:
        running.until_says("Stop with ctrl-C")
        origin = running.origin
        assert f"invoke  {origin}/invoke" in running.output
        assert "OPEN: no key" in running.output
        body = re.search(r"-d '(.*)'", running.output)
        assert body
        answer = httpx.post(f"{origin}/invoke", content=body.group(1), headers={"content-type": "application/json"})
        assert answer.status_code == 200


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_a_generated_key_is_printed_once_and_works_in_every_worker(folder: Path, server: str, workers: int) -> None:
    """The key appears once in what the command writes, in no process's arguments, and every worker accepts it."""
    with serving(
        "slow.py:process", "--server", server, "--workers", workers, "--generate-auth-key", folder=folder
    ) as running:
        running.until_says("Stop with ctrl-C")
        key = re.search(r"KEY=(\S+)", running.output)
        assert key
        assert invoke(running).status_code == 401
        pids: set[int] = set()
        while len(pids) < 2:
            answer = httpx.post(f"{running.origin}/invoke", headers={"authorization": f"Bearer {key.group(1)}"})
            pids.add(answer.json()["outputs"]["output"])
        parent = psutil.Process(running.process.pid)
        assert not any(key.group(1) in " ".join(each.cmdline()) for each in [parent, *parent.children(recursive=True)])
        assert running.stop() == 0
        assert running.output.count(key.group(1)) == 1


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_a_given_key_is_never_shown(folder: Path, server: str, workers: int) -> None:
    """A key from the environment is in nothing that is written, with two workers and at the most talkative level."""
    canary = "canary-0123456789"
    variables = {"ASGIPIPE_AUTH_KEY": canary, "ASGIPIPE_LOG_LEVEL": "debug"}
    with serving(
        "slow.py:process", "--server", server, "--workers", workers, folder=folder, environment=variables
    ) as running:
        running.until_says("key required")
        assert invoke(running).status_code == 401
        assert running.stop() == 0
        assert canary not in running.output


def test_an_address_for_others_without_a_key_is_warned_about(folder: Path) -> None:
    """Serving on all addresses without a key is allowed, loudly."""
    with serving("weather.py", "--host", "0.0.0.0", folder=folder) as running:
        running.until_says("OPEN: everyone who can reach 0.0.0.0")


@pytest.mark.parametrize(("server", "workers"), SERVERS[::3])
def test_several_targets_are_served_under_their_names(folder: Path, server: str, workers: int) -> None:
    """Two targets answer under /<name>, and /pipelines, /health and /ready speak for both."""
    arguments = ("weather.py", "slow.py:process", "--server", server, "--workers", workers)
    with serving(*arguments, folder=folder) as running, running.client() as client:
        assert client.post("/weather/invoke", json={"parameters": {"city": "Rome"}}).json()["success"]
        assert client.post("/process/invoke").json()["success"]
        entries = client.get("/pipelines").json()["pipelines"]
        assert [entry["invoke_url"] for entry in entries] == ["/weather/invoke", "/process/invoke"]
        assert client.get("/ready").json() == {"status": "ready"}
        assert client.get("/health").json() == {"status": "healthy"}
        assert client.get("/invoke").status_code == 404
        assert running.stop() == 0


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_json_logs_are_json_from_the_first_line_to_the_last(folder: Path, server: str, workers: int) -> None:
    """Every line that is written with log_format json is one JSON object, the banner and a failed run included."""
    with serving(
        "slow.py:process", "--log-format", "json", "--server", server, "--workers", workers, folder=folder
    ) as running:
        assert invoke(running).status_code == 200
        assert running.stop() == 0
        lines = [json.loads(line) for line in running.output.splitlines()]
        assert any("serves on" in line["message"] for line in lines)
        assert all({"time", "level", "logger", "message"} <= line.keys() for line in lines)


def test_the_order_of_settings(write: Write, folder: Path) -> None:
    """The command line goes before the environment, that before the file, that before the decorator."""
    write(
        "app.py",
        """
        from asgipipe import pipeline

        @pipeline(settings={"app_title": "d", "app_version": "1", "app_description": "d", "thread_pool_size": 2})
        def app() -> int:
            return 1
        """,
    )
    write("s.yaml", "settings: {deployment: {app_version: '2', app_description: file, thread_pool_size: 3}}\n")
    variables = {"ASGIPIPE_APP_DESCRIPTION": "environment", "ASGIPIPE_THREAD_POOL_SIZE": "4"}
    arguments = ("app.py", "-c", "s.yaml", "--thread-pool-size", 5)
    for workers in (1, 2):
        with (
            serving(*arguments, "--workers", workers, folder=folder, environment=variables) as running,
            running.client() as client,
        ):
            document = client.get("/openapi.json").json()["info"]
            assert document["title"] == "d"
            assert document["version"] == "2"
            assert document["description"] == "environment"
            assert '"thread_pool_size":5' in client.get("/status").text.replace(" ", "")


def test_the_pipeline_section_of_the_file_changes_the_pipeline(write: Write, folder: Path) -> None:
    """Options beside the deployment's settings are laid over the decorator's."""
    write("s.yaml", "pipeline: {name: renamed, on_cleanup: 'slow:end'}\n")
    with serving("weather.py", "-c", "s.yaml", folder=folder) as running:
        assert invoke(running, city="Oslo").json()["metadata"]["pipeline_name"] == "renamed"
        assert running.stop() == 0
        assert [line.split()[0] for line in notes(folder)] == ["end"]


@pytest.mark.parametrize("server", ["uvicorn", pytest.param("gunicorn", marks=needs_gunicorn)])
def test_a_unix_socket(folder: Path, server: str) -> None:
    """`uds` serves on a socket file, also where a killed server left one, and removes it at the end."""
    path = folder / "socket"
    arguments = ("weather.py", "--server", server, "--uvicorn-kwargs", json.dumps({"uds": str(path)}))
    with command("serve", *arguments, folder=folder) as running:
        running.until_says("Stop with ctrl-C")
        running.process.kill()
        running.process.wait()
    assert path.is_socket()
    with command("serve", *arguments, folder=folder) as running:
        running.until_says(f"serves on unix:{path}")
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(path))) as client:
            assert client.get("http://test/ready").status_code == 200
        with command("serve", *arguments, folder=folder) as second:
            failed(second, 3, str(path))
        assert running.stop() == 0
    assert not path.exists()


def test_a_slow_sender_is_dropped(folder: Path) -> None:
    """receive_timeout reaches the server: half a request head is closed without an answer, others are answered."""
    with serving("weather.py", "--receive-timeout", 0.3, folder=folder) as running:
        with socket.create_connection(("127.0.0.1", running.port), 30) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\nHost:")
            assert connection.recv(1) == b""
        assert invoke(running, city="Oslo").status_code == 200


def test_huge_heads_are_refused(folder: Path) -> None:
    """max_header_size holds for heads that never end and for those that do: 431, and the server lives."""
    with serving("weather.py", "--max-header-size", 4096, folder=folder) as running:
        for end in (b"", b"\r\n\r\n"):
            with socket.create_connection(("127.0.0.1", running.port), 30) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nX-Long: " + b"a" * 5000 + end)
                assert connection.recv(65536).startswith(b"HTTP/1.1 431 ")
        assert invoke(running, city="Oslo").status_code == 200


# Mistakes


def failed(running: Command, status: int, *texts: str) -> None:
    assert running.status() == status, running.output
    assert "Traceback" not in running.output
    assert len(re.findall(r"^Error: ", running.output, re.MULTILINE)) == 1, running.output
    for text in texts:
        assert text in running.output


@pytest.mark.parametrize(
    ("target", "text"),
    [
        ("nothing:here", "there is no module named 'nothing'"),
        ("weather:wether", "did you mean 'weather'?"),
        ("wether.py", "did you mean 'weather.py'?"),
        ("slow.py", "choose one of"),
    ],
)
def test_a_wrong_target_is_one_message(folder: Path, target: str, text: str) -> None:
    """What cannot be found is named, with the way out, and the status is 2."""
    with serving(target, folder=folder) as running:
        failed(running, 2, text)


def test_debug_shows_the_traceback(folder: Path) -> None:
    """The option --debug adds the traceback to the message."""
    with command("--debug", "serve", "nothing:here", folder=folder) as running:
        assert running.status() == 2
        assert "Traceback" in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_taken_port_is_one_message(folder: Path, server: str, workers: int) -> None:
    """The address and the way out are named, nothing is started, and the status is 3."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        arguments = ("serve", "slow.py:slow", "--port", port, "--server", server, "--workers", workers)
        with command(*arguments, folder=folder) as running:
            failed(running, 3, f"127.0.0.1:{port}", "--port")
            assert notes(folder) == []


def test_a_wrong_settings_file_names_line_and_column(write: Write, folder: Path) -> None:
    """A misspelt setting is reported with its place, and the status is 2."""
    write("s.yaml", "settings:\n  deployment:\n    uvicorn_prot: 1\n")
    with serving("weather.py", "-c", "s.yaml", folder=folder) as running:
        failed(running, 2, "s.yaml:3:5", "uvicorn_port")


def test_without_gunicorn_the_way_to_install_it_is_named(write: Write, folder: Path) -> None:
    """Where gunicorn cannot be imported the message holds the command that installs it."""
    write("gunicorn.py", "raise ImportError('not here')\n")
    with serving("weather.py", "--server", "gunicorn", folder=folder) as running:
        failed(running, 3, 'pip install "asgipipe[gunicorn]"')


@needs_gunicorn
def test_a_wrong_setting_for_gunicorn_is_refused(folder: Path) -> None:
    """An unknown name gets a suggestion, before anything is served."""
    with serving("weather.py", "--server", "gunicorn", "--gunicorn-kwargs", '{"timout": 5}', folder=folder) as running:
        failed(running, 2, "gunicorn_kwargs.timout", "did you mean timeout?")


def test_reloading_on_changes_is_refused_under_gunicorn(folder: Path) -> None:
    """The hint names what reloads under gunicorn."""
    with serving("weather.py", "--server", "gunicorn", "--reload", folder=folder) as running:
        failed(running, 2, "uvicorn_reload", "SIGHUP")


def test_a_wrong_argument_for_uvicorn_is_refused(folder: Path) -> None:
    """An unknown argument gets a suggestion, before anything is served."""
    with serving("weather.py", "--uvicorn-kwargs", '{"bakclog": 5}', folder=folder) as running:
        failed(running, 2, "uvicorn_kwargs.bakclog", "did you mean backlog?")


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_missing_certificate_is_one_message(folder: Path, server: str, workers: int) -> None:
    """TLS files that cannot be read are a mistake of the user's like others."""
    files = json.dumps({"ssl_certfile": "no.pem", "ssl_keyfile": "no.key"})
    with serving(
        "slow.py:slow", "--server", server, "--workers", workers, "--uvicorn-kwargs", files, folder=folder
    ) as running:
        failed(running, 3, "TLS")
        assert notes(folder) == []


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_failing_hook_serves_nothing(folder: Path, server: str, workers: int) -> None:
    """A start that fails is one message with its reason, status 3, and no connection is ever accepted."""
    with serving("slow.py:failing", "--server", server, "--workers", workers, folder=folder) as running:
        failed(running, 3, "no model file")
        assert "serves on" not in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_what_cannot_be_served_is_said_once(write: Write, folder: Path, server: str, workers: int) -> None:
    """A type without a JSON form is one message, not one for each worker."""
    write("bad.py", "class Own: ...\n\ndef bad(own: Own) -> int:\n    return 1\n")
    with serving("bad.py", "--server", server, "--workers", workers, folder=folder) as running:
        failed(running, 2, "own")


def test_several_targets_that_disagree_about_the_server_are_refused(write: Write, folder: Path) -> None:
    """Two ports for one server are an error that names both pipelines, and a port from the environment settles it."""
    for name, port in (("one", 8101), ("two", 8102)):
        write(
            f"{name}.py",
            f"""
            from asgipipe import pipeline

            @pipeline(settings={{"uvicorn_port": {port}}})
            def {name}() -> int:
                return 1
            """,
        )
    with command("serve", "one.py", "two.py", folder=folder) as running:
        failed(running, 2, "uvicorn_port", "8101 for one, 8102 for two")
    with command("serve", "one.py", "two.py", folder=folder, environment={"ASGIPIPE_UVICORN_PORT": "0"}) as running:
        assert running.origin
        assert running.stop() == 0


def test_the_same_name_twice_is_refused(folder: Path) -> None:
    """Two targets of one name are an error that names both."""
    with serving("weather.py", "weather:weather", folder=folder) as running:
        failed(running, 2, "weather.py", "weather:weather", "/weather")


# Stopping


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_sigterm_lets_a_running_request_finish(folder: Path, server: str, workers: int) -> None:
    """While a run finishes, /ready says 503 and a new run is refused with Retry-After; then the end is clean."""
    with (
        serving("slow.py:slow", "--server", server, "--workers", workers, folder=folder) as running,
        ThreadPoolExecutor() as threads,
    ):
        first = threads.submit(invoke, running, name="go")
        noted(folder, "waiting")
        running.signal(signal.SIGTERM)
        until(lambda: httpx.get(f"{running.origin}/ready").status_code == 503, "/ready to be 503")
        # On a connection of its own: a worker that has nothing to finish ends soon, and those to it with it.
        refused = invoke(running, name="go")
        assert refused.status_code == 503
        assert int(refused.headers["retry-after"]) >= 1
        (folder / "go").touch()
        assert first.result().json()["outputs"] == {"output": "released"}
        assert running.status() == 0, running.output
        assert pids(folder, "begin") == pids(folder, "end")


@pytest.mark.parametrize("target", ["slow.py:slow", "slow.py:stuck"])
@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_what_does_not_finish_in_time_is_cut_and_the_status_says_so(
    folder: Path, target: str, server: str, workers: int
) -> None:
    """Async and sync runs that outlive drain_timeout are cut, the hooks still run, and the status is 1."""
    parameters = {"name": "never"} if target.endswith("slow") else {"seconds": 3600}
    arguments = ("--drain-timeout", 0.2, "--server", server, "--workers", workers)
    with serving(target, *arguments, folder=folder) as running, ThreadPoolExecutor() as threads:
        threads.submit(call_in_vain, running, **parameters)
        noted(folder, "waiting")
        assert running.stop() == 1, running.output
        noted(folder, "end", workers)
        assert "still in flight" in running.output


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_second_signal_stops_at_once(folder: Path, server: str, workers: int) -> None:
    """The second SIGTERM cuts a drain that would take half an hour, and the hooks still run."""
    arguments = ("--drain-timeout", 1800, "--server", server, "--workers", workers)
    with serving("slow.py:slow", *arguments, folder=folder) as running, ThreadPoolExecutor() as threads:
        threads.submit(call_in_vain, running, name="never")
        noted(folder, "waiting")
        running.signal(signal.SIGTERM)
        running.until_says("draining, 1 in flight")
        running.signal(signal.SIGTERM)
        assert running.status() == 1, running.output
        noted(folder, "end", workers)


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_ctrl_c_ends_cleanly(folder: Path, server: str, workers: int) -> None:
    """A SIGINT to every process of the command, as a terminal sends it, ends without a traceback and with status 0."""
    with serving("slow.py:slow", "--server", server, "--workers", workers, folder=folder, group=True) as running:
        running.until_says("Stop with ctrl-C")
        os.killpg(running.process.pid, signal.SIGINT)
        assert running.status() == 0, running.output
        assert "Traceback" not in running.output
        noted(folder, "end", workers)


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_a_signal_to_all_processes_still_drains(folder: Path, server: str, workers: int) -> None:
    """A service manager signals every process, so a worker sees SIGTERM twice: its run finishes nevertheless."""
    with (
        serving("slow.py:slow", "--server", server, "--workers", workers, folder=folder, group=True) as running,
        ThreadPoolExecutor() as threads,
    ):
        first = threads.submit(invoke, running, name="go")
        noted(folder, "waiting")
        os.killpg(running.process.pid, signal.SIGTERM)
        running.until_says("draining, 1 in flight")
        (folder / "go").touch()
        assert first.result().json()["success"]
        assert running.status() == 0, running.output


def test_a_hook_that_hangs_at_the_end_is_cut(folder: Path) -> None:
    """A cleanup that would take an hour is cut at hook_timeout, the log says so, and the process ends."""
    with serving("slow.py:hanging", "--hook-timeout", 0.2, folder=folder) as running:
        assert invoke(running).status_code == 200
        running.stop()
        assert "on_cleanup" in running.output


def test_sigterm_while_starting_cleans_up(write: Write, folder: Path) -> None:
    """A process that is told to stop before it serves cleans up what it opened, and ends with status 0."""
    write(
        "starting.py",
        """
        import asyncio
        from asgipipe import pipeline
        from slow import note, end

        async def begin():
            note("beginning")
            await asyncio.sleep(0.3)

        @pipeline(on_init=begin, on_cleanup=end)
        def starting() -> int:
            return 1
        """,
    )
    with serving("starting.py:starting", folder=folder) as running:
        noted(folder, "beginning")
        assert running.stop() == 0, running.output
        noted(folder, "end")
        assert "serves on" not in running.output


def test_a_thread_that_never_ends_does_not_keep_the_process(write: Write, folder: Path) -> None:
    """A run left in the event loop's own threads, which Python would wait for, is given up after the drain."""
    write(
        "threads.py",
        """
        import asyncio, time
        from slow import note

        async def stay() -> int:
            note("waiting")
            await asyncio.to_thread(time.sleep, 3600)
            return 1
        """,
    )
    arguments = ("threads.py:stay", "--drain-timeout", 0.2)
    with serving(*arguments, folder=folder) as running, ThreadPoolExecutor() as threads:
        threads.submit(call_in_vain, running)
        noted(folder, "waiting")
        assert running.stop() == 1
        assert "does not end by itself" in running.output


# Workers


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_a_killed_worker_is_replaced(folder: Path, server: str, workers: int) -> None:
    """After kill -9 of one of two workers, requests are answered all the time and a new process joins."""
    with serving("slow.py:process", "--server", server, "--workers", workers, folder=folder) as running:

        def pid() -> int:
            return int(invoke(running).json()["outputs"]["output"])

        victim = pid()
        os.kill(victim, signal.SIGKILL)
        running.until_says(f"worker {victim} ended with status -9 and is replaced")
        running.until_says("worker \\d+ serves")
        seen: set[int] = set()

        def both_seen() -> bool:
            seen.add(pid())
            return len(seen) == 2

        until(both_seen, "two workers")
        assert victim not in seen
        assert running.stop() == 0, running.output


@pytest.mark.parametrize(
    ("server", "limits", "noticed"),
    [
        ("uvicorn", '--uvicorn-kwargs={"timeout_worker_healthcheck": 2}', r"worker \d+ was silent for"),
        pytest.param("gunicorn", '--gunicorn-kwargs={"timeout": 2}', r"WORKER TIMEOUT", marks=needs_gunicorn),
    ],
)
def test_a_worker_that_hangs_is_replaced(write: Write, folder: Path, server: str, limits: str, noticed: str) -> None:
    """A run that holds the interpreter lock longer than is allowed costs its worker, not silently."""
    write(
        "hog.py",
        """
        import os, re

        def hog(hang: bool) -> int:
            if hang:
                re.match("(a+)+$", "a" * 64 + "b")
            return os.getpid()
        """,
    )
    arguments = ("hog.py", "--server", server, "--workers", 2, limits)
    with serving(*arguments, folder=folder) as running, ThreadPoolExecutor() as threads:
        assert invoke(running, hang=False).status_code == 200
        threads.submit(call_in_vain, running, hang=True)
        running.until_says(noticed)
        running.until_says(r"worker \d+ serves")
        assert invoke(running, hang=False).status_code == 200
        running.stop()


@pytest.mark.parametrize(("server", "count"), MANY_WORKERS)
def test_workers_do_not_outlive_their_parent(folder: Path, server: str, count: int) -> None:
    """After kill -9 of the parent the workers drain and end."""
    with serving("slow.py:slow", "--server", server, "--workers", count, folder=folder) as running:
        running.until_says("Stop with ctrl-C")
        children = psutil.Process(running.process.pid).children()
        workers = [child for child in children if "resource_tracker" not in str(child.cmdline())]
        assert len(workers) == 2
        running.process.kill()
        running.process.wait()
        noted(folder, "end", 2)
        psutil.wait_procs(workers, timeout=30)
        assert not any(each.is_running() and each.status() != psutil.STATUS_ZOMBIE for each in workers)


@pytest.mark.parametrize(("server", "workers"), MANY_WORKERS)
def test_the_specification_is_private_and_gone_afterwards(
    folder: Path, tmp_path: Path, server: str, workers: int
) -> None:
    """The folder that the processes share is readable by the user alone, and removed at the end."""
    shared = tmp_path / "shared"
    shared.mkdir()
    variables = {"TMPDIR": str(shared)}
    with serving(
        "slow.py:process", "--server", server, "--workers", workers, folder=folder, environment=variables
    ) as running:
        assert running.origin
        (own,) = shared.glob("asgipipe-*")
        assert own.stat().st_mode & 0o077 == 0
        assert (own / "specification.json").stat().st_mode & 0o077 == 0
        assert running.stop() == 0
    assert not list(shared.glob("asgipipe-*"))


# Reloading


def test_an_edited_file_is_served_anew(write: Write, folder: Path) -> None:
    """With --reload an edit changes the answer, a broken file is waited out, and the settings file is watched too."""
    write("s.yaml", "settings: {deployment: {app_title: first}}\n")
    with serving("weather.py", "-c", "s.yaml", "--reload", folder=folder) as running, running.client() as client:
        assert invoke(running, city="Oslo").json()["outputs"]["output"].startswith("Oslo: sunny")

        def answer() -> str:
            try:
                return str(invoke(running, city="Oslo").json().get("outputs"))
            except httpx.HTTPError:
                return ""

        def title() -> str:
            try:
                return str(client.get("/openapi.json").json()["info"]["title"])
            except httpx.HTTPError:
                return ""

        write("weather.py", WEATHER.replace("sunny", "rainy"))
        until(lambda: "Oslo: rainy" in answer(), "the changed answer")
        write("weather.py", "def weather(city: str) -> str\n")
        running.until_says("weather.py:1: SyntaxError")
        write("weather.py", WEATHER.replace("sunny", "foggy"))
        until(lambda: "Oslo: foggy" in answer(), "the mended answer")
        write("s.yaml", "settings: {deployment: {app_title: second}}\n")
        until(lambda: title() == "second", "the changed title")
        assert running.stop() == 0, running.output
