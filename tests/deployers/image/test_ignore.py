import pytest

from asgipipe.deployers.image.ignore import NEVER, Ignore


@pytest.mark.parametrize(
    ("pattern", "path", "left_out"),
    [
        ("notes.txt", "notes.txt", True),
        ("notes.txt", "sub/notes.txt", False),
        ("**/notes.txt", "sub/deep/notes.txt", True),
        ("**/notes.txt", "notes.txt", True),
        ("data", "data/large.bin", True),
        ("/data/", "data/large.bin", True),
        ("*.csv", "one.csv", True),
        ("*.csv", "sub/one.csv", False),
        ("sub/*.csv", "sub/one.csv", True),
        ("sub/**", "sub/deep/one.csv", True),
        ("part?", "part1", True),
        ("part[0-3]", "part7", False),
        ("a+b", "a+b", True),
        ("a+b", "aab", False),
        ("# a comment", "# a comment", False),
    ],
)
def test_patterns_are_those_of_dockerignore(pattern: str, path: str, left_out: bool) -> None:
    """A pattern leaves out what it leaves out of Docker's own contexts."""
    assert Ignore.of([pattern])(path) is left_out


def test_the_last_pattern_that_matches_decides() -> None:
    """What a pattern leaves out, a later one with `!` takes in again, and a still later one leaves out."""
    ignore = Ignore.of(["data", "!data/small.csv", "data/small.csv.bak"])
    assert [ignore(f"data/{name}") for name in ("large.csv", "small.csv", "small.csv.bak")] == [True, False, True]


@pytest.mark.parametrize(
    "path",
    [".git/config", "sub/.venv/bin/python", ".asgipipe/store.db", ".env", "certs/server.key", "pkg/__pycache__/a.pyc"],
)
def test_what_no_image_needs_is_left_out(path: str) -> None:
    """History, environments, state, caches and secrets are left out wherever they are."""
    assert Ignore.of(NEVER)(path)


@pytest.mark.parametrize("path", ["main.py", "environment.py", "data/keys.csv", ".streamlit/config.toml", "key.py"])
def test_what_a_project_is_made_of_is_not_left_out(path: str) -> None:
    """Names that only look like secrets or leftovers stay."""
    assert not Ignore.of(NEVER)(path)
