"""Auth keys: secrets that are checked without ever being shown.

A key may be given as its digest, `sha256:` and 64 hexadecimal digits: the service then knows its keys without having
any. That is for keys that were made up, 128 random bits or more: the digest of a word is soon guessed.
"""

import re
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Annotated

from pydantic import BeforeValidator, Field, SecretStr
from pydantic_core import PydanticCustomError

LONGEST = 4096
MOST = 100
MASK = "**********"
"""What a secret is shown as."""

_DIGEST = "sha256:"
_is_hexadecimal = re.compile("[0-9a-f]{64}").fullmatch


def digest_of(key: str) -> str:
    """Return the digest that stands for a key in the settings."""
    return _DIGEST + sha256(key.encode()).hexdigest()


def digest_in(key: str) -> bytes | None:
    """Return the digest that `key` is, or None for one in clear."""
    return bytes.fromhex(key.removeprefix(_DIGEST)) if key.startswith(_DIGEST) else None


def check(value: object) -> object:
    """Return `value` if it is one key or a list of keys; the error never repeats it."""
    if value is None:
        return None
    if isinstance(value, list | tuple):
        return _check_list(value)
    return _check_one(value)


def plain(keys: "AuthKey") -> tuple[str, ...]:
    """Return the keys in clear, for comparing with what a request sends; empty when there is none."""
    if keys is None:
        return ()
    given = keys if isinstance(keys, list) else [keys]
    return tuple(key.get_secret_value() if isinstance(key, SecretStr) else key for key in given)


def _check_list(values: Sequence[object]) -> list[SecretStr]:
    if not 1 <= len(values) <= MOST:
        raise _refusal(f"a list of keys holds 1 to {MOST} of them; leave the setting out to serve without a key")
    return [_check_one(value) for value in values]


def _check_one(value: object) -> SecretStr:
    key = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not isinstance(key, str):
        raise _refusal("a key is text, or a list of texts; put it in quotes")
    if not key:
        raise _refusal("a key may not be empty; leave the setting out to serve without a key")
    if len(key) > LONGEST:
        raise _refusal(f"a key has {LONGEST} characters at most")
    if not all("!" <= character <= "~" for character in key):
        raise _refusal("a key holds visible ASCII characters only, without spaces")
    if key.startswith(_DIGEST) and not _is_hexadecimal(key.removeprefix(_DIGEST)):
        raise _refusal("the digest of a key is 'sha256:' and 64 hexadecimal digits in lower case")
    if key == MASK:
        raise _refusal("this is the mask that stands for a hidden key, not a key")
    return SecretStr(key)


def _refusal(reason: str) -> PydanticCustomError:
    return PydanticCustomError("auth_key", "{reason}", {"reason": reason})


if TYPE_CHECKING:
    AuthKey = str | SecretStr | list[str] | list[SecretStr] | None  # what may be given; it is kept as SecretStr
else:
    _Key = Annotated[SecretStr, Field(min_length=1, max_length=LONGEST)]
    _Keys = _Key | Annotated[list[_Key], Field(min_length=1, max_length=MOST)] | None
    AuthKey = Annotated[_Keys, BeforeValidator(check, json_schema_input_type=_Keys)]
