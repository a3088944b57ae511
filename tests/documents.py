"""Playing the code blocks of a Markdown file: files are written, servers started, commands run, answers compared.

A block of code that begins with a comment `# name.ext` or `// name.ext` is that file. A `console` block holds commands
behind `$ ` and, below each, what it prints; an id that was printed may stand in the commands that follow. Everything
else is prose.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.conftest import PATIENCE, Serve, Server

ADDRESS = re.compile(r"(http://)?(localhost|127\.0\.0\.1):8000")

# The programs that serve, and the options that make each listen on the port of the `serve` fixture's choice.
SERVERS = {
    "asgipipe serve": "",
    "manage.py runserver": " --noreload 127.0.0.1:$UVICORN_PORT",
    "gunicorn ": " --bind 127.0.0.1:$UVICORN_PORT --no-control-socket",
    "hypercorn ": " --bind 127.0.0.1:$UVICORN_PORT",
    "uvicorn ": "",
}
WORKER = "asgipipe worker"
"""Runs beside the server until the document ends."""

FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)
FILE_NAME = re.compile(r"(#|//) (?P<name>[\w./]+\.\w+)\n")
UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")

# What differs from run to run in an output that is text: ids, times, durations (whose widths move columns), fractions.
MASKS = (
    (UUID, "<id>"),
    (re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d+Z"), "<time>"),
    (re.compile(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d( [A-Z]+)?"), "<time>"),
    (re.compile(r"\b\d\d:\d\d:\d\d\b"), "<time>"),
    (re.compile(r"\b\d+\.\d+ m?s\b"), "<duration>"),
    (re.compile(r"\d+\.\d+(e-?\d+)?"), "0.0"),
    (re.compile(r"(?<=\S) {2,}"), "  "),
    (re.compile(r" +$", re.MULTILINE), ""),
)

# Members of answers that differ from run to run; what is compared is their type.
CHANGING = {
    "average_execution_time",
    "completed_at",
    "created_at",
    "deployment_id",
    "execution_time",
    "id",
    "job_id",
    "last_execution_time",
    "run_id",
    "run_name",
    "snapshot_id",
    "started_at",
    "status_url",
    "stream_url",
    "timestamp",
    "uptime",
}


@dataclass(frozen=True)
class Block:
    section: str
    language: str
    text: str


@dataclass(frozen=True)
class Command:
    line: str
    output: str


def blocks(document: Path) -> list[Block]:
    """Return the fenced blocks of a Markdown file, each with the `##` heading above it."""
    text = document.read_text(encoding="utf-8")
    headings = [(match.start(), match[1]) for match in re.finditer(r"^## (.+)$", text, re.MULTILINE)]

    def section(position: int) -> str:
        return next((title for start, title in reversed(headings) if start < position), "")

    return [Block(section(match.start()), match["language"], match["text"]) for match in FENCE.finditer(text)]


def part(document: Sequence[Block], section: str) -> list[Block]:
    """Return the files of the first screen and the blocks of a section; for the section "" all of the first screen."""
    files = [block for block in document if not block.section and (not section or block.language != "console")]
    return [*files, *(block for block in document if section and block.section == section)]


def commands(block: Block) -> Iterator[Command]:
    """Yield the commands of a console block; one that ends in a backslash goes on in the next line."""
    for entry in re.split(r"^\$ ", block.text, flags=re.MULTILINE)[1:]:
        line, output = re.fullmatch(r"((?:.*\\\n)*.*)\n?((?:.*\n?)*)", entry).groups()  # type: ignore[union-attr]
        yield Command(line, output.strip())


def play(document: Sequence[Block], folder: Path, serve: Serve, places: Mapping[str, str] | None = None) -> None:
    """Carry out the blocks in order, in `folder`, and compare every output with what the document shows.

    `places` are texts of the document that stand for something else here.
    """
    server: Server | None = None
    actual = dict(places or {})
    for block in document:
        if block.language == "console":
            for command in commands(block):
                line = put(command.line, actual)
                port = next((option for program, option in SERVERS.items() if program in line), None)
                if port is not None:
                    server = restart(f"{line}{port}", folder, serve, server)
                elif WORKER in line:
                    serve(program=("bash", "-c", line), cwd=folder, env=environment(), ready=False)
                else:
                    output = run(line, folder, server)
                    same(output, command.output, command.line)
                    actual |= zip(UUID.findall(command.output), UUID.findall(output), strict=False)
        elif match := FILE_NAME.match(block.text):
            file = folder / match["name"]
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(put(block.text, actual), encoding="utf-8")


def put(text: str, actual: Mapping[str, str]) -> str:
    """Return a text of the document with what stands here for the names it uses."""
    for name, value in actual.items():
        text = text.replace(name, value)
    return text


def restart(line: str, folder: Path, serve: Serve, running: Server | None) -> Server:
    if running is not None:
        running.stop()
    return serve(program=("bash", "-c", line), cwd=folder, env=environment())


def run(line: str, folder: Path, server: Server | None) -> str:
    """Run a command line in bash, with the address the document uses replaced by the server's."""
    if server is not None:
        line = ADDRESS.sub(server.url, line)
    done = subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        timeout=4 * PATIENCE,  # the conformance suite is a command of one page
        check=False,
    )
    assert done.returncode == 0, f"{line} ended with {done.returncode}:\n{done.stdout}{done.stderr}"
    return done.stdout.strip()


def environment() -> dict[str, str]:
    """Put `python` and `asgipipe` of the running interpreter first on the path."""
    return {"PATH": os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))}


def same(actual: str, expected: str, what: str) -> None:
    """Compare an output with the documented one: JSON by structure, other text without what differs every time."""
    try:
        documented = json.loads(expected)
    except ValueError:
        assert masked(actual) == masked(expected), what
    else:
        assert normal(json.loads(actual)) == normal(documented), what


def masked(text: str) -> str:
    for pattern, mask in MASKS:
        text = pattern.sub(mask, text)
    return text


def normal(value: object, name: str = "") -> object:
    """Replace what changes from run to run by its type, and let numbers of a model differ a little."""
    if isinstance(value, dict):
        return {key: normal(member, key) for key, member in value.items()}
    if isinstance(value, list):
        return [normal(member) for member in value]
    if name in CHANGING:
        return type(value)
    return pytest.approx(value, rel=0.05, abs=0.01) if isinstance(value, float) else value
