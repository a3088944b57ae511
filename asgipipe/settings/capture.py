"""What a run leaves behind."""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, ClassVar, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    WithJsonSchema,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

from asgipipe.settings import names
from asgipipe.settings.quantities import Integer, refuse_boolean
from asgipipe.settings.sections import Conflict, Section, refuse

_SAMPLED = re.compile(r"sampled\(\s*([0-9.eE+-]{1,30})\s*(?:,\s*([0-9]{1,18})\s*)?\)", re.IGNORECASE)
_SAMPLED_SCHEMA = r"^[sS][aA][mM][pP][lL][eE][dD]\([0-9.eE+, -]+\)$"
_SWITCHES = {"on": True, "true": True, "yes": True, "1": True, "off": False, "false": False, "no": False, "0": False}


class _Named(StrEnum):
    """Members that settings give by name in any case."""

    @classmethod
    def parse(cls, value: object) -> Self:
        """Return the member that `value` stands for; a pydantic error says why there is none."""
        if isinstance(value, cls):
            return value
        if not isinstance(value, str):
            raise _refusal(f"expected one of {', '.join(cls)}; put it in quotes")
        member = cls.__members__.get(value.strip().upper())
        if member is None:
            raise _refusal(names.unknown(value, cls.__members__))
        return member

    @classmethod
    def __get_pydantic_core_schema__(cls, source: object, handler: GetCoreSchemaHandler) -> CoreSchema:
        serialise = core_schema.plain_serializer_function_ser_schema(lambda member: member.value, when_used="json")
        return core_schema.no_info_plain_validator_function(cls.parse, serialization=serialise)

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        values = sorted({*cls, *cls.__members__})
        return {"anyOf": [{"type": "string", "enum": values}, names.schema(cls.__members__)[1]]}


class CaptureMode(_Named):
    """Both vocabularies: how much is kept, and when it is written."""

    NONE = "none"
    METADATA = "metadata"
    FULL = "full"
    SAMPLED = "sampled"
    ERRORS_ONLY = "errors_only"
    REALTIME = "REALTIME"
    BATCH = "BATCH"
    OFF = "OFF"
    CUSTOM = "CUSTOM"


class CapturedLogs(_Named):
    NONE = "none"
    ERRORS = "errors"
    ALL = "all"


class Persistence(_Named):
    MEMORY = "memory"
    ASYNC = "async"
    SYNC = "sync"


def _switch(value: object) -> object:
    return _SWITCHES.get(value.lower(), value) if isinstance(value, str) else value


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("capture", "{reason}", {"reason": reason})


Switch = Annotated[
    bool, BeforeValidator(_switch, json_schema_input_type=bool | Literal["on", "off", "yes", "no", "true", "false"])
]
Rate = Annotated[
    float, Field(ge=0, le=1, allow_inf_nan=False), BeforeValidator(refuse_boolean, json_schema_input_type=float)
]


class CapturePolicy(Section):
    """What of a run is recorded, and when it is written.

    | mode | runs and steps | payloads | metadata | logs | written |
    |---|---|---|---|---|---|
    | none | - | - | - | - | never |
    | metadata | yes | - | yes | errors | in the background |
    | full, REALTIME | yes | yes | yes | all | in the background |
    | BATCH | yes | yes | yes | all | before each step ends |
    | OFF | yes | yes | - | - | in the background |
    | sampled | a fraction (`rate`) of the runs, as full | | | | in the background |
    | errors_only | failed runs, as full | | | | when the run has failed |
    | CUSTOM | exactly the fields that are given | | | | |

    In place of the mapping a text may stand: a mode, or `sampled(0.1)`, or `sampled(0.1, 42)` with a seed.
    """

    decided_by: ClassVar[str | None] = "mode"

    mode: CaptureMode = Field(default=CaptureMode.NONE, description="How much is recorded; none writes nothing at all.")
    rate: Rate | None = Field(default=None, description="The fraction of runs that mode sampled records, from 0 to 1.")
    seed: Annotated[Integer, Field(ge=0, le=2**63 - 1)] | None = Field(
        default=None, description="Chooses which runs are sampled; processes with one seed agree. Null is 0."
    )
    runs: Switch = Field(default=True, description="Whether runs are recorded at all; off is the same as mode none.")
    payloads: Switch | None = Field(
        default=None, description="Whether parameters, inputs and outputs are recorded. For mode CUSTOM."
    )
    metadata: Switch | None = Field(default=None, description="Whether metadata is recorded. For mode CUSTOM.")
    logs: CapturedLogs | None = Field(
        default=None, description="Which log records of a run are recorded: none, errors or all. For mode CUSTOM."
    )
    persistence: Persistence | None = Field(
        default=None,
        description="When it is written: memory never, async in the background, sync before the step ends. "
        "Null is what the mode says.",
    )
    flush_on_step_end: Switch | None = Field(
        default=None,
        description="Whether a step ends only when all that was recorded until then is written. Null is what the mode "
        "says.",
    )

    @classmethod
    def long_form(cls, value: object) -> object:
        """Return the mapping that a text stands for; anything else as it is."""
        if not isinstance(value, str) or value.lstrip().startswith("{"):
            return value
        sampled = _SAMPLED.fullmatch(value.strip())
        if sampled is None:
            return {"mode": value}
        long: dict[str, object] = {"mode": CaptureMode.SAMPLED.value, "rate": _number(sampled[1])}
        if sampled[2]:
            long["seed"] = int(sampled[2])
        return long

    @model_validator(mode="after")
    def _check_together(self) -> Self:
        conflicts = [*_sampling_conflicts(self), *_custom_conflicts(self), *_writing_conflicts(self)]
        if conflicts:
            refuse("CapturePolicy", conflicts)
        return self

    @property
    def records(self) -> bool:
        """False when nothing is written, whatever happens."""
        return self.runs and self.mode is not CaptureMode.NONE and self.persistence is not Persistence.MEMORY


