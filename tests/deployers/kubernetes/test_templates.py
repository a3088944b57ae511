from pathlib import Path

import pytest

from asgipipe.errors import DeploymentError
from tests.deployers.kubernetes.samples import ID, plan, workload, write

pytest.importorskip("lightkube")

from asgipipe_kubernetes.templates import additional

INGRESS = """
apiVersion: networking.k8s.io/v1
kind: Ingress
metadata:
  name: ${name}
  labels: {tier: edge}
spec:
  rules:
  - host: ${deployment}.${namespace}.example
    http:
      paths:
      - {path: /, pathType: Prefix, backend: {service: {name: "${name}", port: {number: ${port}}}}}
---
---
apiVersion: v1
kind: ConfigMap
metadata: {name: "${name}-script"}
data:
  run: echo $HOME $1 $${USER} ${image} ${revision} ${deployment_id}
"""


def test_variables_are_filled_in(tmp_path: Path) -> None:
    """Each variable has its value, other dollars stay, and the objects get the deployment's namespace and labels."""
    write(tmp_path, INGRESS)
    ingress, script = additional(plan(workload(project=str(tmp_path)), additional_resources=["more.yaml"]))
    assert ingress["spec"] == {
        "rules": [
            {
                "host": "weather.services.example",
                "http": {
                    "paths": [
                        {
                            "path": "/",
                            "pathType": "Prefix",
                            "backend": {"service": {"name": "weather", "port": {"number": 8000}}},
                        }
                    ]
                },
            }
        ]
    }
    metadata = ingress["metadata"]
    assert isinstance(metadata, dict)
    assert metadata["namespace"] == "services"
    assert metadata["labels"] == {
        "tier": "edge",
        "app.kubernetes.io/name": "weather",
        "app.kubernetes.io/managed-by": "asgipipe",
        "asgipipe.dev/deployment": ID,
    }
    assert script["data"] == {"run": f"echo $HOME $1 ${{USER}} ghcr.io/acme/weather:3 1 {ID}"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind: A\nname: ${nmae}\n", r"more\.yaml:2: there is no variable \$\{nmae\}, only .*\$\{name\}"),
        ("a: [\n", r"more\.yaml:2: "),
        ("- a\n", "each document needs apiVersion"),
        ("apiVersion: v1\nkind: A\nmetadata: {}\n", "each document needs apiVersion"),
        ("apiVersion: v1\nkind: Secret\nmetadata: {name: a, labels: [x]}\n", "the labels of Secret a are no mapping"),
        ("apiVersion: v1\nkind: A\nmetadata: {name: a}\n---\n" * 51, "more than 50 objects"),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, text: str, message: str) -> None:
    """A file that cannot be used is named, with the line and what is wrong there."""
    write(tmp_path, text)
    with pytest.raises(DeploymentError, match=message):
        additional(plan(workload(project=str(tmp_path)), additional_resources=["more.yaml"]))


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    """So is one that is missing, is too large, or is no text."""
    given = plan(workload(project=str(tmp_path)), additional_resources=["more.yaml"])
    with pytest.raises(DeploymentError, match=r"more\.yaml .*cannot be read: No such file"):
        additional(given)
    write(tmp_path, "#" * 600_000)
    with pytest.raises(DeploymentError, match="more than 512 KiB"):
        additional(given)
    (tmp_path / "more.yaml").write_bytes(b"\xff")
    with pytest.raises(DeploymentError, match="not text in UTF-8"):
        additional(given)
