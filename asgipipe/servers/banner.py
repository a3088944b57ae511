"""What `asgipipe serve` says once it serves: what is where, whether a key is needed, and a call to copy."""

import json
import logging
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import inf
from typing import cast

import click

from asgipipe import __version__
from asgipipe.servers.application import Plan
from asgipipe.servers.options import ServerOptions
from asgipipe.settings import built_in_paths, exposed_without_key

logger = logging.getLogger("asgipipe.servers")

Schema = Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Announcement:
    """What is said: `text` on a terminal, `lines` in a log, and of both the `warnings`."""

    text: str
    lines: Sequence[str]
    warnings: Sequence[str]


def announcement(plans: Sequence[Plan], options: ServerOptions, origin: str, generated_key: str | None) -> Announcement:
    """Return what there is to say about what is served below `origin`.

    This is the only place where `generated_key` is shown.
    """
    exposed = [each.name for each in plans if exposed_without_key(each.settings, each.auth_keys)]
    return Announcement(
        text=_banner(plans, options, origin, generated_key),
        lines=_lines(plans, origin, generated_key),
        warnings=[
            f"{name} is OPEN: everyone who can reach {options.host} can run it without a key. "
            "Set ASGIPIPE_AUTH_KEY, or generate_auth_key, or serve on 127.0.0.1."
            for name in exposed
        ],
    )


def announce(announcement: Announcement, options: ServerOptions) -> None:
    """Say it on stderr, as text or, where logs are JSON, as log lines."""
    as_json = options.log_format == "json"
    if not as_json:
        click.echo(announcement.text, err=True)
    for line in announcement.lines if as_json else ():
        logger.info("%s", line)
    for warning in announcement.warnings:
        if as_json or not sys.stderr.isatty():
            logger.warning("%s", warning)
        else:
            click.secho(f"  WARNING: {warning}\n", fg="red", bold=True, err=True)


def _lines(plans: Sequence[Plan], origin: str, generated_key: str | None) -> list[str]:
    lines = [f"asgipipe {__version__} serves on {origin}"]
    for each in plans:
        where = ", ".join(f"{name} {url}" for name, url in _urls(each, origin).items())
        lines.append(f"{each.name}: {where} ({_access(each)})")
    if generated_key is not None:
        lines.append(f"the generated key, shown this once: {generated_key}")
    return lines


def _banner(plans: Sequence[Plan], options: ServerOptions, origin: str, generated_key: str | None) -> str:
    under = ", gunicorn" if options.server == "gunicorn" else ""
    workers = f", {options.workers} workers" if options.workers > 1 else ""
    reload = ", reloading on changes" if options.reload else ""
    title = click.style(f"asgipipe {__version__}", bold=True)
    lines = ["", f"{title} serves on {origin}{under}{workers}{reload}", ""]
    for each in plans:
        lines.append(f"  {click.style(each.name, bold=True)}  ({_access(each)})")
        lines += [f"    {name:<8}{url}" for name, url in _urls(each, origin).items()]
    if len(plans) > 1:
        lines.append(f"\n  all pipelines: {origin}/pipelines")
    if generated_key is not None:
        lines.append(f"\n  The generated key, shown this once:\n    KEY={generated_key}")
    call = next((_call(each, origin) for each in plans if "invoke" in _urls(each, origin)), None)
    if call is not None:
        lines.append(f"\n  Try it:\n    {call}")
    lines.append("\n  Stop with ctrl-C.\n")
    return "\n".join(lines)


def _access(plan: Plan) -> str:
    return "key required" if plan.auth_keys else "OPEN: no key"


def _base(plan: Plan, origin: str) -> str:
    return f"{origin}/{plan.url_name}" if plan.url_name else origin


def _urls(plan: Plan, origin: str) -> dict[str, str]:
    base, paths = _base(plan, origin), built_in_paths(plan.settings)
    fields = {"invoke": "invoke_url_path", "docs": "docs_url_path"}
    found = {name: base + paths[field] for name, field in fields.items() if field in paths}
    return {"url": f"{base}{plan.settings.root_url_path}/", **found}


