"""The endpoints and middleware a deployment brings by itself, switched by name, list of names, true or false."""

from enum import STRICT, Flag, IntFlag
from functools import reduce
from operator import or_
from typing import Self

from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from asgipipe.settings import names


class NamedFlag(IntFlag, boundary=STRICT):
    """A flag that settings may give as a name in any case, a list of names, true (ALL), false (NONE), or its bits.

    Subclasses define ALL and NONE.
    """

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return the flag that `value` stands for; a pydantic error says why there is none."""
        if isinstance(value, cls):
            return value
        if isinstance(value, bool):
            return cls["ALL"] if value else cls["NONE"]
        if isinstance(value, int) and not isinstance(value, Flag):
            return cls._of_bits(value)
        if isinstance(value, list | tuple | set | frozenset):
            return reduce(or_, (cls._of_name(item) for item in value), cls["NONE"])
        return cls._of_name(value)

    @classmethod
    def _of_bits(cls, bits: int) -> Self:
        if 0 <= bits <= cls["ALL"]:
            return cls(bits)
        raise _refusal(f"{bits} is no combination of its bits; they go from 0 to {cls['ALL'].value}")

    @classmethod
    def _of_name(cls, name: object) -> Self:
        if isinstance(name, cls):
            return name
        if not isinstance(name, str):
            raise _refusal("expected a name, a list of names, true or false")
        if name.upper() in cls.__members__:
            return cls[name.upper()]
        raise _refusal(names.unknown(name, cls.__members__))

    def dump(self) -> str | list[str]:
        """Return `ALL`, `NONE`, or the list of single names."""
        if self in (self.__class__["ALL"], self.__class__["NONE"]):
            return "ALL" if self else "NONE"
        return [member.name or "" for member in self]

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse,
            serialization=core_schema.plain_serializer_function_ser_schema(cls.dump, when_used="json"),
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        name = names.schema(cls.__members__)
        return {
            "anyOf": [
                *name,
                {"type": "array", "items": {"anyOf": name}},
                {"type": "boolean"},
                {"type": "integer", "minimum": 0, "maximum": cls["ALL"].value},
            ]
        }


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("flag", "{reason}", {"reason": reason})


class DeploymentDefaultEndpoints(NamedFlag):
    """The built-in endpoints.

    `/ready` belongs to HEALTH. `/openapi.json` is served when DOCS or REDOC is, since both pages read it.
    """

    DOCS = 1
    REDOC = 2
    INVOKE = 4
    HEALTH = 8
    INFO = 16
    METRICS = 32
    DASHBOARD = 64
    STATUS = 128
    JOBS = 256
    STREAM = 512
    RUNS = 1024

    DOC = DOCS | REDOC
    API = INVOKE | HEALTH | INFO | METRICS | STATUS | JOBS | STREAM | RUNS
    ALL = DOC | API | DASHBOARD
    NONE = 0


class DeploymentDefaultMiddleware(NamedFlag):
    """The middleware that can be switched off; request ids, limits, auth and the error boundary always stay."""

    CORS = 1
    SECURE_HEADERS = 2

    ALL = CORS | SECURE_HEADERS
    NONE = 0
