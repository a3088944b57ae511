import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.errors import SettingsError
from asgipipe.settings import (
    CORSConfig,
    DeploymentSettings,
    EndpointSpec,
    Layer,
    SecureHeadersConfig,
    python_layer,
    resolve,
)

NUMBERS = ["uvicorn_port", "thread_pool_size", "max_queue", "max_concurrency"]
VALUES = st.dictionaries(st.sampled_from(NUMBERS), st.integers(1, 1000))


@given(st.lists(VALUES, max_size=6))
def test_the_highest_layer_wins(given_values: list[dict[str, int]]) -> None:
    """Each field has the value and the name of the last layer that gives it, and its default where none does."""
    layers = [Layer(f"layer {number}", values) for number, values in enumerate(given_values)]
    found = resolve(layers)
    for name in NUMBERS:
        givers = [layer for layer in layers if name in layer.values]
        expected = givers[-1].values[name] if givers else DeploymentSettings.model_fields[name].default
        assert getattr(found.settings, name) == expected
        assert found.origins[name] == (givers[-1].name if givers else "default")


def test_sections_merge_by_field() -> None:
    """Fields of a section come from different layers; lists and dictionaries are replaced as a whole."""
    found = resolve(
        [
            python_layer(
                DeploymentSettings(
                    cors=CORSConfig(allow_origins=["https://a.example"], allow_methods=["GET"]),
                    uvicorn_kwargs={"a": 1, "b": 2},
                ),
                "decorator",
            ),
            python_layer(
                {"cors": {"allow_origins": ["https://b.example"]}, "uvicorn_kwargs": {"c": 3}}, "with_options"
            ),
        ]
    )
    assert found.settings.cors == CORSConfig(allow_origins=["https://b.example"], allow_methods=["GET"])
    assert found.settings.uvicorn_kwargs == {"c": 3}
    assert found.origins["cors.allow_origins"] == found.origins["uvicorn_kwargs"] == "with_options"
    assert found.origins["cors.allow_methods"] == "decorator"
    assert found.origins["cors.allow_headers"] == "default"
    assert "cors" not in found.origins


def test_only_explicit_fields_of_a_model_count() -> None:
    """A default of settings made in Python does not hide what a lower layer says, an explicit equal of it does."""
    below = python_layer({"app_title": "below", "secure_headers": {"csp": False, "xfo": False}}, "decorator")
    above = python_layer(DeploymentSettings(uvicorn_port=8000, secure_headers=SecureHeadersConfig(xfo=True)), "options")
    found = resolve([below, above])
    assert found.settings.app_title == "below"
    assert found.settings.secure_headers == SecureHeadersConfig(csp=False, xfo=True)
    assert found.origins["uvicorn_port"] == "options"
    assert found.settings.model_fields_set == {"app_title", "secure_headers", "uvicorn_port"}


def test_contradictions_across_layers() -> None:
    """Values that contradict each other are found when they come from different layers, at the place of one of them."""
    with pytest.raises(SettingsError) as caught:
        resolve(
            [
                python_layer({"cors": {"allow_credentials": True}}, "decorator"),
                python_layer({"cors": {"allow_origins": ["*"]}}, "with_options"),
            ]
        )
    (issue,) = caught.value.issues
    assert (issue.place, issue.path) == ("decorator", "cors.allow_credentials")


def test_a_wrong_value_that_is_covered_is_no_mistake() -> None:
    """Only the value that would be in force is validated."""
    layers = [
        python_layer({"uvicorn_port": "x", "cors": 5}, "below"),
        python_layer({"uvicorn_port": 1, "cors": {}}, "top"),
    ]
    assert resolve(layers).settings.uvicorn_port == 1


def test_layers_are_left_as_they_were() -> None:
    """Resolving changes no layer, so that it can be used again."""
    values = {"cors": {"allow_origins": ["https://a.example"]}}
    layers = [python_layer(values, "a"), python_layer({"cors": {"allow_methods": ["GET"]}}, "b")]
    assert resolve(layers).settings == resolve(layers).settings
    assert values == {"cors": {"allow_origins": ["https://a.example"]}}


def test_objects_pass_through() -> None:
    """Code given as objects is the same object after resolving."""
    endpoint = EndpointSpec(path="/x", handler=test_objects_pass_through)
    found = resolve([python_layer(DeploymentSettings(custom_endpoints=[endpoint], startup_hook=print), "decorator")])
    assert found.settings.custom_endpoints == [endpoint]
    assert found.settings.startup_hook is print


def test_no_settings() -> None:
    """No layer, an empty one, and None give the defaults."""
    assert resolve([]).settings == DeploymentSettings()
    assert resolve([python_layer(None, "decorator"), python_layer({}, "with_options")]).settings == DeploymentSettings()


@pytest.mark.parametrize("wrong", ["text", 5, [1], CORSConfig()])
def test_what_is_no_settings(wrong: object) -> None:
    """Something else in place of settings is refused with its type."""
    with pytest.raises(SettingsError, match=f"not {type(wrong).__name__}"):
        resolve([python_layer(wrong, "decorator")])  # type: ignore[arg-type]


def test_keys_that_are_no_names() -> None:
    """A mapping with other keys than texts is refused, not stumbled over."""
    with pytest.raises(SettingsError) as caught:
        resolve([python_layer({5: 1, None: 2, "app_kwargs": {5: 6}}, "decorator")])  # type: ignore[dict-item]
    assert {issue.path for issue in caught.value.issues} == {"5", "None", "app_kwargs.5"}
    assert {issue.place for issue in caught.value.issues} == {"decorator"}
