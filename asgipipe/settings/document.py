"""Reading one YAML document as plain values, with the place of each.

The events of PyYAML's safe loader are all that is used of it: no constructor runs, and depth and size are bounded while
the document comes in. Plain scalars follow the core schema of YAML 1.2, so that `no`, `on` and `1:30` are texts; a
number that begins with a zero is a text too, since that zero means something to whoever wrote it.
"""

import copy
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NoReturn

from asgipipe.settings.sections import Path

if TYPE_CHECKING:  # loaded where it is used: importing asgipipe does not need it
    from yaml.events import CollectionStartEvent, Event, ScalarEvent

DEEPEST = 32
LONGEST_KEY = 255
HEAVIEST = 20_000
"""Values in a document, what aliases repeat included; a long text counts once more for every hundred characters."""

_UNPRINTABLE = re.compile("[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # YAML 1.2.2, 5.1
_NULL = re.compile(r"~|null|Null|NULL|")
_BOOLEAN = re.compile(r"true|True|TRUE|false|False|FALSE")
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]{0,999})|0o[0-7]{1,999}|0x[0-9a-fA-F]{1,999}")
_FLOAT = re.compile(
    r"[-+]?(\.[0-9]+|(0|[1-9][0-9]*)(\.[0-9]*)?)([eE][-+]?[0-9]+)?|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)"
)


class DocumentError(Exception):
    """The document cannot be read on from here; lines and columns start at 1."""

    def __init__(self, message: str, line: int, column: int) -> None:
        super().__init__(message)
        self.message = message
        self.line = line
        self.column = column


@dataclass(frozen=True, slots=True)
class Document:
    """`places` says in which line and column a key or list item is; `repeated` lists the keys that come again."""

    value: object = None
    places: dict[Path, tuple[int, int]] = field(default_factory=dict)
    repeated: list[tuple[Path, int, int]] = field(default_factory=list)


def read(text: str) -> Document:
    """Read the one document in `text`; an empty one has the value None. Raises DocumentError."""
    found = _UNPRINTABLE.search(text)
    if found:
        before = text[: found.start()]
        line, column = before.count("\n") + 1, found.start() - before.rfind("\n")
        raise DocumentError(f"the character U+{ord(found[0]):04X} is not allowed in YAML", line, column)
    return _Reader(_events(text)).document()


