"""`python -m tests.chaos`: servers are killed, stopped and frozen, and PostgreSQL with them, while clients submit jobs.

Says what it does, and at the end what has become of the jobs; exit status 0 when nothing is wrong with any. The seed
decides what is done, to which server, and when; how far the jobs are at that moment is up to the machine.
"""

# ruff: noqa: T201 (a command prints)

import argparse
import contextlib
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path

import httpx

from tests.chaos.fleet import GRACE, Member
from tests.chaos.load import Load
from tests.chaos.plan import plan
from tests.chaos.scene import Scene
from tests.chaos.verdict import Verdict
from tests.postgresql import running
from tests.reliability.killing import DJANGO, STARLETTE

HOSTS = {"starlette": STARLETTE, "django": DJANGO}
PATIENCE = 90.0
"""Seconds in which everything has ended once nothing is done to the servers any more."""
_SHOWN = 20
_SETTINGS = {
    "ASGIPIPE_DRAIN_TIMEOUT": str(GRACE),
    "ASGIPIPE_JOB_MAX_ATTEMPTS": "1000",
    "ASGIPIPE_JOB_RETRIES": "1",
    "ASGIPIPE_JOB_RETRY_DELAY": "0.1",
}


def main(arguments: Sequence[str] | None = None) -> int:
    options = _options(arguments)
    print(
        f"seed {options.seed}: {options.servers} servers ({options.runner}) on {options.store}, {options.seconds:g} s"
    )
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="asgipipe-chaos-")))
        database = stack.enter_context(running()) if options.store == "postgresql" else None
        url = str(folder / "store.db") if database is None else stack.enter_context(database.database())
        environment = {**_SETTINGS, "ASGIPIPE_STORE_URL": url}
        scene = Scene([Member(folder, HOSTS[options.runner], environment) for _ in range(options.servers)], database)
        for member in scene.members:
            member.start()
            stack.callback(member.close)
        load = Load([member.url for member in scene.members], options.seed)
        _until_served(scene)
        load.start()
        _play(scene, load, options)
        load.end(PATIENCE)
        verdict = stack.enter_context(closing(Verdict(scene.members[0].url, folder)))
        faults = [*scene.faults, *load.faults, *_judged(verdict, load)]
        if faults and options.keep is not None:
            shutil.copytree(folder, options.keep)
    return _report(faults, load, scene, verdict)


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long things are done (60)")
    parser.add_argument("--seed", type=int, default=random.randrange(10**6), help="what decides what is done (random)")
    parser.add_argument("--store", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--runner", choices=HOSTS, default="starlette")
    parser.add_argument("--servers", type=int, default=3, help="processes that share the store (3)")
    parser.add_argument("--keep", type=Path, help="a folder to be made, for stores and logs of a run that went wrong")
    return parser.parse_args(arguments)


def _play(scene: Scene, load: Load, options: argparse.Namespace) -> None:
    """Do what the plan says, and let everything run again."""
    begun, told = time.monotonic(), 0.0
    actions = plan(options.seed, options.seconds, options.servers, database=scene.database is not None)
    for action in actions:
        while (now := time.monotonic() - begun) < action.at:
            scene.thaw(now)
            scene.revive()
            if now - told >= 1.0:
                told = now
                _progress(now, scene, load)
            time.sleep(0.02)
        scene.do(action, now)
    scene.settle()
    _progress(time.monotonic() - begun, scene, load)


def _progress(now: float, scene: Scene, load: Load) -> None:
    done = ", ".join(f"{deed} {times}" for deed, times in sorted(scene.done.items()))
    print(f"{now:5.0f} s  {len(load.accepted)} jobs accepted; {done or 'nothing done'}", flush=True)


def _until_served(scene: Scene) -> None:
    deadline = time.monotonic() + PATIENCE
    for member in scene.members:
        while time.monotonic() < deadline:
            with contextlib.suppress(httpx.TransportError):
                if httpx.get(f"{member.url}/ready").is_success:
                    break
            scene.revive()
            time.sleep(0.05)


def _judged(verdict: Verdict, load: Load) -> list[str]:
    stuck = verdict.wait(PATIENCE)
    return [*([stuck] if stuck else []), *verdict.faults(load)]


def _report(faults: Sequence[str], load: Load, scene: Scene, verdict: Verdict) -> int:
    for fault in faults[:_SHOWN]:
        print(f"WRONG: {fault}")
    states = ", ".join(f"{times} {state}" for state, times in sorted(verdict.states.items()))
    answers = ", ".join(f"{times} x {status}" for status, times in sorted(load.statuses.items()))
    print(f"{len(load.accepted)} jobs accepted: {states}; answers: {answers}; {scene.done.total()} deeds")
    print(f"{len(faults)} things are wrong" if faults else "0 lost, 0 stuck, 0 ended twice, no effect without a reason")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
