"""The modules of the default dashboard, called one by one inside its page."""

import json
from collections.abc import Iterator

import pytest

from tests.browser import needs_browser
from tests.dashboard.chromium import Chromium, Page
from tests.dashboard.test_page import opened

pytestmark = needs_browser


@pytest.fixture(scope="module")
def page(browser: Chromium, shop: str) -> Iterator[Page]:
    with opened(browser, shop) as page:
        page.until("document.querySelector('#start') !== null")
        yield page


def called(page: Page, module: str, script: str, **values: object) -> object:
    """Return what `script` makes of `module` and `values`."""
    arguments = "".join(f"const {name} = {json.dumps(value)};" for name, value in values.items())
    return page.run(f"(async () => {{ const module = await import('/dashboard/{module}'); {arguments} {script} }})()")


Schema = dict[str, object]

TEXT: Schema = {"type": "string"}
INTEGER: Schema = {"type": "integer"}
NUMBER: Schema = {"type": "number"}


def object_of(**properties: Schema) -> Schema:
    return {"type": "object", "properties": properties}


def list_of(items: Schema) -> Schema:
    return {"type": "array", "items": items}


def tagged(tag: str, **properties: Schema) -> Schema:
    return {**object_of(kind={"const": tag}, **properties), "required": ["kind"]}


TREE = object_of(leaves=list_of({"$ref": "#/$defs/Tree"}))
FIELDS: list[tuple[str, Schema, object]] = [
    ("text", TEXT, "a <b> & 'c'\n"),
    ("date", {**TEXT, "format": "date"}, "2026-11-21"),
    ("integer", INTEGER, -7),
    ("number", NUMBER, 1.5e-7),
    ("boolean", {"type": "boolean"}, True),
    ("enumeration of anything", {"enum": ["a", 1, None, {"b": []}]}, {"b": []}),
    ("constant", {"const": {"v": 1}}, {"v": 1}),
    ("none", {"type": "null"}, None),
    ("several types", {"type": ["string", "null"]}, None),
    ("nested", object_of(a=object_of(b={"enum": [1, 2]})), {"a": {"b": 2}}),
    ("list of objects", list_of(object_of(n=INTEGER)), [{"n": 1}, {"n": 2}]),
    ("list of lists", list_of(list_of(NUMBER)), [[1, 2], [], [3.5]]),
    ("tuple", {"type": "array", "prefixItems": [TEXT, INTEGER], "maxItems": 2}, ["a", 1]),
    ("map", {"type": "object", "additionalProperties": {"type": "boolean"}}, {"x": True, "y": False}),
    ("map beside members", {**object_of(a=INTEGER), "additionalProperties": True}, {"a": 1, "z": [1]}),
    ("union", {"anyOf": [INTEGER, list_of(INTEGER)]}, [1, 2]),
    ("union of objects", {"oneOf": [tagged("a"), tagged("b", n=INTEGER)]}, {"kind": "b", "n": 3}),
    ("reference to itself", {"$ref": "#/$defs/Tree"}, {"leaves": [{"leaves": []}, {"leaves": [{"leaves": []}]}]}),
    ("laid together", {"allOf": [object_of(a=INTEGER)], "title": "T"}, {"a": 1}),
    ("anything", {}, {"free": [1, "two", None]}),
    ("an object of anything", {"type": "object"}, {"free": {}}),
    ("what may be left out", object_of(a=INTEGER, b=TEXT), {"b": "x"}),
]


@pytest.mark.parametrize(("schema", "value"), [pytest.param(*row[1:], id=row[0]) for row in FIELDS])
def test_what_a_form_is_given_it_gives_back(page: Page, schema: Schema, value: object) -> None:
    """A form for any schema takes a value that fits and holds it, as fields and as JSON."""
    root = {**object_of(it=schema), "required": ["it"], "$defs": {"Tree": TREE}}
    script = """
      const form = new module.ParameterForm(schema);
      form.set({ it: value });
      const first = form.value();
      form.toggle.click();
      form.toggle.click();
      return [first, form.value()];
    """
    assert called(page, "form.js", script, schema=root, value=value) == [{"it": value}] * 2


