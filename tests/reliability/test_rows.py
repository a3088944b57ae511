import ast
import re
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = Path(__file__).with_name("README.md")

PROVED = {*range(1, 41)}
"""The rows that have to stand in the table."""


def rows() -> dict[int, str]:
    """Return the last cell of each numbered row."""
    lines = README.read_text(encoding="utf-8").splitlines()
    found = (re.fullmatch(r"\| (\d+) \|.*\| ([^|]+) \|", line) for line in lines)
    return {int(row.group(1)): row.group(2) for row in found if row}


def named(text: str) -> list[str]:
    return re.findall(r"`(tests/[^`]+)`", text)


def functions(path: Path) -> dict[str, str]:
    """Return the docstring of each test of a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return {
        node.name: ast.get_docstring(node) or ""
        for node in tree.body
        if isinstance(node, ast.FunctionDef) and node.name.startswith("test_")
    }


def claims() -> Iterator[tuple[int, str]]:
    """Yield each row that a test here claims in its docstring, with the test."""
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        for name, docstring in functions(path).items():
            claimed = re.match(r"Rows? (\d+)(?: and (\d+))?:", docstring)
            for number in claimed.groups() if claimed else ():
                if number is not None:
                    yield int(number), f"tests/reliability/{path.name}::{name}"


def test_every_row_has_its_place() -> None:
    """The table holds each row once, with a test or the reason why there is none."""
    assert rows().keys() == PROVED
    assert all(named(cell) or cell.startswith("not there yet: ") for cell in rows().values())


def test_every_named_test_exists() -> None:
    """No test is named that was renamed or removed."""
    missing = []
    for node in named(README.read_text(encoding="utf-8")):
        path, _, name = node.partition("::")
        if not (ROOT / path).is_file() or name not in functions(ROOT / path):
            missing.append(node)
    assert missing == []


def test_every_claim_is_listed() -> None:
    """A test that says in its docstring which row it proves stands in that row."""
    listed = rows()
    claimed = list(claims())
    assert claimed
    assert [(row, test) for row, test in claimed if test not in named(listed[row])] == []
