"""The reference pages say what the code says."""

import json
import re
from pathlib import Path

import pytest

from asgipipe import DeploymentSettings
from asgipipe.jobs.records import TERMINAL_EVENTS
from asgipipe.jobs.states import TRANSITIONS, JobState

REFERENCE = Path(__file__).parents[2] / "docs" / "reference"
SETTINGS = tuple(
    name
    for name in DeploymentSettings.model_fields
    if re.search(r"job|stor(e|age)|artifact|capture|idempotency|subscri|stream_heartbeat|max_message", name)
    and not name.endswith("_url_path")
)


def row(name: str) -> str:
    """Return the row of the table in which a setting of DeploymentSettings stands."""
    field = DeploymentSettings.model_fields[name]
    default = field.get_default(call_default_factory=True)
    shown = "none" if name == "capture" else json.dumps(default).removesuffix(".0")
    return f"| `{name}` | {shown} | {field.description} |"


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_in_the_table(name: str) -> None:
    """The table of settings has each one of jobs, streams and capture, with its default and description."""
    assert row(name) in (REFERENCE / "jobs.md").read_text(encoding="utf-8").splitlines()


@pytest.mark.parametrize("state", JobState)
def test_a_state_is_in_the_table(state: JobState) -> None:
    """The table of states has each one, with the states that it may become."""
    following = ", ".join(each.value for each in JobState if each in TRANSITIONS[state]) or "-"
    assert f"| `{state}` | {following} |" in (REFERENCE / "jobs.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("event_type", TERMINAL_EVENTS.values())
def test_a_terminal_event_is_in_the_table(event_type: str) -> None:
    """The table of events has those that end a job."""
    assert f"| `{event_type}` |" in (REFERENCE / "events.md").read_text(encoding="utf-8")
