"""What the commands about snapshots, deployers and deployments work with."""

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from types import FrameType
from typing import Concatenate, NoReturn, ParamSpec, TypeVar

import click
from pydantic_core import PydanticCustomError

from asgipipe.cli.waiting import Waiting
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import PATIENCE, Deployments, OtherOwnerError
from asgipipe.deployers.records import DeploymentRecord
from asgipipe.deployers.registry import Registry
from asgipipe.errors import UserError
from asgipipe.settings.stores import store_url
from asgipipe.stores.registry import database

P = ParamSpec("P")
R = TypeVar("R")

KEY = "ASGIPIPE_KEY"
"""The variable with the key of the deployment that is called."""

_VARIABLE = "ASGIPIPE_STORE_URL"


@dataclass(frozen=True, slots=True)
class Desk:
    """The registry of a store, this user's keys, and what may be done to deployments."""

    registry: Registry
    credentials: Credentials
    deployments: Deployments


@contextmanager
def opened(store: str | None, *, patience: float = PATIENCE, quiet: bool = False) -> Iterator[Desk]:
    """Open the registry in `store`, else in the store that the environment names, else in that of this directory."""
    credentials = Credentials()
    with Registry(database(_place(store))) as registry, Waiting(quiet=quiet) as waiting, _unwound():
        deployments = Deployments(registry, credentials, patience=patience, report=waiting)
        yield Desk(registry, credentials, deployments)


def _place(store: str | None) -> str | None:
    place, origin = (store, "--store") if store else (os.environ.get(_VARIABLE), _VARIABLE)
    try:
        return store_url(place) if place else None
    except PydanticCustomError as error:
        raise click.UsageError(f"{origin}: {error.message()}") from None


@contextmanager
def _unwound() -> Iterator[None]:
    """Have SIGTERM and SIGHUP end the command as ctrl-C does: not before what it has half done is put right."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    # One that is ignored stays so: nohup does that to SIGHUP.
    signals = [each for each in _signals() if signal.getsignal(each) is signal.SIG_DFL]
    for each in signals:
        signal.signal(each, _end)
    try:
        yield
    finally:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)


def _signals() -> Sequence[signal.Signals]:
    return [signal.SIGTERM] if sys.platform == "win32" else [signal.SIGTERM, signal.SIGHUP]


def _end(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + number)


store_option = click.option(
    "--store",
    metavar="STORE",
    help=f"Where deployments are registered, as the setting store_url. By default {_VARIABLE}, or .asgipipe/store.db "
    "in the working directory.",
)


def of_registry(function: Callable[Concatenate[Desk, P], R]) -> Callable[P, R]:
    """Give a command's function `--store`; it receives the opened desk as its first argument."""

    @store_option
    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        store = kwargs.pop("store")
        patience = kwargs.pop("patience", PATIENCE)
        assert store is None or isinstance(store, str)
        assert isinstance(patience, float)
        with opened(store, patience=patience, quiet=bool(kwargs.get("as_json"))) as desk:
            return function(desk, *args, **kwargs)

    return command


patience_option = click.option(
    "--timeout",
    "patience",
    type=click.FloatRange(0, min_open=True),
    default=PATIENCE,
    show_default=True,
    metavar="SECONDS",
    help="How long what is started may take until it is ready.",
)

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")

overtake_option = click.option(
    "-y", "--yes", "--overtake", "overtake", is_flag=True, help="Change it also when it is somebody else's."
)


def confirmed(change: Callable[[bool], R], *, overtake: bool) -> R:
    """Make a change, and ask before it is made to a deployment of another owner's; `change` takes the consent."""
    try:
        return change(overtake)
    except OtherOwnerError as error:
        _ask_consent(error)
        return change(True)


def _ask_consent(error: OtherOwnerError) -> None:
    """Ask whether another owner's deployment is to be changed; raise the error where nobody says so."""
    question = f"The deployment is {error.owner}'s. Change it all the same?"
    if not sys.stdin.isatty() or not click.confirm(question, err=True):
        raise error


def complete_deployments(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of deployments that begin with what was typed."""
    return _completed(context, incomplete, lambda desk: [each.name for each in desk.registry.deployments()])


def complete_snapshots(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of snapshots that begin with what was typed."""
    return _completed(context, incomplete, lambda desk: [each.name for each in desk.registry.snapshots()])


def complete_deployers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of deployers that begin with what was typed."""
    return _completed(context, incomplete, lambda desk: [each.name for each in desk.registry.deployers()])


def _completed(context: click.Context, incomplete: str, names: Callable[[Desk], list[str]]) -> list[str]:
    """Return names that begin with what was typed; none where the store cannot be read, and not a word about it."""
    logging.disable()
    try:
        with opened(context.params.get("store"), quiet=True) as desk:
            return [name for name in names(desk) if name.startswith(incomplete)]
    except (UserError, click.UsageError):
        return []


def key_of(desk: Desk, record: DeploymentRecord) -> str | None:
    """Return the key of a deployment that this user has: in ASGIPIPE_KEY, or kept from when it was made."""
    return os.environ.get(KEY) or desk.credentials.get(record.id)
