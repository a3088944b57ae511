"""What is told to be served: `package.module:attribute`, `path/to/file.py:attribute` or `path/to/file.py`."""

import importlib.util
import inspect
import os
import sys
import sysconfig
import traceback
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from types import ModuleType

from asgipipe import sources
from asgipipe.errors import SourceError
from asgipipe.pipelines.pipeline import Pipeline, as_pipeline

_FORMS = "write 'package.module:attribute', 'path/to/file.py:attribute' or 'path/to/file.py'"


@dataclass(frozen=True, slots=True)
class LoadedTarget:
    """A target that was found.

    `source_root` is the folder that relative paths in the settings start from and that `--reload` watches: the folder
    that was put on the Python path for it, or an installed package's own folder.
    """

    pipeline: Pipeline[..., object]
    name: str
    source_root: Path
    source: str


def load_target(target: str) -> LoadedTarget:
    """Import what `target` names and make it a pipeline.

    The current folder is put in front of the Python path, a file's folder too. A file is imported as the module that
    its place makes it (its stem, or the dotted name when the folder is a package), so that it is found again by worker
    processes.

    Raises SourceError, always of one line, and DefinitionError when what was found cannot be served.
    """
    _search_first(Path.cwd())
    place, attribute = _split(target)
    module = _import_file(target, Path(place)) if _is_path(place) else _import_module(target, place, attribute)
    found = _attribute(target, module, attribute) if attribute else _only_candidate(target, module)
    pipeline = as_pipeline(found)
    return LoadedTarget(pipeline, pipeline.name, _source_root(module), target)


def found_from(target: str, folder: Path) -> str:
    """Return `target` as it is found when `folder` is the current one: the path of a file changes, a module's name not.

    Raises SourceError for what is no target.
    """
    place, attribute = _split(target)
    if not _is_path(place):
        return target
    file = Path(os.path.abspath(place))  # noqa: PTH100  # links are left as they are: they lead to the file later, too
    path = file.relative_to(folder) if file.is_relative_to(folder) else file
    return f"{path}:{attribute}" if attribute else str(path)


def module_of(target: str, folder: Path) -> tuple[Path, str]:
    """Return what `target` is imported as when `folder` is the current one: a folder of the Python path, and a module.

    Nothing is imported. Raises SourceError for what is no target.
    """
    place, _ = _split(target)
    return _module_of((folder / place).resolve()) if _is_path(place) else (folder, place)


def _split(target: str) -> tuple[str, str]:
    # From the right, so that a drive letter ('C:\...') stays with its path.
    place, colon, attribute = target.rpartition(":")
    if not colon or "/" in attribute or os.sep in attribute:
        return target, ""
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise SourceError(target, f"that is not a target: {_FORMS}")
    return place, attribute


def _is_path(place: str) -> bool:
    return place.endswith(".py") or "/" in place or os.sep in place or Path(place).is_file()


def _search_first(folder: Path) -> None:
    text = str(folder)
    if text not in sys.path:
        sys.path.insert(0, text)


# Modules


def _import_module(target: str, name: str, attribute: str) -> ModuleType:
    if not all(part.isidentifier() for part in name.split(".")):
        raise SourceError(target, f"{name!r} is not a module name: {_FORMS}")
    if not attribute:
        raise SourceError(target, f"which object of it? {_whole_module_hint(name)}")
    return _import(target, name)


def _whole_module_hint(name: str) -> str:
    file = Path(*name.split(".")).with_suffix(".py")
    return f"write '{name}:attribute'" + (f", or '{file}' to serve the one pipeline in it" if file.is_file() else "")


def _import_file(target: str, path: Path) -> ModuleType:
    if path.suffix != ".py":
        raise SourceError(target, f"{str(path)!r} is not a Python file: its name does not end in '.py'")
    if not path.is_file():
        reason = "is a folder, not a file" if path.is_dir() else "does not exist"
        raise SourceError(target, f"the file {str(path)!r} {reason}{_close_files(path)}")
    file = path.resolve()
    folder, name = _module_of(file)
    if "." in file.stem:
        raise SourceError(target, f"{file.name!r} cannot be imported: rename it, without a dot before '.py'")
    _search_first(folder)
    _refuse_taken_name(target, name, file)
    return _import(target, name)


