"""What every settings model has in common."""

from collections.abc import Iterable
from typing import ClassVar, NoReturn

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import InitErrorDetails, PydanticCustomError


class Section(BaseModel):
    """Frozen, complete (an unknown name is refused), and silent about values in its errors."""

    model_config = ConfigDict(
        extra="forbid",
        frozen=True,
        hide_input_in_errors=True,
        defer_build=True,  # until a settings object is made: importing the package builds no validator
    )

    decided_by: ClassVar[str | None] = None
    """A field without which the others mean nothing: a layer that gives it replaces the whole section."""

    @classmethod
    def long_form(cls, value: object) -> object:
        """Return the mapping that a short form of the section stands for; anything else as it is."""
        return value


Path = tuple[str | int, ...]
"""The way from a model to a value in it: names of fields, keys of mappings, positions in lists."""

Conflict = tuple[Path, str]
"""The value that is to be changed, and why it cannot stand beside the others."""


def refuse(title: str, conflicts: Iterable[Conflict]) -> NoReturn:
    """Raise one pydantic error that holds all `conflicts`, each at its path."""
    raise ValidationError.from_exception_data(
        title,
        [
            InitErrorDetails(type=PydanticCustomError("conflict", "{reason}", {"reason": reason}), loc=path, input=None)
            for path, reason in conflicts
        ],
    )
