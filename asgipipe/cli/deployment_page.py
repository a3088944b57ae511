"""How deployments, snapshots and deployers are shown."""

import json
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from typing import cast

from asgipipe.cli.invoke import DeploymentRuns
from asgipipe.cli.tables import cell, local_time, table
from asgipipe.cli.typed import arguments_for
from asgipipe.deployers.records import DeployerRecord, DeploymentRecord, HistoryEntry, JSONObject, Snapshot, Status
from asgipipe.deployers.rollout import LAST_FAILURE, SERVED
from asgipipe.deployers.state import State
from asgipipe.pipelines.example import example

_COLORS = {Status.RUNNING: "green", Status.PENDING: "yellow", Status.ERROR: "red", Status.UNKNOWN: "magenta"}
_MASK = "**********"


def color_of(status: Status) -> str | None:
    return _COLORS.get(status)


def timestamp(seconds: float) -> str:
    """Return a time as RFC 3339."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def serves_openly(record: DeploymentRecord) -> bool:
    """Say whether it serves without a key; before it has served, nobody knows."""
    return SERVED in record.metadata and not record.key_digests


# As JSON


def deployment_json(record: DeploymentRecord, state: State, snapshot: Snapshot | None) -> dict[str, object]:
    """Return all that may be shown of a deployment: no key, and of its environment the names alone."""
    return {
        "id": record.id,
        "name": record.name,
        **state.as_json(),
        "url": _url(record, state),
        "revision": _revision(record),
        "snapshot": None if snapshot is None else snapshot.name,
        "deployer": record.deployer,
        "owner": record.owner,
        "auth_enabled": not serves_openly(record),
        "environment": sorted(record.environment),
        "instance": None if record.instance is None else record.instance.as_json(),
        "metadata": dict(record.metadata),
        "created_at": timestamp(record.created_at),
        "updated_at": timestamp(record.updated_at),
    }


def snapshot_json(snapshot: Snapshot) -> dict[str, object]:
    return {**asdict(snapshot), "created_at": timestamp(snapshot.created_at)}


def deployer_json(deployer: DeployerRecord) -> dict[str, object]:
    return {**asdict(deployer), "created_at": timestamp(deployer.created_at) if deployer.created_at else None}


def history_json(entry: HistoryEntry) -> dict[str, object]:
    return {**asdict(entry), "at": timestamp(entry.at)}


# As text


def deployment_table(rows: Sequence[tuple[DeploymentRecord, State, str]]) -> list[str]:
    """Return the lines of a list; the last of each row is the name of its snapshot."""
    cells = [
        (
            record.name,
            state.status.value,
            _url(record, state) or "-",
            snapshot,
            record.deployer,
            record.owner,
            local_time(timestamp(record.updated_at)),
        )
        for record, state, snapshot in rows
    ]
    return table(("NAME", "STATUS", "URL", "SNAPSHOT", "DEPLOYER", "OWNER", "UPDATED"), cells)


def deployment_page(
    record: DeploymentRecord,
    state: State,
    snapshot: Snapshot,
    history: Sequence[HistoryEntry],
    commands: JSONObject,
) -> list[str]:
    """Return the lines of a description: facts, schemas, calls to copy, what can be done, what was done."""
    lines = facts(
        [
            ("Name", record.name),
            ("Status", state.status.value),
            ("Reason", cell(state.reason or "", 300)),
            ("Last failure", _failure(record)),
            ("URL", _url(record, state)),
            ("Pipeline", snapshot.pipeline),
            ("Description", cell(snapshot.description, 300)),
            ("Snapshot", snapshot.name),
            ("Revision", _revision(record)),
            ("Deployer", record.deployer),
            ("Owner", record.owner),
            ("Access", "OPEN: no key" if serves_openly(record) else "with a key"),
            ("Environment", ", ".join(f"{name}={_MASK}" for name in sorted(record.environment))),
            ("Created", local_time(timestamp(record.created_at))),
            ("Updated", local_time(timestamp(record.updated_at))),
        ]
    )
    if state.log:
        lines += ["", "Last lines of the log:", *(f"    {cell(line, 500)}" for line in state.log)]
    lines += schema_lines(snapshot)
    if _url(record, state) is not None:
        lines += ["", "Call it:", *(f"    {line}" for line in calls(record, snapshot))]
    lines += ["", "Manage it:", *(f"    {line}" for line in _management(record, state, commands))]
    if history:
        rows = [
            (local_time(timestamp(entry.at)), entry.actor, entry.action, _detail(entry.detail)) for entry in history
        ]
        lines += ["", *table(("TIME", "BY", "WHAT", ""), rows)]
    return lines


def facts(pairs: Sequence[tuple[str, object]]) -> list[str]:
    """Return one line for each fact that there is."""
    shown = [(name, str(value)) for name, value in pairs if value not in (None, "")]
    return [f"{name:<14}{value}" for name, value in shown]


def schema_lines(snapshot: Snapshot) -> list[str]:
    """Return what a pipeline takes and gives, in a line for each parameter and output."""
    lines: list[str] = []
    for title, schema in (("Takes:", snapshot.input_schema), ("Gives:", snapshot.output_schema)):
        rows = _members(schema)
        if rows:
            lines += ["", title, *(f"    {line}" for line in table(("NAME", "TYPE", "DEFAULT", "DESCRIPTION"), rows))]
    return lines


def calls(record: DeploymentRecord, snapshot: Snapshot) -> list[str]:
    """Return calls to copy: with curl, and with our own command."""
    schema = snapshot.input_schema
    parameters = cast("Mapping[str, object]", example(schema, schema))
    body = json.dumps({"parameters": parameters}, ensure_ascii=False)
    key = ' -H "Authorization: Bearer $ASGIPIPE_KEY"' if record.key_digests else ""
    invoke = _invoke_path(snapshot)
    arguments = shlex.join(arguments_for(parameters, schema, DeploymentRuns.taken()))
    return [
        f"curl {shlex.quote(f'{record.url}{invoke}')}{key} -H 'Content-Type: application/json' -d {shlex.quote(body)}",
        f"asgipipe deployment invoke {shlex.quote(record.name)} {arguments}".rstrip(),
    ]


def _url(record: DeploymentRecord, state: State) -> str | None:
    """Return where it is reached; what never came to serve may have the address of something else."""
    return record.url if state.status is not Status.ABSENT and SERVED in record.metadata else None


def _revision(record: DeploymentRecord) -> int:
    """Return the number of what serves, or served last; those that failed since have higher ones."""
    return record.revision if record.instance is None else record.instance.revision


def _failure(record: DeploymentRecord) -> str | None:
    failure = record.metadata.get(LAST_FAILURE)
    if not isinstance(failure, Mapping):
        return None
    return cell(f"revision {failure.get('revision')}: {failure.get('reason')}", 300)


def _invoke_path(snapshot: Snapshot) -> str:
    deployment = cast("Mapping[str, Mapping[str, object]]", snapshot.settings.get("settings") or {}).get("deployment")
    return str((deployment or {}).get("invoke_url_path") or "/invoke")


def _management(record: DeploymentRecord, state: State, commands: JSONObject) -> list[str]:
    name = shlex.quote(record.name)
    first = "provision" if state.status in (Status.ABSENT, Status.ERROR) else "deprovision"
    ours = [f"asgipipe deployment {command} {name}" for command in ("logs -f", first, "rotate-key", "delete")]
    return [*ours, *(str(command) for command in commands.values())]


def _members(schema: JSONObject) -> list[tuple[str, ...]]:
    properties = cast("Mapping[str, Mapping[str, object]]", schema.get("properties") or {})
    required = cast("Sequence[str]", schema.get("required") or ())
    return [
        (
            name,
            _type(member),
            "required" if name in required else json.dumps(member.get("default"), ensure_ascii=False),
            str(member.get("description") or ""),
        )
        for name, member in properties.items()
    ]


def _type(schema: Mapping[str, object]) -> str:
    if "$ref" in schema:
        return str(schema["$ref"]).rpartition("/")[2]
    options = schema.get("anyOf")
    if isinstance(options, list):
        return " | ".join(_type(option) for option in options)
    if "enum" in schema:
        return " | ".join(json.dumps(value) for value in cast("Sequence[object]", schema["enum"]))
    if schema.get("type") == "array":
        return f"array of {_type(cast('Mapping[str, object]', schema.get('items') or {}))}"
    return str(schema.get("type") or "any")


def _detail(detail: JSONObject) -> str:
    """Return the members on one line: of those that are true or false, the names of the true ones."""
    told = [name if value is True else f"{name} {value}" for name, value in detail.items() if value is not False]
    return cell(", ".join(told), 200)
