"""The tables, as the steps in which they came to be; a database is brought up to date by the steps that it lacks.

What a step says is never changed once it was released: another one is added. `{blob}`, `{number}` and `{serial}` stand
for what the dialects call differently.
"""

from collections.abc import Mapping

SQLITE: Mapping[str, str] = {
    "blob": "BLOB",
    "number": "REAL",
    "integer": "INTEGER",
    "serial": "INTEGER PRIMARY KEY AUTOINCREMENT",
}
POSTGRESQL: Mapping[str, str] = {
    "blob": "BYTEA",
    "number": "DOUBLE PRECISION",
    "integer": "BIGINT",
    "serial": "BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY",
}

_JOBS = """
CREATE TABLE workers (
    id {serial},
    host TEXT NOT NULL,
    pid {integer} NOT NULL,
    started_at {number} NOT NULL,
    seen_at {number} NOT NULL
);
CREATE TABLE jobs (
    id TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    run_name TEXT NOT NULL,
    state TEXT NOT NULL,
    priority {integer} NOT NULL,
    due_at {number} NOT NULL,
    created_at {number} NOT NULL,
    started_at {number},
    completed_at {number},
    execution_time {number},
    attempt {integer} NOT NULL,
    losses {integer} NOT NULL,
    failures {integer} NOT NULL,
    owner {integer},
    first_event {integer} NOT NULL,
    last_event {integer} NOT NULL,
    delayed {integer} NOT NULL,
    keyed {integer} NOT NULL,
    cancel_requested {integer} NOT NULL,
    canceled_by TEXT,
    cancel_reason TEXT,
    error_code TEXT,
    error TEXT,
    options {blob} NOT NULL,
    parameters {blob},
    progress {blob},
    result {blob}
);
CREATE TABLE large_parameters (
    job_id TEXT PRIMARY KEY,
    value {blob} NOT NULL
);
CREATE INDEX jobs_due ON jobs (deployment, priority DESC, id) WHERE state = 'pending' AND delayed = 0;
CREATE INDEX jobs_delayed ON jobs (deployment, due_at) WHERE state = 'pending' AND delayed = 1;
CREATE INDEX jobs_owned ON jobs (deployment, owner) WHERE state = 'running';
CREATE INDEX jobs_listed ON jobs (deployment, state, id);
CREATE INDEX jobs_newest ON jobs (deployment, id);
CREATE INDEX jobs_old ON jobs (deployment, completed_at) WHERE completed_at IS NOT NULL AND keyed = 0;
CREATE TABLE events (
    job_id TEXT NOT NULL,
    id {integer} NOT NULL,
    type TEXT NOT NULL,
    step_name TEXT,
    at {number} NOT NULL,
    data {blob} NOT NULL,
    PRIMARY KEY (job_id, id)
);
CREATE TABLE step_results (
    job_id TEXT NOT NULL,
    position {integer} NOT NULL,
    name TEXT NOT NULL,
    attempt {integer} NOT NULL,
    value {blob} NOT NULL,
    PRIMARY KEY (job_id, position, name)
);
CREATE TABLE idempotency_keys (
    deployment TEXT NOT NULL,
    caller TEXT NOT NULL,
    key TEXT NOT NULL,
    fingerprint TEXT NOT NULL,
    owner {integer},
    run_id TEXT NOT NULL,
    status {integer},
    body {blob},
    expires_at {number} NOT NULL,
    PRIMARY KEY (deployment, caller, key)
);
CREATE INDEX idempotency_keys_held ON idempotency_keys (deployment, owner) WHERE status IS NULL;
CREATE INDEX idempotency_keys_old ON idempotency_keys (expires_at) WHERE status IS NOT NULL;
"""

