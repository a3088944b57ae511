import signal
import socket
import sys
import time
from pathlib import Path

import pytest

from asgipipe.deployers.identity import living, process_identity
from tests.deployers.keeper.keeping import keeper, session
from tests.servers.command import PATIENCE, SERVERS, until


def answer(port: int) -> int:
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as connection:
        return int(connection.makefile("rb").read())


def test_it_says_what_it_is_and_how_its_server_ended(tmp_path: Path) -> None:
    """Its folder names the process and the address while it runs, and afterwards the status, which is its own."""
    with keeper(tmp_path / "state") as kept:
        address = kept.until_ready()
        identity = kept.state.identity()
        assert identity == process_identity(kept.process.pid)
        assert answer(address.port) in session(kept.process.pid)
        assert kept.state.exit() is None
        kept.process.terminate()
        ended = kept.exit()
        assert (kept.status(), ended.status, ended.told) == (5, 5, "SIGTERM")
        assert ended.reason == "it ended with status 5 after it was told to stop"
        assert abs(ended.at - time.time()) < PATIENCE
        assert kept.log() == "told\n"
        assert identity is not None
        assert living(identity) is None
    assert {path.stat().st_mode & 0o077 for path in (tmp_path / "state").iterdir() if path.name != "ready"} == {0}


def test_nothing_listens_before_the_server_does(tmp_path: Path) -> None:
    """A client is refused, and not kept waiting, while the server starts."""
    with keeper(tmp_path, code="import time; time.sleep(600)") as kept, pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", kept.address().port))


@pytest.mark.parametrize(
    ("code", "status", "reason"),
    [
        ("raise SystemExit(0)", 0, "it ended with status 0"),
        ("raise SystemExit(17)", 17, "it ended with status 17"),
        ("import os; os.kill(os.getpid(), 9)", 137, "it was ended by SIGKILL"),
    ],
)
def test_the_status_of_the_server_is_its_own(tmp_path: Path, code: str, status: int, reason: str) -> None:
    """A keeper ends with its server, with the status that a shell would have."""
    with keeper(tmp_path, code=code) as kept:
        ended = kept.exit()
        assert (kept.status(), ended.status, ended.reason, ended.told) == (status, status, reason, None)


def test_a_command_that_is_none(tmp_path: Path) -> None:
    """A server that cannot be run is an error with its name."""
    with keeper(tmp_path, command=["/nowhere/server"]) as kept:
        assert kept.exit().reason == "/nowhere/server cannot be run: No such file or directory"
        assert kept.status() == 3


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR2])
def test_signals_go_to_the_server(tmp_path: Path, number: signal.Signals) -> None:
    """What the keeper is told, its server is told."""
    code = f"""
import os, signal, time
signal.signal({int(number)}, lambda *_: os._exit(40))
open(os.environ["ASGIPIPE_READY_FILE"], "w").close()
time.sleep(600)
"""
    with keeper(tmp_path, code=code) as kept:
        kept.until_ready()
        kept.process.send_signal(number)
        assert kept.status() == 40


def test_one_that_has_not_started_up_is_stopped_instead_of_retired(tmp_path: Path) -> None:
    """SIGUSR2 before the server serves is a SIGTERM for it: it knows of no other signal yet."""
    code = """
import os, signal, time
signal.signal(15, lambda *_: os._exit(40))
print("up", flush=True)
time.sleep(600)
"""
    with keeper(tmp_path, code=code) as kept:
        until(kept.log, "the server")
        kept.process.send_signal(signal.SIGUSR2)
        assert kept.status() == 40


def test_the_last_lines_are_kept(tmp_path: Path) -> None:
    """All that a server wrote before it died is in the log, also much of it, and a line that has no end."""
    code = """
import os, sys
sys.stdout.write("".join(f"line {number}\\n" for number in range(20000)) + "the end")
sys.stdout.flush()
os.write(2, b" of it")
os.kill(os.getpid(), 9)
"""
    with keeper(tmp_path, code=code) as kept:
        assert kept.status() == 137
        lines = kept.log().split("\n")
        assert lines[:20000] == [f"line {number}" for number in range(20000)]
        assert lines[20000:] == ["the end of it", ""]


def test_without_files_the_output_stays_where_it_goes(tmp_path: Path) -> None:
    """A platform that keeps logs itself gets the lines of the server as its own."""
    with keeper(tmp_path, "--log-files", 0, code="print('hello')") as kept:
        assert kept.status() == 0
        assert kept.process.stdout is not None
        assert kept.process.stdout.read() == b"hello\n"
        assert not kept.state.log.exists()


