import asyncio
import errno
import mimetypes
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from asgipipe.errors import DefinitionError
from asgipipe.http.files import CHUNK, FileTable, StaticFile, cache_control, content_type
from asgipipe.http.types import Message, Scope, Send
from tests.conftest import Answer, exchange

Headers = Sequence[tuple[bytes, bytes]]
LETTERS = b"abcdefghijklmnopqrstuvwxyz"


def ask(file: StaticFile | None, method: str = "GET", headers: Headers = ()) -> Answer:
    assert file is not None
    return asyncio.run(exchange(file, method=method, headers=headers))


@pytest.fixture
def alphabet(tmp_path: Path) -> StaticFile:
    """Return a file of 26 bytes."""
    (tmp_path / "letters.txt").write_bytes(LETTERS)
    file = FileTable(tmp_path).get("/letters.txt")
    assert file is not None
    return file


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with a secret beside it."""
    (tmp_path / "secret.txt").write_text("secret")
    folder = tmp_path / "public"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.txt").write_text("a")
    (folder / "sub" / "b.txt").write_text("b")
    return folder


def test_table_lists_regular_files_by_url_path(folder: Path) -> None:
    """Files and files of subfolders are listed; hidden ones, folders and pipes are not."""
    (folder / ".env").write_text("KEY=1")
    (folder / ".git").mkdir()
    (folder / ".git" / "config").write_text("")
    os.mkfifo(folder / "pipe")
    assert sorted(FileTable(folder)) == ["/a.txt", "/sub/b.txt"]
    assert len(FileTable(folder)) == 2


def test_links_that_lead_out_are_left_out(folder: Path) -> None:
    """Neither a link to a file outside nor one to a folder outside can be asked for; a link inside can."""
    (folder / "out.txt").symlink_to(folder.parent / "secret.txt")
    (folder / "up").symlink_to(folder.parent)
    (folder / "round").symlink_to(folder)
    (folder / "nowhere").symlink_to(folder / "nowhere")
    (folder / "alias.txt").symlink_to("sub/b.txt")
    table = FileTable(folder)
    assert sorted(table) == ["/a.txt", "/alias.txt", "/sub/b.txt"]
    assert ask(table.get("/alias.txt")).body == b"b"


def test_a_folder_with_a_similar_name_is_outside(folder: Path) -> None:
    """A link into `public2` does not count as inside `public`."""
    other = folder.parent / "public2"
    other.mkdir()
    (other / "c.txt").write_text("c")
    (folder / "c.txt").symlink_to(other / "c.txt")
    assert "/c.txt" not in list(FileTable(folder))


def test_the_folder_itself_may_be_a_link(folder: Path) -> None:
    """A link such as `current -> release-7` is a usual way to name the folder."""
    link = folder.parent / "current"
    link.symlink_to(folder)
    assert ask(FileTable(link).get("/a.txt")).body == b"a"


def test_names_that_are_no_text_are_left_out(folder: Path) -> None:
    """A file name that is not UTF-8 has no URL, so it is not listed."""
    Path(os.fsdecode(os.fsencode(folder) + b"/\xff.txt")).write_text("x")
    assert sorted(FileTable(folder)) == ["/a.txt", "/sub/b.txt"]


@pytest.mark.parametrize("limit", [2, 0])
def test_too_many_files_are_refused_by_name(folder: Path, limit: int) -> None:
    """A folder with more entries than the limit is refused, and the message names folder and limit."""
    with pytest.raises(DefinitionError, match=f"public.*more than {limit} files"):
        FileTable(folder, limit=limit)


def test_a_folder_that_cannot_be_listed_is_refused(tmp_path: Path) -> None:
    """The message names the folder and says what the system said."""
    with pytest.raises(DefinitionError, match=r"missing.*No such file"):
        FileTable(tmp_path / "missing")


@settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    path=st.one_of(
        st.text(),
        st.lists(
            st.sampled_from(["..", ".", "", "a.txt", "sub", "b.txt", "%2e%2e", "..\\", "\0", "secret.txt", "~", "//"])
        ).map("/".join),
    )
)
def test_no_path_leads_out_of_the_folder(folder: Path, path: str) -> None:
    """Whatever the path, it is one of the listed ones or nothing is found."""
    table = FileTable(folder)
    for candidate in (path, f"/{path}", str(folder / "a.txt"), f"/{folder.parent / 'secret.txt'}"):
        assert (table.get(candidate) is not None) == (candidate in {"/a.txt", "/sub/b.txt"})


def test_answer_carries_type_length_validator_and_caching(alphabet: StaticFile) -> None:
    """A plain GET answers everything a browser needs to use and to keep the file."""
    answer = ask(alphabet)
    assert (answer.status, answer.body) == (200, LETTERS)
    assert answer.header(b"content-type") == b"text/plain; charset=utf-8"
    assert answer.header(b"content-length") == b"26"
    assert answer.header(b"cache-control") == b"no-cache"
    assert answer.header(b"accept-ranges") == b"bytes"
    assert answer.header(b"etag")


def test_head_answers_the_headers_of_get(alphabet: StaticFile) -> None:
    """HEAD differs from GET in the body alone, also when it names a range, which is only defined for GET."""
    head = ask(alphabet, "HEAD", [(b"range", b"bytes=0-3")])
    assert (head.status, head.body) == (200, b"")
    assert sorted(head.headers) == sorted(ask(alphabet).headers)


@pytest.mark.parametrize("condition", [b"%b", b"W/%b", b'"other", %b', b"*"])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_known_etag_is_answered_without_body(alphabet: StaticFile, method: str, condition: bytes) -> None:
    """If-None-Match is compared weakly, in a list, and as a star (RFC 9110 section 13.1.2)."""
    etag = ask(alphabet).header(b"etag")
    assert etag is not None
    answer = ask(alphabet, method, [(b"if-none-match", condition.replace(b"%b", etag))])
    assert (answer.status, answer.body) == (304, b"")
    assert answer.header(b"etag") == etag
    assert answer.header(b"content-length") is None


@pytest.mark.parametrize(
    ("value", "body", "content_range"),
    [
        (b"bytes=0-3", b"abcd", b"bytes 0-3/26"),
        (b"bytes=23-", b"xyz", b"bytes 23-25/26"),
        (b"bytes=-2", b"yz", b"bytes 24-25/26"),
        (b"bytes=-99", LETTERS, b"bytes 0-25/26"),
        (b"bytes=24-99", b"yz", b"bytes 24-25/26"),
        (b"Bytes = 1 - 1", b"b", b"bytes 1-1/26"),
    ],
)
def test_one_range_is_answered(alphabet: StaticFile, value: bytes, body: bytes, content_range: bytes) -> None:
    """First and last byte, open ends and suffixes work, and ends beyond the file are cut."""
    answer = ask(alphabet, headers=[(b"range", value)])
    assert (answer.status, answer.body) == (206, body)
    assert answer.header(b"content-range") == content_range
    assert answer.header(b"content-length") == b"%d" % len(body)


@pytest.mark.parametrize("value", [b"bytes=26-", b"bytes=99-100", b"bytes=-0"])
def test_a_range_outside_the_file_is_refused(alphabet: StaticFile, value: bytes) -> None:
    """416 tells how long the file is."""
    answer = ask(alphabet, headers=[(b"range", value)])
    assert answer.status == 416
    assert answer.header(b"content-range") == b"bytes */26"
    assert answer.header(b"content-type") == b"application/problem+json"


@pytest.mark.parametrize(
    "value", [b"bytes=0-1,3-4", b"bytes=5-2", b"bytes=-", b"lines=1-2", b"bytes=a-b", b"", b"\xff"]
)
def test_ranges_not_understood_are_ignored(alphabet: StaticFile, value: bytes) -> None:
    """Malformed, unknown and multiple ranges get the whole file, as RFC 9110 section 14.2 allows."""
    answer = ask(alphabet, headers=[(b"range", value)])
    assert (answer.status, answer.body) == (200, LETTERS)


def test_if_range_guards_the_range(alphabet: StaticFile) -> None:
    """A range of a file that changed since would be stitched to the wrong start, so the whole file is sent."""
    etag = ask(alphabet).header(b"etag")
    assert etag is not None
    wanted = (b"range", b"bytes=0-0")
    assert ask(alphabet, headers=[wanted, (b"if-range", etag)]).status == 206
    assert ask(alphabet, headers=[wanted, (b"if-range", b'"old"')]).status == 200
    assert ask(alphabet, headers=[wanted, (b"if-range", b"W/" + etag)]).status == 200


@given(first=st.none() | st.integers(0, 40), last=st.none() | st.integers(0, 40), size=st.integers(0, 30))
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
def test_ranges_agree_with_slices(tmp_path: Path, first: int | None, last: int | None, size: int) -> None:
    """For every range and size the body is the slice that content-range names, and never longer than promised."""
    path = tmp_path / "data.bin"
    path.write_bytes(LETTERS[:26].ljust(30, b".")[:size])
    text = f"bytes={'' if first is None else first}-{'' if last is None else last}".encode()
    answer = ask(StaticFile.trusted(path), headers=[(b"range", text)])
    if answer.status == 206:
        start, stop = map(int, (answer.header(b"content-range") or b"")[6:].split(b"/")[0].split(b"-"))
        assert answer.body == path.read_bytes()[start : stop + 1] != b""
    else:
        assert answer.status == 416 or answer.body == path.read_bytes()


def test_large_files_come_in_pieces(tmp_path: Path) -> None:
    """A file larger than one read arrives whole, in order, and so does a large range of it."""
    content = os.urandom(2 * CHUNK + 100)
    (tmp_path / "model.bin").write_bytes(content)
    file = StaticFile.trusted(tmp_path / "model.bin")
    assert ask(file).body == content
    assert ask(file).header(b"content-length") == b"%d" % len(content)
    assert ask(file, headers=[(b"range", b"bytes=7-")]).body == content[7:]


def test_a_file_changed_after_start_is_served_as_it_is(alphabet: StaticFile) -> None:
    """New content brings a new length and a new ETag."""
    before = ask(alphabet).header(b"etag")
    alphabet.path.write_bytes(b"longer than the alphabet, by far")
    answer = ask(alphabet)
    assert answer.body == b"longer than the alphabet, by far"
    assert answer.header(b"content-length") == b"32"
    assert answer.header(b"etag") != before


def test_an_emptied_file_is_an_empty_answer(alphabet: StaticFile) -> None:
    """No byte is promised for a file that has none."""
    alphabet.path.write_bytes(b"")
    answer = ask(alphabet)
    assert (answer.status, answer.body, answer.header(b"content-length")) == (200, b"", b"0")


def test_a_vanished_file_is_a_problem(alphabet: StaticFile) -> None:
    """Removed after the start: 404, and nothing about the file system."""
    alphabet.path.unlink()
    answer = ask(alphabet)
    assert answer.status == 404
    assert answer.header(b"content-type") == b"application/problem+json"
    assert b"letters" not in answer.body


@pytest.mark.parametrize("replacement", ["link", "folder link", "folder", "pipe"])
def test_a_file_replaced_after_start_opens_nothing_else(folder: Path, replacement: str) -> None:
    """What took a listed file's place is not served when it is no regular file inside the folder."""
    file = FileTable(folder).get("/sub/b.txt")
    (folder / "sub" / "b.txt").unlink()
    if replacement == "link":
        (folder / "sub" / "b.txt").symlink_to(folder.parent / "secret.txt")
    elif replacement == "folder link":
        (folder / "sub").rmdir()
        (folder.parent / "b.txt").write_text("secret")
        (folder / "sub").symlink_to(folder.parent)
    elif replacement == "folder":
        (folder / "sub" / "b.txt").mkdir()
    else:
        os.mkfifo(folder / "sub" / "b.txt")
    assert ask(file).status == 404


