"""Conventions that a reviewer would have to remember."""

import ast
import importlib
import inspect
import os
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

import asgipipe
from asgipipe import errors

pytest.register_assert_rewrite("asgipipe.testing.scenarios")  # as its suite does, but before any module is imported

ROOT = Path(__file__).parents[1]
PACKAGES = [ROOT / "asgipipe", *(path.parent for path in sorted((ROOT / "adapters").glob("*/__init__.py")))]
SOURCES = sorted(path for package in PACKAGES for path in package.rglob("*.py"))
EXAMPLES = sorted((ROOT / "examples").rglob("*.py"))
TESTS = sorted((ROOT / "tests").rglob("*.py"))
SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "scripts").iterdir())]

PUBLIC = {
    "AppExtensionSpec",
    "AsyncDeploymentClient",
    "BaseAppExtension",
    "BaseDeploymentAppRunner",
    "BaseDeploymentService",
    "CORSConfig",
    "CapturePolicy",
    "Client",
    "Deployment",
    "DeploymentClient",
    "DeploymentDefaultEndpoints",
    "DeploymentDefaultMiddleware",
    "DeploymentResponse",
    "DeploymentService",
    "DeploymentSettings",
    "EndpointMethod",
    "EndpointSpec",
    "LoggingLevels",
    "MiddlewareSpec",
    "Pipeline",
    "SecureHeadersConfig",
    "Step",
    "StepContext",
    "asgi",
    "get_step_context",
    "pipeline",
    "step",
}

# What is imported only when it is used, so that `import asgipipe` is quick and brings no framework along.
LAZY = {"click", "django", "fastapi", "flask", "prometheus_client", "quart", "starlette", "uvicorn", "yaml"}

# What may be missing, by the package or module that cannot be imported without it.
NEEDS = {
    "asgipipe.jobs.postgres": "pgqueuer",
    "asgipipe.servers.gunicorn": "gunicorn",
    "asgipipe.servers.gunicorn_settings": "gunicorn",
    "asgipipe.stores.postgresql": "psycopg",
    "asgipipe.testing.worker": "uvicorn_worker",
    "asgipipe_django": "django",
    "asgipipe_fastapi": "fastapi",
    "asgipipe_quart": "quart",
}

FOREIGN = {
    "a folder of somebody's machine": re.compile(r"(?<![\w.])/(?:(?:home|Users)/\w+/|root/\.|work/(?:main|shared))"),
    "a package registry": re.compile(  # but for those that exist nowhere (RFC 2606)
        r"^(?!.*\.example\b).*?(?:files\.pythonhosted\.org|pypi\.org/simple|index-url[ =]|PIP_PROXY|"
        r"(?:PIP|UV)_\w*INDEX\w*[=:]\s*\S*//)"
    ),
    "a secret": re.compile(
        r"-----BEGIN [A-Z ]*PRIVATE KEY|\b(?:gh[pousr]_|github_pat_|sk-|pypi-)\w{20}|\bAKIA[0-9A-Z]{16}|\bxox[abp]-"
    ),
}
LOCK_FILES = {"uv.lock", "poetry.lock", "pdm.lock", "Pipfile.lock", "pylock.toml"}


