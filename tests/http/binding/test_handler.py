from functools import partial, wraps
from typing import Annotated

import pytest

from asgipipe.errors import DefinitionError
from asgipipe.http.binding.handler import label_of, read_handler, wants_framework


class Request:
    """Stands for a framework's request type."""


class SpecialRequest(Request):
    pass


class Depends:
    """Stands for a framework's dependency marker."""


TYPES = (Request, Depends)


def test_framework_types_are_found_wherever_they_stand() -> None:
    """A parameter asks for the framework by its type, a subclass, a union, Annotated metadata, or its default."""

    def plain(http: Request) -> None: ...
    def special(x: int, http: SpecialRequest) -> None: ...
    def optional(http: Request | None = None) -> None: ...
    def annotated(db: Annotated[int, Depends()]) -> None: ...
    def default(db=Depends()) -> None: ...  # type: ignore[no-untyped-def]  # noqa: B008  # as users write it

    for handler in (plain, special, optional, annotated, default):
        assert wants_framework(handler, TYPES)
        assert wants_framework(partial(handler), TYPES)


def test_an_unannotated_request_is_the_frameworks() -> None:
    """`request` without annotation is the framework's, with one it is what the annotation says."""

    def bare(request) -> None: ...  # type: ignore[no-untyped-def]
    def typed(request: dict[str, int]) -> None: ...
    def defaulted(request="x") -> None: ...  # type: ignore[no-untyped-def]

    assert wants_framework(bare, ())
    assert not wants_framework(typed, TYPES)
    assert not wants_framework(defaulted, TYPES)


def test_plain_handlers_do_not_want_a_framework() -> None:
    """Neither scalars nor generics nor the return type make a handler the framework's."""

    def handler(x: int, y: list[str], z: dict[str, int]) -> Request: ...  # type: ignore[empty-body]

    assert not wants_framework(handler, TYPES)


def test_arguments_bound_by_a_partial_are_not_for_requests() -> None:
    """What a partial has bound, by position or by name, cannot be filled from outside."""

    def handler(model: str, key: str, x: int) -> None: ...

    read = read_handler(partial(handler, "m", key="secret"))
    assert [parameter.name for parameter in read.parameters] == ["x"]


def test_the_signature_of_a_wrapped_function_is_read() -> None:
    """A decorator that uses functools.wraps leaves signature, types and docstring visible."""

    def handler(x: int) -> str:
        """What it does."""
        return str(x)

    @wraps(handler)
    def wrapper(*args: object, **kwargs: object) -> str:
        return handler(*args, **kwargs)  # type: ignore[arg-type]

    read = read_handler(wrapper)
    assert read.hints == {"x": int, "return": str}
    assert read.doc == "What it does."


def test_docstrings_of_objects() -> None:
    """A callable object is described by its `__call__`, else by its class; a partial by its function."""

    class Spoken:
        """Class."""

        def __call__(self) -> None:
            """Call."""

    class Silent:
        """Class."""

        def __call__(self) -> None: ...

    def function() -> None:
        """Function."""

    docs = [read_handler(handler).doc for handler in (Spoken(), Silent(), Spoken().__call__, partial(function))]
    assert docs == ["Call.", "Class.", "Call.", "Function."]


def test_an_annotation_that_leads_nowhere_is_named() -> None:
    """An annotation that cannot be resolved is an error that names handler and annotation."""

    def handler(x: "Nowhere") -> None: ...  # type: ignore[name-defined]  # noqa: F821

    with pytest.raises(DefinitionError, match=r"handler.*'Nowhere'"):
        read_handler(handler)


def test_labels_name_module_and_function() -> None:
    """A label is where to look for the handler, whatever kind of callable it is."""
    assert label_of(label_of) == "asgipipe.http.binding.handler.label_of"
    assert label_of(partial(label_of)) == "asgipipe.http.binding.handler.label_of"
    assert label_of(Request()).endswith(".Request")


def test_what_has_no_signature_is_refused() -> None:
    """A builtin without a signature, and something that cannot be called, are errors that name them."""
    with pytest.raises(DefinitionError, match=r"builtins\.iter"):
        read_handler(iter)
    with pytest.raises(DefinitionError, match="int is not callable"):
        read_handler(3)
