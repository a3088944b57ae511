import functools
from pathlib import Path
from typing import Annotated
from unittest import TestCase

import pytest
from pydantic import TypeAdapter, ValidationError

from asgipipe.errors import SourceError
from asgipipe.settings.references import Reference, load, name

CODE = TypeAdapter[object](Annotated[object, Reference()])
NATIVE = TypeAdapter[object](Annotated[object, Reference(native=True)])
FLAVOR = TypeAdapter[object](Annotated[object, Reference(flavor=True)])


@pytest.mark.parametrize("value", ["json:dumps", "no.such.module:name", "a.b", "a.b:C.d", print, Path, Path().exists])
def test_code(value: object) -> None:
    """Callables and import strings are kept as they are; nothing is imported yet."""
    assert CODE.validate_python(value) is value


@pytest.mark.parametrize("value", ["", "name", "a:", ":a", "a b:c", "a/b.py:c", "a:b:c", "a..b", "a:1", "a.b:c()"])
def test_wrong_import_strings(value: str) -> None:
    """What is no import string is refused, and the error repeats it."""
    with pytest.raises(ValidationError) as caught:
        CODE.validate_python(value)
    assert repr(value) in str(caught.value)


def test_long_import_strings() -> None:
    """An error repeats the beginning of a long text only."""
    with pytest.raises(ValidationError) as caught:
        CODE.validate_python("x " * 100_000)
    assert len(str(caught.value)) < 1000


@pytest.mark.parametrize("value", [None, True, 5, 1.5, b"a:b", {}, {"a": 1}, set()])
@pytest.mark.parametrize("adapter", [CODE, NATIVE, FLAVOR])
def test_data(value: object, adapter: TypeAdapter[object]) -> None:
    """Plain data is refused everywhere, where native objects are admitted too."""
    with pytest.raises(ValidationError):
        adapter.validate_python(value)


def test_native_objects() -> None:
    """An object that is not callable is admitted as a native object only."""
    native = object()
    assert NATIVE.validate_python(native) is native
    with pytest.raises(ValidationError):
        CODE.validate_python(native)


def test_flavors() -> None:
    """A bare name is a flavor, not an import string."""
    assert FLAVOR.validate_python("starlette") == "starlette"
    assert FLAVOR.validate_python("shop.runner:Runner") == "shop.runner:Runner"
    with pytest.raises(ValidationError):
        FLAVOR.validate_python("Not A Flavor")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("a:b", "a:b"),
        (TestCase, "unittest.case:TestCase"),
        (TestCase.setUp, "unittest.case:TestCase.setUp"),
        (print, "builtins:print"),
        (functools.partial(print), "functools:partial"),
    ],
)
def test_names(value: object, expected: str) -> None:
    """An object is named by the import string that leads to it, or to its class."""
    assert name(value) == expected


def test_load() -> None:
    """An import string is imported when asked for; an object is itself."""
    assert load("unittest.case:TestCase.setUp") is TestCase.setUp
    assert load(print) is print
    with pytest.raises(SourceError, match="nowhere_at_all:x"):
        load("nowhere_at_all:x")