def test_what_outlives_the_server_is_ended(tmp_path: Path) -> None:
    """Processes that a server leaves in its session are ended soon after it."""
    code = """
import os, signal, time
if not os.fork():
    signal.signal(15, signal.SIG_IGN)
    time.sleep(600)
print("left", flush=True)
"""
    with keeper(tmp_path, code=code) as kept:
        assert kept.status() == 0
        assert session(kept.process.pid) == []


def test_one_that_is_killed_takes_its_server_along(tmp_path: Path) -> None:
    """A server whose keeper was killed is told to stop by the kernel."""
    with keeper(tmp_path) as kept:
        port = kept.until_ready().port
        pid = answer(port)
        kept.process.kill()
        until(lambda: process_identity(pid) is None, "the end of the server")
        assert kept.state.exit() is None


@pytest.mark.parametrize(("server", "workers"), SERVERS)
def test_a_real_server_ends_with_its_keeper(tmp_path: Path, server: str, workers: int) -> None:
    """All processes of `asgipipe serve` end when the keeper is killed, whatever kind of server it is."""
    (tmp_path / "app.py").write_text("def app() -> int:\n    return 1\n")
    options = ["--server", server, "--workers", str(workers), "--set", f"store_url={tmp_path / 'store.db'}"]
    command = [sys.executable, "-m", "asgipipe", "serve", str(tmp_path / "app.py"), *options]
    with keeper(tmp_path / "state", command=command) as kept:
        kept.until_ready()
        assert len(session(kept.process.pid)) >= 1 + workers
        kept.process.kill()
        until(lambda: not session(kept.process.pid), "the end of every process")


# Addresses


def test_the_next_one_gets_the_listener(tmp_path: Path) -> None:
    """Two keepers serve at one address, and when the first has ended the second serves on."""
    with keeper(tmp_path / "1", "--offer", tmp_path / "offer") as first:
        port = first.until_ready().port
        with keeper(tmp_path / "2", "--take-over", tmp_path / "offer", "--port", 1) as second:
            assert second.until_ready().port == port
            first.process.terminate()
            first.status()
            assert not (tmp_path / "offer").exists()
            assert {answer(port) for _ in range(10)} <= set(session(second.process.pid))


def test_a_predecessor_that_has_ended_is_done_without(tmp_path: Path) -> None:
    """A keeper that finds nobody to give it a listener binds its own."""
    with keeper(tmp_path / "1", "--take-over", tmp_path / "offer") as kept:
        kept.until_ready()
        assert "a new one is bound" in kept.log()


def test_a_port_that_is_taken(tmp_path: Path) -> None:
    """Without other ports it is an error that says what to do; with them, the first free one of those is taken."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with keeper(tmp_path / "1", "--port", port) as kept:
            assert kept.status() == 3
            expected = f"another program listens on 127.0.0.1:{port}: stop it, or choose another port"
            assert kept.exit().reason == expected
            assert kept.process.stdout is not None
            assert expected in kept.process.stdout.read().decode()
        with keeper(tmp_path / "2", "--port", port, "--ports", f"{port}-{port}") as kept:
            assert kept.exit().reason == f"no port of 127.0.0.1 from {port} to {port} is free"
        with keeper(tmp_path / "3", "--port", port, "--ports", f"{port}-65535") as kept:
            assert kept.address().port > port


def test_two_that_start_at_once_have_two_ports(tmp_path: Path) -> None:
    """A port that a keeper has bound is taken for others, though nobody listens on it yet."""
    code = "import time; time.sleep(600)"
    with keeper(tmp_path / "1", code=code) as first:
        port = first.address().port
        first.process.terminate()
        first.status()
    with keeper(tmp_path / "2", "--port", port, code=code) as second:
        assert second.address().port == port
        with keeper(tmp_path / "3", "--port", port, "--ports", f"{port}-65535", code=code) as third:
            assert third.address().port > port


@pytest.mark.parametrize(
    ("host", "message"),
    [("no such host", "the host 'no such host' is unknown"), ("192.0.2.1", "this machine has no address 192.0.2.1")],
)
def test_an_address_that_is_none(tmp_path: Path, host: str, message: str) -> None:
    """A host that is not this machine's is an error with its name."""
    with keeper(tmp_path, "--host", host) as kept:
        assert message in kept.exit().reason


def test_a_socket_that_cannot_be_offered(tmp_path: Path) -> None:
    """A path that is too long for a Unix socket is an error, not a keeper without a way to its successor."""
    with keeper(tmp_path, "--offer", tmp_path / ("x" * 120)) as kept:
        assert "cannot listen on" in kept.exit().reason


def test_a_bug_is_told(tmp_path: Path) -> None:
    """Whatever goes wrong in a keeper stands in its exit record."""
    (tmp_path / "state").mkdir()
    (tmp_path / "state" / "address").mkdir()
    with keeper(tmp_path / "state") as kept:
        assert "the keeper failed: IsADirectoryError" in kept.exit().reason
        assert kept.status() == 3
