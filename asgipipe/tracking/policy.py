"""Capture policies as what a run is measured against."""

import logging
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b

from asgipipe.settings.capture import CapturedLogs, CaptureMode, CapturePolicy, Persistence

_NO_LOGS = logging.CRITICAL + 1_000_000
_LOG_LEVELS = {CapturedLogs.NONE: _NO_LOGS, CapturedLogs.ERRORS: logging.ERROR, CapturedLogs.ALL: logging.NOTSET}
_RANGE = 2**64


@dataclass(frozen=True, slots=True)
class Plan:
    """What is recorded of a run.

    `log_level` is the least level of a log record that is kept. With `waits` a step ends when what was recorded until
    then is durable; with `failures_only` nothing is written unless the run fails.
    """

    mode: str
    payloads: bool = True
    metadata: bool = True
    log_level: int = logging.NOTSET
    in_background: bool = field(init=False)
    waits: bool = False
    failures_only: bool = False
    rate: float = 1.0
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "in_background", not (self.waits or self.failures_only))

    @property
    def logs(self) -> bool:
        return self.log_level < _NO_LOGS

    def takes(self, run_id: str) -> bool:
        """Say whether this run is recorded: the same for one id and seed in every process."""
        if self.rate >= 1.0:
            return True
        digest = blake2b(f"{self.seed}:{run_id}".encode(), digest_size=8).digest()
        return int.from_bytes(digest) < self.rate * _RANGE


def plan_of(policy: CapturePolicy) -> Plan | None:
    """Return the plan of a policy, None when it records nothing."""
    if not policy.records:
        return None
    mode = policy.mode
    waits = mode is CaptureMode.BATCH or policy.persistence is Persistence.SYNC or bool(policy.flush_on_step_end)
    if mode is CaptureMode.CUSTOM:
        logs = _LOG_LEVELS[policy.logs or CapturedLogs.NONE]
        return Plan(mode.value, bool(policy.payloads), bool(policy.metadata), logs, waits)
    if mode is CaptureMode.METADATA:
        return Plan(mode.value, payloads=False, log_level=logging.ERROR, waits=waits)
    if mode is CaptureMode.OFF:
        return Plan(mode.value, metadata=False, log_level=_NO_LOGS, waits=waits)
    if mode is CaptureMode.SAMPLED:
        return Plan(mode.value, waits=waits, rate=policy.rate or 0.0, seed=policy.seed or 0)
    return Plan(mode.value, waits=waits, failures_only=mode is CaptureMode.ERRORS_ONLY)


@lru_cache(maxsize=256)
def plan_of_override(text: bytes) -> Plan | None:
    """Return the plan of a request's `capture_override`. Raises pydantic.ValidationError."""
    return plan_of(CapturePolicy.model_validate_json(text))
