import pytest

from asgipipe.errors import SettingsError
from asgipipe.settings import DeploymentSettings, python_layer, resolve
from asgipipe.settings.stores import shown

SECRET = "hunter2"


@pytest.mark.parametrize(
    "url", [f"postgresql://ada:{SECRET}@db.test/jobs", f"postgresql://db.test/jobs?password={SECRET}"]
)
def test_a_password_is_not_shown(url: str) -> None:
    """Neither as JSON, nor in the representation, nor where the place is named for people."""
    settings = DeploymentSettings(store_url=url)
    assert settings.store_url == url
    assert SECRET not in settings.model_dump_json() + repr(settings) + str(shown(url))
    assert "db.test/jobs" in str(shown(url))


@pytest.mark.parametrize("url", ["mysql://db/jobs", "postgresql://db", "postgresql://db:port/jobs", "a\0b"])
def test_places_that_are_none(url: str) -> None:
    """What is no place of a store is refused, without being repeated."""
    with pytest.raises(SettingsError) as caught:
        resolve([python_layer({"store_url": url}, "here")])
    assert "here: store_url: " in str(caught.value)
    assert url not in str(caught.value)
