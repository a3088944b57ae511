"""Settings from environment variables: `ASGIPIPE_UVICORN_PORT`, `ASGIPIPE_CORS__ALLOW_ORIGINS`."""

import re
from collections.abc import Mapping
from dataclasses import replace

from asgipipe.errors import SettingsIssue
from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.fields import every_field, nearest, printable
from asgipipe.settings.layers import Layer
from asgipipe.settings.text import TextLayer

PREFIX = "ASGIPIPE_"
RESERVED = frozenset(
    {
        *("ASGIPIPE_DEBUG", "ASGIPIPE_KEY", "ASGIPIPE_SPECIFICATION"),
        *("ASGIPIPE_CONFIG_DIR", "ASGIPIPE_OWNER"),  # for whoever manages deployments
        *("ASGIPIPE_INSTANCE", "ASGIPIPE_LISTENER", "ASGIPIPE_READY_FILE"),  # from whoever keeps the process
    }
)
"""Variables with our prefix that are no settings."""

CAPTURE_DEFAULT = "ASGIPIPE_CAPTURE_DEFAULT"
"""The capture policy of pipelines that have none of their own; ASGIPIPE_CAPTURE goes before theirs."""

# Kubernetes tells every container about a service named `asgipipe...` in variables of this form.
_SERVICE_LINK = re.compile(
    r"ASGIPIPE_(\w+_)?"
    r"(SERVICE_HOST=.*|SERVICE_PORT(_\w+)?=.*|PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?=.*|PORT=(tcp|udp|sctp)://.*)"
)


def environment_name(path: tuple[str, ...]) -> str:
    """Return the variable of the field at `path`."""
    return PREFIX + "__".join(path).upper()


def environment_layer(environ: Mapping[str, str]) -> Layer:
    """Return the layer of the variables that begin with `ASGIPIPE_`; one that is no setting is a mistake."""
    collected = TextLayer()
    given = {name: text for name, text in environ.items() if name.upper().startswith(PREFIX) and name not in RESERVED}
    for path, field in every_field():
        name = environment_name(path)
        if name in given:
            collected.put(path, field, given.pop(name), f"environment {name}")
    below = _capture_default(given.pop(CAPTURE_DEFAULT, None))
    for name, text in given.items():
        if not _SERVICE_LINK.fullmatch(f"{name}={text}"):
            collected.refuse(_unknown(name))
    return replace(collected.layer("environment"), parts=below)


def _capture_default(text: str | None) -> tuple[Layer, ...]:
    if text is None:
        return ()
    collected = TextLayer()
    collected.put(("capture",), DeploymentSettings.model_fields["capture"], text, f"environment {CAPTURE_DEFAULT}")
    return (replace(collected.layer("environment"), lowest=True),)


def _unknown(name: str) -> SettingsIssue:
    known = {environment_name(path).removeprefix(PREFIX) for path, _ in every_field()} | {"CAPTURE_DEFAULT"}
    near = nearest(name.upper().removeprefix(PREFIX), known)
    return SettingsIssue(
        "", "no such setting", f"environment {printable(name)}", near and f"did you mean {PREFIX}{near}?"
    )
