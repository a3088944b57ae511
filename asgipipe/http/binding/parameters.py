"""Where each parameter of a handler comes from, and its value.

A name in the path's template comes from the path. A type whose JSON form is a scalar, or a list of scalars, comes from
the query. Everything else (models, dataclasses, TypedDicts, dictionaries, lists of those) comes from the JSON body: one
such parameter is the whole body, several are its members.
"""

import inspect
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, get_args, get_origin

import pydantic
from pydantic import BaseModel, ConfigDict, Field, TypeAdapter
from pydantic.fields import FieldInfo

from asgipipe.errors import DefinitionError, ValidationError
from asgipipe.http.binding.handler import EMPTY, Handler, is_asgi, type_name
from asgipipe.http.binding.schemas import SchemaGenerator
from asgipipe.http.binding.text import TextForm, parse_query, text_form
from asgipipe.http.body import require_finite, require_finite_value
from asgipipe.http.openapi import TEMPLATE
from asgipipe.http.types import Scope
from asgipipe.http.validation import BodyValidator, entry, refusal, refused
from asgipipe.pipelines.contract import UNUSABLE, unusable

_VARIADIC = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_NO_CONTENT = frozenset({"GET", "HEAD"})  # RFC 9110, section 9.3.1: content in them has no meaning


class Location(Enum):
    PATH = "path"
    QUERY = "query"
    BODY = "body"


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a handler; `wire` is its name outside, where `Field(alias=...)` gives it another.

    `form` says how it is written as text, None for what only JSON can hold.
    """

    name: str
    wire: str
    annotation: object
    default: object
    positional_only: bool
    location: Location
    form: TextForm | None


class TextArguments:
    """The parameters from the path, or those from the query."""

    def __init__(self, location: Location, parameters: Sequence[Parameter]) -> None:
        self.location = location
        self.parameters = tuple(parameters)
        self.model = model_of(parameters, f"{location.value.title()}Parameters")

    def read(self, texts: Mapping[str, Sequence[str]]) -> dict[str, object]:
        """Return the arguments for texts by wire name; the last text counts where only one is taken.

        Raises ValidationError.
        """
        members = [_member(one, texts[one.wire]) for one in self.parameters if one.wire in texts]
        try:
            read = self.model.__pydantic_validator__.validate_json(b"{" + b",".join(members) + b"}", strict=True)
        except pydantic.ValidationError as error:
            raise refusal(error, (self.location.value,)) from None
        return {parameter.name: getattr(read, f"p{index}") for index, parameter in enumerate(self.parameters)}


class WholeBody:
    """The one parameter that is the whole body; without a body, its default."""

    def __init__(self, parameter: Parameter) -> None:
        self._name = parameter.name
        # Python's default stands in the signature, pydantic's in `Field(default=...)`.
        self._default = parameter.default
        annotation = parameter.annotation
        if isinstance(parameter.default, FieldInfo):
            self._default = EMPTY
            annotation = Annotated[annotation, parameter.default]
        self.adapter: TypeAdapter[object] = TypeAdapter(annotation)  # type: ignore[arg-type]  # made at run time
        self._validate = BodyValidator(self.adapter).validate
        self.required = self._default is EMPTY and self.adapter.get_default_value() is None

    def read(self, body: bytes) -> dict[str, object]:
        """Return the argument. Raises BadRequestError or ValidationError."""
        if not body:
            return {self._name: self._without_body()}
        suspicious = require_finite(body)
        try:
            value = self._validate(body)
        except pydantic.ValidationError as error:
            raise refusal(error, ("body",)) from None
        if suspicious:
            require_finite_value(value)
        return {self._name: value}

    def _without_body(self) -> object:
        if self._default is not EMPTY:
            return self._default
        default = self.adapter.get_default_value()
        if default is None:
            raise refused([entry(("body",), "Field required", "missing")])
        return default.value


class EmbeddedBody:
    """Several parameters, each a member of the body's object; other members are refused."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._parameters = tuple(parameters)
        self.model = model_of(parameters, "Body")
        self.adapter: TypeAdapter[BaseModel] = TypeAdapter(self.model)
        self._validate = BodyValidator(self.adapter).validate
        self.required = any(field.is_required() for field in self.model.model_fields.values())

    def read(self, body: bytes) -> dict[str, object]:
        """Return the arguments. Raises BadRequestError or ValidationError."""
        suspicious = require_finite(body)
        try:
            read = self._validate(body or b"{}")
        except pydantic.ValidationError as error:
            raise refusal(error, ("body",)) from None
        if suspicious:
            require_finite_value({one.wire: getattr(read, f"p{index}") for index, one in enumerate(self._parameters)})
        return {parameter.name: getattr(read, f"p{index}") for index, parameter in enumerate(self._parameters)}