def _events(text: str) -> Iterator["Event"]:
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # twenty times as fast, where libyaml is there
    try:
        yield from yaml.parse(text, Loader=loader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        line, column = (mark.line + 1, mark.column + 1) if mark else (1, 1)
        raise DocumentError(_problem(error.problem or "", text, line, column), line, column) from None
    except yaml.YAMLError:
        raise DocumentError("this is not YAML", 1, 1) from None


def _problem(problem: str, text: str, line: int, column: int) -> str:
    """Say what is wrong without the pieces of the document that the library may quote."""
    lines = text.splitlines()
    if line <= len(lines) and lines[line - 1][column - 1 : column] == "\t":
        return "not YAML: lines are indented with spaces, not tabs"
    if "tag" in problem:
        return _NO_TAGS
    constant = re.sub(r"[,:]? but (found|got) .*|(found|expected) .*'.*", "", problem).strip()
    return f"not YAML: {constant or 'something else was expected here'}"


_NO_TAGS = "tags ('!') are not accepted; put a text that begins with '!' in quotes"


class _Reader:
    def __init__(self, events: Iterator["Event"]) -> None:
        self._events = events
        self._document = Document()
        self._anchors: dict[str, tuple[object, int]] = {}
        self._weight = 0

    def document(self) -> Document:
        from yaml.events import DocumentStartEvent

        next(self._events)  # the start of the stream
        if not isinstance(next(self._events), DocumentStartEvent):
            return self._document
        value = self._value(next(self._events), ())
        next(self._events)  # the end of the document
        after = next(self._events)
        if isinstance(after, DocumentStartEvent):
            _refuse(after, "a second document ('---') begins here; one file holds one")
        return Document(value, self._document.places, self._document.repeated)

    def _value(self, event: "Event", path: Path) -> object:
        from yaml.events import AliasEvent, CollectionStartEvent, MappingStartEvent, ScalarEvent

        if len(path) > DEEPEST:
            _refuse(event, f"nested more than {DEEPEST} levels deep")
        anchor: str | None = getattr(event, "anchor", None)
        if isinstance(event, AliasEvent):
            return self._alias(event, anchor or "")
        before = self._weight
        value: object = None
        if isinstance(event, ScalarEvent):
            value = self._scalar(event)
        elif isinstance(event, MappingStartEvent):
            value = self._mapping(event, path)
        elif isinstance(event, CollectionStartEvent):
            value = self._sequence(event, path)
        if anchor:
            self._anchors[anchor] = (value, self._weight - before)
        return value

    def _alias(self, event: "Event", anchor: str) -> object:
        value, weight = self._anchors.get(anchor, (None, 0))
        if not weight:
            _refuse(event, "an alias ('*') of no anchor ('&') before it; put a text that begins with '*' in quotes")
        self._weigh(event, weight)
        return copy.deepcopy(value)

    def _scalar(self, event: "ScalarEvent") -> object:
        _refuse_tag(event)
        self._weigh(event, 1 + len(event.value) // 100)
        return _plain(event.value) if event.implicit[0] else event.value

    def _sequence(self, event: "CollectionStartEvent", path: Path) -> list[object]:
        from yaml.events import SequenceEndEvent

        _refuse_tag(event)
        self._weigh(event, 1)
        items: list[object] = []
        for item in self._events:
            if isinstance(item, SequenceEndEvent):
                break
            here = (*path, len(items))
            self._document.places[here] = _place(item)
            items.append(self._value(item, here))
        return items

    def _mapping(self, event: "CollectionStartEvent", path: Path) -> dict[str, object]:
        from yaml.events import MappingEndEvent

        _refuse_tag(event)
        self._weigh(event, 1)
        found: dict[str, object] = {}
        for key_event in self._events:
            if isinstance(key_event, MappingEndEvent):
                break
            key = _key(key_event)
            self._weigh(key_event, 1)
            here = (*path, key)
            if key in found:
                self._document.repeated.append((here, *_place(key_event)))
            self._document.places.setdefault(here, _place(key_event))
            value = self._value(next(self._events), here)
            found.setdefault(key, value)
        return found

    def _weigh(self, event: "Event", weight: int) -> None:
        self._weight += weight
        if self._weight > HEAVIEST:
            _refuse(event, f"more than {HEAVIEST} values, what aliases repeat included")


def _key(event: "Event") -> str:
    from yaml.events import ScalarEvent

    if not isinstance(event, ScalarEvent):
        _refuse(event, "a key is a text, neither a list nor a mapping nor an alias")
    _refuse_tag(event)
    key: str = event.value
    if len(key) > LONGEST_KEY:
        _refuse(event, f"a key has {LONGEST_KEY} characters at most")
    return key


def _plain(text: str) -> object:
    if _NULL.fullmatch(text):
        return None
    if _BOOLEAN.fullmatch(text):
        return text.lower() == "true"
    if _INTEGER.fullmatch(text):
        return int(text, 0)
    if _FLOAT.fullmatch(text):
        return float(text.lower().replace(".inf", "inf").replace(".nan", "nan"))
    return text


def _refuse_tag(event: "ScalarEvent | CollectionStartEvent") -> None:
    if event.tag:
        _refuse(event, _NO_TAGS)


def _place(event: "Event") -> tuple[int, int]:
    mark = event.start_mark
    return (mark.line + 1, mark.column + 1) if mark else (1, 1)


def _refuse(event: "Event", message: str) -> NoReturn:
    raise DocumentError(message, *_place(event))
