import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from asgipipe.settings import DeploymentSettings
from asgipipe.settings.keys import MASK, digest_in, digest_of, plain

VISIBLE = st.text(st.characters(min_codepoint=0x21, max_codepoint=0x7E), min_size=1).filter(lambda key: key != MASK)


@given(VISIBLE | st.lists(VISIBLE, min_size=1, max_size=5))
def test_keys(keys: str | list[str]) -> None:
    """One key or several are kept exactly, and shown in no form of the settings."""
    settings = DeploymentSettings.model_validate({"auth_key": keys})
    assert plain(settings.auth_key) == ((keys,) if isinstance(keys, str) else tuple(keys))
    assert set(str(settings.model_dump(mode="json")["auth_key"])) <= set(f"{MASK}[]', ")
    assert DeploymentSettings.model_validate(settings.model_dump()) == settings


def test_no_key() -> None:
    """Without a key there is none to compare with."""
    assert plain(DeploymentSettings().auth_key) == ()


def test_secrets_are_accepted_and_checked() -> None:
    """A SecretStr is a key like a text, and is checked like one."""
    assert plain(DeploymentSettings(auth_key=SecretStr("k")).auth_key) == ("k",)
    with pytest.raises(ValueError, match="may not be empty"):
        DeploymentSettings(auth_key=SecretStr(""))


def test_the_mask_is_no_key() -> None:
    """Settings that were printed and read again would have a key that everybody knows; they are refused."""
    printed = DeploymentSettings(auth_key=SecretStr("k")).model_dump_json()
    with pytest.raises(ValueError, match="mask"):
        DeploymentSettings.model_validate_json(printed)


def test_a_digest_stands_for_its_key() -> None:
    """It is known by its form, and a broken one is refused: it would be a key that nobody has."""
    digest = digest_of("k")
    assert digest == "sha256:8254c329a92850f6d539dd376f4816ee2764517da5e0235514af433164480d7a"
    assert digest_in(digest) == bytes.fromhex(digest.removeprefix("sha256:"))
    assert digest_in("k") is None
    DeploymentSettings(auth_key=[digest, "k"])
    for broken in ("sha256:", digest[:-1], digest.upper().replace("SHA256", "sha256"), f"{digest}0"):
        with pytest.raises(ValueError, match="64 hexadecimal digits"):
            DeploymentSettings(auth_key=broken)


def test_an_empty_list_is_not_no_key() -> None:
    """A list that came out empty does not open a deployment in silence."""
    with pytest.raises(ValueError, match="leave the setting out"):
        DeploymentSettings(auth_key=[])
