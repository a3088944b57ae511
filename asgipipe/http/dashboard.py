"""The dashboard: files that are open to everybody, with a page for the routes that a script in it handles itself."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from asgipipe.errors import DefinitionError
from asgipipe.http.files import FileTable, StaticFile

ASSETS = Path(__file__).parent / "assets" / "placeholder"
PLACEHOLDER = ("index.html", "placeholder.css")
INDEX = "index.html"

PAGE_TYPES = frozenset({b"text/html", b"application/xhtml+xml"})


@dataclass(frozen=True, slots=True)
class Dashboard:
    """`files` by URL path; `reserved` are first segments (`invoke`, `docs`) that never become client-side routes."""

    files: Mapping[str, StaticFile]
    index: StaticFile
    reserved: frozenset[str]

    def lookup(self, path: str, accept: bytes = b"") -> StaticFile | None:
        """Return the file that answers a GET or HEAD of `path` (with its leading slash, below the dashboard's root).

        `accept` is the Accept header: a page is what only a browser's navigation asks for, so `*/*` does not count.
        """
        file = self.files.get(path)
        if file is None and self._is_client_route(path) and _accepts_page(accept):
            return self.index
        return file

    def _is_client_route(self, path: str) -> bool:
        first, *rest = path.removeprefix("/").split("/")
        last = rest[-1] if rest else first
        if not path.startswith("/") or not first or first in self.reserved or "." in last:
            return False
        plain = path.isprintable() and "\\" not in path
        return plain and not any(segment in ("", ".", "..") for segment in (first, *rest[:-1]))


def dashboard(folder: Path | None, *, written: str | None = None, reserved: Collection[str] = ()) -> Dashboard:
    """Return the dashboard in `folder`, or the placeholder page when there is no folder.

    `written` is the folder as the user wrote it, for the message. Raises DefinitionError when the folder is missing, is
    no folder, holds no index.html or too many files.
    """
    if folder is None:
        files = {f"/{name}": StaticFile.trusted(ASSETS / name) for name in PLACEHOLDER}
    else:
        files = _files(folder, f"dashboard_files_path {written or str(folder)!r}")
    for path in [path for path in files if path.endswith(f"/{INDEX}")]:
        files[path.removesuffix(INDEX)] = files[path]
    return Dashboard(files, files[f"/{INDEX}"], frozenset(reserved))


def _files(folder: Path, place: str) -> dict[str, StaticFile]:
    try:
        table = _table(folder)
    except DefinitionError as error:
        raise DefinitionError(f"{place}: {error}") from error
    except OSError as error:
        raise DefinitionError(f"{place}: the folder cannot be looked at: {error.strerror}") from error
    return {path: file for path in table if (file := table.get(path)) is not None}


def _table(folder: Path) -> FileTable:
    if "\0" in str(folder) or not folder.exists():
        raise DefinitionError("there is no such folder")
    if not folder.is_dir():
        raise DefinitionError(f"this is a file; give the folder that holds {INDEX}")
    table = FileTable(folder)
    if table.get(f"/{INDEX}") is None:
        raise DefinitionError(f"the folder holds no {INDEX}; give the folder that the dashboard is built into")
    return table


def _accepts_page(accept: bytes) -> bool:
    for choice in accept.lower().split(b","):
        media_type, *parameters = (part.strip() for part in choice.split(b";"))
        if media_type in PAGE_TYPES:
            return not any(_is_zero_quality(parameter) for parameter in parameters)
    return False


def _is_zero_quality(parameter: bytes) -> bool:
    name, _, value = parameter.replace(b" ", b"").partition(b"=")
    return name == b"q" and value.strip(b"0.") == b"" and value != b""
