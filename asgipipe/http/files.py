"""Files from a folder, through the one resolver there is.

Which files may be served is decided once, when the table is built; a request's path is only ever a key of that table,
so no spelling of `..` can lead anywhere. What a file holds is read anew for every request.
"""

import asyncio
import errno
import mimetypes
import os
import re
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import BinaryIO, TypeVar

from asgipipe.errors import DefinitionError, HTTPError, NotFoundError
from asgipipe.http.problems import send_problem
from asgipipe.http.types import Receive, Scope, Send

T = TypeVar("T")
Header = tuple[bytes, bytes]

CHUNK = 256 * 1024  # bytes read at once: all that one slow reader keeps in memory
LIMIT = 20_000  # entries of one folder, files and subfolders together

IMMUTABLE = b"public, max-age=31536000, immutable"
REVALIDATE = b"no-cache"

# A path that leads to no file any more, or to one we may not read.
GONE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR, errno.EACCES, errno.EPERM, errno.ELOOP})

# O_NOFOLLOW: the real path was just computed, so a link at its end appeared since then. O_NONBLOCK: opening a pipe
# would wait for its other end. Windows has neither.
OPEN_FLAGS: int = getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)

# Bundlers' content hashes: `main.3f2a1b9c.js` (webpack), `index-BxYz12ab.js` (Vite, Rollup).
NAME_HASH = re.compile(r"[.-](?:(?P<hex>[0-9a-f]{8,64})|(?P<base64>[A-Za-z0-9_-]{8}))\.[A-Za-z0-9.]+\Z")
WORD_AND_NUMBER = re.compile(r"[A-Za-z][a-z_-]*[0-9]*\Z")

RANGE = re.compile(rb"\s*bytes\s*=\s*([0-9]{0,18})\s*-\s*([0-9]{0,18})\s*\Z", re.IGNORECASE)


class RangeNotSatisfiableError(HTTPError):
    status, slug, title = 416, "range-not-satisfiable", "Range Not Satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__(f"The file has {size} bytes.", headers=((b"content-range", b"bytes */%d" % size),))


def content_type(name: str) -> bytes:
    """Return the content type for a file name, the same on every machine: the system's own tables are not asked."""
    guessed, encoding = _TYPES.guess_type(name)
    if guessed is None or encoding is not None:
        return b"application/octet-stream"
    return f"{guessed}; charset=utf-8".encode() if guessed.startswith("text/") else guessed.encode()


def _types() -> mimetypes.MimeTypes:
    types = mimetypes.MimeTypes()
    for extension, name in {
        ".avif": "image/avif",
        ".ico": "image/x-icon",
        ".js": "text/javascript",
        ".json": "application/json",
        ".map": "application/json",
        ".md": "text/markdown",
        ".mjs": "text/javascript",
        ".svg": "image/svg+xml",
        ".wasm": "application/wasm",
        ".webmanifest": "application/manifest+json",
        ".webp": "image/webp",
        ".woff": "font/woff",
        ".woff2": "font/woff2",
    }.items():
        types.add_type(name, extension)
    return types


_TYPES = _types()


def cache_control(name: str) -> bytes:
    """Return what caches may do with a file of this name.

    A name that holds a content hash never changes its content. What could as well be a word (`main-settings.js`), a
    word with a number (`app-Release2.js`) or a date (`report-20261120.csv`) is asked for again each time, which its
    ETag makes cheap.
    """
    match = NAME_HASH.search(name)
    if match is None:
        return REVALIDATE
    digest = match["hex"] or match["base64"]
    has_digit = any(character.isdigit() for character in digest)
    has_letter = any(character.isalpha() for character in digest)
    mixed = match["hex"] is not None or digest != digest.lower() != digest.upper()
    if has_digit and has_letter and mixed and not WORD_AND_NUMBER.match(digest):
        return IMMUTABLE
    return REVALIDATE


