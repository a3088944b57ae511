"""What a run that is repeated remembers of the time before: the results of its steps."""

from abc import ABC, abstractmethod


class StepMemory(ABC):
    """The results of one run's steps, by position (the how-manieth call of a step it is, from 0) and name."""

    @abstractmethod
    def recall(self, position: int, name: str) -> bytes | None:
        """Return the JSON of a result that was kept, None where there is none."""

    @abstractmethod
    def keep(self, position: int, name: str, value: bytes) -> None:
        """Keep the JSON of a result."""
