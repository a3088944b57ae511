"""A digest of the code that a target is made of: the same wherever the project is, another when its code has changed.

The code is the target's module and what it imports, directly or not, as far as it lies in the project. It is read, not
run: the same in a process that has loaded the target and in one that has not, and imports inside functions count, too.
What a program imports by a name that it puts together does not.
"""

import ast
import importlib.util
import sys
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from asgipipe import sources
from asgipipe.deployers.records import Snapshot
from asgipipe.errors import SourceError
from asgipipe.pipelines.target import module_of

MOST_FILES = 5000
MOST_BYTES = 256 * 1024 * 1024
"""How much is read: what comes after that does not count."""

_LARGEST = 8 * 1024 * 1024
"""Bytes of one file that count."""
_INSTALLED = {"site-packages", "dist-packages"}


def fingerprint(target: str, project: Path, settings: Mapping[str, object]) -> str:
    """Return the digest of the code of `target`, as it is found from the folder `project`.

    What import strings in `settings` lead to belongs to it.
    """
    files = _Sources(target, project.resolve()).files(_import_strings(settings))
    digest = sha256()
    for path, content in sorted(files.items()):
        digest.update(f"{path}\0".encode("utf-8", "surrogateescape") + content)
    return digest.hexdigest()


def changed(snapshot: Snapshot) -> bool:
    """Say whether the code of a snapshot is another one now, or gone."""
    return fingerprint(snapshot.target, Path(snapshot.project), snapshot.settings) != snapshot.fingerprint


@dataclass(frozen=True, slots=True)
class _Module:
    """`file` is None for a folder without `__init__.py`; `folders` are those in which submodules are looked for."""

    name: str
    file: Path | None
    folders: tuple[Path, ...] = ()

    @property
    def package(self) -> str:
        """The package that its relative imports start from."""
        return self.name if self.folders else self.name.rpartition(".")[0]


class _Sources:
    """What one target in `project` is made of."""

    def __init__(self, target: str, project: Path) -> None:
        folder, self._target = module_of(target, project)
        self._roots = [project, *([] if folder.is_relative_to(project) else [folder])]
        path = [Path(place).resolve() for place in sys.path if place]
        self._path = [folder, project, *(place for place in path if self._root(place) is not None)]
        self._modules: dict[str, _Module | None] = {}
        self._bytes = 0

    def files(self, others: Iterable[str]) -> dict[str, bytes]:
        """Return the digest of each file by its path; `others` are import strings that belong to it."""
        found: dict[str, bytes] = {}
        names = [self._target, *(other.replace(":", ".") for other in others)]
        waiting = deque(module for name in names for module in _with_parents(name))
        seen: set[str] = set()
        while waiting and len(found) < MOST_FILES and self._bytes < MOST_BYTES:
            name = waiting.popleft()
            if name in seen:
                continue
            seen.add(name)
            module = self._module(name)
            label = self._label(module)
            if module is None or module.file is None or label is None:
                continue
            content = _content(module.file)
            self._bytes += len(content)
            found[label] = sha256(content).digest()
            waiting.extend(_imports(content, module.package))
        return found

    def _label(self, module: _Module | None) -> str | None:
        """Return the path of a module's file from the project; None for one that is somebody else's."""
        if module is None or module.file is None:
            return None
        root = self._root(module.file)
        if root is not None:
            return module.file.relative_to(root).as_posix()
        return module.name if module.name == self._target else None

    def _root(self, place: Path) -> Path | None:
        if _INSTALLED.intersection(place.parts):
            return None
        return next((root for root in self._roots if place.is_relative_to(root)), None)

    def _module(self, name: str) -> _Module | None:
        if name not in self._modules:
            package, _, last = name.rpartition(".")
            if package:
                above = self._module(package)
                found = _in_folders(name, last, above.folders) if above is not None else None
            else:
                found = _in_folders(name, last, self._path) or _elsewhere(name)
            self._modules[name] = found
        return self._modules[name]


def _in_folders(name: str, last: str, folders: Iterable[Path]) -> _Module | None:
    """Look for a module as Python does: https://peps.python.org/pep-0420/#specification."""
    portions = []
    for folder in folders:
        place = folder / last
        if (place / "__init__.py").is_file():
            return _Module(name, place / "__init__.py", (place,))
        if (file := folder / f"{last}.py").is_file():
            return _Module(name, file)
        if place.is_dir():
            portions.append(place)
    return _Module(name, None, tuple(portions)) if portions else None


def _elsewhere(name: str) -> _Module | None:
    """Look where installed packages are, and for those that are installed by reference to their sources."""
    if name in sys.stdlib_module_names:
        return None
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):  # ValueError for a module that was made by hand
        return None
    if spec is None:
        return None
    file = Path(spec.origin).resolve() if spec.has_location and spec.origin else None
    folders = tuple(Path(place).resolve() for place in spec.submodule_search_locations or ())
    return _Module(name, file, folders)


def _content(file: Path) -> bytes:
    try:
        with file.open("rb") as opened:
            return opened.read(_LARGEST)
    except OSError:
        return b""


def _imports(content: bytes, package: str) -> Iterator[str]:
    """Yield the names of all modules that may be meant by the import statements of a module in `package`."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what is doubtful about the code is not said here
            tree = ast.parse(content)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield from _with_parents(alias.name)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            name = ".".join([*above, *filter(None, [node.module])])
            for alias in node.names:
                yield from _with_parents(f"{name}.{alias.name}")


def _with_parents(name: str) -> Iterator[str]:
    """Yield the packages around a module, and the module: importing it imports them, too."""
    parts = name.split(".")
    for end in range(1, len(parts) + 1):
        yield ".".join(parts[:end])


def _import_strings(value: object) -> Iterator[str]:
    if isinstance(value, Mapping):
        for inner in value.values():
            yield from _import_strings(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _import_strings(inner)
    elif isinstance(value, str):
        try:
            yield sources.check(value)
        except SourceError:
            return