def _call(plan: Plan, origin: str) -> str:
    schema = cast("Schema", plan.loaded.pipeline.contract.input_schema)
    body = json.dumps({"parameters": example(schema, schema)}, ensure_ascii=False)
    key = ' -H "Authorization: Bearer $KEY"' if plan.auth_keys else ""
    url = _urls(plan, origin)["invoke"]
    return f"curl {shlex.quote(url)}{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}"


# An example of what a JSON Schema asks for, required members only

_PLAIN: Mapping[str, object] = {
    "string": "text",
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "null": None,
}
_FORMATS: Mapping[str, str] = {
    "date": "2030-01-31",
    "time": "12:00:00Z",
    "date-time": "2030-01-31T12:00:00Z",
    "duration": "PT1H",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "email": "name@example.org",
    "uri": "https://example.org/",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "binary": "text",
}
_DEEPEST = 8


def example(schema: Schema, root: Schema, depth: int = 0) -> object:
    """Return a value for `schema`, whose references are to the `$defs` of `root`.

    It has the right types; a pattern or a condition across fields it may miss.
    """
    if depth > _DEEPEST:
        return None
    for name in ("const", "default"):
        if name in schema:
            return schema[name]
    for name in ("examples", "enum"):
        values = schema.get(name)
        if isinstance(values, list) and values:
            return values[0]
    alternatives = _alternatives(schema, root)
    return example(alternatives[0], root, depth + 1) if alternatives else _of_type(schema, root, depth)


def _alternatives(schema: Schema, root: Schema) -> list[Schema]:
    reference = schema.get("$ref")
    definitions = root.get("$defs")
    if isinstance(reference, str) and isinstance(definitions, Mapping):
        return [cast("Schema", definitions.get(reference.rpartition("/")[2], {}))]
    for name in ("anyOf", "oneOf", "allOf"):
        choices = schema.get(name)
        if isinstance(choices, list) and choices:
            return cast("list[Schema]", sorted(choices, key=lambda choice: choice.get("type") == "null"))
    return []


def _of_type(schema: Schema, root: Schema, depth: int) -> object:
    kind = schema.get("type")
    if kind == "object" or "properties" in schema:
        members = cast("Mapping[str, Schema]", schema.get("properties", {}))
        required = cast("Sequence[str]", schema.get("required", ()))
        return {name: example(members.get(name, {}), root, depth + 1) for name in required}
    if kind == "array":
        return _items(schema, root, depth)
    if kind == "string":
        text = _FORMATS.get(str(schema.get("format")), "text")
        least, most = _bound(schema, "minLength", 0), _bound(schema, "maxLength", inf)
        return text.ljust(int(min(least, 1000)), "x")[: None if most == inf else int(most)]
    if kind in ("integer", "number"):
        return _number(schema, whole=kind == "integer")
    return _PLAIN.get(str(kind))


def _items(schema: Schema, root: Schema, depth: int) -> list[object]:
    first = schema.get("prefixItems")
    if isinstance(first, list):
        return [example(item, root, depth + 1) for item in first]
    items = schema.get("items")
    least = schema.get("minItems")
    count = max(1, least if isinstance(least, int) else 1)
    return [example(cast("Schema", items), root, depth + 1)] * min(count, 10) if isinstance(items, Mapping) else []


def _number(schema: Schema, *, whole: bool) -> object:
    """1 where it is allowed, else a number as near to a bound as is safe."""
    step = 1.0 if whole else 0.5
    low = max(_bound(schema, "minimum", -inf), _bound(schema, "exclusiveMinimum", -inf) + step)
    high = min(_bound(schema, "maximum", inf), _bound(schema, "exclusiveMaximum", inf) - step)
    value = (low + _bound(schema, "exclusiveMaximum", high)) / 2 if low > high else min(max(1.0, low), high)
    return int(value) if whole else value


def _bound(schema: Schema, name: str, otherwise: float) -> float:
    value = schema.get(name)
    return float(value) if isinstance(value, int | float) else otherwise
