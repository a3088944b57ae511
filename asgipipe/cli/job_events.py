"""The events of a job as they happen: for people, or as lines of JSON.

The pieces of output alone go to stdout; everything else, to stderr.
"""

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import cast

import click

from asgipipe.cli.job_source import Json
from asgipipe.cli.tables import cell, local_time
from asgipipe.jobs.records import PIPELINE_STARTED, TERMINAL_EVENTS
from asgipipe.jobs.states import JobState
from asgipipe.settings.fields import printable

_STATES = {event_type: state for state, event_type in TERMINAL_EVENTS.items()}
_LEVELS = {"warning": "yellow", "error": "red", "critical": "red"}
_WIDEST = 2000
"""Characters of a log message or an error; `--json` shows all of it."""
_BAR = 24
"""Characters of a full bar."""


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job has ended; the time is in seconds."""

    state: JobState
    error: str | None
    execution_time: float | None


class JSONLines:
    """Prints each event as a line of JSON; `ending` is None until the last one."""

    def __init__(self) -> None:
        self.ending: Ending | None = None

    def event(self, event: Json) -> None:
        click.echo(json.dumps(event, ensure_ascii=False))
        self.ending = ending_of(event)

    def notice(self, text: str) -> None:
        click.echo(text, err=True)

    def clear(self) -> None:
        """Nothing stands on the screen that has to go."""


class Narration:
    """Tells people: on a terminal by a bar below what is printed, else line by line."""

    def __init__(self) -> None:
        self.ending: Ending | None = None
        self._bar = _StatusLine()
        self._on_screen = sys.stdout.isatty()
        self._mid_line = False
        self._said = ""

    def event(self, event: Json) -> None:
        data = _data(event)
        match event["event_type"]:
            case "output_delta":
                self._output(data.get("delta"))
            case "progress":
                self._progress(event, data)
            case "log":
                level = str(data.get("level")).lower()
                self._line(event, f"{level} {data.get('logger')}: {data.get('message')}", _LEVELS.get(level))
            case "step_failed" | "retrying":
                delay = f"; again in {data['delay']:.3g} s" if "delay" in data else ""
                self._line(event, f"attempt {data.get('attempt')} failed: {data.get('error')}{delay}", "yellow")
            case kind if kind not in _STATES:
                self._begun(event, str(kind))
        self.ending = ending_of(event)

    def notice(self, text: str) -> None:
        self._say(text, None)

    def clear(self) -> None:
        """Leave the cursor at the beginning of an empty line."""
        self._bar.hide()
        if self._mid_line:
            click.echo()
            self._mid_line = False

    def _output(self, delta: object) -> None:
        text = delta if isinstance(delta, str) else f"{json.dumps(delta, ensure_ascii=False)}\n"
        if not text:
            return
        self._bar.hide()
        click.echo(_shown(text) if self._on_screen else text, nl=False)
        self._mid_line = self._on_screen and not text.endswith("\n")
        if not self._mid_line:
            self._bar.show()

    def _progress(self, event: Json, data: Json) -> None:
        fraction = data.get("fraction")
        share = min(max(float(fraction), 0.0), 1.0) if isinstance(fraction, int | float) else 0.0
        message = str(data.get("message") or "")
        if self._bar.possible:
            self._bar.change(step=event.get("step_name"), share=share, message=message)
            self._redraw()
        elif (text := f"{share:.0%}  {message}".rstrip()) != self._said:
            self._said = text
            self._line(event, text, None)

    def _begun(self, event: Json, kind: str) -> None:
        """Tell of a step or pipeline that began, or of a step that ended."""
        data = event.get("data")
        attempt = data.get("attempt", 1) if isinstance(data, dict) else 1
        if kind == PIPELINE_STARTED and attempt != 1:
            self._line(event, f"attempt {attempt} started", None)
        elif not self._bar.possible:
            self._line(event, kind.rpartition("_")[2], None)
        elif event.get("step_name") is not None:
            self._bar.change(step=event["step_name"])
            self._redraw()

    def _redraw(self) -> None:
        if not self._mid_line:
            self._bar.show()

    def _line(self, event: Json, text: str, color: str | None) -> None:
        time = local_time(str(event["timestamp"]))[11:] if "timestamp" in event else ""
        self._say(f"{time}  {event.get('step_name') or 'pipeline'}  {text}", color)

    def _say(self, text: str, color: str | None) -> None:
        self.clear()
        click.secho(cell(text, _WIDEST), fg=color, err=True)
        self._bar.show()


class _StatusLine:
    """The last line of a terminal: what runs, and how far it has come. Nothing where stderr is none."""

    def __init__(self) -> None:
        self.possible = sys.stderr.isatty()
        self._step = self._message = ""
        self._share: float | None = None
        self._visible = False

    def change(self, *, step: object, share: float | None = None, message: str | None = None) -> None:
        """Say what runs; without `share` and `message` they stay as they are."""
        self._step = "" if step is None else str(step)
        self._share = self._share if share is None else share
        self._message = self._message if message is None else message

    def show(self) -> None:
        text = self._text()
        if self.possible and text:
            columns = os.get_terminal_size(sys.stderr.fileno()).columns or 80  # not shutil's, which asks stdout
            # Not a color, so that NO_COLOR leaves it in.
            click.echo(f"\r{cell(text, columns - 1)}\x1b[K", nl=False, err=True, color=True)
            self._visible = True

    def hide(self) -> None:
        if self._visible:
            click.echo("\r\x1b[K", nl=False, err=True, color=True)
            self._visible = False

    def _text(self) -> str:
        if self._share is None:
            return self._step
        full = round(self._share * _BAR)
        bar = f"[{'#' * full}{'-' * (_BAR - full)}] {self._share:>4.0%}"
        return "  ".join(part for part in (bar, self._step, self._message) if part)


def ending_of(event: Json) -> Ending | None:
    """Return how the job has ended, if this is its last event."""
    state = _STATES.get(str(event["event_type"]))
    if state is None:
        return None
    envelope = _data(event)
    error, seconds = envelope.get("error"), envelope.get("execution_time")
    return Ending(
        state, None if error is None else str(error), float(seconds) if isinstance(seconds, int | float) else None
    )


def _data(event: Json) -> Json:
    data = event.get("data")
    return cast("Json", data) if isinstance(data, Mapping) else {}


def _shown(text: str) -> str:
    """Return text without what would steer the terminal."""
    return "".join(one if one in "\n\t" else printable(one) for one in text)
