"""What a container says about itself: how it is, and its log."""

import time
from collections.abc import Iterable, Iterator

from docker.models.containers import Container

from asgipipe.deployers.records import Condition, Status
from asgipipe_docker.containers import KEEPER, READY

_PATIENCE, _PAUSE = 5.0, 0.02
"""Seconds that looking for a file may take, and between two looks at whether it has been looked for."""
_SHOWN = 20
"""Last lines of a log that tell about an error."""
_LONGEST_LINE = 64 * 1024
_SILENCE = 365 * 86_400
"""Seconds that a log may be silent while it is followed."""


def condition_of(container: Container, start_timeout: float, running_for: float) -> Condition:
    """Return how a container of a server is; `running_for` is the seconds since it was started."""
    match container.status:
        case "created":
            return Condition(Status.PENDING, "it has not been started yet")
        case "running":
            return _running(container, start_timeout, running_for)
        case "paused":
            return Condition(Status.ERROR, f"it is paused: docker unpause {container.name}", last_lines(container))
        case "restarting":
            return _failed(container, " and is started again")
        case _:
            return _failed(container, "")


def has_started_up(container: Container) -> bool:
    """Say whether the server in it has said that all its workers serve."""
    return _holds(container, "-e", READY)


def has_listener_of(container: Container, socket: str) -> bool:
    """Say whether its keeper was started after the listener was offered at `socket`, and so has that one."""
    return _holds(container, KEEPER, "-nt", socket)


def _holds(container: Container, *condition: str) -> bool:
    """Run the command `test` in it."""
    assert container.client is not None
    api, deadline = container.client.api, time.monotonic() + _PATIENCE
    # Detached, and asked about: of a command that is attached and fails to start, the SDK closes no connection.
    command = api.exec_create(container.id, ["test", *condition])["Id"]
    api.exec_start(command, detach=True)
    while (found := api.exec_inspect(command))["Running"] and time.monotonic() < deadline:
        time.sleep(_PAUSE)
    return bool(found["ExitCode"] == 0)


def last_lines(container: Container) -> list[str]:
    return list(lines([container.logs(tail=_SHOWN)]))


def log_of(container: Container, *, tail: int | None, follow: bool) -> Iterator[str]:
    """Yield the lines of a log, the last `tail` or all; with `follow` those to come, until the container ends."""
    assert container.client is not None
    if follow:
        container.client.api.timeout = _SILENCE
    chunks = container.logs(stream=True, follow=follow, tail="all" if tail is None else tail)
    try:
        yield from lines(chunks)
    finally:
        chunks.close()


def lines(chunks: Iterable[bytes]) -> Iterator[str]:
    """Yield the lines of an output that comes in pieces; one that is too long comes in several."""
    begun = b""
    for chunk in chunks:
        *whole, begun = (begun + chunk).split(b"\n")
        yield from map(_text, whole)
        if len(begun) > _LONGEST_LINE:
            yield _text(begun)
            begun = b""
    if begun:
        yield _text(begun)


def _running(container: Container, start_timeout: float, running_for: float) -> Condition:
    if has_started_up(container):
        return Condition(Status.RUNNING)
    again = container.attrs.get("RestartCount", 0)
    if again:  # one that fails as soon as it is started would do so for ever
        log = last_lines(container)
        return Condition(Status.ERROR, f"it has ended and been started again, {again} times so far{_said(log)}", log)
    if running_for < start_timeout:
        return Condition(Status.PENDING, "its server has not started up yet")
    return Condition(
        Status.ERROR, f"it did not start up within {start_timeout:g} s (start_timeout)", last_lines(container)
    )


def _failed(container: Container, then: str) -> Condition:
    state, log = container.attrs["State"], last_lines(container)
    if state.get("OOMKilled"):
        reason = "it was killed, since it took more memory than it may (memory)"
    elif state.get("Error"):
        reason = f"it cannot be started: {' '.join(str(state['Error']).split())}"
    elif state.get("ExitCode"):
        reason = f"it ended with status {state['ExitCode']}{then}{_said(log)}"
    else:
        reason = f"it has ended{then}"
    return Condition(Status.ERROR, reason, log)


def _said(log: list[str]) -> str:
    """Return what the command said itself about its end."""
    found = next((line for line in reversed(log) if line.startswith("Error: ")), None)
    return "" if found is None else f": {found.removeprefix('Error: ')}"


def _text(line: bytes) -> str:
    return line.decode("utf-8", "backslashreplace").removesuffix("\r")
