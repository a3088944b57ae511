"""Import strings: `package.module:attribute.attribute` and `package.module.attribute`."""

import importlib
import importlib.util
import sys
from collections.abc import Sequence
from difflib import get_close_matches
from types import ModuleType

from asgipipe.errors import SourceError


def check(source: str) -> str:
    """Return `source` when it has the form of an import string, without importing anything."""
    module, _, path = source.partition(":") if ":" in source else source.rpartition(".")
    if not module or not path:
        raise SourceError(source, "an import string reads 'package.module:attribute' or 'package.module.attribute'")
    for part in (*module.split("."), *path.split(".")):
        if not part.isidentifier():
            raise SourceError(source, f"{part!r} is not a Python name")
    return source


def load(source: str) -> object:
    """Import the object that `source` names.

    Whatever the module raises while it is imported is reported as a SourceError that names `source`, with the original
    exception as its cause.
    """
    check(source)
    if ":" in source:
        module_name, _, attributes = source.partition(":")
        return attribute(source, import_module(source, module_name), attributes)
    # Dotted form: the longest importable prefix is the module, so that `pkg.mod.Class.method` works.
    parts = source.split(".")
    for end in range(len(parts) - 1, 0, -1):
        module_name = ".".join(parts[:end])
        if _exists(source, module_name):
            return attribute(source, import_module(source, module_name), ".".join(parts[end:]))
    raise SourceError(source, f"there is no module named {parts[0]!r}")


def import_module(source: str, name: str) -> ModuleType:
    """Import module `name` on behalf of `source`."""
    if not _exists(source, name):
        raise SourceError(source, f"there is no module named {name!r} on the Python path")
    try:
        return importlib.import_module(name)
    except SourceError:
        raise
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # boundary: a module may raise anything, SystemExit too, while it is imported
        raise SourceError(source, failure(name, error)) from error


def failure(module: str, error: BaseException) -> str:
    """Say in one line that `module` raised `error` while it was imported."""
    return f"importing {module!r} raised {_summary(error)}"


def _summary(error: BaseException) -> str:
    try:
        text = " ".join(str(error).split())[:300]
    except BaseException:  # boundary: a user's __str__ may raise anything
        text = ""
    return f"{type(error).__name__}{f': {text}' if text else ''}"


def _exists(source: str, name: str) -> bool:
    if name in sys.modules:
        return True
    try:
        return importlib.util.find_spec(name) is not None
    except ModuleNotFoundError:  # the parent is a module, not a package, or is missing itself
        return False
    except (KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:  # boundary: find_spec imports the parent packages
        raise SourceError(source, failure(name.rpartition(".")[0], error)) from error


def attribute(source: str, module: ModuleType, path: str, candidates: Sequence[str] = ()) -> object:
    """Return what the dotted `path` leads to in `module`, on behalf of `source`.

    A wrong name is answered with the most similar one there is, else with the first of `candidates`.
    """
    found: object = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise SourceError(source, _missing(module, found, part, candidates)) from None
        except Exception as error:  # boundary: a module's `__getattr__`, or a property, may raise anything
            raise SourceError(source, f"looking for {part!r} raised {_summary(error)}") from error
    return found


def _missing(module: ModuleType, owner: object, name: str, candidates: Sequence[str]) -> str:
    title = getattr(owner, "__name__", type(owner).__name__)
    if getattr(getattr(module, "__spec__", None), "_initializing", False):
        return f"{title!r} has no attribute {name!r} yet: it is still being imported (a circular import)"
    close = get_close_matches(name, [known for known in dir(owner) if not known.startswith("__")], n=1)
    if owner is module and not close:
        close = list(candidates[:1])
    return f"{title!r} has no attribute {name!r}" + (f"; did you mean {close[0]!r}?" if close else "")
