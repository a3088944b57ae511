"""What a pipeline takes and gives, as JSON: decided when it is defined, checked on every request."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, fields, is_dataclass
from functools import partial
from types import NoneType
from typing import Annotated, Any, NotRequired, Required, get_args, get_origin

from pydantic import BaseModel, ConfigDict, Field, PydanticUserError, TypeAdapter, create_model
from pydantic.errors import PydanticInvalidForJsonSchema, PydanticSchemaGenerationError, PydanticUndefinedAnnotation
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaMode, JsonSchemaValue
from pydantic_core import PydanticSerializationError, SchemaError, core_schema, from_json, to_json
from typing_extensions import TypedDict

from asgipipe.errors import DefinitionError, OutputError
from asgipipe.pipelines.coreschema import may_write_constants, types_in
from asgipipe.pipelines.outputs import OutputShape

_SKIPPED = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
_STRICT = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
_LENIENT = ConfigDict(ser_json_inf_nan="null")

# What pydantic raises for types it cannot serve: errors of its own, and Python's for constraints that fit no such type.
UNUSABLE = (PydanticUserError, PydanticUndefinedAnnotation, SchemaError, TypeError, ValueError, RuntimeError)

# Parts of a pydantic core schema under which no float gets past `allow_inf_nan=False`; below models and Any one can.
_FINITE_TYPES = frozenset(
    (
        *("typed-dict", "typed-dict-field", "default", "nullable", "union", "literal", "enum", "none"),
        *("str", "int", "float", "bool", "decimal", "uuid", "date", "datetime", "time", "timedelta"),
        *("list", "tuple", "set", "frozenset", "dict"),
    )
)

Schema = dict[str, object]
Dump = Callable[[Any], bytes]  # any value: whoever calls it knows which


@dataclass(frozen=True, slots=True)
class Parameter:
    """One argument of the pipeline; `annotation` is what pydantic validates it against."""

    name: str
    annotation: object
    required: bool
    positional_only: bool


class Contract:
    """The inputs and outputs of one pipeline.

    `parameters_type` is the type that validates the JSON object of parameters: a TypedDict made from the signature (it
    costs less per request than a model and reserves no names), or the user's `input_model` with unknown fields refused.
    """

    def __init__(
        self,
        name: str,
        function: Callable[..., object],
        hints: Mapping[str, object],
        shape: OutputShape,
        *,
        input_model: type[BaseModel] | None = None,
        output_model: type[BaseModel] | None = None,
    ) -> None:
        self.name = name
        self.shape = OutputShape((shape.names[0],), (output_model,), False) if output_model else shape
        self.output_names = self.shape.names
        self._multiple = self.shape.multiple
        self._positional = tuple(p.name for p in signature_parameters(name, function, hints) if p.positional_only)
        if input_model is not None:
            self.parameters_type: type = _closed(input_model)
            self.required = any(field.is_required() for field in input_model.model_fields.values())
        else:
            parameters = signature_parameters(name, function, hints)
            self.required = any(parameter.required for parameter in parameters)
            self.parameters_type = _parameters_type(name, parameters)
        self.from_model = input_model is not None
        inputs = self.parameters_adapter = _adapter(self.parameters_type, f"pipeline {name!r}: input model")
        self.input_schema = _json_schema(inputs, "validation", f"pipeline {name!r}: parameters")
        self.may_hold_infinity = not types_in(inputs.core_schema) <= _FINITE_TYPES
        self.dump_parameters = dump_anything if self.from_model else _dump(inputs)
        outputs = _outputs_adapter(name, self.shape)
        self.output_schema = _json_schema(outputs, "serialization", f"pipeline {name!r}: outputs")
        self._dump_outputs = _dump(outputs)
        self._only_name = self.output_names[0]

    def arguments(self, validated: object) -> dict[str, object]:
        """Return validated parameters by name; what was validated is a TypedDict, or an instance of `input_model`."""
        return dict(validated) if self.from_model else validated  # type: ignore[call-overload,return-value]  # see above

    def by_name(self, function: Callable[..., object]) -> Callable[..., object]:
        """Return `function` as one that takes all its parameters by name, positional-only ones too."""
        positional = self._positional
        if not positional:
            return function

        def call(**parameters: object) -> object:
            return function(*[parameters.pop(name) for name in positional], **parameters)

        return call

    def outputs(self, value: object) -> dict[str, object]:
        """Return what the pipeline returned, by output name.

        Raises OutputError when the number of values is not the declared one.
        """
        names = self.output_names
        if not self._multiple:
            return {names[0]: value}
        if not isinstance(value, tuple | list) or len(value) != len(names):
            count = f"{len(value)} values" if isinstance(value, tuple | list) else f"a {type(value).__name__}"
            raise OutputError(f"the pipeline returned {count}, but declares the outputs {', '.join(names)}")
        return dict(zip(names, value, strict=True))

    def dump_outputs(self, value: object) -> bytes:
        """Return the JSON of what the pipeline returned; NaN and infinity become null (RFC 8259 has neither).

        Raises OutputError naming the output that has no JSON form.
        """
        outputs = self.outputs(value) if self._multiple else {self._only_name: value}
        try:
            return self._dump_outputs(outputs)
        except (PydanticSerializationError, ValueError, TypeError, RecursionError, AttributeError):
            for name, output in outputs.items():
                self._check_output(name, output)
            raise

    def _check_output(self, name: str, value: object) -> None:
        try:
            self._dump_outputs({name: value})
        except (PydanticSerializationError, ValueError, TypeError, RecursionError, AttributeError) as error:
            raise OutputError(f"output {name!r} of type {type(value).__name__} is not serialisable as JSON") from error


def _dump(adapter: TypeAdapter[object]) -> Dump:
    """Return what writes values as JSON: a partial of a C function where that is enough, as every run calls it."""
    plain: Dump = partial(adapter.serializer.to_json, by_alias=True, warnings=False)
    if not may_write_constants(adapter.core_schema):
        return plain

    def dump(value: object) -> bytes:
        body = plain(value)
        if is_finite(body):
            return body
        return to_json(adapter.dump_python(value, mode="json", by_alias=True, warnings=False), inf_nan_mode="null")

    return dump


dump_anything = _dump(TypeAdapter(Any))


def signature_parameters(name: str, function: Callable[..., object], hints: Mapping[str, object]) -> list[Parameter]:
    """Return the parameters a caller may give; `*args` and `**kwargs` are not among them."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError) as error:  # some builtins have none
        raise DefinitionError(f"pipeline {name!r}: {error}; serve a function that calls it") from error
    found = []
    for parameter in signature.parameters.values():
        if parameter.kind in _SKIPPED:
            continue
        annotation = hints.get(parameter.name, Any)
        if parameter.default is inspect.Parameter.empty:
            found.append(_parameter(parameter, Required[annotation], required=True))
            continue
        field = parameter.default if isinstance(parameter.default, FieldInfo) else Field(default=parameter.default)
        annotated = Annotated[annotation, field]  # type: ignore[valid-type]  # made at run time
        _check_default(name, parameter.name, annotated)
        required = field.is_required() if isinstance(field, FieldInfo) else False
        marked = Required[annotated] if required else NotRequired[annotated]
        found.append(_parameter(parameter, marked, required=required))
    return found


