from enum import IntFlag

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from asgipipe.settings import DeploymentDefaultEndpoints as Endpoints
from asgipipe.settings import DeploymentDefaultMiddleware as Middleware

ADAPTER = TypeAdapter(Endpoints)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("docs", Endpoints.DOCS),
        ("Api", Endpoints.API),
        ("ALL", Endpoints.ALL),
        ("none", Endpoints.NONE),
        (["DOC", "invoke"], Endpoints.DOCS | Endpoints.REDOC | Endpoints.INVOKE),
        (("HEALTH", Endpoints.INFO), Endpoints.HEALTH | Endpoints.INFO),
        ([], Endpoints.NONE),
        (True, Endpoints.ALL),
        (False, Endpoints.NONE),
        (0, Endpoints.NONE),
        (5, Endpoints.DOCS | Endpoints.INVOKE),
        (Endpoints.STATUS, Endpoints.STATUS),
        (Endpoints.ALL & ~Endpoints.METRICS, Endpoints.ALL ^ Endpoints.METRICS),
        (~Endpoints.METRICS, Endpoints.ALL ^ Endpoints.METRICS),
    ],
)
def test_spellings(value: object, expected: Endpoints) -> None:
    """A flag may be given by name, list of names, boolean, bits, or as it is."""
    found = ADAPTER.validate_python(value)
    assert (found, type(found)) == (expected, Endpoints)


class Other(IntFlag):
    DOCS = 1


@pytest.mark.parametrize(
    "value",
    ["", "doc s", "DOCS,INVOKE", "1", -1, 2048, 1.0, None, {}, {"DOCS": True}, [True], [1], [["DOCS"]], b"DOCS"],
    ids=repr,
)
def test_wrong_spellings(value: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(value)


@pytest.mark.parametrize("value", [Other.DOCS, Middleware.CORS])
def test_other_flags(value: IntFlag) -> None:
    """A flag of another kind is refused, although it is a number too."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(value)


def test_a_misspelt_name() -> None:
    """A misspelt name is answered with the right one."""
    with pytest.raises(ValidationError, match="did you mean HEALTH"):
        ADAPTER.validate_python(["HELTH"])


@given(st.integers(0, Endpoints.ALL.value))
def test_json_round_trip(bits: int) -> None:
    """What a flag becomes in JSON stands for the same flag."""
    dumped = ADAPTER.dump_json(Endpoints(bits))
    assert ADAPTER.validate_json(dumped) == Endpoints(bits)


def test_groups() -> None:
    """The groups hold what belongs together, and ALL holds everything."""
    assert Endpoints.DOC == Endpoints.DOCS | Endpoints.REDOC
    assert Endpoints.ALL == Endpoints.DOC | Endpoints.API | Endpoints.DASHBOARD
    assert list(Endpoints.ALL) == list(Endpoints)
    assert Middleware.ALL == Middleware.CORS | Middleware.SECURE_HEADERS
