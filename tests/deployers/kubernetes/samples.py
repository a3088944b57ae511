"""Workloads to deploy, and settings to deploy them with."""

from pathlib import Path

import pytest

from asgipipe.deployers.records import JSONObject, Workload

pytest.importorskip("lightkube")

from asgipipe_kubernetes import KubernetesDeployerSettings  # it needs the extra
from asgipipe_kubernetes.plan import Plan

ID = "345d07e6-1856-543d-90ee-300cfbc6b1a8"
POSTGRESQL = "postgresql://service@db/jobs"


def workload(settings: JSONObject | None = None, **values: object) -> Workload:
    members: dict[str, object] = {
        "deployment_id": ID,
        "name": "weather",
        "revision": 1,
        "target": "agent.py:weather",
        "project": "/srv/weather",
        "settings": {"settings": {"deployment": settings or {}}},
        "environment": {"API_TOKEN": "canary-0123456789"},
        "scheme": "http",
        "host": "127.0.0.1",
        "port": 8000,
        "root": "",
        "ready_path": "/ready",
        "drain": 25.0,
    }
    return Workload(**{**members, **values})  # type: ignore[arg-type]


def settings(**values: object) -> KubernetesDeployerSettings:
    return KubernetesDeployerSettings.model_validate({"image": "ghcr.io/acme/weather:3", **values})


def plan(given: Workload | None = None, **values: object) -> Plan:
    chosen = settings(**values)
    return Plan(given or workload(), chosen, chosen.image or "", "services")


def write(folder: Path, text: str, name: str = "more.yaml") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path