def _number(text: str) -> object:
    try:
        return float(text)
    except ValueError:
        return text


def _sampling_conflicts(policy: CapturePolicy) -> list[Conflict]:
    if policy.mode is CaptureMode.SAMPLED:
        return [(("mode",), "sampled needs a rate from 0 to 1, such as 0.1")] if policy.rate is None else []
    given = [name for name in ("rate", "seed") if getattr(policy, name) is not None]
    return [((name,), "belongs to mode sampled") for name in given]


def _custom_conflicts(policy: CapturePolicy) -> list[Conflict]:
    parts = {name: value for name in ("payloads", "metadata", "logs") if (value := getattr(policy, name)) is not None}
    if policy.mode is not CaptureMode.CUSTOM:
        return [((name,), f"mode {policy.mode} decides this; mode CUSTOM leaves it to you") for name in parts]
    if not parts and "runs" not in policy.model_fields_set:
        return [(("mode",), "CUSTOM records what its fields say: give runs, payloads, metadata or logs")]
    if policy.runs:
        return []
    kept = [name for name, value in parts.items() if value not in (False, CapturedLogs.NONE)]
    return [((name,), "cannot be recorded without the run it belongs to; leave runs on") for name in kept]


def _writing_conflicts(policy: CapturePolicy) -> list[Conflict]:
    conflicts: list[Conflict] = []
    mode, persistence = policy.mode, policy.persistence
    waits = policy.flush_on_step_end
    if waits and not policy.records:
        conflicts.append((("flush_on_step_end",), "there is nothing to write: runs are not recorded"))
    elif waits and mode is CaptureMode.ERRORS_ONLY:
        conflicts.append((("flush_on_step_end",), "errors_only writes nothing before the run has failed"))
    if mode is CaptureMode.NONE and persistence in (Persistence.ASYNC, Persistence.SYNC):
        conflicts.append((("persistence",), "mode none writes nothing; choose another mode"))
    if mode is CaptureMode.ERRORS_ONLY and persistence is Persistence.SYNC:
        conflicts.append((("persistence",), "errors_only writes nothing before the run has failed"))
    if mode is CaptureMode.BATCH and persistence is Persistence.ASYNC:
        conflicts.append((("persistence",), "BATCH writes before each step ends; REALTIME writes in the background"))
    if mode is CaptureMode.BATCH and waits is False:
        conflicts.append((("flush_on_step_end",), "BATCH writes before each step ends; REALTIME does not wait"))
    return conflicts


CaptureLike = CapturePolicy | Mapping[str, object] | str
"""What `capture=` takes in code: a policy, its fields, or the short form."""

_ShortForm = Annotated[
    str,
    WithJsonSchema({"anyOf": [*names.schema(CaptureMode.__members__), {"type": "string", "pattern": _SAMPLED_SCHEMA}]}),
]
Capture = Annotated[
    CapturePolicy, BeforeValidator(CapturePolicy.long_form, json_schema_input_type=CapturePolicy | _ShortForm)
]
"""The type of the field `capture`, where the short form may stand as well."""
