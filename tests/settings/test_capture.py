import json
from pathlib import Path

import pytest
from jsonschema import Draft202012Validator
from pydantic import TypeAdapter, ValidationError

from asgipipe import CapturePolicy, pipeline
from asgipipe.errors import SettingsError
from asgipipe.runners.deployment import resolve_settings
from asgipipe.settings import (
    DeploymentSettings,
    command_line_layer,
    environment_layer,
    python_layer,
    resolve,
    yaml_file,
)
from asgipipe.settings.capture import CaptureMode
from asgipipe.settings.override import override_schema, override_type


def refusals(values: object) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        DeploymentSettings.model_validate({"capture": values})
    return [f"{'.'.join(map(str, error['loc']))}: {error['msg']}" for error in caught.value.errors()]


def captured(*layers: object) -> CapturePolicy:
    return resolve(layers).settings.capture  # type: ignore[arg-type]


def mode(text: str) -> CaptureMode:
    return DeploymentSettings.model_validate({"capture": text}).capture.mode


@pytest.mark.parametrize("name", [member.value for member in CaptureMode])
def test_names_in_any_case(name: str) -> None:
    """Every name of both vocabularies may be written in any case."""
    if name in ("sampled", "CUSTOM"):
        values: object = {"mode": name.swapcase(), **({"rate": 1} if name == "sampled" else {"runs": True})}
        assert DeploymentSettings.model_validate({"capture": values}).capture.mode == name
    else:
        assert mode(name.upper()) == mode(name.lower()) == name


@pytest.mark.parametrize(
    ("text", "rate", "seed"),
    [
        ("sampled(0.1)", 0.1, None),
        ("SAMPLED( 1 )", 1.0, None),
        ("sampled(0.25, 42)", 0.25, 42),
        ("sampled(1e-3,0)", 1e-3, 0),
    ],
)
def test_sampled_in_short(text: str, rate: float, seed: int | None) -> None:
    """A rate, and a seed, may stand behind the name."""
    policy = DeploymentSettings.model_validate({"capture": text}).capture
    assert (policy.mode, policy.rate, policy.seed) == (CaptureMode.SAMPLED, rate, seed)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ("ful", "capture.mode: 'ful' is not a known name; did you mean FULL?"),
        ("sampled", "capture.mode: sampled needs a rate from 0 to 1, such as 0.1"),
        ("sampled(2)", "capture.rate: Input should be less than or equal to 1"),
        ({"mode": "full", "rate": 0.1}, "capture.rate: belongs to mode sampled"),
        ({"mode": "metadata", "seed": 1}, "capture.seed: belongs to mode sampled"),
        ({"mode": "full", "payloads": False}, "capture.payloads: mode full decides this; mode CUSTOM leaves it to you"),
        ("CUSTOM", "capture.mode: CUSTOM records what its fields say: give runs, payloads, metadata or logs"),
        (
            {"mode": "CUSTOM", "runs": "off", "payloads": "on"},
            "capture.payloads: cannot be recorded without the run it belongs to; leave runs on",
        ),
        (
            {"mode": "REALTIME", "runs": "off", "flush_on_step_end": True},
            "capture.flush_on_step_end: there is nothing to write: runs are not recorded",
        ),
        (
            {"mode": "errors_only", "flush_on_step_end": True},
            "capture.flush_on_step_end: errors_only writes nothing before the run has failed",
        ),
        (
            {"mode": "errors_only", "persistence": "sync"},
            "capture.persistence: errors_only writes nothing before the run has failed",
        ),
        ({"persistence": "async"}, "capture.persistence: mode none writes nothing; choose another mode"),
        (
            {"mode": "BATCH", "persistence": "async"},
            "capture.persistence: BATCH writes before each step ends; REALTIME writes in the background",
        ),
        (
            {"mode": "BATCH", "flush_on_step_end": False},
            "capture.flush_on_step_end: BATCH writes before each step ends; REALTIME does not wait",
        ),
        (False, "capture: Input should be a valid dictionary or instance of CapturePolicy"),
    ],
)
def test_what_cannot_be_right(values: object, expected: str) -> None:
    """A policy that contradicts itself is refused, with the way out."""
    assert refusals(values) == [expected]


