"""Settings from flags of the command line."""

from collections.abc import Mapping

from asgipipe.errors import SettingsIssue
from asgipipe.settings.fields import did_you_mean, dotted, every_field, printable
from asgipipe.settings.layers import Layer
from asgipipe.settings.text import TextLayer

SHORT_FLAGS = {
    "uvicorn_host": "--host",
    "uvicorn_port": "--port",
    "uvicorn_workers": "--workers",
    "uvicorn_reload": "--reload",
    "deployment_app_runner_flavor": "--runner",
}


def long_flag(name: str) -> str:
    """Return the flag that is spelt like the field `name`."""
    return f"--{name.replace('_', '-')}"


def flag_name(path: tuple[str, ...]) -> str:
    """Return the flag an error names for the field at `path`."""
    if len(path) > 1:
        return f"--set {dotted(path)}"
    return SHORT_FLAGS.get(path[0]) or long_flag(path[0])


def command_line_layer(values: Mapping[str, object]) -> Layer:
    """Return the layer of what was given on the command line.

    `values` holds texts, or Python values, by the dotted path of their field, such as `cors.allow_origins`.
    """
    collected = TextLayer()
    left = dict(values)
    for path, field in every_field():
        name = dotted(path)
        if name in left:
            collected.put(path, field, left.pop(name), flag_name(path))
    known = [dotted(path) for path, _ in every_field()]
    for name in left:
        place = f"--set {printable(name)}"
        collected.refuse(SettingsIssue(printable(name), "unknown field", place, did_you_mean(name, known)))
    return collected.layer("command line")
