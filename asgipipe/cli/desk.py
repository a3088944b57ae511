"""What the commands about snapshots, deployers and deployments work with."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Concatenate, ParamSpec, TypeVar

import click

from asgipipe.cli.waiting import Waiting
from asgipipe.deployers.credentials import Credentials
from asgipipe.deployers.deployments import PATIENCE, Deployments, OtherOwnerError
from asgipipe.deployers.records import DeploymentRecord
from asgipipe.deployers.registry import Registry
from asgipipe.stores.registry import database

P = ParamSpec("P")
R = TypeVar("R")

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
    with Registry(database(store or os.environ.get(_VARIABLE))) as registry, Waiting(quiet=quiet) as waiting:
        deployments = Deployments(registry, credentials, patience=patience, report=waiting)
        yield Desk(registry, credentials, deployments)


def of_registry(function: Callable[Concatenate[Desk, P], R]) -> Callable[P, R]:
    """Give a command's function `--store`; it receives the opened desk as its first argument."""

    @click.option(
        "--store",
        metavar="STORE",
        help=f"Where deployments are registered, as the setting store_url. By default {_VARIABLE}, or "
        ".asgipipe/store.db in the working directory.",
    )
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

overtake_option = click.option(
    "-y", "--yes", "--overtake", "overtake", is_flag=True, help="Change it also when it is somebody else's."
)


def confirmed(change: Callable[[bool], R], *, overtake: bool) -> R:
    """Make a change, and ask before it is made to a deployment of another owner's; `change` takes the consent."""
    try:
        return change(overtake)
    except OtherOwnerError as error:
        ask_consent(error)
        return change(True)


def ask_consent(error: OtherOwnerError) -> None:
    """Ask whether another owner's deployment is to be changed; without a terminal to ask on, raise the error."""
    if not sys.stdin.isatty():
        raise error
    click.confirm(f"The deployment is {error.owner}'s. Change it all the same?", abort=True, err=True)


def complete_deployments(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of deployments that begin with what was typed."""
    with opened(context.params.get("store"), quiet=True) as desk:
        return [record.name for record in desk.registry.deployments() if record.name.startswith(incomplete)]


def complete_snapshots(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of snapshots that begin with what was typed."""
    with opened(context.params.get("store"), quiet=True) as desk:
        return [snapshot.name for snapshot in desk.registry.snapshots() if snapshot.name.startswith(incomplete)]


def complete_deployers(context: click.Context, parameter: click.Parameter, incomplete: str) -> list[str]:
    """Return the names of deployers that begin with what was typed."""
    with opened(context.params.get("store"), quiet=True) as desk:
        return [record.name for record in desk.registry.deployers() if record.name.startswith(incomplete)]


def key_of(desk: Desk, record: DeploymentRecord) -> str | None:
    """Return the key of a deployment that this user has: in ASGIPIPE_KEY, or kept from when it was made."""
    return os.environ.get("ASGIPIPE_KEY") or desk.credentials.get(record.id)
