"""The logs of pods, in the order in which their lines were written.

A log that is followed is asked for again and again. A stream for each pod would need a thread for each, and ends
whenever a container is started anew or the API closes it; what was missed then would have to be asked for all the same.
"""

import math
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field

import httpx2
from lightkube import ApiError, Client
from lightkube.resources.core_v1 import Pod

from asgipipe_kubernetes.objects import name_of
from asgipipe_kubernetes.pods import CONTAINER

_PAUSE = 1.0
"""Seconds between two looks at logs that are followed."""
_OVERLAP = 5
"""Seconds that are asked for once more: what was written while the last answer was made."""
_LONGEST_LINE = 64 * 1024
_NOT_THERE = (httpx2.codes.BAD_REQUEST, httpx2.codes.NOT_FOUND)
"""What the API answers where a container has no log yet, or no more."""


@dataclass(frozen=True, slots=True, order=True)
class Line:
    """A line with when it was written, as text that sorts, and by which pod."""

    at: str
    pod: str
    text: str


@dataclass(slots=True)
class PodLog:
    """The log of one pod, as far as it was read."""

    client: Client
    pod: str
    namespace: str | None
    _last: str = ""
    _at_last: int = 0
    _asked: float | None = field(default=None)

    def read(self, tail: int | None = None) -> list[Line]:
        """Return the lines that were not returned before: the last `tail`, the first time."""
        began = time.monotonic()
        since = None if self._asked is None else math.ceil(began - self._asked) + _OVERLAP
        lines = self._ask(tail if since is None else None, since)
        self._asked = began
        return list(self._new(lines))

    def _ask(self, tail: int | None, since: int | None) -> list[Line]:
        try:
            found = self.client.log(
                self.pod,
                namespace=self.namespace,
                container=CONTAINER,
                tail_lines=tail,
                since=since,
                timestamps=True,
                newlines=False,
            )
            return [_line(self.pod, text) for text in found]
        except ApiError as error:
            if error.status.code not in _NOT_THERE:
                raise
            return []

    def _new(self, lines: Iterable[Line]) -> Iterator[Line]:
        same = 0
        for line in lines:
            if line.at < self._last:
                continue
            if line.at == self._last:
                same += 1
                if same <= self._at_last:
                    continue
            else:
                self._last, same, self._at_last = line.at, 1, 0
            self._at_last = max(self._at_last, same)
            yield line


def last_lines(client: Client, pod: Pod, tail: int) -> list[str]:
    assert pod.metadata is not None
    return [line.text for line in PodLog(client, name_of(pod), pod.metadata.namespace).read(tail)]


def all_lines(client: Client, pods: Sequence[Pod], tail: int | None) -> Iterator[str]:
    """Yield the lines of some pods, the last `tail` or all."""
    lines = sorted(line for pod in pods for line in _log_of(client, pod).read(tail))
    return _told(lines if tail is None else deque(lines, tail), several=len(pods) > 1)


def follow(client: Client, pods: Callable[[], Sequence[Pod]], tail: int | None) -> Iterator[str]:
    """Yield the lines that there are, and those to come, until `pods` finds none any more."""
    logs: dict[str, PodLog] = {}
    while True:
        found = pods()
        for pod in found:
            logs.setdefault(name_of(pod), _log_of(client, pod))
        lines = sorted(line for log in logs.values() for line in log.read(tail))
        yield from _told(lines, several=len(logs) > 1)
        if not found:
            return
        time.sleep(_PAUSE)


def _log_of(client: Client, pod: Pod) -> PodLog:
    assert pod.metadata is not None
    return PodLog(client, name_of(pod), pod.metadata.namespace)


def _told(lines: Iterable[Line], *, several: bool) -> Iterator[str]:
    for line in lines:
        yield f"[{line.pod}] {line.text}" if several else line.text


def _line(pod: str, text: str) -> Line:
    """Take a line apart: `2026-11-21T07:36:24.432155212Z text`, whose fraction has no trailing zeros."""
    stamp, _, rest = text.partition(" ")
    whole, _, fraction = stamp.removesuffix("Z").partition(".")
    return Line(f"{whole}.{fraction:0<9}", pod, rest[:_LONGEST_LINE])
