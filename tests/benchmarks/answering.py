"""`python -m tests.benchmarks.answering NAME < bodies`: what a contender answers, asked in a process of its own.

The settings of Django are one object for the whole process, so what is built with it is asked apart.
"""

import asyncio
import json
import subprocess
import sys
from pathlib import Path

from tests.benchmarks.asgi import ASGIApp, call, running
from tests.benchmarks.contenders import CONTENDERS, Contender

_ROOT = Path(__file__).resolve().parents[2]

Answer = tuple[int, bytes]


def answers(contender: Contender, *bodies: bytes) -> list[Answer]:
    """Return status and body of the contender's answer to each body, in order."""
    if contender.framework == "django":
        return _apart(contender, bodies)
    return post(contender.load(), contender.task.path, *bodies)


def post(app: ASGIApp, path: str, *bodies: bytes) -> list[Answer]:
    """Start `app`, POST each body to `path`, and stop it."""

    async def send_all() -> list[Answer]:
        async with running(app):
            return [await call(app, path, body) for body in bodies]

    return asyncio.run(send_all())


def _apart(contender: Contender, bodies: tuple[bytes, ...]) -> list[Answer]:
    command = [sys.executable, "-m", __name__, contender.name]
    given = json.dumps([body.decode() for body in bodies])
    done = subprocess.run(command, cwd=_ROOT, input=given, capture_output=True, text=True, timeout=60, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{contender.name} ended with status {done.returncode}: {done.stderr[-2000:]}")
    return [(status, body.encode()) for status, body in json.loads(done.stdout)]


def main() -> None:
    """Answer the bodies, a JSON list of texts, with a JSON list of status and body."""
    contender = CONTENDERS[sys.argv[1]]
    bodies = [body.encode() for body in json.load(sys.stdin)]
    found = post(contender.load(), contender.task.path, *bodies)
    json.dump([(status, body.decode()) for status, body in found], sys.stdout)


if __name__ == "__main__":
    main()
