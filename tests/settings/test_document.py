import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.settings.document import DEEPEST, HEAVIEST, Document, DocumentError, read

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(max_codepoint=0xFFFF, exclude_categories=["Cs"])),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text("abc", min_size=1), inner, max_size=4),
    max_leaves=20,
)


def refused(text: str) -> DocumentError:
    with pytest.raises(DocumentError) as caught:
        read(text)
    return caught.value


def outcome(text: str) -> Document | DocumentError:
    try:
        return read(text)
    except DocumentError as error:
        return error


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((word, word) for word in ("no", "yes", "on", "off", "y", "NO", "012", "-01", "1:30", "1_000", "2001-01-01")),
        *((word, word) for word in ("tRUE", "nULL", "0x", "0o8", "0b1", "e5", ".", "+", "01.5", "<<", "=")),
        *((word, None) for word in ("null", "Null", "NULL", "~", "")),
        *((word, True) for word in ("true", "True", "TRUE")),
        *((word, False) for word in ("false", "False", "FALSE")),
        ("0", 0),
        ("-12", -12),
        ("+3", 3),
        ("0xFf", 255),
        ("0o17", 15),
        ("1.5", 1.5),
        (".5", 0.5),
        ("1e3", 1000.0),
        ("-.inf", -math.inf),
        (".INF", math.inf),
        ("'true'", "true"),
        ('"5"', "5"),
        ("|\n  a\n", "a\n"),
    ],
)
def test_scalars(text: str, value: object, loader: str) -> None:
    """Plain scalars follow YAML 1.2's core schema, and quoted ones are texts."""
    found = read(f"x: {text}").value
    assert found == {"x": value}
    assert isinstance(found, dict)
    assert type(found["x"]) is type(value)


def test_not_a_number(loader: str) -> None:
    """`.nan` is the float that equals nothing."""
    (value,) = read("[.nan]").value  # type: ignore[misc]
    assert isinstance(value, float)
    assert math.isnan(value)


@given(JSON)
def test_json_is_yaml(value: object) -> None:
    """What JSON says is read as the same value."""
    assert read(json.dumps(value)).value == value


@given(st.text(max_size=80))
def test_any_text_is_read_or_refused(text: str) -> None:
    """No text makes the reader fail in another way than by DocumentError, which has a line and a column."""
    found = outcome(text)
    assert isinstance(found, Document) or (found.line >= 1 and found.column >= 1)


@given(st.text("&*!?|>%@`\"'[]{}:,- \n\tab#", max_size=60))
def test_any_punctuation_is_read_or_refused(text: str) -> None:
    """Nor does any heap of YAML's own punctuation."""
    found = outcome(text)
    assert isinstance(found, Document) or found.message


def test_places(loader: str) -> None:
    """Keys and list items have their line and column, counted from 1."""
    document = read("# comment\na:\n  - b: {ö: 1, c: 2}\n  - x\n")
    assert document.places == {
        ("a",): (2, 1),
        ("a", 0): (3, 5),
        ("a", 0, "b"): (3, 5),
        ("a", 0, "b", "ö"): (3, 9),
        ("a", 0, "b", "c"): (3, 15),
        ("a", 1): (4, 5),
    }


@pytest.mark.parametrize("text", ["", "\n\n", "# only a comment\n", "---\n", "---\n...\n"])
def test_empty(text: str, loader: str) -> None:
    """A document without content has the value None."""
    assert read(text) == Document()


def test_repeated_keys(loader: str) -> None:
    """Of two equal keys the first one counts and the second one is reported, quoted or not."""
    document = read("a: 1\n'a': 2\nb: {c: 1, c: {d: 2}}\n")
    assert document.value == {"a": 1, "b": {"c": 1}}
    assert document.repeated == [(("a",), 2, 1), (("b", "c"), 3, 11)]


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("a: !!python/object/apply:os.system [id]", (1, 4)),
        ("a: !!str 5", (1, 4)),
        ("a: !custom 5", (1, 4)),
        ("a: ! 5", (1, 4)),
        ("a:\n  !x {b: 1}", (2, 3)),
        ("!x a: 5", (1, 1)),
        ("a: !!binary aGk=", (1, 4)),
    ],
)
def test_tags(text: str, place: tuple[int, int], loader: str) -> None:
    """Tags, the harmless ones too, are refused where they stand."""
    error = refused(text)
    assert "tags" in error.message
    assert (error.line, error.column) == place


def test_aliases(loader: str) -> None:
    """An alias stands for a copy of the value of its anchor."""
    value = read("a: &x {b: [1]}\nc: *x\n").value
    assert isinstance(value, dict)
    assert value["a"] == value["c"] == {"b": [1]}
    assert value["a"] is not value["c"]
    assert value["a"]["b"] is not value["c"]["b"]


@pytest.mark.parametrize("text", ["a: *x", "a: &x [*x]", "a: &x {b: *x}", "*x : 1"])
def test_aliases_that_lead_nowhere(text: str, loader: str) -> None:
    """An alias of nothing, of what is around it, or as a key, is refused."""
    assert "alias" in refused(text).message


def test_bombs(loader: str) -> None:
    """Anchors that multiply are refused as soon as they are too heavy, before the memory is spent."""
    lists = "\n".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 30))
    texts = f"a: &a {'x' * 100_000}\nb: [{', '.join(['*a'] * 10_000)}]"
    for bomb in (f"a0: &a0 [1]\n{lists}", texts):
        assert str(HEAVIEST) in refused(bomb).message


@pytest.mark.parametrize("text", ["[" * 500_000, "{a: " * 100_000, "- " * 100_000, "? " * 100_000])
def test_depth(text: str, loader: str) -> None:
    """Deep nesting is refused without recursion errors."""
    assert refused(text).message.startswith((f"nested more than {DEEPEST}", "a key is"))


def test_width(loader: str) -> None:
    """Very many values are refused."""
    assert str(HEAVIEST) in refused("a: [" + "1, " * HEAVIEST + "]").message


@pytest.mark.parametrize(
    ("text", "place", "part"),
    [
        ("a: 1\n\tb: 2\n", (2, 1), "tabs"),
        ("a: [1\n", (2, 1), "not YAML"),
        ("a: b: c", (1, 5), "mapping values are not allowed"),
        ("a: 1\n---\nb: 2\n", (2, 1), "second document"),
        ("a: x\x07", (1, 5), "U+0007"),
        ("a: 1\nb: \ufffe", (2, 4), "U+FFFE"),
        ("? [a]\n: 1", (1, 3), "a key is a text"),
        (f"{'k' * 300}: 1", (1, 1), "255"),
        ('a: "\\q"', (1, 5), "unknown escape"),
    ],
)
def test_syntax(text: str, place: tuple[int, int], part: str) -> None:
    """What is not YAML, or more than one document, is refused at its place."""
    error = refused(text)
    assert part in error.message
    assert (error.line, error.column) == place


def test_numbers_of_absurd_length() -> None:
    """A number of thousands of digits costs nothing and is no error of Python's."""
    assert read(f"[{'9' * 5000}, 0x{'f' * 5000}]").value == [float("inf"), f"0x{'f' * 5000}"]