@pytest.mark.parametrize(
    ("values", "records"),
    [
        ("none", False),
        ({"mode": "REALTIME", "runs": "off"}, False),
        ({"mode": "REALTIME", "persistence": "memory"}, False),
        ("OFF", True),
        ({"mode": "CUSTOM", "runs": True}, True),
    ],
)
def test_what_records_nothing(values: object, records: bool) -> None:
    """`none`, `runs: off` and `persistence: memory` record nothing; OFF does record."""
    assert DeploymentSettings.model_validate({"capture": values}).capture.records is records


def test_precedence() -> None:
    """The pipeline goes before ASGIPIPE_CAPTURE_DEFAULT, and the ordinary variable and the command line before it."""
    default = environment_layer({"ASGIPIPE_CAPTURE_DEFAULT": "metadata"})
    own = python_layer({"capture": "full"}, "decorator")
    assert captured().mode == "none"
    assert captured(default).mode == "metadata"
    assert captured(own, default).mode == "full"
    both = environment_layer({"ASGIPIPE_CAPTURE_DEFAULT": "metadata", "ASGIPIPE_CAPTURE": "OFF"})
    assert captured(own, both).mode == "OFF"
    assert captured(own, both, command_line_layer({"capture": "batch"})).mode == "BATCH"


def test_origins() -> None:
    """Every field of the policy says where it was written."""
    variables = {"ASGIPIPE_CAPTURE_DEFAULT": "full", "ASGIPIPE_CAPTURE__FLUSH_ON_STEP_END": "on"}
    origins = resolve([environment_layer(variables)]).origins
    assert origins["capture.mode"] == "environment ASGIPIPE_CAPTURE_DEFAULT"
    assert origins["capture.flush_on_step_end"] == "environment ASGIPIPE_CAPTURE__FLUSH_ON_STEP_END"
    assert origins["capture.rate"] == "default"


def test_a_mode_replaces_the_policy_below() -> None:
    """Fields that belong to one mode are not mixed with another one from above; without a mode they are."""
    below = python_layer({"capture": {"mode": "CUSTOM", "payloads": True}}, "decorator")
    assert captured(below, environment_layer({"ASGIPIPE_CAPTURE__MODE": "sampled", "ASGIPIPE_CAPTURE__RATE": "1"})) == (
        CapturePolicy(mode=CaptureMode.SAMPLED, rate=1)
    )
    merged = captured(below, environment_layer({"ASGIPIPE_CAPTURE__LOGS": "all"}))
    assert merged == CapturePolicy.model_validate({"mode": "custom", "payloads": True, "logs": "all"})


def test_wrong_default_in_the_environment() -> None:
    """A mistake in ASGIPIPE_CAPTURE_DEFAULT names the variable."""
    with pytest.raises(SettingsError, match=r"environment ASGIPIPE_CAPTURE_DEFAULT: capture\.mode: 'fulll' is not"):
        resolve([environment_layer({"ASGIPIPE_CAPTURE_DEFAULT": "fulll"})])


def test_of_a_pipeline() -> None:
    """`capture=` of the decorator and of with_options take a policy, a mapping or a text; the later one wins."""

    @pipeline(capture="full", settings={"uvicorn_port": 1})
    def report() -> int:
        return 1

    assert resolve_settings(report, []).capture.mode == "full"
    assert resolve_settings(report, []).uvicorn_port == 1
    batch = report.with_options(capture=CapturePolicy(mode=CaptureMode.BATCH))
    assert resolve_settings(batch, []).capture.mode == "BATCH"
    assert resolve_settings(report.with_options(capture={"flush_on_step_end": True}), []).capture == (
        CapturePolicy(mode=CaptureMode.FULL, flush_on_step_end=True)
    )


