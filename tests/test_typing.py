import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.mark.timeout(300)  # without a cache, mypy reads pydantic first
@pytest.mark.skipif(find_spec("mypy") is None, reason="mypy is not installed")
def test_the_public_names_have_their_types() -> None:
    """A type checker sees signatures, results and futures of steps and pipelines, and what settings take; and it finds
    mistakes in their use.
    """
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *sorted((ROOT / "tests/typing").glob("*.py"))],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