def _module_of(file: Path) -> tuple[Path, str]:
    """The folder that must be on the Python path for `file`, and the name of its module from there."""
    folder, parts = file.parent, [file.stem]
    while (folder / "__init__.py").is_file() and folder.name.isidentifier() and folder.parent != folder:
        parts.insert(0, folder.name)
        folder = folder.parent
    return folder, ".".join(parts)


def _refuse_taken_name(target: str, name: str, file: Path) -> None:
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError):  # a parent package that fails, or '__main__': importing it says what is wrong
        return
    origin = spec.origin if spec else None
    if origin is None or not Path(origin).exists() or not file.samefile(origin):
        raise SourceError(target, f"Python already has another module named {name!r} ({origin}): rename the file")


def _close_files(path: Path) -> str:
    folder = path.parent
    names = [entry.name for entry in folder.glob("*.py")] if folder.is_dir() else []
    close = get_close_matches(path.name, names, n=1)
    return f"; did you mean {str(folder / close[0])!r}?" if close else ""


def _import(target: str, name: str) -> ModuleType:
    try:
        return sources.import_module(target, name)
    except SourceError as error:
        cause = error.__cause__
        if isinstance(cause, SyntaxError):
            raise SourceError(target, _syntax(cause)) from cause
        if cause is not None and (place := _raised_at(cause)):
            raise SourceError(target, f"{error.reason} ({place})") from cause
        raise


def _syntax(error: SyntaxError) -> str:
    return f"{error.filename or '<unknown>'}:{error.lineno or 0}: {type(error).__name__}: {error.msg}"


def _raised_at(error: BaseException) -> str | None:
    """The innermost line of the user's own code in the traceback, as `file:line`."""
    paths = sysconfig.get_paths()
    others = ("<", str(Path(__file__).parents[1]), paths["stdlib"], paths["purelib"], paths["platlib"])
    for frame in reversed(traceback.extract_tb(error.__traceback__)):
        if not frame.filename.startswith(others):
            return f"{frame.filename}:{frame.lineno}"
    return None


# Objects


def _attribute(target: str, module: ModuleType, path: str) -> object:
    found = sources.attribute(target, module, path, _names(_candidates(module)))
    if not callable(found) and not isinstance(found, Pipeline):
        raise SourceError(target, f"{path!r} is of type {type(found).__name__}, neither a pipeline nor callable")
    return found


def _only_candidate(target: str, module: ModuleType) -> object:
    """The one pipeline that `module` defines, else the one public function."""
    found = _candidates(module)
    if not found:
        raise SourceError(target, "the file defines no pipeline and no public function")
    if len(found) > 1:
        choices = ", ".join(f"'{target}:{name}'" for name in _names(found))
        kind = "pipelines" if isinstance(found[0][1], Pipeline) else "public functions and no pipeline"
        raise SourceError(target, f"the file defines several {kind}; choose one of {choices}")
    return found[0][1]


def _candidates(module: ModuleType) -> list[tuple[str, object]]:
    return list(_defined_pipelines(module)) or list(_public_functions(module))


def _defined_pipelines(module: ModuleType) -> Iterator[tuple[str, object]]:
    seen: set[int] = set()
    for name, value in vars(module).items():
        if isinstance(value, Pipeline) and id(value) not in seen and not _imported(value, module):
            seen.add(id(value))
            yield name, value


def _imported(pipeline: Pipeline[..., object], module: ModuleType) -> bool:
    """True when the module of the pipeline's function has this very object; a changed copy of it is defined here."""
    home = sys.modules.get(pipeline.__module__)
    return home is not None and home is not module and any(value is pipeline for value in vars(home).values())


def _public_functions(module: ModuleType) -> Iterator[tuple[str, object]]:
    for name, value in vars(module).items():
        if inspect.isfunction(value) and value.__module__ == module.__name__ and not name.startswith("_"):
            yield name, value


def _names(found: list[tuple[str, object]]) -> list[str]:
    return [name for name, _ in found]


def _source_root(module: ModuleType) -> Path:
    if not module.__file__:
        return Path.cwd()
    file = Path(module.__file__).resolve()
    folder = file.parent
    for _ in range(module.__name__.count(".") + (file.name == "__init__.py")):
        folder = folder.parent
    if "site-packages" not in folder.parts:
        return folder
    # Watching or serving files from all of site-packages is never meant.
    top = folder / module.__name__.partition(".")[0]
    return top if top.is_dir() else folder