_RUNS = """
CREATE TABLE runs (
    id TEXT PRIMARY KEY,
    deployment TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    name TEXT NOT NULL,
    attempt {integer} NOT NULL,
    status TEXT NOT NULL,
    started_at {number} NOT NULL,
    completed_at {number},
    execution_time {number},
    error TEXT,
    parameters {blob},
    outputs {blob},
    metadata {blob}
);
CREATE INDEX runs_newest ON runs (deployment, id);
CREATE INDEX runs_listed ON runs (deployment, status, id) WHERE status <> 'completed';
CREATE TABLE run_bundles (
    last_id TEXT PRIMARY KEY,
    first_id TEXT NOT NULL,
    deployment TEXT NOT NULL,
    pipeline TEXT NOT NULL,
    metadata {blob} NOT NULL,
    count {integer} NOT NULL,
    runs {blob} NOT NULL
);
CREATE INDEX run_bundles_newest ON run_bundles (deployment, last_id);
CREATE TABLE run_steps (
    run_id TEXT NOT NULL,
    number {integer} NOT NULL,
    name TEXT NOT NULL,
    status TEXT NOT NULL,
    attempt {integer} NOT NULL,
    started_at {number} NOT NULL,
    execution_time {number},
    error TEXT,
    outputs {blob},
    metadata {blob},
    PRIMARY KEY (run_id, number)
);
CREATE TABLE artifacts (
    run_id TEXT NOT NULL,
    step_number {integer} NOT NULL,
    name TEXT NOT NULL,
    size {integer} NOT NULL,
    content_hash TEXT NOT NULL,
    PRIMARY KEY (run_id, step_number, name)
);
CREATE INDEX artifacts_named ON artifacts (content_hash);
CREATE TABLE run_logs (
    run_id TEXT NOT NULL,
    number {integer} NOT NULL,
    at {number} NOT NULL,
    level {integer} NOT NULL,
    logger TEXT NOT NULL,
    step_name TEXT,
    message TEXT NOT NULL,
    PRIMARY KEY (run_id, number)
);
"""

_DEPLOYMENTS = """
CREATE TABLE snapshots (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    pipeline TEXT NOT NULL,
    description TEXT NOT NULL,
    target TEXT NOT NULL,
    project TEXT NOT NULL,
    settings {blob} NOT NULL,
    input_schema {blob} NOT NULL,
    output_schema {blob} NOT NULL,
    service {blob} NOT NULL,
    fingerprint TEXT NOT NULL,
    tags {blob} NOT NULL,
    created_by TEXT NOT NULL,
    created_at {number} NOT NULL
);
CREATE TABLE deployers (
    name TEXT PRIMARY KEY,
    flavor TEXT NOT NULL,
    settings {blob} NOT NULL,
    created_by TEXT NOT NULL,
    created_at {number} NOT NULL
);
CREATE TABLE deployments (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    snapshot_id TEXT NOT NULL,
    deployer TEXT NOT NULL,
    owner TEXT NOT NULL,
    wanted TEXT NOT NULL,
    revision {integer} NOT NULL,
    instance {blob},
    incoming {blob},
    key_digests {blob} NOT NULL,
    environment {blob} NOT NULL,
    claim {blob},
    metadata {blob} NOT NULL,
    created_at {number} NOT NULL,
    updated_at {number} NOT NULL
);
CREATE INDEX deployments_of_snapshots ON deployments (snapshot_id);
CREATE INDEX deployments_of_deployers ON deployments (deployer);
CREATE TABLE deployment_history (
    deployment_id TEXT NOT NULL,
    number {integer} NOT NULL,
    at {number} NOT NULL,
    actor TEXT NOT NULL,
    action TEXT NOT NULL,
    detail {blob} NOT NULL,
    PRIMARY KEY (deployment_id, number)
);
"""

STEPS: tuple[str, ...] = (_JOBS, _RUNS, _DEPLOYMENTS)
"""The number of a database's version is how many of them it has."""


def statements(step: str, dialect: Mapping[str, str]) -> list[str]:
    """Return the statements of a step in the words of a dialect."""
    return [text.strip() for text in step.format_map(dialect).split(";") if text.strip()]