@pytest.mark.parametrize("number", [errno.EACCES, errno.ELOOP])
def test_a_file_that_may_not_be_opened_is_not_found(
    alphabet: StaticFile, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """A file without read permission, or one that just became a link, is as good as absent."""
    monkeypatch.setattr("asgipipe.http.files.os.open", _refusing(number))
    assert ask(alphabet).status == 404


def test_a_failing_disk_is_no_missing_file(alphabet: StaticFile, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too many open files, or a broken disk, is the server's failure and is left to the error boundary."""
    monkeypatch.setattr("asgipipe.http.files.os.open", _refusing(errno.EMFILE))
    with pytest.raises(OSError, match="Too many open files"):
        ask(alphabet)


def _refusing(number: int) -> Callable[[str, int], int]:
    def refuse(path: str, flags: int) -> int:
        raise OSError(number, os.strerror(number))

    return refuse


def test_a_file_that_shrinks_while_it_is_sent_breaks_the_connection(tmp_path: Path) -> None:
    """The promised length cannot be kept, so the answer ends in an exception instead of being padded."""
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(3 * CHUNK))

    async def shrink(message: Message) -> None:
        if message["type"] == "http.response.body":
            os.truncate(path, CHUNK)

    with pytest.raises(RuntimeError, match="became shorter"):
        asyncio.run(_send_to(StaticFile.trusted(path), shrink))


def test_a_client_that_goes_away_ends_the_reading(tmp_path: Path) -> None:
    """After the disconnect no further part of the file is read."""
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(50 * CHUNK))
    bodies: list[bytes] = []

    async def count(message: Message) -> None:
        bodies.append(message.get("body", b""))

    asyncio.run(_send_to(StaticFile.trusted(path), count, disconnected=True))
    assert len(b"".join(bodies)) < 5 * CHUNK


