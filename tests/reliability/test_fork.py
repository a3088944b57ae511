import subprocess
import sys
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.reliability.conftest import SERVED, Notes, Serve
from tests.servers.command import PATIENCE, needs_gunicorn

HOOKS = [f"{hook}{end}" for hook in ("on_init", "startup_hook", "shutdown_hook", "on_cleanup") for end in ("", "-done")]

PROGRAM = """
import gc, http.client, json, os, signal, socket, sys, threading

def descriptors():
    with os.scandir("/proc/self/fd") as own:
        found = [entry.name for entry in own]
    return {name for name in found if os.path.exists(f"/proc/self/fd/{name}")}

def held_locks():
    kinds = type(threading.Lock()), type(threading.RLock())
    held = [each for each in gc.get_objects() if isinstance(each, kinds) and "unlocked" not in repr(each)]
    return [each for each in held if each is not getattr(threading.main_thread(), "_tstate_lock", None)]

before = descriptors()
sys.path.insert(0, sys.argv[1])
from hooks import mirrored
from asgipipe import asgi
app = asgi(mirrored)
gc.collect()
assert threading.enumerate() == [threading.main_thread()], threading.enumerate()
assert descriptors() == before, descriptors()
assert not held_locks(), held_locks()

listener = socket.socket()
listener.bind(("127.0.0.1", 0))
listener.listen()
address = listener.getsockname()
children = set()
for _ in range(2):
    pid = os.fork()
    if pid == 0:
        import uvicorn
        uvicorn.Server(uvicorn.Config(app, lifespan="on", log_level="warning")).run([listener])
        os._exit(0)
    children.add(pid)
listener.close()

def answering_process():
    connection = http.client.HTTPConnection(*address, timeout=20)
    connection.request("POST", "/invoke")
    answer = json.loads(connection.getresponse().read())
    connection.close()
    return answer["outputs"]["output"]

seen = set()
while seen != children:
    seen.add(answering_process())
for pid in children:
    os.kill(pid, signal.SIGTERM)
    os.waitpid(pid, 0)
print("served by", len(seen))
"""


@pytest.mark.skipif(not Path("/proc/self/fd").exists(), reason="descriptors are read from /proc")
def test_an_application_made_before_a_fork_serves_after_it(tmp_path: Path, notes: Notes) -> None:
    """Row 26: importing and building start no thread, hold no lock, open nothing; each child serves."""
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "error::ResourceWarning", "-c", PROGRAM, SERVED],
        cwd=tmp_path,
        env={"PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "served by 2\n"
    assert list(notes.of_each_process().values()) == [HOOKS, HOOKS]


@needs_gunicorn
def test_gunicorn_makes_the_application_before_the_fork(serve: Serve, notes: Notes) -> None:
    """Row 26: with gunicorn_kwargs.preload_app it is imported once, and each worker starts, serves and stops it."""
    preload = '--gunicorn-kwargs={"preload_app": true, "on_starting": "tests.reliability.served.preload.count"}'
    with serve("hooks.py:mirrored", "--server", "gunicorn", "--workers", 2, preload) as running:
        seen = set()
        while len(seen) < 2:
            seen.add(raw.ask(running.port, raw.invoke()).json()["outputs"]["output"])
        assert running.stop() == 0, running.output
    assert list(notes.of_each_process().values()) == [HOOKS, HOOKS]
    assert running.output.count("threads before the fork: 1") == 1