def _parameter(parameter: inspect.Parameter, annotation: object, *, required: bool) -> Parameter:
    positional_only = parameter.kind is inspect.Parameter.POSITIONAL_ONLY
    return Parameter(parameter.name, annotation, required, positional_only)


def _check_default(pipeline: str, parameter: str, annotation: object) -> None:
    """A default that has no JSON form could not be shown in `parameters_used`."""
    adapter = _adapter(annotation, f"pipeline {pipeline!r}: parameter {parameter!r}")
    default = adapter.get_default_value()
    if default is None:
        return
    try:
        adapter.dump_json(default.value, warnings=False)
    except (PydanticSerializationError, ValueError, TypeError) as error:
        kind = type(default.value).__name__
        raise DefinitionError(
            f"pipeline {pipeline!r}: the default of parameter {parameter!r} is a {kind}, which has no JSON form"
        ) from error


def _parameters_type(name: str, parameters: list[Parameter]) -> type:
    for parameter in parameters:
        _check_json_form(f"pipeline {name!r}: parameter {parameter.name!r}", _bare(parameter.annotation), "validation")
    fields = {parameter.name: parameter.annotation for parameter in parameters}
    made: type = TypedDict("Parameters", fields)  # type: ignore[misc]  # made at run time
    made.__pydantic_config__ = _STRICT  # type: ignore[attr-defined]  # pydantic's protocol for TypedDicts
    return made