def name(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def tracked() -> list[Path]:
    """Return the files git knows or would add."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    return [path for entry in listed.stdout.split("\0") if entry and (path := ROOT / entry).is_file()]


def lines(paths: list[Path]) -> Iterator[tuple[str, str]]:
    """Yield the lines of text files, each with its place."""
    for path in paths:
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            yield f"{name(path)}:{number}", line


def test_public_names_are_listed() -> None:
    """The public names and the errors that users meet are in `__all__`, and nothing else is."""
    met = {
        name
        for name, error in vars(errors).items()
        if inspect.isclass(error) and issubclass(error, BaseException) and errors.HTTPError not in error.__mro__[1:]
    }
    assert set(asgipipe.__all__) == PUBLIC | met


def test_public_names_are_importable() -> None:
    """Each public name can be imported from `asgipipe`, and is found by `dir`."""
    assert all(getattr(asgipipe, public) is not None for public in asgipipe.__all__)
    assert set(asgipipe.__all__) <= set(dir(asgipipe))


def test_unknown_name_is_an_attribute_error() -> None:
    """A name that `asgipipe` does not have is reported as Python reports it, lazy imports or not."""
    with pytest.raises(AttributeError, match="no_such_name"):
        getattr(asgipipe, "no_such_name")  # noqa: B009 - the type checker would refuse the plain form


def test_import_is_light() -> None:
    """`import asgipipe` loads no web framework, no server and nothing else that only serving needs."""
    program = "import sys, asgipipe; print(*sorted({module.partition('.')[0] for module in sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) & LAZY == set()


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_module_is_importable_alone(path: Path) -> None:
    """No module needs another one to be imported first, and importing one runs nothing."""
    (root,) = (package.parent for package in PACKAGES if path.is_relative_to(package))
    parts = path.relative_to(root).with_suffix("").parts
    module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
    for package, optional in NEEDS.items():
        if module == package or module.startswith(f"{package}."):
            pytest.importorskip(optional)
    assert importlib.import_module(module).__name__ == module


@pytest.mark.parametrize("path", [*SOURCES, *EXAMPLES], ids=name)
def test_module_says_what_it_is(path: Path) -> None:
    """Every module that is not empty begins with a docstring."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    assert not tree.body or ast.get_docstring(tree)


@pytest.mark.parametrize("path", TESTS, ids=name)
def test_test_says_what_it_proves(path: Path) -> None:
    """Every test function has a docstring."""
    functions = [
        node
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    ]
    assert [node.name for node in functions if not ast.get_docstring(node)] == []


@pytest.mark.parametrize("path", SOURCES, ids=name)
def test_broad_excepts_are_boundaries(path: Path) -> None:
    """Whoever catches everything, and does not raise it again, says in that line why anything can be raised there."""
    text = path.read_text(encoding="utf-8")
    source = text.splitlines()
    silent = [
        f"{name(path)}:{node.lineno}"
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.ExceptHandler)
        and catches_everything(node)
        and not raises_again(node)
        and "# boundary: " not in source[node.lineno - 1]
    ]
    assert silent == []


def catches_everything(handler: ast.ExceptHandler) -> bool:
    kinds = handler.type.elts if isinstance(handler.type, ast.Tuple) else [handler.type]
    return any(kind is None or ast.unparse(kind) in {"Exception", "BaseException"} for kind in kinds)


def raises_again(handler: ast.ExceptHandler) -> bool:
    last = handler.body[-1]
    return isinstance(last, ast.Raise) and last.exc is None


@pytest.mark.parametrize("kind", FOREIGN)
def test_nothing_foreign_is_tracked(kind: str) -> None:
    """No tracked file holds a path of somebody's machine, a package registry's address, or a secret."""
    paths = [path for path in tracked() if path != Path(__file__)]
    assert [place for place, line in lines(paths) if FOREIGN[kind].search(line)] == []


def test_tests_are_laid_out_like_the_source() -> None:
    """Whoever looks for the tests of a package finds them in the folder of the same name."""
    packages = {path.parent.name for path in (ROOT / "asgipipe").glob("*/__init__.py")}
    folders = {path.name for path in (ROOT / "tests").iterdir() if any(path.glob("**/test_*.py"))}
    without = {
        "adapters",
        "benchmarks",
        "chaos",
        "conformance",
        "dashboard",
        "docs",
        "examples",
        "packaging",
        "reliability",
    }
    assert folders - packages <= without


def test_no_lock_file_is_tracked() -> None:
    """What a clone installs is decided by pyproject.toml alone."""
    assert [name(path) for path in tracked() if path.name in LOCK_FILES] == []


def test_changelog_knows_the_version() -> None:
    """A release has its section in the changelog; a development version has the unreleased one."""
    changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    title = "Unreleased" if "dev" in asgipipe.__version__ else asgipipe.__version__
    assert f"\n## [{title}]" in changelog


@pytest.mark.parametrize("package", PACKAGES, ids=name)
def test_types_are_shipped(package: Path) -> None:
    """Type checkers find the marker of PEP 561."""
    assert (package / "py.typed").is_file()


def test_licence_is_apache() -> None:
    """The licence named in the project's metadata is the one in the file."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert project["license"] == "Apache-2.0"
    assert "Apache License\n" in (ROOT / "LICENSE").read_text(encoding="utf-8")


@pytest.mark.parametrize("script", SCRIPTS, ids=name)
def test_script_is_sound(script: Path) -> None:
    """Every script is executable, is valid bash, and stops at the first error."""
    assert os.access(script, os.X_OK)
    assert "\nset -euo pipefail\n" in script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", script], check=True)
