"""The host applications, each with tests of its own."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests import documents
from tests.conftest import PATIENCE, Serve
from tests.examples.conftest import EXAMPLES

HOSTS = sorted(path.name for path in EXAMPLES.glob("host_*") if any(path.iterdir()))


@pytest.fixture(params=HOSTS)
def host(request: pytest.FixtureRequest, folder: Path) -> Path:
    """Return the folder of a host whose framework is installed, with nobody's files but its own in it."""
    name: str = request.param
    pytest.importorskip(name.removeprefix("host_"))
    return folder / "examples" / name


def test_there_is_one_for_each_framework() -> None:
    """Each framework that deployments can be embedded in has an application as an example."""
    assert {"host_django", "host_fastapi", "host_quart", "host_starlette"} == set(HOSTS)


@pytest.mark.timeout(6 * PATIENCE)
def test_its_own_tests_pass(host: Path) -> None:
    """`pytest`, called in the folder of the host, finds its tests, and they pass."""
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "--quiet"],
        cwd=host,
        capture_output=True,
        text=True,
        timeout=5 * PATIENCE,  # these are a dozen tests or more
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert " passed" in done.stdout


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_readme_holds(host: Path, serve: Serve) -> None:
    """The one command of the README serves the host, and the requests below it are answered as shown."""
    documents.play(documents.blocks(host / "README.md"), host, serve)
