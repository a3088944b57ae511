import signal
from pathlib import Path

import pytest

from tests.reliability import raw
from tests.servers.command import needs_gunicorn, serving

HOG = """
import os, re, time

def hog(seconds: float = 0) -> int:
    "Hold the interpreter lock, as a step in C does."
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        sum(range(30_000_000))
    return os.getpid()
"""


@pytest.mark.parametrize(
    ("server", "limit"),
    [
        ("uvicorn", '--uvicorn-kwargs={"timeout_worker_healthcheck": 20}'),
        pytest.param("gunicorn", '--gunicorn-kwargs={"timeout": 20}', marks=needs_gunicorn),
    ],
)
def test_a_step_that_holds_the_interpreter_survives(tmp_path: Path, server: str, limit: str) -> None:
    """Row 27: within the limit a run that lets no other thread run is answered, by a worker that is not replaced."""
    (tmp_path / "hog.py").write_text(HOG)
    with serving("hog.py", "--server", server, "--workers", 2, limit, folder=tmp_path) as running:
        answer = raw.ask(running.port, raw.invoke({"seconds": 3}))
        assert answer.status == 200
        running.signal(signal.SIGTERM)
        assert running.status() == 0, running.output
        assert "is replaced" not in running.output


@pytest.mark.parametrize("server", ["uvicorn", pytest.param("gunicorn", marks=needs_gunicorn)])
def test_a_start_may_take_as_long_as_its_hooks(tmp_path: Path, server: str) -> None:
    """Row 27: a start hook that takes longer than the limit of a silent worker is waited for."""
    (tmp_path / "app.py").write_text("import time\ndef warm(): time.sleep(4)\ndef app() -> int: return 1\n")
    limits = {
        "uvicorn": '--uvicorn-kwargs={"timeout_worker_healthcheck": 3}',
        "gunicorn": '--gunicorn-kwargs={"timeout": 3}',
    }
    arguments = ("app.py:app", "--server", server, "--workers", 2, limits[server], "--startup-hook", "app:warm")
    with serving(*arguments, folder=tmp_path) as running:
        assert raw.ask(running.port, raw.invoke()).status == 200
        assert running.stop() == 0, running.output
