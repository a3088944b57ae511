"""What the attempts of a job remember of each other: the results of its steps, in the store."""

from collections.abc import Mapping
from concurrent.futures import Future

from asgipipe.jobs.recording import Recording
from asgipipe.pipelines.memory import StepMemory


class JobMemory(StepMemory):
    """The results that earlier attempts have kept; what this one keeps is written by its recording, with its events."""

    def __init__(self, results: Mapping[tuple[int, str], bytes], recording: Recording) -> None:
        self._results = results
        self._recording = recording

    def recall(self, position: int, name: str) -> bytes | None:
        return self._results.get((position, name))

    def keep(self, position: int, name: str, value: bytes) -> "Future[None]":
        return self._recording.keep((position, name, value))
