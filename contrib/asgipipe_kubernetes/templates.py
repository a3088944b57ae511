"""Objects that the user adds: YAML files with variables, applied and removed together with the deployment."""

import string
from collections.abc import Iterator, Mapping
from pathlib import Path

import yaml

from asgipipe.errors import DeploymentError
from asgipipe_kubernetes.kinds import is_namespaced
from asgipipe_kubernetes.manifests import Manifest, key_of
from asgipipe_kubernetes.plan import Plan

_LARGEST = 512 * 1024
"""Bytes of one file."""
_MOST = 50
"""Objects that a deployment may have besides its own."""


class _Template(string.Template):
    """Variables in braces alone: `$1` or `$HOME` of a script in a ConfigMap is left as it is."""

    pattern = r"\$(?:(?P<escaped>\$)|(?P<named>(?!))|\{(?P<braced>[a-z_]+)\}|(?P<invalid>(?!)))"  # type: ignore[assignment]


def additional(plan: Plan) -> list[Manifest]:
    """Return the objects of `additional_resources`, each with the labels of the deployment. Raises DeploymentError."""
    found = [
        _adopted(plan, manifest, path)
        for path in plan.settings.additional_resources
        for manifest in _documents(path, _filled(path, _read(Path(plan.workload.project) / path), _variables(plan)))
    ]
    if len(found) > _MOST:
        raise DeploymentError(f"additional_resources hold more than {_MOST} objects")
    return found


def _variables(plan: Plan) -> dict[str, str]:
    return {
        "name": plan.name,
        "deployment": plan.workload.name,
        "deployment_id": plan.workload.deployment_id,
        "namespace": plan.namespace,
        "image": plan.image,
        "port": str(plan.service_port),
        "revision": str(plan.workload.revision),
    }


def _read(path: Path) -> str:
    try:
        data = path.read_bytes()
        if len(data) > _LARGEST:
            raise DeploymentError(f"{path} has more than {_LARGEST // 1024} KiB")
        return data.decode()
    except OSError as error:
        raise DeploymentError(f"{path} of additional_resources cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise DeploymentError(f"{path} of additional_resources is not text in UTF-8") from error


def _filled(path: Path, text: str, variables: Mapping[str, str]) -> str:
    lines: list[str] = []
    for number, line in enumerate(text.splitlines(), start=1):
        try:
            lines.append(_Template(line).substitute(variables))
        except KeyError as error:
            known = ", ".join(f"${{{name}}}" for name in sorted(variables))
            raise DeploymentError(
                f"{path}:{number}: there is no variable ${{{error.args[0]}}}, only {known}; $${{…}} stays as it is"
            ) from None
    return "\n".join(lines) + "\n"


def _documents(path: Path, text: str) -> Iterator[Manifest]:
    try:
        documents = list(yaml.safe_load_all(text))
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise DeploymentError(f"{path}:{line}: {error.problem or 'this is no YAML'}") from None
    except yaml.YAMLError as error:
        raise DeploymentError(f"{path}: {' '.join(str(error).split())}") from None
    for document in documents:
        if document is None:
            continue
        if not isinstance(document, dict) or not _is_object(document):
            raise DeploymentError(f"{path}: each document needs apiVersion, kind and metadata.name")
        yield document


def _is_object(document: Mapping[str, object]) -> bool:
    metadata = document.get("metadata")
    named = isinstance(metadata, Mapping) and isinstance(metadata.get("name"), str)
    return named and isinstance(document.get("apiVersion"), str) and isinstance(document.get("kind"), str)


def _adopted(plan: Plan, manifest: Manifest, path: Path) -> Manifest:
    metadata = manifest["metadata"]
    assert isinstance(metadata, dict)
    labels = metadata.get("labels") or {}
    if not isinstance(labels, Mapping):
        raise DeploymentError(f"{path}: the labels of {' '.join(key_of(manifest)[1:3])} are no mapping")
    adopted = {**metadata, "labels": {**labels, **plan.labels}}
    if is_namespaced(manifest):
        adopted.setdefault("namespace", plan.namespace)
    return {**manifest, "metadata": adopted}
