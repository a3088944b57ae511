import subprocess
import sys
import tarfile
import zipfile
from configparser import ConfigParser
from pathlib import Path

import pytest

from tests.packaging.floors import PROJECT

pytest.importorskip("hatchling")
pytest.importorskip("editables")

ROOT = Path(__file__).parents[2]
PACKAGES = {
    "asgipipe": ROOT / "asgipipe",
    **{path.parent.name: path.parent for path in sorted(ROOT.glob("*/asgipipe_*/__init__.py"))},
}


def built(kind: str, source: Path, folder: Path) -> Path:
    """Build a wheel, an editable wheel or an sdist as pip would have it done; return the file."""
    program = f"import sys; from hatchling import build; print(build.build_{kind}(sys.argv[1]))"
    done = subprocess.run([sys.executable, "-c", program, folder], cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return folder / done.stdout.split()[-1]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return built("wheel", ROOT, tmp_path_factory.mktemp("wheel"))


@pytest.fixture(scope="module")
def unpacked(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with what an installer would put into site-packages."""
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)  # noqa: S202 - built above
    return folder


def shipped(folder: Path) -> set[str]:
    """Return the files of each package below a folder, by their names in site-packages."""
    return {
        path.relative_to(folder).as_posix()
        for package in PACKAGES
        for path in (folder / package).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }


def of_the_checkout() -> set[str]:
    return {name for root in {path.parent for path in PACKAGES.values()} for name in shipped(root)}


def test_there_is_a_package_for_each_adapter() -> None:
    """The folders below adapters/ and contrib/ are the packages that the entry points name."""
    named = {value for group in PROJECT["entry-points"].values() for value in group.values()}
    assert set(PACKAGES) == {value.partition(":")[0].partition(".")[0] for value in named}


def test_the_wheel_holds_the_packages_and_nothing_else(wheel: Path, unpacked: Path) -> None:
    """Every file of the packages is in the wheel, py.typed among them, and no test, example or document is."""
    assert shipped(unpacked) == of_the_checkout()
    assert {f"{package}/py.typed" for package in PACKAGES} <= shipped(unpacked)
    (information,) = unpacked.glob("asgipipe-*.dist-info")
    assert {path.name for path in unpacked.iterdir()} == {*PACKAGES, information.name}


def test_the_wheel_names_its_entry_points(unpacked: Path) -> None:
    """The app runners, the deployers and the command are found in an installed wheel."""
    (file,) = unpacked.glob("*.dist-info/entry_points.txt")
    entries = ConfigParser()
    entries.read(file, encoding="utf-8")
    assert {group: dict(entries[group]) for group in PROJECT["entry-points"]} == PROJECT["entry-points"]
    assert dict(entries["console_scripts"]) == PROJECT["scripts"]


def test_the_wheel_works(unpacked: Path, tmp_path: Path) -> None:
    """What is imported from an unpacked wheel, away from the checkout, is the wheel's own, and makes an application."""
    program = f"""
import importlib.metadata, importlib.util, sys
sys.path.insert(0, {str(unpacked)!r})
import asgipipe
app = asgipipe.asgi(lambda name: name, {{"app_title": "wheel"}})
print(asgipipe.__file__)
for package in {sorted(PACKAGES)}:
    print(importlib.util.find_spec(package).origin)
print(importlib.metadata.distribution("asgipipe").version == asgipipe.__version__)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    *origins, same = done.stdout.split()
    assert {Path(origin).parents[1] for origin in origins} == {unpacked}
    assert same == "True"


def test_an_editable_install_finds_the_packages(tmp_path: Path) -> None:
    """An editable install puts the roots of all packages on the path, and names the same entry points."""
    with zipfile.ZipFile(built("editable", ROOT, tmp_path)) as archive:
        (path_file,) = (name for name in archive.namelist() if name.endswith(".pth"))
        roots = archive.read(path_file).decode().split()
        (entries,) = (name for name in archive.namelist() if name.endswith("/entry_points.txt"))
        assert b"asgipipe_quart:QuartAppRunner" in archive.read(entries)
    assert {Path(root) for root in roots} == {path.parent for path in PACKAGES.values()}


def test_the_sdist_is_complete(wheel: Path, unpacked: Path, tmp_path: Path) -> None:
    """A wheel built from the source distribution holds the same files as one built from the checkout."""
    with tarfile.open(built("sdist", ROOT, tmp_path)) as archive:
        archive.extractall(tmp_path / "source", filter="data")
    (source,) = (tmp_path / "source").iterdir()
    assert (source / "tests" / "packaging" / "test_wheel.py").is_file()
    with zipfile.ZipFile(built("wheel", source, tmp_path)) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
    assert names == {path.relative_to(unpacked).as_posix() for path in unpacked.rglob("*") if path.is_file()}
