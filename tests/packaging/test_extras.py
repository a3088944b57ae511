import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import PATIENCE
from tests.packaging.floors import FRAMEWORKS

# What comes with each framework; Quart is built on Flask's parts, and brings its development server.
BRINGS = {"fastapi": {"fastapi"}, "django": {"django"}, "quart": {"quart", "flask", "werkzeug", "hypercorn"}}
OTHERS = {"fastapi", "django", "flask", "gunicorn", "hypercorn", "quart", "uvicorn", "werkzeug"}


@pytest.mark.parametrize("name", FRAMEWORKS)
def test_an_adapter_loads_its_own_framework_only(name: str) -> None:
    """With an adapter come Starlette, which the core uses, and its own framework: no other one, and no server."""
    pytest.importorskip(name)
    program = f"import asgipipe_{name}, json, sys; print(json.dumps([*sys.modules]))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    loaded = {module.partition(".")[0] for module in json.loads(done.stdout)}
    assert name in loaded
    assert loaded & OTHERS <= BRINGS[name]


@pytest.mark.parametrize(
    ("option", "name"),
    [*(("--runner", name) for name in FRAMEWORKS), ("--server", "gunicorn")],
    ids=[*FRAMEWORKS, "gunicorn"],
)
def test_a_missing_extra_is_named(option: str, name: str, tmp_path: Path) -> None:
    """Whoever asks for what is not installed is told the command that installs it, without a traceback."""
    (tmp_path / "agent.py").write_text("def agent() -> str:\n    return ''\n", encoding="utf-8")
    program = f"import sys; sys.modules[{name!r}] = None; from asgipipe.cli.main import main; main()"
    done = subprocess.run(
        [sys.executable, "-c", program, "serve", "agent.py", "--port", "0", option, name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )
    assert done.returncode not in {0, -9}
    assert f'pip install "asgipipe[{name}]"' in done.stderr
    assert "Traceback" not in done.stderr