def test_defaults_are_filled_in_and_messages_find_their_fields(page: Page) -> None:
    """Defaults of nested members are there; a message goes to its field past a union's name, or is given back."""
    pet: Schema = {"anyOf": [{"$ref": "#/$defs/Cat"}, {"type": "null"}], "default": {"lives": 9}}
    cat = {**object_of(lives={**INTEGER, "title": "Lives"}), "title": "Cat"}
    schema = {**object_of(pet=pet, list={**list_of(INTEGER), "default": [1, 2]}), "$defs": {"Cat": cat}}
    errors = [
        {"loc": ["parameters", "pet", "Cat", "lives"], "msg": "too many"},
        {"loc": ["parameters", "list", 1], "msg": "not whole"},
        {"loc": ["parameters", "other"], "msg": "not known"},
        {"loc": ["timeout"], "msg": "too long"},
    ]
    script = """
      const form = new module.ParameterForm(schema);
      document.querySelector("main").append(form.element);
      const value = form.value();
      const general = form.show({ errors });
      const fields = [...form.element.querySelectorAll("[aria-invalid]")].map((each) =>
        [each.labels[0].textContent, document.getElementById(`${each.id}-error`).textContent]);
      form.element.remove();
      return [value, general, fields];
    """
    value, general, fields = called(page, "form.js", script, schema=schema, errors=errors)  # type: ignore[misc]
    assert value == {"pet": {"lives": 9}, "list": [1, 2]}
    assert general == ["other: not known", "timeout: too long"]
    assert fields == [["Lives", "too many"], ["Item", "not whole"]]


def test_a_graph_is_laid_out_in_layers(page: Page) -> None:
    """A node stands below all that it needs; an edge past a layer has a spot there; a way back changes nothing."""
    nodes = [{"id": name} for name in ("load", "left", "right", "deep", "merge", "alone")]
    pairs = [("load", "left"), ("load", "right"), ("left", "deep"), ("deep", "merge"), ("right", "merge")]
    pairs.append(("merge", "load"))
    edges = [{"source": source, "target": target} for source, target in pairs]
    script = "return module.arrange(nodes, edges).map((layer) => layer.map((spot) => spot.node?.id ?? '').sort());"
    layers = called(page, "graph.js", script, nodes=nodes, edges=edges)
    assert layers == [["alone", "load"], ["left", "right"], ["", "deep"], ["merge"]]


def test_events_are_read_however_they_are_cut(page: Page) -> None:
    """A stream is the same whether it comes byte by byte or at once, with comments and any kind of line end."""
    first = 'retry: 5\n\n: quiet\n\nid: 1\nevent: x\ndata: {"id":1,"t":"é\\u20ac"}\n\n'
    text = first + 'data: {"id":\ndata: 2}\r\n\r\nid: 3\n\n'
    script = """
      const bytes = new TextEncoder().encode(text);
      const read = async (size) => {
        const cut = new ReadableStream({ start(controller) {
          for (let at = 0; at < bytes.length; at += size) controller.enqueue(bytes.slice(at, at + size));
          controller.close();
        } });
        const found = [];
        for await (const event of module.readEvents(cut)) found.push(event);
        return found;
      };
      return [await read(1), await read(7), await read(1000)];
    """
    assert called(page, "events.js", script, text=text) == [[{"id": 1, "t": "é€"}, {"id": 2}]] * 3


def test_nothing_is_asked_for_while_nobody_looks(page: Page) -> None:
    """What is repeated while the page is seen stops when it is hidden, and goes on when it is seen again."""
    script = """
      let [count, hidden] = [0, false];
      Object.defineProperty(document, "hidden", { get: () => hidden, configurable: true });
      const rest = () => new Promise((resolve) => setTimeout(resolve, 60));
      module.whileSeen(0.001, async () => { count += 1; });
      await rest();
      hidden = true;
      await rest();
      const before = count;
      await rest();
      const after = count;
      delete document.hidden;
      document.dispatchEvent(new Event("visibilitychange"));
      await rest();
      return [before > 1, after - before, count > after];
    """
    assert called(page, "elements.js", script) == [True, 0, True]


def test_times_are_told_in_words(page: Page) -> None:
    """A duration has the unit that fits it, and three digits at most before it."""
    script = "return values.map((value) => module.duration(value));"
    told = called(page, "elements.js", script, values=[None, 0, 0.0003, 0.3, 0.0125, 2.345, 125])
    assert told == ["–", "< 0.1 ms", "0.3 ms", "300 ms", "12.5 ms", "2.35 s", "2 min 5 s"]
