import logging

import pytest
from pydantic import TypeAdapter, ValidationError

from asgipipe.settings import LoggingLevels

ADAPTER = TypeAdapter(LoggingLevels)


@pytest.mark.parametrize("value", ["warning", "WARN", "Warning", 30, "30", logging.WARNING, LoggingLevels.WARNING])
def test_spellings(value: object) -> None:
    """A level may be given by name in any case or by number; JSON shows its name."""
    assert ADAPTER.validate_python(value) is LoggingLevels.WARNING
    assert ADAPTER.dump_json(LoggingLevels.WARNING) == b'"WARNING"'


@pytest.mark.parametrize(
    "value", ["", "loud", 0, 15, "15", "9" * 9999, True, None, 20.0, ["INFO"]], ids=lambda v: repr(v)[:9]
)
def test_wrong_spellings(value: object) -> None:
    """Anything else is refused."""
    with pytest.raises(ValidationError):
        ADAPTER.validate_python(value)
