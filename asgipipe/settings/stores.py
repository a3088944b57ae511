"""Where a store is."""

from urllib.parse import urlsplit

from pydantic_core import PydanticCustomError

from asgipipe.settings.keys import MASK

MEMORY = "memory:"

_POSTGRESQL = ("postgresql", "postgres")


def store_url(value: str) -> str:
    """Check the place of a store: `memory:`, `postgresql://...`, or the path of a file."""
    if value == MEMORY:
        return value
    scheme, separator, _ = value.partition("://")
    if separator and scheme in _POSTGRESQL:
        _check(value)
    elif separator:
        raise PydanticCustomError("store", "expected the path of a file, postgresql://... or memory:")
    if "\0" in value:
        raise PydanticCustomError("store", "a path holds no NUL character")
    return value


def folder_url(value: str) -> str:
    """Check the place of a folder: a path, or a URL without a password, which would be shown."""
    scheme, separator, rest = value.partition("://")
    if "\0" in value or (separator and not scheme.replace("+", "").replace("-", "").isalnum()):
        raise PydanticCustomError("store", "expected the path of a folder, or a URL such as s3://bucket/folder")
    if separator and "@" in rest.partition("/")[0]:
        raise PydanticCustomError("store", "leave user and password out; fsspec takes them from the environment")
    return value


def is_postgresql(value: str) -> bool:
    return value.partition("://")[0] in _POSTGRESQL and "://" in value


def _check(value: str) -> None:
    try:
        parts = urlsplit(value)
        _ = parts.port
    except ValueError:
        raise PydanticCustomError("store", "this is not a URL: postgresql://user@host:5432/name") from None
    if not parts.path.strip("/"):
        raise PydanticCustomError("store", "the name of the database is missing: postgresql://user@host:5432/name")


def shown(value: str | None) -> str | None:
    """Return the place of a store for people to see: without its password."""
    if value is None or not is_postgresql(value):
        return value
    parts = urlsplit(value)
    user, colon, _ = parts.netloc.rpartition("@")[0].partition(":")
    if not colon:
        return value.partition("?")[0]  # where a password may stand as well
    return parts._replace(netloc=f"{user}:{MASK}@{parts.netloc.rpartition('@')[2]}", query="").geturl()
