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
    """Return an option for each property of an input schema that has a flag.

    None of them is required: the service decides, and what `--json` gives counts as well.
    """
    required = cast("Sequence[str]", schema.get("required", ()))
    members = _members(schema)
    return [
        _option(name, flag, members[name], required=name in required) for name, flag in flags(schema, taken).items()
    ]


def flags(schema: Schema, taken: Collection[str]) -> dict[str, str]:
    """Return the flag of each property of an input schema, but for those that are `taken`, or an earlier property's."""
    used, found = set(taken), dict[str, str]()
    for name, member in _members(schema).items():
        flag = f"--{name.strip('_').replace('_', '-')}"
        wanted = {flag, _opposite(flag)} if _is_switch(member) else {flag}
        if used.isdisjoint(wanted) and flag != "--":
            found[name] = flag
            used |= wanted
    return found


def without_flag(schema: Schema, taken: Collection[str]) -> list[str]:
    """Return the properties that `--json` alone can give."""
    return [name for name in _members(schema) if name not in flags(schema, taken)]


def parameters_of(given: Mapping[str, object], whole: str | None) -> dict[str, object]:
    """Return the parameters of a run: those of `--json`, and over them those that have options of their own."""
    parameters = _whole(whole)
    for name, value in given.items():
        if name.startswith(_PREFIX) and value is not None and value != ():
            parameters[name.removeprefix(_PREFIX)] = list(value) if isinstance(value, tuple) else value
    return parameters


def arguments_for(parameters: Mapping[str, object], schema: Schema, taken: Collection[str]) -> list[str]:
    """Return the command-line arguments that `parameters_of` makes these parameters of."""
    flag_of, members = flags(schema, taken), _members(schema)
    rest = {name: value for name, value in parameters.items() if name not in flag_of}
    arguments = [f"--json={json.dumps(rest, ensure_ascii=False)}"] if rest else []
    for name, value in parameters.items():
        if name in flag_of:
            arguments += _arguments(flag_of[name], members[name], value)
    return arguments


def _arguments(flag: str, member: Schema, value: object) -> list[str]:
    if _is_switch(member):
        return [flag if value else _opposite(flag)]
    item = _item(member)
    values = value if item is not None and isinstance(value, list) else [value]
    plain = not isinstance(item or _kind(member), JSONText)
    return [
        f"{flag}={each if plain and isinstance(each, str) else json.dumps(each, ensure_ascii=False)}" for each in values
    ]


def _members(schema: Schema) -> dict[str, Schema]:
    """Return the properties of an object by name, with what references in them lead to."""
    found: dict[str, Schema] = {}
    for name, member in cast("Mapping[str, Schema]", schema.get("properties", {})).items():
        found[name] = resolved = _resolved(member, schema)
        if isinstance(items := resolved.get("items"), Mapping):
            found[name] = {**resolved, "items": _resolved(items, schema)}
    return found


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


def _option(name: str, flag: str, schema: Schema, *, required: bool) -> click.Option:
    item = _item(schema)
    return click.Option(
        [f"{flag}/{_opposite(flag)}" if _is_switch(schema) else flag, _PREFIX + name],
        type=_kind(schema) if item is None else item,
        multiple=item is not None,
        default=None,
        help=_help(schema, required=required, several=item is not None),
    )


def _is_switch(schema: Schema) -> bool:
    return _kind(schema) is click.BOOL


def _opposite(flag: str) -> str:
    return f"--no-{flag[2:]}"


def _item(schema: Schema) -> ParamType | None:
    """Return what an option takes that may be given several times; None for one that is given once."""
    items = schema.get("items")
    if schema.get("type") != "array" or not isinstance(items, Mapping):
        return None
    kind = _kind(items)
    return None if isinstance(kind, JSONText) or kind is click.BOOL else kind


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
