"""What a handler returns, as an answer."""

import inspect
import logging
import typing
from collections.abc import AsyncGenerator, AsyncIterator, Generator, Iterator
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, cast

from pydantic import TypeAdapter
from pydantic_core import to_json

from asgipipe.errors import DefinitionError, InternalError
from asgipipe.http.binding.failure import loggable
from asgipipe.http.binding.handler import EMPTY, Handler, is_asgi, mentioned, read_handler, type_name
from asgipipe.http.binding.schemas import SchemaGenerator
from asgipipe.http.types import ASGIApp
from asgipipe.pipelines.contract import UNUSABLE, is_finite, unusable
from asgipipe.pipelines.execution import message_of
from asgipipe.pipelines.stream import item_type

logger = logging.getLogger("asgipipe")

_STREAMS = (Generator, AsyncGenerator, Iterator, AsyncIterator)
_STREAMED = (str, bytes, str | bytes, Union[str, bytes], Any, object)  # noqa: UP007  # typing's union is another object
_ANYTHING: TypeAdapter[object] = TypeAdapter(object)


class Result:
    """How the results of one handler become JSON.

    `adapter` serialises by the declared return type; None where nothing is declared, or only what answers by itself.
    `streams` is True for generators, `answers_itself` where an ASGI application may be returned.
    """

    def __init__(self, handler: Handler) -> None:
        self.label = handler.label
        self.adapter: TypeAdapter[object] | None = None
        self.answers_itself = False
        self.streams = handler.kind.streams
        if self.streams:
            _check_items(handler.label, handler.returned)
        elif handler.returned is not EMPTY:
            self._declare(handler)

    def dump(self, value: object) -> bytes:
        """Return `value` as JSON, by its declared type or else by the type it has; NaN and infinity become null.

        Raises InternalError, logged, when it has no JSON form.
        """
        adapter = self.adapter or _ANYTHING
        try:
            body = adapter.serializer.to_json(value, by_alias=True, warnings="none")
            return body if is_finite(body) else _dump_finite(adapter, value)
        except Exception as error:  # boundary: serialisers are user code
            reason = loggable(f"{type(error).__name__}: {message_of(error)}")
            kind = type_name(type(value))
            logger.error("handler %s: its result, a %s, is not serialisable as JSON: %s", self.label, kind, reason)
            raise InternalError from error

    def _declare(self, handler: Handler) -> None:
        kept = []
        for member in _members(handler.returned):
            if isinstance(member, type) and _sends_itself(member):
                self.answers_itself = True
            elif typing.get_origin(member) in _STREAMS:
                self.streams = True
                _check_items(handler.label, member)
            else:
                kept.append(member)
        if kept:
            # The annotation itself where nothing was taken out, so that its metadata stays.
            whole = not self.answers_itself and not self.streams
            self.adapter = _adapter(handler.label, handler.returned if whole else Union[tuple(kept)])  # noqa: UP007


def answering(value: object) -> ASGIApp | None:
    """Return `value` if it is an ASGI application, such as a response of Starlette's."""
    if not callable(value) or isinstance(value, type):
        return None
    kind: type = type(value)
    if _sends_itself(kind):
        return cast(ASGIApp, value)
    asgi = inspect.isroutine(value) and inspect.iscoroutinefunction(value) and is_asgi(value)
    return cast(ASGIApp, value) if asgi else None


def returns_framework(handler: object, types: tuple[type, ...]) -> bool:
    """Tell whether a handler declares to return one of `types` that only the framework can send."""
    returned = read_handler(handler).returned
    kinds: list[type] = [] if returned is EMPTY else [kind for kind in mentioned(returned) if isinstance(kind, type)]
    return any(not _sends_itself(kind) and issubclass(kind, types) for kind in kinds)


@lru_cache(maxsize=256)
def _sends_itself(kind: type) -> bool:
    call = inspect.getattr_static(kind, "__call__", None)
    if not inspect.isfunction(call) or not inspect.iscoroutinefunction(call):
        return False
    return list(inspect.signature(call).parameters)[1:4] == ["scope", "receive", "send"]


def _members(annotation: object) -> list[object]:
    if typing.get_origin(annotation) is Annotated:
        return _members(typing.get_args(annotation)[0])
    if typing.get_origin(annotation) in (Union, UnionType):
        return list(typing.get_args(annotation))
    return [annotation]


def _adapter(label: str, annotation: object) -> TypeAdapter[object]:
    try:
        adapter: TypeAdapter[object] = TypeAdapter(annotation)  # type: ignore[arg-type]  # made at run time
        adapter.json_schema(mode="serialization", schema_generator=SchemaGenerator)
    except UNUSABLE as error:
        raise unusable(f"handler {label}: what it returns", type_name(annotation), error) from error
    return adapter


def _check_items(label: str, annotation: object) -> None:
    item = item_type(annotation)
    if item is not None and item not in _STREAMED:
        raise DefinitionError(
            f"handler {label} yields {type_name(item)}; a handler that is a generator yields str or bytes"
        )


def _dump_finite(adapter: TypeAdapter[object], value: object) -> bytes:
    """Serialise what holds a model whose `ser_json_inf_nan` is "constants", which is not JSON (RFC 8259)."""
    return to_json(adapter.dump_python(value, mode="json", by_alias=True, warnings="none"), inf_nan_mode="null")
