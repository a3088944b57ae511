"""What a run that is repeated remembers of the time before: the results of its steps."""

import hashlib
import json
import threading
from abc import ABC, abstractmethod
from concurrent.futures import Future
from contextvars import ContextVar
from dataclasses import fields, is_dataclass
from datetime import date, time, timedelta
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import TYPE_CHECKING
from uuid import UUID

from pydantic import BaseModel

if TYPE_CHECKING:
    from asgipipe.pipelines.results import ResultCodec

_MAX_NAME = 200


class StepMemory(ABC):
    """The results of one run's steps, by position (the how-manieth call of a step it is, from 0) and name.

    Of a step that was called by another one, the position is that of the outermost one, and the name says the way.
    """

    @abstractmethod
    def recall(self, position: int, name: str) -> bytes | None:
        """Return the JSON of a result that was kept, None where there is none."""

    @abstractmethod
    def keep(self, position: int, name: str, value: bytes) -> "Future[None]":
        """Keep the JSON of a result; the future is done when it is durable, cancelled when that will never be."""


class Scope:
    """The body of a pipeline, or of a step, in a run that remembers; it numbers the calls of steps in it.

    From the first call on whose result is not remembered, no later one's is: else results could come back beside one
    that is another this time. What was called before may still be.
    """

    __slots__ = ("_calls", "_ended", "_lock", "memory", "name", "position")

    def __init__(self, memory: StepMemory, position: int | None = None, name: str = "") -> None:
        self.memory = memory
        self.position = position
        self.name = name
        self._calls = 0
        self._ended = False
        self._lock = threading.Lock()

    def call(self, step_name: str) -> "Place":
        """Return the place of the call that is being made."""
        with self._lock:
            number, self._calls = self._calls, self._calls + 1
            lasting = not self._ended
        if self.position is None:
            return Place(self, number, step_name, lasting)
        name = f"{self.name}/{number}.{step_name}"
        if len(name) > _MAX_NAME:
            name = hashlib.sha256(name.encode("utf-8", "replace")).hexdigest()
        return Place(self, self.position, name, lasting)

    def end(self) -> None:
        self._ended = True


class Place(Scope):
    """One call of a step; itself the scope of those that it makes.

    `lasting` says whether its result can be recalled and kept. What is kept is marked with a digest of the arguments:
    where branches run side by side, the order of the calls may be another one the next time.
    """

    __slots__ = ("_outer", "_position", "lasting")

    def __init__(self, outer: Scope, position: int, name: str, lasting: bool) -> None:
        super().__init__(outer.memory, position, name)
        self._outer = outer
        self._position = position
        self.lasting = lasting
        if not lasting:
            self.end()

    def recall(self, codec: "ResultCodec", args: tuple[object, ...], kwargs: dict[str, object]) -> tuple[object] | None:
        """Return the result of this call, as a tuple of one; None when the step has to be run."""
        kept = self.memory.recall(self._position, self.name) if self.lasting else None
        if kept is None:
            return None
        mark = _mark(args, kwargs)
        restored = codec.load(kept[len(mark) : -1]) if kept.startswith(mark) else None
        if restored is None:
            self.forget()
        return restored

    def keep(
        self, codec: "ResultCodec", args: tuple[object, ...], kwargs: dict[str, object], value: object
    ) -> "Future[None] | None":
        """Keep the result of this call; None when it cannot be kept."""
        body = codec.dump(value) if self.lasting else None
        if body is None:
            self.forget()
            return None
        return self.memory.keep(self._position, self.name, b"%b%b}" % (_mark(args, kwargs), body))

    def forget(self) -> None:
        """Say that this call has a result, if any, that is not remembered."""
        self.lasting = False
        self._outer.end()


scope: ContextVar[Scope | None] = ContextVar("asgipipe_scope", default=None)
"""The scope of the calls that are made here; set only in runs that remember."""


def _mark(args: tuple[object, ...], kwargs: dict[str, object]) -> bytes:
    """Return how the JSON of a result begins that came of these arguments."""
    try:
        text = json.dumps((args, kwargs), default=_told_apart)
    except (ValueError, TypeError, RecursionError):  # cycles, keys that are no text: position and name have to do
        text = ""
    return b'{"arguments":"%b","value":' % hashlib.sha256(text.encode()).hexdigest()[:32].encode()


def _told_apart(value: object) -> object:
    """Return what arguments are told apart by; nothing of the user's is called, and no iterator is used up."""
    if isinstance(value, bytes | bytearray):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, Enum):
        return value.name
    if isinstance(value, date | time | timedelta | Decimal | UUID | PurePath):
        return str(value)
    if isinstance(value, BaseModel):
        return value.__dict__
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name, None) for field in fields(value)}
    if isinstance(value, set | frozenset):
        return sorted(map(repr, value))
    return type(value).__qualname__
