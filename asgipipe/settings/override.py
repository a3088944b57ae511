"""What a request may say about what its run leaves behind: a CapturePolicy, as strict JSON.

Each mode has the members that mean something with it, and no others, so that the schema in the OpenAPI document says
exactly what is accepted.
"""

from typing import Annotated, Literal, NotRequired, cast, get_args

from pydantic import AfterValidator, BeforeValidator, ConfigDict, Discriminator, Field, Tag, TypeAdapter
from pydantic_core import PydanticCustomError
from typing_extensions import TypedDict, get_type_hints

from asgipipe.settings.capture import CaptureMode

_CLOSED = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

Switch = bool | Literal["on", "off"]
Persistence = Literal["memory", "async", "sync"]


class _Recorded(TypedDict):
    """The members of every mode that records something."""

    __pydantic_config__ = _CLOSED  # type: ignore[misc]  # pydantic's protocol for TypedDicts

    runs: NotRequired[Switch]


class _None(_Recorded):
    mode: Literal["none", "NONE"]
    persistence: NotRequired[Literal["memory"] | None]


class _Whole(_Recorded):
    mode: Literal["metadata", "METADATA", "full", "FULL", "REALTIME", "realtime", "OFF", "off"]
    persistence: NotRequired[Persistence | None]
    flush_on_step_end: NotRequired[Switch | None]


class _Batch(_Recorded):
    mode: Literal["BATCH", "batch"]
    persistence: NotRequired[Literal["memory", "sync"] | None]


class _ErrorsOnly(_Recorded):
    mode: Literal["errors_only", "ERRORS_ONLY"]
    persistence: NotRequired[Literal["memory", "async"] | None]


class _Sampled(_Recorded):
    mode: Literal["sampled", "SAMPLED"]
    rate: Annotated[float, Field(ge=0, le=1)]
    seed: NotRequired[Annotated[int, Field(ge=0, le=2**63 - 1)] | None]
    persistence: NotRequired[Persistence | None]
    flush_on_step_end: NotRequired[Switch | None]


class _Custom(_Recorded):
    mode: Literal["CUSTOM", "custom"]
    payloads: NotRequired[Switch | None]
    metadata: NotRequired[Switch | None]
    logs: NotRequired[Literal["none", "errors", "all"] | None]
    persistence: NotRequired[Persistence | None]
    flush_on_step_end: NotRequired[Switch | None]


_FORMS: dict[str, type] = {
    "none": _None,
    "full": _Whole,
    "batch": _Batch,
    "errors_only": _ErrorsOnly,
    "sampled": _Sampled,
    "custom": _Custom,
}
_Form = (
    Annotated[_None, Tag("none")]
    | Annotated[_Whole, Tag("full")]
    | Annotated[_Batch, Tag("batch")]
    | Annotated[_ErrorsOnly, Tag("errors_only")]
    | Annotated[_Sampled, Tag("sampled")]
    | Annotated[_Custom, Tag("custom")]
)
_FORM_OF = {mode: name for name, form in _FORMS.items() for mode in get_args(get_type_hints(form)["mode"])}


_MODES = ", ".join(mode for mode in CaptureMode)


def _form_of(value: object) -> str | None:
    mode = value.get("mode") if isinstance(value, dict) else None
    return _FORM_OF.get(mode) if isinstance(mode, str) else None


def _as_policy(given: _Form | None) -> dict[str, object] | None:
    """Return the fields of the CapturePolicy that is meant."""
    if given is None:
        return None
    fields = cast("dict[str, object]", given)
    if fields.get("runs") in (False, "off") or fields.get("persistence") == "memory":
        return {"mode": "none"}
    return {"runs": True, **fields}


def _forbidden(value: object) -> object:
    if value is not None:
        raise PydanticCustomError("capture", "This deployment does not let a request choose what is recorded")
    return value


def override_type(*, allowed: bool) -> object:
    """Return the type of a request's `capture_override`, which gives the fields of a CapturePolicy, or None.

    Where it is not `allowed`, anything but null is refused.
    """
    if not allowed:
        return Annotated[None, BeforeValidator(_forbidden, json_schema_input_type=None)]
    # Its own message: pydantic's repeats what was given.
    modes = Discriminator(
        _form_of, custom_error_type="capture", custom_error_message=f"expected an object whose mode is one of {_MODES}"
    )
    return Annotated[Annotated[_Form, modes] | None, AfterValidator(_as_policy)]


def override_schema(*, allowed: bool) -> dict[str, object]:
    """Return the JSON schema of what `override_type` takes."""
    about = "What this run leaves behind, in place of what the deployment says."
    forms = [TypeAdapter(form).json_schema() for form in _FORMS.values()] if allowed else []
    for form in forms:
        form["title"] = f"Capture {form['title'].removeprefix('_')}"
    return {"anyOf": [*forms, {"type": "null"}], "title": "Capture Override", "description": about}
