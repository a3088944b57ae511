"""Making snapshots: a target is loaded and its settings are resolved, so that mistakes are found before it is kept."""

import contextlib
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import time

from asgipipe.deployers.fingerprint import fingerprint
from asgipipe.deployers.frozen import freeze
from asgipipe.deployers.identity import actor
from asgipipe.deployers.records import Service, Snapshot
from asgipipe.deployers.registry.names import check_name
from asgipipe.errors import DeploymentError
from asgipipe.identifiers import uuid7
from asgipipe.pipelines.target import found_from, module_of
from asgipipe.servers.application import Plan, plan
from asgipipe.servers.options import server_options
from asgipipe.servers.specification import Specification
from asgipipe.settings import DeploymentSettings, built_in_paths
from asgipipe.settings.keys import plain
from asgipipe.settings.stores import is_postgresql

_MOST_TAGS = 100


@dataclass(frozen=True, slots=True)
class MadeSnapshot:
    """A snapshot that is kept nowhere yet, and what is not to be kept with it.

    `keys` are the auth keys that the settings give, in clear or as digests. `secrets` are variables of the environment
    that a deployment of it needs: settings that hold a secret, and the capture policy of the environment.
    """

    snapshot: Snapshot
    secrets: Mapping[str, str] = field(repr=False)
    keys: tuple[str, ...] = field(repr=False)
    settings: DeploymentSettings = field(repr=False)


def make_snapshot(
    target: str,
    *,
    name: str | None,
    project: Path,
    config_file: str | os.PathLike[str] | None = None,
    values: Mapping[str, str] | None = None,
    environ: Mapping[str, str] | None = None,
    tags: Sequence[str] = (),
    created_by: str | None = None,
    description: str = "",
) -> MadeSnapshot:
    """Make a snapshot of `target` as it is set by a settings file, by `environ` and by `values`, the last on top.

    `project` is the folder in which it is served: relative paths in the settings start there, now and later. `values`
    are texts by the dotted path of their field, as the command line gives them; `environ` is by default that of this
    process. Without a name it has that of the pipeline, to be numbered; without a description that of the application;
    `created_by` is by default who acts.

    Raises SourceError, DefinitionError, SettingsError or DeploymentError for everything that could not be served.
    """
    project = project.resolve()
    if not project.is_dir():
        raise DeploymentError(f"the project {str(project)!r} is no folder")
    found = found_from(target, project)
    file = None if config_file is None else str(Path(config_file).absolute())
    variables = dict(os.environ if environ is None else environ)
    _check_tags(tags)
    with _in_folder(project):
        (planned,) = plan(Specification((found,), file, dict(values or {})), variables)
        service = _service(planned)
        contract = planned.loaded.pipeline.contract
        found = _by_path(found, planned.loaded.source_root, project)
    frozen = freeze(planned.layers, planned.section, variables)
    snapshot = Snapshot(
        id=uuid7(),
        name=_name(name, planned.loaded.pipeline.name),
        pipeline=planned.loaded.pipeline.name,
        description=description or planned.settings.app_description or planned.loaded.pipeline.description,
        target=found,
        project=str(project),
        settings=frozen.settings,
        input_schema=contract.input_schema,
        output_schema=contract.output_schema,
        service=service,
        fingerprint=fingerprint(found, project, frozen.settings),
        tags=tuple(dict.fromkeys(tags)),
        created_by=actor() if created_by is None else created_by,
        created_at=time(),
    )
    return MadeSnapshot(snapshot, frozen.secrets, plain(planned.settings.auth_key), planned.settings)


def _by_path(target: str, source_root: Path, project: Path) -> str:
    """Return the path of a module in the project that was found elsewhere than in its folder: that of a script, say.

    What the Python path holds now, it may not hold where the snapshot is served.
    """
    name, _, attribute = target.rpartition(":")
    file = getattr(sys.modules.get(name), "__file__", None)
    if file is None or source_root == project or not source_root.is_relative_to(project):
        return target
    path = found_from(f"{file}:{attribute}", project)
    return path if module_of(path, project)[1] == name else target


def _service(planned: Plan) -> Service:
    settings = planned.settings
    options = server_options([settings], [planned.name])
    root = settings.root_url_path + settings.api_url_path
    return Service(
        scheme="https" if options.secure else "http",
        host=options.host,
        port=options.port,
        root=root,
        ready_path=root + settings.ready_url_path,
        drain=options.longest_stop,
        health_path=built_in_paths(settings).get("health_url_path"),
        shared_store=settings.store_url is not None and is_postgresql(settings.store_url),
    )


def _name(given: str | None, pipeline: str) -> str:
    if given is not None:
        check_name("snapshot", given)
        return given
    return pipeline.strip() or "pipeline"


def _check_tags(tags: Sequence[str]) -> None:
    if len(tags) > _MOST_TAGS:
        raise DeploymentError(f"a snapshot has {_MOST_TAGS} tags at most")
    for tag in tags:
        check_name("tag", tag)


@contextlib.contextmanager
def _in_folder(folder: Path) -> Iterator[None]:
    """Work in `folder`, which is where modules are looked for and relative paths start."""
    with contextlib.chdir(folder) if folder != Path.cwd() else contextlib.nullcontext():
        yield
