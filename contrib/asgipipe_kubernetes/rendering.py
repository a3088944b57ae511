"""Objects as YAML documents."""

from collections.abc import Iterable

import yaml

from asgipipe_kubernetes.manifests import Manifest

HIDDEN = "<hidden>"
"""Stands for a secret. It is no base64, so that no API server takes it."""

_ORDER = ("apiVersion", "kind", "metadata")


class _Dumper(yaml.SafeDumper):
    """Writes texts of several lines as such, and each object in full where it stands twice."""

    def ignore_aliases(self, data: object) -> bool:
        return True


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style="|" if "\n" in value else None)


_Dumper.add_representer(str, _text)


def documents(manifests: Iterable[Manifest], *, with_secrets: bool) -> str:
    """Return the documents in the order in which they are applied, the same bytes for the same objects."""
    shown = [_ordered(each if with_secrets else _hidden(each)) for each in manifests]
    text: str = yaml.dump_all(
        shown, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100, explicit_start=True
    )
    return text


def _hidden(manifest: Manifest) -> Manifest:
    if manifest.get("kind") != "Secret":
        return manifest
    found = dict(manifest)
    for member in ("data", "stringData"):
        values = found.get(member)
        if isinstance(values, dict):
            found[member] = dict.fromkeys(values, HIDDEN)
    return found


def _ordered(manifest: Manifest) -> Manifest:
    first = {name: manifest[name] for name in _ORDER if name in manifest}
    return {**first, **{name: value for name, value in manifest.items() if name not in first}}