class Arguments:
    """All parameters of one handler, and how a request fills them."""

    def __init__(self, parameters: Sequence[Parameter]) -> None:
        self._positional = tuple(parameter.name for parameter in parameters if parameter.positional_only)
        found = {place: [one for one in parameters if one.location is place] for place in Location}
        self.path = TextArguments(Location.PATH, found[Location.PATH]) if found[Location.PATH] else None
        self.query = TextArguments(Location.QUERY, found[Location.QUERY]) if found[Location.QUERY] else None
        self.body: WholeBody | EmbeddedBody | None = None
        if len(found[Location.BODY]) == 1:
            self.body = WholeBody(found[Location.BODY][0])
        elif found[Location.BODY]:
            self.body = EmbeddedBody(found[Location.BODY])

    def from_url(self, scope: Scope) -> dict[str, object]:
        """Return the arguments from path and query. Raises BadRequestError, or ValidationError for all wrong ones."""
        arguments: dict[str, object] = {}
        errors: list[Mapping[str, object]] = []
        for source, texts in self._texts(scope):
            try:
                arguments |= source.read(texts)
            except ValidationError as error:
                errors += error.errors or ()
        if errors:
            raise refused(errors)
        return arguments

    def from_body(self, body: bytes) -> dict[str, object]:
        """Return the arguments from the body. Raises BadRequestError or ValidationError."""
        return self.body.read(body) if self.body is not None else {}

    def ordered(self, arguments: dict[str, object]) -> tuple[list[object], dict[str, object]]:
        """Split arguments into those passed by position and those passed by name."""
        positional = [arguments.pop(name) for name in self._positional if name in arguments]
        return positional, arguments

    def _texts(self, scope: Scope) -> Iterable[tuple[TextArguments, Mapping[str, Sequence[str]]]]:
        if self.path is not None:
            given = scope.get("path_params", {})
            yield self.path, {one.wire: [str(given[one.name])] for one in self.path.parameters if one.name in given}
        if self.query is not None:
            yield self.query, parse_query(scope.get("query_string", b""))


def read_parameters(handler: Handler, path: str, method: str) -> list[Parameter]:
    """Decide where each parameter comes from. Raises DefinitionError naming the handler, the parameter and its type."""
    if is_asgi(handler.function):
        raise DefinitionError(f"handler {handler.label} is an ASGI application: set 'native' for it")
    names = {name for name, _ in TEMPLATE.findall(path)}
    parameters = [_parameter(handler, parameter, names) for parameter in handler.parameters]
    for parameter in parameters:
        if parameter.location is Location.BODY and method in _NO_CONTENT:
            raise DefinitionError(
                f"{_subject(handler, parameter.name)} has type {type_name(parameter.annotation)}, which needs a body, "
                f"and {method} has none: use POST, or parameters that fit into a query"
            )
    return parameters


def model_of(parameters: Sequence[Parameter], name: str) -> type[BaseModel]:
    """Return a model of the parameters; its fields are `p0`, `p1`, ..., so that no parameter name is reserved."""
    fields: dict[str, object] = {
        f"p{index}": _field(parameter.annotation, parameter.wire, parameter.default)
        for index, parameter in enumerate(parameters)
    }
    config = ConfigDict(extra="forbid", allow_inf_nan=False)
    made: type[BaseModel] = pydantic.create_model(name, __config__=config, **fields)  # type: ignore[call-overload]  # made at run time
    return made


def _parameter(handler: Handler, parameter: inspect.Parameter, path_names: set[str]) -> Parameter:
    name = parameter.name
    subject = _subject(handler, name)
    if parameter.kind in _VARIADIC:
        raise DefinitionError(
            f"{subject} takes any number of arguments, which no request can fill; name them, or let a decorator keep "
            "the signature with functools.wraps"
        )
    # As in a URL, where everything is text.
    annotation = handler.hints.get(name, str)
    default: object = parameter.default
    if name in path_names and not isinstance(default, FieldInfo):
        default = EMPTY  # the path always has a value for it
    wire, form = _shape(subject, name, annotation, default)
    if name not in path_names:
        location = Location.BODY if form is None else Location.QUERY
    elif form is None or form.many:
        raise DefinitionError(f"{subject} has type {type_name(annotation)}, which cannot be written in a path")
    else:
        location = Location.PATH
    positional_only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    return Parameter(name, wire, annotation, default, positional_only, location, form)


def _shape(subject: str, name: str, annotation: object, default: object) -> tuple[str, TextForm | None]:
    """Return the outside name of a parameter, and how it is written as text."""
    try:
        # Its name stands in pydantic's messages.
        title = type_name(annotation)
        model = pydantic.create_model(title, value=_field(annotation, name, default))  # type: ignore[arg-type]  # run time
        schema = model.model_json_schema(schema_generator=SchemaGenerator)
    except UNUSABLE as error:
        raise unusable(subject, type_name(annotation), error) from error
    field: FieldInfo = model.model_fields["value"]
    wire = field.validation_alias or field.alias
    if not isinstance(wire, str):
        raise DefinitionError(f"{subject} has a validation_alias that is no plain name: use alias='name'")
    return wire, text_form({**schema["properties"][wire], "$defs": schema.get("$defs", {})})


def _field(annotation: object, name: str, default: object) -> tuple[object, object]:
    if not _has_alias(annotation, default):
        annotation = Annotated[annotation, Field(alias=name)]
    return annotation, ... if default is EMPTY else default


def _has_alias(annotation: object, default: object) -> bool:
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    fields = [item for item in (*metadata, default) if isinstance(item, FieldInfo)]
    return any(field.alias or field.validation_alias for field in fields)


def _member(parameter: Parameter, texts: Sequence[str]) -> bytes:
    form = parameter.form
    assert form is not None
    if form.many:
        value = b"[" + b",".join(map(form.to_json, texts)) + b"]"
    else:
        value = form.to_json(texts[-1])
    return _NAMES.to_json(parameter.wire) + b":" + value


_NAMES = TextForm(frozenset({"string"}))


def _subject(handler: Handler, parameter: str) -> str:
    return f"handler {handler.label}: parameter {parameter!r}"
