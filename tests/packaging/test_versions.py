import re
import sys
from pathlib import Path

import pytest

from tests.packaging.floors import PROJECT, SUPPORTED, constraints, floors, supported

ROOT = Path(__file__).parents[2]
CI = (ROOT / ".ci" / "run").read_text(encoding="utf-8")
PAGE = (ROOT / "docs" / "reference" / "versions.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| (?P<name>\S+) \| (?P<lowest>\S+) \| (?P<highest>\S+) \| (?P<extra>\S+) \|$", re.MULTILINE)
ROWS = list(ROW.finditer(PAGE))


def number(version: str) -> tuple[int, ...]:
    return tuple(map(int, version.split(".")))


def test_every_requirement_of_users_has_a_lower_bound_alone() -> None:
    """No requirement of asgipipe or of an extra for its users is unbounded below, or keeps a newer version out."""
    for extra in ("core", *SUPPORTED):
        requirements = PROJECT["dependencies"] if extra == "core" else PROJECT["optional-dependencies"][extra]
        assert len(floors(requirements)) == len(requirements)
        assert [line for line in requirements if "<" in line or "!=" in line] == []


@pytest.mark.parametrize(
    "requirement", ["django", "django==5.2", "django>5", "django~=5.2", "django>=5.2; python_version<'4'"]
)
def test_a_requirement_without_a_lower_bound_is_refused(requirement: str) -> None:
    """What is not written as name>=version would not be tested with its lowest version."""
    with pytest.raises(ValueError, match="is not written as name>=version"):
        floors([requirement])


def test_the_documented_versions_are_those_of_the_project() -> None:
    """The table of supported versions has a row for each requirement, with its lower bound and its extra."""
    names = {extra: "asgipipe" if extra == "core" else f"`asgipipe[{extra}]`" for extra in ("core", *SUPPORTED)}
    assert sorted((row["name"], row["lowest"], row["extra"]) for row in ROWS) == sorted(
        (name, lowest, names[extra]) for extra, bounds in supported().items() for name, lowest in bounds.items()
    )
    assert all(number(row["lowest"]) <= number(row["highest"]) for row in ROWS)


def test_the_lowest_versions_are_what_is_installed() -> None:
    """`scripts/test-with --lowest` is bound to each lower bound exactly, and its environment is compared with them."""
    script = (ROOT / "scripts" / "test-with").read_text(encoding="utf-8")
    assert '-m tests.packaging.floors >"$new/floors.txt"' in script
    assert '--constraint "$new/floors.txt"' in script
    assert "TESTED_VERSIONS" in script
    assert sorted(constraints()) == sorted(f"{row['name']}=={row['lowest']}" for row in ROWS)


def test_the_documented_pythons_are_those_of_the_project() -> None:
    """The lowest Python of the classifiers is the one that is required, and the documentation lists them all."""
    prefix = "Programming Language :: Python :: 3."
    pythons = [f"3.{name.removeprefix(prefix)}" for name in PROJECT["classifiers"] if name.startswith(prefix)]
    assert PROJECT["requires-python"] == f">={pythons[0]}"
    *first, last = pythons
    assert f"\nPython {', '.join(first)} and {last}.\n" in PAGE
    assert sys.version_info >= number(pythons[0])


def test_each_extra_is_tested_alone() -> None:
    """Continuous integration makes an environment with each extra and no other, one with none, one at each end."""
    (alone,) = re.findall(r"^for extra in (.+); do$", CI, re.MULTILINE)
    assert set(alone.split()) == set(SUPPORTED) - {"testing"}  # which all of them hold
    for environment in ("core", "--lowest all", '--python "$python" all'):
        assert f"scripts/test-with {environment}\n" in CI