@dataclass(frozen=True, slots=True)
class StaticFile:
    """One servable file, as an ASGI application for GET and HEAD.

    `root` is the real path of the folder the file must still be in when it is asked for.
    """

    path: Path
    root: Path
    content_type: bytes
    cache_control: bytes

    @classmethod
    def within(cls, path: Path, root: Path) -> "StaticFile":
        return cls(path, root, content_type(path.name), cache_control(path.name))

    @classmethod
    def trusted(cls, path: Path) -> "StaticFile":
        """Return a file of an installed package; installers may have put links in its place."""
        real = _real(path)
        return cls(real, real.parent, content_type(path.name), cache_control(path.name))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with ExitStack() as opened:
            answer = await _in_thread(partial(_begin, self, scope, opened))
            if isinstance(answer, HTTPError):
                await send_problem(send, answer)
                return
            await send({"type": "http.response.start", "status": answer.status, "headers": list(answer.headers)})
            await send({"type": "http.response.body", "body": answer.body, "more_body": answer.rest is not None})
            if answer.rest is not None:
                await _stream(answer.rest, receive, send)


async def _stream(chunks: Iterator[bytes], receive: Receive, send: Send) -> None:
    """Send `chunks` until the client goes away: servers take, and drop, what is sent after that."""
    gone = asyncio.ensure_future(_disconnected(receive))
    try:
        while chunk := await _in_thread(partial(next, chunks, b"")):
            if gone.done():
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b""})
    finally:
        gone.cancel()
        await asyncio.wait([gone])
        if not gone.cancelled():
            gone.exception()  # a layer that refuses the rest of the request ends the answer too, and needs no warning


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


async def _in_thread(function: Callable[[], T]) -> T:
    """Run `function` in a thread; when cancelled, wait for its end, so that no file is closed while it is read."""
    task = asyncio.ensure_future(asyncio.to_thread(function))
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait([task])
        raise


@dataclass(frozen=True, slots=True)
class _Answer:
    """An answer up to its first chunk of body; `rest` reads the others, and blocks."""

    status: int
    headers: tuple[Header, ...]
    body: bytes = b""
    rest: Iterator[bytes] | None = None


def _begin(file: StaticFile, scope: Scope, opened: ExitStack) -> _Answer | HTTPError:
    """Open the file, into `opened`, and decide by RFC 9110 which part of it is sent. Blocks."""
    handle = _open(file)
    if handle is None:
        return NotFoundError()
    opened.enter_context(handle)
    status = os.fstat(handle.fileno())
    if not stat.S_ISREG(status.st_mode):
        return NotFoundError()
    size, etag = status.st_size, b'"%x-%x"' % (status.st_mtime_ns, status.st_size)
    headers = _headers(scope)
    validators = ((b"etag", etag), (b"cache-control", file.cache_control))
    if _matches(headers.get(b"if-none-match", b""), etag):
        return _Answer(304, validators)
    described = ((b"content-type", file.content_type), (b"accept-ranges", b"bytes"), *validators)
    if scope["method"] == "HEAD":
        return _Answer(200, (*described, (b"content-length", b"%d" % size)))
    part = _part(headers, size, etag)
    return part if isinstance(part, HTTPError) else _first(handle, part, size, described)


def _open(file: StaticFile) -> BinaryIO | None:
    real = _real(file.path)
    if not real.is_relative_to(file.root):
        return None
    try:
        return open(real, "rb", buffering=0, opener=_opener)
    except OSError as error:
        if error.errno in GONE:
            return None
        raise


def _opener(path: str, flags: int) -> int:
    return os.open(path, flags | OPEN_FLAGS)


def _first(handle: BinaryIO, part: tuple[int, int] | None, size: int, headers: tuple[Header, ...]) -> _Answer:
    start, stop = part or (0, size)
    handle.seek(start)
    body = _read(handle, min(CHUNK, stop - start))
    # What fits into one read is counted after reading it: then the length is right whatever happens to the file.
    length = len(body) if stop - start <= CHUNK else stop - start
    rest = _rest(handle, length - len(body)) if length > len(body) else None
    headers = (*headers, (b"content-length", b"%d" % length))
    if part is None or length == 0:
        return _Answer(200, headers, body, rest)
    content_range = b"bytes %d-%d/%d" % (start, start + length - 1, size)
    return _Answer(206, (*headers, (b"content-range", content_range)), body, rest)