def _bare(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) in (Required, NotRequired) else annotation


def _closed(model: type[BaseModel]) -> type[BaseModel]:
    """Refuse unknown fields, unless the model says itself what it does with them."""
    if "extra" in model.model_config:
        return model
    return create_model(model.__name__, __base__=model, __module__=model.__module__, __cls_kwargs__={"extra": "forbid"})


def _outputs_adapter(name: str, shape: OutputShape) -> TypeAdapter[object]:
    fields = {}
    for output, annotation in zip(shape.names, shape.annotations, strict=True):
        kind = NoneType if annotation is None else Any if annotation is object else annotation
        _check_json_form(f"pipeline {name!r}: output {output!r}", kind, "serialization")
        fields[output] = kind
    made: type = TypedDict("Outputs", fields)  # type: ignore[misc]  # made at run time
    made.__pydantic_config__ = _LENIENT  # type: ignore[attr-defined]  # pydantic's protocol for TypedDicts
    return _adapter(made, f"pipeline {name!r}: outputs")


def _check_json_form(subject: str, annotation: object, mode: JsonSchemaMode) -> None:
    _json_schema(_adapter(annotation, subject), mode, subject)


def _adapter(annotation: object, subject: str) -> TypeAdapter[object]:
    try:
        return TypeAdapter(annotation)  # type: ignore[arg-type]  # any object that pydantic takes as a type
    except UNUSABLE as error:
        raise unusable(subject, _type_name(annotation), error) from error


def _json_schema(adapter: TypeAdapter[object], mode: JsonSchemaMode, subject: str) -> Schema:
    try:
        return adapter.json_schema(mode=mode, schema_generator=SchemaGenerator)
    except UNUSABLE as error:
        raise unusable(subject, _type_name(adapter._type), error) from error


def unusable(subject: str, type_name: str, error: Exception) -> DefinitionError:
    """Return the error for a type that pydantic cannot serve; pydantic's own words where they say the way out."""
    if isinstance(error, PydanticSchemaGenerationError | PydanticInvalidForJsonSchema):
        return DefinitionError(f"{subject} has type {type_name}, which has no JSON form")
    reason = str(error)[:300].partition("\n")[0]
    return DefinitionError(f"{subject} has type {type_name}, which cannot be served: {reason}")


class SchemaGenerator(GenerateJsonSchema):
    """Says that a float in an output may be null, which is what NaN and infinity become.

    An output declared as `pydantic.FiniteFloat`, or with bounds at both ends, is promised to be neither.
    """

    def float_schema(self, schema: core_schema.FloatSchema) -> JsonSchemaValue:
        made = super().float_schema(schema)
        bounded = ("ge" in schema or "gt" in schema) and ("le" in schema or "lt" in schema)
        if self.mode == "serialization" and schema.get("allow_inf_nan") is not False and not bounded:
            made["type"] = ["number", "null"]
        return made


def _type_name(annotation: object) -> str:
    while get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    return getattr(annotation, "__qualname__", None) or str(annotation)


def non_finite(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """Yield the place of every NaN and infinity inside a value read from JSON, or made from one."""
    if isinstance(value, float):
        if not math.isfinite(value):
            yield path
    elif isinstance(value, dict):
        for key, item in value.items():
            yield from non_finite(item, (*path, key))
    elif isinstance(value, list | tuple | set | frozenset):
        for index, item in enumerate(value):
            yield from non_finite(item, (*path, index))
    elif isinstance(value, BaseModel):
        yield from non_finite(dict(value), path)
    elif is_dataclass(value):
        yield from non_finite({field.name: getattr(value, field.name) for field in fields(value)}, path)


def is_finite(body: bytes) -> bool:
    """True unless a JSON text holds NaN or Infinity, which models may be told to write (`ser_json_inf_nan`)."""
    if b"NaN" not in body and b"Infinity" not in body:
        return True
    try:
        from_json(body, allow_inf_nan=False)
    except ValueError:
        return False
    return True
