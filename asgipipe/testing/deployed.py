"""What the conformance suite of deployers deploys: a copy of this file, in a project of its own.

The environment says how it behaves: LABEL is in every answer, START is `fails`, or the seconds that a start takes.
"""

import os
import sys
import time
from pathlib import Path

from asgipipe import pipeline

BEGUN = "the long request has begun"
STARTING = "the start has begun"
FAILURE = "the model is missing"


def start() -> None:
    print(STARTING, flush=True)  # noqa: T201  # what a pipeline prints is in the log
    behaviour = os.environ.get("START", "0")
    if behaviour == "fails":
        raise RuntimeError(FAILURE)
    time.sleep(float(behaviour))


@pipeline(settings={"startup_hook": start})
def deployed(seconds: float = 0.0, lines: int = 0, last_words: str = "") -> str:
    """Take some time, write some lines, and answer which revision this is; after last words there is no answer."""
    if seconds:
        print(BEGUN, flush=True)  # noqa: T201
        time.sleep(seconds)
    for number in range(lines):
        print(f"line {number}")  # noqa: T201
    if last_words:
        print(last_words, end="", file=sys.stderr, flush=True)  # noqa: T201
        os._exit(7)
    return os.environ["LABEL"]


def write_project(folder: Path) -> str:
    """Make `folder` a project; return the target in it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "service.py").write_text(Path(__file__).read_text(encoding="utf-8"), encoding="utf-8")
    return "service.py:deployed"
