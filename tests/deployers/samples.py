"""Snapshots, deployments and claims to keep in a registry."""

from dataclasses import replace

from asgipipe.deployers import identity
from asgipipe.deployers.records import Claim, DeployerRecord, DeploymentRecord, Instance, Service, Snapshot, Status
from asgipipe.identifiers import derived, uuid7

DOCKER = DeployerRecord("box", "docker", {"image": "weather", "labels": {"team": "é"}}, "ada", 3.5)


def snapshot(name: str, *tags: str, pipeline: str = "weather") -> Snapshot:
    return Snapshot(
        id=uuid7(),
        name=name,
        pipeline=pipeline,
        description="Tells the weather: “daily”.",
        target="weather.py:weather",
        project="/srv/weather",
        settings={"settings": {"deployment": {"uvicorn_port": 9000, "cors": {"allow_origins": []}}}},
        input_schema={"type": "object", "properties": {"city": {"type": "string"}}},
        output_schema={"type": "object"},
        service=Service("http", "127.0.0.1", 9000, "/api", "/api/ready", 47.0),
        fingerprint="ab" * 32,
        tags=tags,
        created_by="ada",
        created_at=1_800_000_000.123456,
    )


def deployment(name: str, kept: Snapshot, **changes: object) -> DeploymentRecord:
    record = DeploymentRecord(
        id=derived("deployment", name),
        name=name,
        snapshot_id=kept.id,
        deployer="local",
        owner="ada",
        wanted=Status.ABSENT,
        revision=2,
        instance=Instance(1, "http://127.0.0.1:9000", {"pid": 4, "boot": None}),
        incoming=None,
        key_digests=("sha256:" + "0" * 64,),
        environment={"ASGIPIPE_STORE_URL": "postgresql://u:p@h/db"},
        claim=None,
        metadata={"ready_path": "/ready", "nested": [1, {"a": None}]},
        created_at=1_800_000_000.25,
        updated_at=1_800_000_001.5,
    )
    return replace(record, **changes)  # type: ignore[arg-type]  # each of the type of its field


def claim_of(actor: str) -> Claim:
    return replace(identity.claim("updating"), actor=actor)


def nobody_is_dead(_: Claim) -> bool:
    return False


def everybody_is_dead(_: Claim) -> bool:
    return True
