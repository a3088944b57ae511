"""The README, carried out."""

import shutil
import subprocess
from pathlib import Path

import pytest

from tests import documents
from tests.conftest import Serve

ROOT = Path(__file__).parents[1]
BLOCKS = documents.blocks(ROOT / "README.md")
FIRST_SCREEN = [block for block in BLOCKS if not block.section]
CLONE = [block for block in BLOCKS if block.section == "From a fresh clone"]
SECTIONS = sorted({block.section for block in BLOCKS} - {"", "From a fresh clone"})

needs_curl = pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")


@needs_curl
def test_first_screen(tmp_path: Path, serve: Serve) -> None:
    """The program of the first screen, served by the command below it, gives the answer below that."""
    languages = [block.language for block in FIRST_SCREEN]
    assert languages.count("python") == 1
    assert "console" in languages
    documents.play(FIRST_SCREEN, tmp_path, serve)


@needs_curl
@pytest.mark.parametrize("section", SECTIONS)
def test_section(section: str, tmp_path: Path, serve: Serve) -> None:
    """The blocks of each section do what they show, given the program of the first screen."""
    documents.play(documents.part(BLOCKS, section), tmp_path, serve)


def test_scripts_exist() -> None:
    """Every script that the section on fresh clones names is there."""
    named = {command.line.split()[0] for block in CLONE for command in documents.commands(block)}
    scripts = {name for name in named if name.startswith("scripts/")}
    assert {"scripts/serve", "scripts/test"} <= scripts
    assert all((ROOT / name).is_file() for name in scripts)


@pytest.mark.skipif(
    subprocess.run([ROOT / "scripts" / "install", "--check"], check=False, capture_output=True).returncode != 0,
    reason="scripts/install has not made .venv, and a test does not install",
)
@needs_curl
def test_serve_script(tmp_path: Path, serve: Serve) -> None:
    """`scripts/serve`, called from any folder, serves the weather agent, which gives the answer the README shows."""
    server = serve(program=(ROOT / "scripts" / "serve",), cwd=tmp_path)
    (request,) = (command for block in CLONE for command in documents.commands(block) if "curl" in command.line)
    documents.same(documents.run(request.line, tmp_path, server), request.output, request.line)
