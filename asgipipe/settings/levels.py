"""How much is logged."""

import logging
from enum import IntEnum
from typing import Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from asgipipe.settings import names


class LoggingLevels(IntEnum):
    """The levels of the standard library; settings may give a name in any case or the number."""

    CRITICAL = logging.CRITICAL
    ERROR = logging.ERROR
    WARNING = logging.WARNING
    INFO = logging.INFO
    DEBUG = logging.DEBUG

    FATAL = CRITICAL
    WARN = WARNING

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return the level that `value` stands for; a pydantic error says why there is none."""
        if isinstance(value, str) and value.isdecimal():
            value = int(value[:4])
        if isinstance(value, str):
            if value.upper() in cls.__members__:
                return cls[value.upper()]
            raise _refusal(names.unknown(value, cls.__members__))
        if isinstance(value, int) and not isinstance(value, bool) and value in {level.value for level in cls}:
            return cls(value)
        raise _refusal(f"expected one of {', '.join(level.name for level in cls)}, or its number")

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(lambda level: level.name, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        numbers: JsonSchemaValue = {"type": "integer", "enum": [level.value for level in cls]}
        return {"anyOf": [*names.schema(cls.__members__), numbers]}


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("log_level", "{reason}", {"reason": reason})
