"""Where `asgipipe job` finds jobs: a running deployment, or a store."""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from functools import wraps
from typing import Concatenate, ParamSpec, Protocol, TypeVar

import click

from asgipipe.cli.options import config_option
from asgipipe.cli.remote import remote, remote_options, store_option
from asgipipe.cli.settings import resolved
from asgipipe.cli.tables import cell
from asgipipe.errors import UserError

Json = Mapping[str, object]

P = ParamSpec("P")
R = TypeVar("R")

CANDIDATES = 10
"""How many jobs an ambiguous beginning is said to fit."""

_BEGINNING = re.compile(r"[0-9a-f-]{1,36}").fullmatch


class Audience(Protocol):
    """Whoever is told what happens in a job that is followed."""

    def event(self, event: Json) -> None:
        """Take an event, as the HTTP contract has it."""

    def notice(self, text: str) -> None:
        """Take a remark about the following itself."""


class JobSource(ABC):
    """Jobs are as the HTTP contract has them. Every method may raise UserError."""

    @abstractmethod
    def page(self, statuses: Sequence[str], limit: int, cursor: str | None) -> Json:
        """Return the newest jobs first: `jobs`, `total`, `next_cursor`; without `statuses` those of any."""

    @abstractmethod
    def beginning(self, prefix: str) -> Sequence[Json]:
        """Return the jobs whose ids begin with `prefix`, CANDIDATES + 1 at most."""

    @abstractmethod
    def cancel(self, job_id: str, reason: str | None) -> Json:
        """Ask a job to end and return its `job_id` and `status`."""

    @abstractmethod
    def follow(self, job_id: str, audience: Audience) -> None:
        """Tell of each event of a job once, from the first that is kept to the last; return also where that is gone."""

    @abstractmethod
    def close(self) -> None: ...

    @property
    def nothing(self) -> str:
        """What is said where no jobs are found."""
        return "No jobs."

    def find(self, prefix: str) -> Json:
        """Return the only job whose id begins with `prefix`. Raises UserError when there is none, or are several."""
        prefix = prefix.strip().lower()
        found = self.beginning(prefix) if _BEGINNING(prefix) else ()
        if not found:
            raise UserError(f"there is no job {cell(prefix)!r}")
        if len(found) > 1:
            ids = [f"\n  {cell(str(job['job_id']))}" for job in found[:CANDIDATES]]
            more = "\n  and more" if len(found) > CANDIDATES else ""
            raise UserError(f"several jobs begin with {prefix!r}:{''.join(ids)}{more}")
        return found[0]


def of_jobs(function: Callable[Concatenate[JobSource, P], R]) -> Callable[P, R]:
    """Give a command's function the options that say where its jobs are; it receives the source as first argument."""

    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        given = {name: kwargs.pop(name) for name in ("url", "key", "store", "config_file", "deployment")}
        with _opened(**given) as source:  # type: ignore[arg-type]  # texts, as the options say
            return function(source, *args, **kwargs)

    deployment = click.option(
        "--deployment", metavar="NAME", help="Only jobs of this deployment. Of all that share the store by default."
    )
    return store_option(config_option(remote_options(deployment(command))))


@contextmanager
def _opened(
    *, url: str | None, key: str | None, store: str | None, config_file: str | None, deployment: str | None
) -> Iterator[JobSource]:
    with closing(_source(url, key, store, config_file, deployment)) as source:
        yield source


def _source(
    url: str | None, key: str | None, store: str | None, config_file: str | None, deployment: str | None
) -> JobSource:
    if url is not None:
        from asgipipe.cli.deployed_jobs import DeployedJobs

        if deployment is not None:
            raise click.UsageError("--url is one deployment, --deployment chooses among those of a store: give one")
        return DeployedJobs(remote(url, key, store, config_file))
    from asgipipe.cli.stored_jobs import StoredJobs

    settings = resolved(config_file, {} if store is None else {"store_url": store}).settings
    return StoredJobs(settings.store_url, deployment)
