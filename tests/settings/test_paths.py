import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from asgipipe.settings.paths import LONGEST, EndpointPath, PathPrefix, PathTemplate, shape

ENDPOINT = TypeAdapter[str](EndpointPath)
PREFIX = TypeAdapter[str](PathPrefix)
TEMPLATE = TypeAdapter[str](PathTemplate)
ALL = [ENDPOINT, PREFIX, TEMPLATE]

RIGHT = ["/a", "/a/b.json", "/~user/x-y_z", "/a:b@c", "/..."]
WRONG = [
    "a",
    "/a/",
    "//a",
    "/a//b",
    "//",
    "/a b",
    "/a?b",
    "/a#b",
    "/a%20b",
    "/ü",
    "/a\n",
    "/.",
    "/a/../b",
    "/a\\b",
    "/a{",
]


@pytest.mark.parametrize("path", RIGHT)
@pytest.mark.parametrize("adapter", ALL)
def test_right_paths(path: str, adapter: TypeAdapter[str]) -> None:
    """A path of plain segments is right everywhere."""
    assert adapter.validate_python(path) == path


@pytest.mark.parametrize("path", [*WRONG, "/" + "a" * LONGEST])
@pytest.mark.parametrize("adapter", ALL)
def test_wrong_paths(path: str, adapter: TypeAdapter[str]) -> None:
    """A path that no request could have, or that is written in another way by clients, is wrong everywhere."""
    with pytest.raises(ValidationError):
        adapter.validate_python(path)


def test_the_root() -> None:
    """The empty path is a prefix, the root a template; neither is the path of a built-in endpoint."""
    assert PREFIX.validate_python("") == ""
    assert TEMPLATE.validate_python("/") == "/"
    for adapter, path in ((ENDPOINT, ""), (ENDPOINT, "/"), (PREFIX, "/")):
        with pytest.raises(ValidationError):
            adapter.validate_python(path)


@pytest.mark.parametrize("path", ["/{a}", "/x/{a}/y/{b_2}", "/files/{rest:path}", "/v{n}.json", "/{a}/{rest:path}"])
def test_templates(path: str) -> None:
    """Templates may hold parameters; the paths of built-in endpoints may not."""
    assert TEMPLATE.validate_python(path) == path
    with pytest.raises(ValidationError):
        ENDPOINT.validate_python(path)


@pytest.mark.parametrize(
    "path", ["/{a}/{a}", "/{a:path}/b", "/{a:int}", "/{}", "/{1}", "/{a", "/a}", "{a}", "/{a}/", "/{{a}}"]
)
def test_wrong_templates(path: str) -> None:
    """Parameters are named, differ, are closed, and one that takes the rest is the last."""
    with pytest.raises(ValidationError):
        TEMPLATE.validate_python(path)


def test_shape() -> None:
    """Templates that match the same requests have one shape."""
    assert shape("/a/{x}/{y:path}") == shape("/a/{b}/{c:path}") != shape("/a/{x}/{y}")


@given(st.text("/ab{}.:%?#\\é ", max_size=12))
def test_what_is_accepted_can_be_requested(path: str) -> None:
    """An accepted path is what remains of it after any client and server have treated it."""
    try:
        accepted = ENDPOINT.validate_python(path)
    except ValidationError:
        return
    assert accepted == path
    assert path.startswith("/")
    assert not path.endswith("/")
    assert "//" not in path
    assert path.isascii()
    assert not set(path) & set("{}%?#\\ ")
