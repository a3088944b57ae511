"""Deaths of the process at named points of a job's life; the product knows nothing of them.

A job's run name lists the points at which its process is killed, once at each: `finish.before+finish.after`. The points
of a pipeline are those that it calls `arrive` with. Those of the store are an operation and a phase:

| operation | what it writes |
|---|---|
| insert | a new job |
| claim | that a worker has it |
| events, kept | events; with them the result of a step |
| retry, handover | that it is pending again: it failed, or its process stops |
| takeover | that its worker was lost |
| cancel | that it is to end |
| finish | how it ended |

`before` is in the transaction, `during` as soon as its commit has begun, `after` when it is durable and nobody knows.
"""

import os
import signal
import threading
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from asgipipe import get_step_context
from asgipipe.jobs.records import Job
from asgipipe.jobs.transitions import Transitions
from asgipipe.stores.lane import Connection

_names: dict[str, str] = {}
"""The run name of each job that this process has met."""
_transaction = threading.local()


def arrive(point: str) -> None:
    """Die if the run that goes on here is to die at this point."""
    die(get_step_context().run_name, point)


def die(run_name: str, point: str) -> None:
    if _is_due(run_name, point):
        os.kill(os.getpid(), signal.SIGKILL)


def _is_due(run_name: str, point: str) -> bool:
    if point not in run_name.split("+"):
        return False
    try:
        os.close(os.open(Path(f"died-{run_name}-{point}"), os.O_CREAT | os.O_EXCL))
    except FileExistsError:
        return False
    return True


def install(connections: Iterable[type[Connection]]) -> None:
    """Make this process die where its jobs say."""
    for method in ("insert", "claim", "claim_one", "append", "finish", "put_back", "take_over", "cancel"):
        setattr(Transitions, method, _dying(getattr(Transitions, method)))
    for connection in connections:
        connection.commit = _dying_commit(connection.commit)  # type: ignore[method-assign]


def _dying(method: Callable[..., Any]) -> Callable[..., Any]:
    def dying(self: Transitions, transaction: Connection, *args: Any, **kwargs: Any) -> Any:
        def met(outcome: object) -> object:
            operation = _operation(method.__name__, args, kwargs)
            for run_name in _concerned(outcome, args):
                die(run_name, f"{operation}.before")
                _done().append((run_name, operation))
            return outcome

        outcome = method(self, transaction, *args, **kwargs)
        # One that has sent its statements, and gives its outcome when it is asked.
        return (lambda: met(outcome())) if callable(outcome) else met(outcome)

    return dying


def _dying_commit(commit: Callable[[Connection], None]) -> Callable[[Connection], None]:
    def dying(self: Connection) -> None:
        done, _transaction.done = _done(), []
        for run_name, operation in done:
            # The other thread comes to run when this one waits for the disk, or for the server's answer.
            threading.Thread(target=die, args=(run_name, f"{operation}.during"), daemon=True).start()
        commit(self)
        for run_name, operation in done:
            die(run_name, f"{operation}.after")

    return dying


def _done() -> list[tuple[str, str]]:
    if not hasattr(_transaction, "done"):
        _transaction.done = []
    found: list[tuple[str, str]] = _transaction.done
    return found


def _operation(method: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    if method == "append":
        return "kept" if args[2].results else "events"
    if method == "put_back":
        return "retry" if kwargs["failed"] else "handover"
    return {"claim_one": "claim", "take_over": "takeover"}.get(method, method)


def _concerned(outcome: object, args: tuple[Any, ...]) -> list[str]:
    """Return the run names of the jobs that an operation is about."""
    jobs = [each for each in (outcome if isinstance(outcome, list) else [outcome]) if isinstance(each, Job)]
    _names.update((job.id, job.run_name) for job in jobs)
    return [job.run_name for job in jobs] or [_names[each] for each in args[:1] if isinstance(each, str)]