def test_a_cancelled_answer_closes_its_file(tmp_path: Path) -> None:
    """Cancelling the task in the middle leaves no open file behind."""
    path = tmp_path / "model.bin"
    path.write_bytes(bytes(3 * CHUNK))

    async def run() -> None:
        started = asyncio.Event()

        async def stall(message: Message) -> None:
            started.set()
            await asyncio.Event().wait()

        task = asyncio.create_task(_send_to(StaticFile.trusted(path), stall))
        await started.wait()
        task.cancel()
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(run())
    assert path not in [Path(file.path) for file in psutil.Process().open_files()]


async def _send_to(file: StaticFile, send: Send, *, disconnected: bool = False) -> None:
    scope: Scope = {"type": "http", "method": "GET", "path": "/", "headers": []}

    async def receive() -> Message:
        if not disconnected:
            await asyncio.Event().wait()
        return {"type": "http.disconnect"}

    await file(scope, receive, send)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", b"text/html; charset=utf-8"),
        ("app.js", b"text/javascript; charset=utf-8"),
        ("app.mjs", b"text/javascript; charset=utf-8"),
        ("app.css", b"text/css; charset=utf-8"),
        ("logo.svg", b"image/svg+xml"),
        ("app.wasm", b"application/wasm"),
        ("site.webmanifest", b"application/manifest+json"),
        ("app.js.map", b"application/json"),
        ("font.woff2", b"font/woff2"),
        ("favicon.ico", b"image/x-icon"),
        ("app.js.gz", b"application/octet-stream"),
        ("LICENSE", b"application/octet-stream"),
    ],
)
def test_content_types(name: str, expected: bytes) -> None:
    """Browsers refuse scripts and styles of the wrong type, so the types that matter are fixed."""
    assert content_type(name) == expected


def test_content_types_ignore_the_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """What another library added to the process-wide table changes nothing here."""
    monkeypatch.setattr(mimetypes, "_db", None)
    mimetypes.add_type("application/x-wrong", ".css")
    assert content_type("app.css") == b"text/css; charset=utf-8"


@pytest.mark.parametrize(
    "name", ["main.3f2a1b9c.js", "index-BxYz12ab.js", "app.3f2a1b9c4d5e6f70.chunk.css", "a-B1_x-y9Z.js"]
)
def test_hashed_names_are_kept_for_a_year(name: str) -> None:
    """A content hash in the name means that the content under this name never changes."""
    assert b"immutable" in cache_control(name)


@pytest.mark.parametrize(
    "name",
    [
        "index.html",
        "app.js",
        "main-settings.js",
        "app-Release2.js",
        "app-release2.js",
        "report-20261120.csv",
        "jquery-3.7.1.min.js",
        "my-dashboard.js",
        "deadbeef.js",
        "a-effaced.js",
    ],
)
def test_other_names_are_asked_for_again(name: str) -> None:
    """Words, dates and versions are no hashes: keeping such a file for a year would hide its next version."""
    assert cache_control(name) == b"no-cache"
