"""Options made from a JSON Schema: one for each parameter of a pipeline."""

import json
import sys
from collections.abc import Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, cast

import click

if TYPE_CHECKING:  # generic from click 8.5 on
    ParamType = click.ParamType[Any, Any]
else:
    ParamType = click.ParamType

Schema = Mapping[str, object]

_SIMPLE: Mapping[str, ParamType] = {"integer": click.INT, "number": click.FLOAT, "string": click.STRING}
_PREFIX = "parameter_"


class JSONText(ParamType):
    """A value given as JSON."""

    name = "json"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> object:
        if not isinstance(value, str):
            return value
        try:
            return json.loads(value)
        except ValueError as error:
            self.fail(f"{error}; give the value as JSON, in quotes", param, ctx)


def parameter_options(schema: Schema, taken: Collection[str]) -> list[click.Option]:
    """Return an option for each property of an input schema, but for those whose flag is one of those `taken`.

    None of them is required: the service decides, and what `--json` gives counts as well.
    """
    properties = cast("Mapping[str, Schema]", schema.get("properties", {}))
    required = cast("Sequence[str]", schema.get("required", ()))
    return [
        _option(name, _resolved(member, schema), required=name in required)
        for name, member in properties.items()
        if flag_of(name) not in taken
    ]


def parameters_of(given: Mapping[str, object], whole: str | None) -> dict[str, object]:
    """Return the parameters of a run: those of `--json`, and over them those that have options of their own."""
    parameters = _whole(whole)
    for name, value in given.items():
        if name.startswith(_PREFIX) and value is not None and value != ():
            parameters[name.removeprefix(_PREFIX)] = list(value) if isinstance(value, tuple) else value
    return parameters


def flag_of(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _whole(text: str | None) -> dict[str, object]:
    if text is None:
        return {}
    if text == "-":
        text = sys.stdin.read()
    try:
        found = json.loads(text)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--json") from None
    if not isinstance(found, dict):
        raise click.BadParameter("give a JSON object, the parameters by name", param_hint="--json")
    return found


def _option(name: str, schema: Schema, *, required: bool) -> click.Option:
    flag, kind = flag_of(name), _kind(schema)
    is_switch = kind is click.BOOL
    item = _kind(_resolved(cast("Schema", schema.get("items", {})), schema)) if schema.get("type") == "array" else None
    several = item is not None and not isinstance(item, JSONText) and item is not click.BOOL
    return click.Option(
        [f"{flag}/--no-{flag[2:]}" if is_switch else flag, _PREFIX + name],
        type=item if several else kind,
        multiple=several,
        default=None,
        help=_help(schema, required=required, several=several),
    )


def _kind(schema: Schema) -> ParamType:
    values = schema.get("enum", [schema["const"]] if "const" in schema else None)
    if isinstance(values, list) and values and all(isinstance(value, str) for value in values):
        return click.Choice(values)
    if schema.get("type") == "boolean":
        return click.BOOL
    return _SIMPLE.get(str(schema.get("type")), JSONText())


def _resolved(schema: Schema, root: Schema) -> Schema:
    """Return what a reference leads to, and of a nullable type the type."""
    reference = schema.get("$ref")
    if isinstance(reference, str):
        found = cast("Mapping[str, Schema]", root.get("$defs", {})).get(reference.rpartition("/")[2], {})
        return {**found, **{name: value for name, value in schema.items() if name != "$ref"}}
    options = schema.get("anyOf")
    if isinstance(options, list):
        kinds = [option for option in options if option.get("type") != "null"]
        if len(kinds) == 1:
            rest = {name: value for name, value in schema.items() if name != "anyOf"}
            return {**_resolved(kinds[0], root), **rest}
    return schema


def _help(schema: Schema, *, required: bool, several: bool) -> str:
    said = [str(schema.get("description") or "")]
    if several:
        said.append("May be given several times.")
    if required:
        said.append("[required]")
    elif schema.get("default") is not None:
        said.append(f"[default: {json.dumps(schema['default'], ensure_ascii=False)}]")
    return " ".join(part for part in said if part)
