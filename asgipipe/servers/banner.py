"""What `asgipipe serve` says once it serves: what is where, whether a key is needed, and a call to copy."""

import json
import logging
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import click

from asgipipe import __version__
from asgipipe.pipelines.example import Schema, example
from asgipipe.servers.application import Plan
from asgipipe.servers.options import ServerOptions
from asgipipe.settings import built_in_paths, exposed_without_key

logger = logging.getLogger("asgipipe.servers")


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
