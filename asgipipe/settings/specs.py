"""What users add to a deployment: endpoints, middleware, extensions."""

from enum import StrEnum
from typing import Annotated, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from asgipipe.settings import names
from asgipipe.settings.paths import PathTemplate
from asgipipe.settings.quantities import Integer
from asgipipe.settings.references import Reference
from asgipipe.settings.sections import Section, refuse

FARTHEST = 1_000_000


class EndpointMethod(StrEnum):
    """HEAD follows from GET."""

    GET = "GET"
    POST = "POST"
    PUT = "PUT"
    PATCH = "PATCH"
    DELETE = "DELETE"

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return the method named `value`, in any case."""
        if isinstance(value, str) and value.upper() in cls.__members__:
            return cls(value.upper())
        reason = names.unknown(value, cls.__members__) if isinstance(value, str) else "expected the name of a method"
        raise PydanticCustomError("method", "{reason}", {"reason": reason})

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls.parse, serialization=core_schema.to_string_ser_schema(when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": names.schema(cls.__members__)}


class EndpointSpec(Section):
    """One endpoint of the user's; with the path and method of a built-in one it takes its place."""

    path: PathTemplate = Field(
        description="Where it is served; may hold {name} and, at its end, {name:path}. For a router, the prefix."
    )
    method: EndpointMethod = Field(
        default=EndpointMethod.POST, description="The HTTP method it answers. HEAD comes with GET."
    )
    handler: Annotated[object, Reference(native=True)] = Field(
        description="A callable, a builder, or with `native` an object of the framework; or an import string for it."
    )
    native: bool = Field(
        default=False, description="Whether `handler` is an object of the web framework, added to it as it is."
    )
    auth_required: bool = Field(
        default=True, description="Whether callers need the key, where one is set. False opens it to everybody."
    )
    init_kwargs: dict[str, object] = Field(default={}, description="Keyword arguments for a builder.")
    extra_kwargs: dict[str, object] = Field(
        default={}, description="Keyword arguments for the framework when the endpoint is added."
    )

    @model_validator(mode="after")
    def _check_handler(self) -> Self:
        _require_callable(self, "handler")
        return self


class MiddlewareSpec(Section):
    """One middleware of the user's: an ASGI class, an ASGI function, or with `native` one of the framework's."""

    middleware: Annotated[object, Reference(native=True)] = Field(
        description="A class, a function, or with `native` an object of the framework; or an import string for it."
    )
    native: bool = Field(
        default=False, description="Whether it is a middleware of the web framework, added to it as it is."
    )
    order: Annotated[Integer, Field(ge=-FARTHEST, le=FARTHEST)] = Field(
        default=0, description="Lower is further out; equal ones keep the order of the list."
    )
    init_kwargs: dict[str, object] = Field(default={}, description="Keyword arguments for the middleware.")
    extra_kwargs: dict[str, object] = Field(
        default={}, description="Keyword arguments for the framework when the middleware is added."
    )

    @model_validator(mode="after")
    def _check_middleware(self) -> Self:
        _require_callable(self, "middleware")
        return self


class AppExtensionSpec(Section):
    """One extension: a callable that receives the app runner, or an object with `install(app_runner)`."""

    extension: Annotated[object, Reference(native=True)] = Field(
        description="A callable, a BaseAppExtension or an instance of one; or an import string for it."
    )
    extension_kwargs: dict[str, object] = Field(default={}, description="Keyword arguments for the extension.")

    @model_validator(mode="after")
    def _check_extension(self) -> Self:
        extension = self.extension
        if not (isinstance(extension, str) or callable(extension) or callable(getattr(extension, "install", None))):
            refuse("AppExtensionSpec", [(("extension",), "an extension is a callable or has install(app_runner)")])
        return self


def _require_callable(spec: EndpointSpec | MiddlewareSpec, field: str) -> None:
    value = getattr(spec, field)
    if not (spec.native or isinstance(value, str) or callable(value)):
        reason = f"{type(value).__name__} is not callable; an object of the web framework's needs `native: true`"
        refuse(type(spec).__name__, [((field,), reason)])