@pytest.mark.parametrize(
    "text", ["capture: metadata\n", "capture:\n  mode: metadata\n", "settings: {deployment: {capture: metadata}}\n"]
)
def test_in_yaml(tmp_path: Path, text: str) -> None:
    """The policy stands at the top of the file, or among the settings."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    resolved = resolve([python_layer({"capture": "full"}, "decorator"), yaml_file(file).deployment])
    assert resolved.settings.capture.mode == "metadata"
    assert resolved.origins["capture.mode"].startswith(f"{file}:")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("capture:\n  mode: fulll\n", "2:3: capture.mode: 'fulll' is not a known name; did you mean FULL?"),
        ("capture: sampled\n", "1:1: capture.mode: sampled needs a rate from 0 to 1, such as 0.1"),
        ("capture:\n  mode: full\n  rte: 1\n", "3:3: capture.rte: unknown field; did you mean rate?"),
        (
            "capture: full\nsettings:\n  deployment:\n    capture: full\n",
            "1:1: capture: given in settings.deployment.capture as well; keep one of the two",
        ),
    ],
)
def test_mistakes_in_yaml(tmp_path: Path, text: str, expected: str) -> None:
    """A mistake is reported with line, column and path."""
    file = tmp_path / "settings.yaml"
    file.write_text(text)
    with pytest.raises(SettingsError) as caught:
        resolve([yaml_file(file).deployment])
    assert str(caught.value) == f"{file}:{expected}"


def test_overrides() -> None:
    """A request gives the fields of a policy with its mode, or null; nothing but null where it is not allowed."""
    allowed = TypeAdapter(override_type(allowed=True)).validator
    assert allowed.validate_json('{"mode":"batch"}', strict=True) == {"mode": "batch", "runs": True}
    assert allowed.validate_json('{"mode":"full","runs":"off"}', strict=True) == {"mode": "none"}
    assert allowed.validate_json("null", strict=True) is None
    for wrong in ('"full"', "{}", '{"rate":0.1}', '{"mode":"full","x":1}', '{"mode":"sampled","rate":"0.1"}', "true"):
        with pytest.raises(ValidationError):
            allowed.validate_json(wrong, strict=True)
    forbidden = TypeAdapter(override_type(allowed=False)).validator
    assert forbidden.validate_json("null", strict=True) is None
    with pytest.raises(ValidationError, match="does not let a request choose"):
        forbidden.validate_json('{"mode":"none"}', strict=True)


@pytest.mark.parametrize(
    "values",
    [{"mode": "BATCH"}, {"mode": "sampled", "rate": 0.5, "seed": 2}, {"mode": "CUSTOM", "logs": "all"}],
)
def test_policies_survive_json(values: dict[str, object]) -> None:
    """A policy that was written out whole is read again as the same one: so jobs keep their override."""
    policy = CapturePolicy.model_validate(values)
    again = CapturePolicy.model_validate_json(policy.model_dump_json())
    assert again.model_dump() == policy.model_dump()


OVERRIDES: list[object] = [
    None,
    1,
    "full",
    {},
    {"mode": "none"},
    {"mode": "Full"},
    {"mode": "REALTIME", "flush_on_step_end": True},
    {"mode": "full", "runs": "off"},
    {"mode": "full", "rate": 0.5},
    {"mode": "full", "x": 1},
    {"mode": "sampled"},
    {"mode": "sampled", "rate": 1, "seed": None},
    {"mode": "sampled", "rate": 1.5},
    {"mode": "BATCH", "persistence": "async"},
    {"mode": "errors_only", "persistence": "memory"},
    {"mode": "CUSTOM", "logs": "all", "payloads": False},
    {"mode": "custom"},
]


@pytest.mark.parametrize("override", OVERRIDES, ids=repr)
def test_the_schema_of_overrides(override: object) -> None:
    """The schema in the OpenAPI document accepts exactly what is accepted, and every such override makes a policy."""
    text = json.dumps(override)
    try:
        found = TypeAdapter(override_type(allowed=True)).validator.validate_json(text, strict=True)
    except ValidationError:
        accepted = False
    else:
        accepted = True
        assert found is None or CapturePolicy.model_validate_json(json.dumps(found))
    assert Draft202012Validator(override_schema(allowed=True)).is_valid(override) is accepted
    assert Draft202012Validator(override_schema(allowed=False)).is_valid(override) is (override is None)
