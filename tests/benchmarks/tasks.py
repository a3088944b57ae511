"""What contenders are asked, and what the right answer is."""

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Final

from tests.benchmarks import answers, workload

Parameters = Mapping[str, str | float]


@dataclass(frozen=True, slots=True)
class Task:
    """A POST of `body(parameters)` to `path`, answered with `expected(city, temperature, humidity)`."""

    path: str
    body: Callable[[Parameters], bytes]
    expected: Callable[[str, float, float], Mapping[str, object]]

    @property
    def request(self) -> bytes:
        """The body that the load generator sends."""
        return self.body(workload.PARAMETERS)

    def below(self, prefix: str) -> "Task":
        """Return the same task for what is mounted at `prefix`."""
        return replace(self, path=prefix + self.path)

    def verify(self, name: str, status: int, answer: bytes) -> None:
        """Raise WrongAnswerError unless this is the right answer to `request`."""
        city, temperature = str(workload.PARAMETERS["city"]), float(workload.PARAMETERS["temperature"])
        answers.verify(name, status, answer, self.expected(city, temperature, workload.DEFAULT_HUMIDITY))


def _envelope(parameters: Parameters) -> bytes:
    return json.dumps({"parameters": parameters}).encode()


def _plain(parameters: Parameters) -> bytes:
    return json.dumps(parameters).encode()


INVOKE: Final = Task("/invoke", _envelope, answers.expected)
COMFORT: Final = Task("/comfort", _plain, workload.analyse)
COMFORT_SYNC: Final = replace(COMFORT, path="/comfort-sync")
