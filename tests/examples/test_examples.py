"""What every example that is served by itself has; test_hosts.py has the others."""

import shutil
from pathlib import Path

import pytest

from tests import documents
from tests.conftest import Serve
from tests.examples.conftest import EXAMPLES

NEEDS = {"scoring": "sklearn"}
NAMES = sorted(path.name for path in EXAMPLES.iterdir() if (path / "settings.yaml").is_file())


def test_there_are_examples() -> None:
    """The three examples that the README promises are among those found here."""
    assert {"scoring", "text_generator", "weather_agent"} <= set(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_example_is_complete(name: str) -> None:
    """An example is a folder with settings, a module of its name, an explanation and a test."""
    for file in (f"{name}.py", "README.md"):
        assert (EXAMPLES / name / file).is_file()
    assert Path(__file__).with_name(f"test_{name}.py").is_file()


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_readme_holds(name: str, folder: Path, serve: Serve) -> None:
    """The one command of an example's README serves it, and the requests below it are answered as shown."""
    if name in NEEDS:
        pytest.importorskip(NEEDS[name])
    blocks = documents.blocks(EXAMPLES / name / "README.md")
    assert sum("asgipipe serve" in block.text for block in blocks) == 1
    documents.play(blocks, folder, serve)
