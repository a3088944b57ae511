"""Settings that hold code: an object from Python, or an import string that is checked now and imported later."""

import re
from collections.abc import Callable
from dataclasses import dataclass

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from asgipipe import sources
from asgipipe.errors import SourceError

Target = Callable[..., object] | str
"""A callable, or an import string that names one."""

_DATA = (type(None), bool, int, float, complex, bytes, bytearray, dict, set, frozenset)
_LONGEST_ECHO = 200
_FLAVOR = re.compile(r"[a-z][a-z0-9_-]*")
_PATTERN = r"^[^\W\d]\w*(\.[^\W\d]\w*)*[.:][^\W\d]\w*(\.[^\W\d]\w*)*$"


@dataclass(frozen=True, slots=True)
class Reference:
    """Annotates a field that holds an object or an import string.

    `native` admits objects that are not callable, such as a framework's router. `flavor` admits a bare name besides.
    In JSON the object appears as `module:qualname`.
    """

    native: bool = False
    flavor: bool = False

    def check(self, value: object) -> object:
        """Return `value` unless no code can be meant by it; nothing is imported."""
        if isinstance(value, str):
            return self._check_source(value)
        if isinstance(value, _DATA) or not (self.native or callable(value)):
            raise refusal("expected an import string such as 'package.module:name', or from Python a callable")
        return value

    def _check_source(self, source: str) -> str:
        if self.flavor and _FLAVOR.fullmatch(source):
            return source
        try:
            return sources.check(source)
        except SourceError as error:
            raise refusal(f"{source[:_LONGEST_ECHO]!r}: {error.reason[:_LONGEST_ECHO]}") from None

    def __get_pydantic_core_schema__(self, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            self.check,
            serialization=core_schema.plain_serializer_function_ser_schema(name, when_used="json"),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        string: JsonSchemaValue = {"type": "string", "pattern": _PATTERN}
        return {"anyOf": [{"type": "string", "pattern": f"^{_FLAVOR.pattern}$"}, string]} if self.flavor else string


def refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("reference", "{reason}", {"reason": reason})


def name(value: object) -> str:
    """Return the import string of `value`; for an instance, that of its class."""
    if isinstance(value, str):
        return value
    named = value if hasattr(value, "__qualname__") else type(value)
    return f"{getattr(named, '__module__', None) or 'builtins'}:{named.__qualname__}"


def load(value: object) -> object:
    """Return the object a reference stands for; an import string is imported now and may raise SourceError."""
    return sources.load(value) if isinstance(value, str) else value
