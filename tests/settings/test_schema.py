import pytest
from jsonschema import Draft202012Validator

from asgipipe.settings.fields import every_field
from asgipipe.settings.schema import file_schema
from tests.settings.samples import SAMPLES, nested

SCHEMA = file_schema()
VALIDATOR = Draft202012Validator(SCHEMA)


def test_the_schema_is_one() -> None:
    """The document is a valid JSON Schema of the dialect it names, with titles and descriptions."""
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    assert SCHEMA["title"]
    assert SCHEMA["description"]
    deployment = SCHEMA["$defs"]["DeploymentSettings"]["properties"]
    assert set(deployment) == {path[0] for path, _ in every_field()}
    assert all(field.get("description") for field in deployment.values())


@pytest.mark.parametrize("path", SAMPLES)
def test_right_values(path: str) -> None:
    """An editor accepts what the loader accepts."""
    VALIDATOR.validate({"settings": {"deployment": nested(path, SAMPLES[path][0])}, "pipeline": {"on_init": "a:b"}})


@pytest.mark.parametrize("path", SAMPLES)
def test_wrong_values(path: str) -> None:
    """An editor marks a wrong type and a misspelt name in every field."""
    wrong = 7.5 if path.endswith("_kwargs") else {"x": ["y"]}
    assert not VALIDATOR.is_valid({"settings": {"deployment": nested(path, wrong)}})
    assert not VALIDATOR.is_valid({"settings": {"deployment": nested(path + "x", SAMPLES[path][0])}})


@pytest.mark.parametrize("document", [{}, {"settings": None}, {"settings": {"deployment": None}, "pipeline": None}])
def test_empty_sections(document: object) -> None:
    """Sections may be empty, as the loader allows."""
    VALIDATOR.validate(document)


@pytest.mark.parametrize("name", ["docs", "Docs", "DOCS", ["docs", "API"], True, 3])
def test_flags(name: object) -> None:
    """Every spelling of a flag is in the schema."""
    VALIDATOR.validate({"settings": {"deployment": {"include_default_endpoints": name}}})


@pytest.mark.parametrize("name", ["DOCSX", "", ["x"], 4096, -1, 1.5, None])
def test_wrong_flags(name: object) -> None:
    """Other spellings are not."""
    assert not VALIDATOR.is_valid({"settings": {"deployment": {"include_default_endpoints": name}}})


def test_keys_are_marked_as_secret() -> None:
    """The schema says that keys are passwords, so that editors hide them."""
    assert '"format": "password"' in str(SCHEMA["$defs"]["DeploymentSettings"]["properties"]["auth_key"]).replace(
        "'", '"'
    )