def _rest(handle: BinaryIO, count: int) -> Iterator[bytes]:
    """Yield `count` bytes. A file that became shorter cannot keep the promised length: the connection has to break."""
    while count:
        chunk = _read(handle, min(CHUNK, count))
        if not chunk:
            raise RuntimeError("a file became shorter while it was being sent")
        count -= len(chunk)
        yield chunk


def _read(handle: BinaryIO, count: int) -> bytes:
    parts: list[bytes] = []
    while count and (data := handle.read(count)):
        parts.append(data)
        count -= len(data)
    return b"".join(parts)


def _headers(scope: Scope) -> dict[bytes, bytes]:
    headers: dict[bytes, bytes] = {}
    for name, value in scope["headers"]:
        headers[name] = headers[name] + b"," + value if name in headers else value
    return headers


def _matches(if_none_match: bytes, etag: bytes) -> bool:
    """Compare weakly, as RFC 9110 section 13.1.2 asks."""
    candidates = [candidate.strip().removeprefix(b"W/") for candidate in if_none_match.split(b",")]
    return etag in candidates or candidates == [b"*"]


def _part(headers: Mapping[bytes, bytes], size: int, etag: bytes) -> tuple[int, int] | HTTPError | None:
    """Return the requested bytes as (start, stop), or None for the whole file.

    RFC 9110 section 14.2 lets a server ignore a Range it does not care for: several ranges and malformed ones are.
    """
    match = RANGE.match(headers.get(b"range", b""))
    if match is None or headers.get(b"if-range", etag) != etag:
        return None
    first, last = match.groups()
    if not first:
        start, stop = size - min(int(last or -1), size), size
        return None if not last else (start, stop) if start < stop else RangeNotSatisfiableError(size)
    start, stop = int(first), min(int(last) + 1, size) if last else size
    if last and int(last) < start:
        return None
    return (start, stop) if start < size else RangeNotSatisfiableError(size)


class FileTable:
    """The files below a folder that may be served, by URL path (`/assets/app.js`).

    Left out are names that begin with a dot, links that lead out of the folder, and whatever is no regular file. A link
    inside the folder counts under its own name. Files that appear later are not served.
    """

    def __init__(self, folder: Path, *, limit: int = LIMIT) -> None:
        """Raises DefinitionError when the folder cannot be read or holds more than `limit` entries."""
        root = _real(folder)
        self._files: dict[str, StaticFile] = {}
        try:
            for count, (url_path, path) in enumerate(_entries(root), start=1):
                if count > limit:
                    raise DefinitionError(f"folder {str(folder)!r} holds more than {limit} files; serve a smaller one")
                if path.is_file():
                    self._files[url_path] = StaticFile.within(path, root)
        except OSError as error:
            raise DefinitionError(f"folder {str(folder)!r} cannot be read: {error.strerror}") from error

    def get(self, url_path: str) -> StaticFile | None:
        return self._files.get(url_path)

    def __iter__(self) -> Iterator[str]:
        return iter(self._files)

    def __len__(self) -> int:
        return len(self._files)


def _entries(root: Path) -> Iterator[tuple[str, Path]]:
    """Walk `root`, giving each URL path and path; a link to a folder that it is in itself is not followed."""
    waiting = [("", root, frozenset({root}))]
    while waiting:
        url_folder, folder, ancestors = waiting.pop()
        for path in sorted(folder.iterdir()):
            real, url_path = _real(path), f"{url_folder}/{path.name}"
            hidden = path.name.startswith(".") or not _is_text(path.name)
            if hidden or not real.is_relative_to(root) or real in ancestors:
                continue
            if real.is_dir():
                waiting.append((url_path, path, ancestors | {real}))
            yield url_path, path


def _real(path: Path) -> Path:
    """Return the path without links; unlike Path.resolve, this never raises for links that lead in a circle."""
    return Path(os.path.realpath(path))


def _is_text(name: str) -> bool:
    """Tell whether a URL can spell this name; file names need not be UTF-8."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
