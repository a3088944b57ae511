"""What the settings models say about themselves: which fields there are, and what may be written for one."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from enum import Enum, auto
from types import NoneType, UnionType
from typing import Annotated, Union, get_args, get_origin

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo

from asgipipe.settings.deployment import DeploymentSettings
from asgipipe.settings.flags import NamedFlag
from asgipipe.settings.sections import Path


class Shape(Enum):
    """How a field's value is written where there is only text."""

    TEXT = auto()
    BOOLEAN = auto()
    SECRET = auto()
    FLAG = auto()
    NAMES = auto()  # a list of texts
    LIST = auto()
    MAPPING = auto()
    SECTION = auto()  # a model of its own


@dataclass(frozen=True, slots=True)
class Kind:
    """What a field holds; `model` is that of a section, or of the items of a list."""

    shape: Shape
    nullable: bool = False
    model: type[BaseModel] | None = None


def kind(field: FieldInfo) -> Kind:
    """Return what `field` holds."""
    annotation, nullable = _without_none(field.annotation)
    arguments = [_bare(argument) for argument in get_args(annotation)]
    if SecretStr in (annotation, *arguments):
        return Kind(Shape.SECRET, nullable)
    if get_origin(annotation) is list:
        model = _model(arguments[0])
        return Kind(Shape.NAMES if arguments[0] is str else Shape.LIST, nullable, model)
    if get_origin(annotation) is dict:
        return Kind(Shape.MAPPING, nullable)
    if annotation is bool:
        return Kind(Shape.BOOLEAN, nullable)
    if isinstance(annotation, type) and issubclass(annotation, NamedFlag):
        return Kind(Shape.FLAG, nullable)
    model = _model(annotation)
    return Kind(Shape.SECTION if model else Shape.TEXT, nullable, model)


def _bare(annotation: object) -> object:
    return get_args(annotation)[0] if get_origin(annotation) is Annotated else annotation


def _without_none(annotation: object) -> tuple[object, bool]:
    annotation = _bare(annotation)
    if get_origin(annotation) not in (Union, UnionType):
        return annotation, False
    members = get_args(annotation)
    rest = [member for member in members if member is not NoneType]
    return (_bare(rest[0]) if len(rest) == 1 else annotation), len(rest) < len(members)


def _model(annotation: object) -> type[BaseModel] | None:
    return annotation if isinstance(annotation, type) and issubclass(annotation, BaseModel) else None


def section(model: type[BaseModel], name: object) -> type[BaseModel] | None:
    """Return the model of the field `name` if that field is a section of its own."""
    field = model.model_fields.get(name) if isinstance(name, str) else None
    return None if field is None else _section_in(field)


def _section_in(field: FieldInfo) -> type[BaseModel] | None:
    found = kind(field)
    return found.model if found.shape is Shape.SECTION else None


def every_field(
    model: type[BaseModel] = DeploymentSettings, base: tuple[str, ...] = ()
) -> Iterator[tuple[tuple[str, ...], FieldInfo]]:
    """Yield the path of every field and the field, sections before what is in them."""
    for name, field in model.model_fields.items():
        yield (*base, name), field
        inner = _section_in(field)
        if inner is not None:
            yield from every_field(inner, (*base, name))


def model_at(model: type[BaseModel], path: Path) -> type[BaseModel] | None:
    """Return the model that the value at `path` belongs to, or None where values are free."""
    found: type[BaseModel] | None = model
    for part in path:
        if isinstance(part, int):
            continue
        field = found.model_fields.get(part) if found else None
        found = kind(field).model if field else None
    return found


def public(model: type[BaseModel], path: Path) -> Path:
    """Return `path` up to the first field of secrets: what stands in there is not to be named."""
    for end, part in enumerate(path):
        owner = model_at(model, path[:end])
        field = owner.model_fields.get(str(part)) if owner else None
        if field is not None and kind(field).shape is Shape.SECRET:
            return path[: end + 1]
    return path


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the one of the `known` names that `name` may be a misspelling, or the last part, of."""
    known = list(known)
    ends = [other for other in known if other.endswith(f"_{name}")]
    return next(iter([*ends, *get_close_matches(name, known, n=1)]), None)


def did_you_mean(name: str, known: Iterable[str]) -> str | None:
    found = nearest(name, known)
    return f"did you mean {found}?" if found else None


def dotted(path: Path) -> str:
    return ".".join(printable(str(part)) for part in path)


def printable(text: str) -> str:
    """Return `text` on one line and without control characters, for a terminal."""
    return text if text.isprintable() else "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
