import json
from typing import Annotated, Literal, NoReturn
from uuid import UUID

import pydantic
import pytest
from pydantic import AfterValidator, BaseModel, Field, Json, TypeAdapter

from asgipipe.errors import BadRequestError, HTTPError, ValidationError
from asgipipe.http.validation import MAX_ENTRIES, MAX_MESSAGE, refusal

SECRET = "canary-7f3a"


def refused(kind: object, body: bytes, prefix: tuple[str | int, ...] = ()) -> HTTPError:
    with pytest.raises(pydantic.ValidationError) as caught:
        TypeAdapter(kind).validate_json(body, strict=True)
    return refusal(caught.value, prefix)


def entries(error: HTTPError) -> list[dict[str, object]]:
    assert isinstance(error, ValidationError)
    return [dict(entry) for entry in error.errors or ()]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"a": "\\ud800"}', b"[" * 100_000, b"9" * 5000, b"\xff\xfe{\x00}\x00"]
)
def test_what_is_not_json_is_a_bad_request(body: bytes) -> None:
    """Malformed JSON, other encodings, lone surrogates, too much depth and too long numbers are a 400."""
    assert isinstance(refused(dict[str, object], body), BadRequestError)


def test_wrong_values_are_listed_by_place() -> None:
    """Each wrong value is an entry with place, message and type, and no other member."""
    found = entries(refused(dict[str, list[int]], b'{"a": [1, "x"], "b": 3}', ("body",)))
    assert found == [
        {"loc": ["body", "a", 1], "msg": "Input should be a valid integer", "type": "int_type"},
        {"loc": ["body", "b"], "msg": "Input should be a valid array", "type": "list_type"},
    ]


def test_malformed_json_inside_a_value_is_a_wrong_value() -> None:
    """Text that should be JSON itself is a wrong value in a body that is JSON."""
    assert entries(refused(dict[str, Json[int]], b'{"a": "{"}'))[0]["type"] == "json_invalid"


class Cat(BaseModel):
    kind: Literal["cat"]


class Dog(BaseModel):
    kind: Literal["dog"]


@pytest.mark.parametrize(
    "kind",
    [
        int,
        UUID,
        Literal["a", "b"],
        pydantic.AnyUrl,
        pydantic.Base64Bytes,
        pydantic.ImportString,
        Annotated[str, Field(pattern="^x$")],
        Annotated[str, Field(max_length=1)],
        Annotated[Cat | Dog, Field(discriminator="kind")],
    ],
)
def test_the_input_is_never_quoted(kind: object) -> None:
    """What was sent appears in no entry, also where pydantic's own message would quote it."""
    value = {"kind": SECRET} if "Cat" in str(kind) else SECRET
    assert SECRET not in json.dumps(entries(refused(kind, json.dumps(value).encode())))


def test_no_character_of_a_wrong_uuid_is_quoted() -> None:
    """The offending character of a UUID, which is in the message of pydantic, is not in the answer."""
    assert entries(refused(UUID, b'"\\u2603"'))[0]["msg"] == "Input should be a valid UUID"


def test_users_own_messages_are_kept_and_bounded() -> None:
    """The text of a user's validator is kept and cut to its limit."""

    def complain(value: str) -> NoReturn:
        raise ValueError(value)

    short = refused(Annotated[str, AfterValidator(lambda _: complain("too blue"))], b'"x"')
    assert entries(short)[0]["msg"] == "Value error, too blue"
    (long,) = entries(refused(Annotated[str, AfterValidator(lambda _: complain("ü" * 100_000))], b'"x"'))
    assert len(str(long["msg"])) == MAX_MESSAGE


def test_entries_are_bounded() -> None:
    """No more than MAX_ENTRIES are listed, the detail counts all, and places are bounded in length and depth."""
    error = refused(list[int], json.dumps(["x"] * 500).encode())
    assert len(entries(error)) == MAX_ENTRIES
    assert "500" in error.detail
    (key,) = entries(refused(dict[str, int], json.dumps({"k" * 10_000: "x"}).encode()))
    assert len(str(key["loc"])) < 200


def test_very_many_wrong_values_are_only_counted() -> None:
    """Where even listing would take long, one entry gives the number."""
    (entry,) = entries(refused(list[int], json.dumps(["x"] * 20_000).encode(), ("body",)))
    assert entry["loc"] == ["body"]
    assert "20000" in str(entry["msg"])
