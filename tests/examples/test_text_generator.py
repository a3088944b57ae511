"""The text generator."""

import itertools
import json
import random
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import httpx

from tests.conftest import PATIENCE, Serve

Load = Callable[[str], ModuleType]


def test_every_word_follows_from_the_text(load: Load) -> None:
    """Words come in the order in which the text has them, three at a time, except where the chain begins again."""
    module = load("text_generator/text_generator.py")
    text = module.TEXT_FILE.read_text(encoding="utf-8").split()
    triples = set(zip(text, text[1:], text[2:], strict=False))
    last = tuple(text[-2:])
    written = list(itertools.islice(module.write(module.learn(), random.Random(1)), 2000))
    strangers = {
        triple
        for triple in zip(written, written[1:], written[2:], strict=False)
        if triple not in triples and last not in (triple[:2], triple[1:])
    }
    assert {triple[0] for triple in strangers} <= {text[-1]}


def test_the_chain_never_ends(load: Load) -> None:
    """Where the last words of the text are reached, another sentence is begun."""
    module = load("text_generator/text_generator.py")
    chain = {("One", "two"): ["three"]}
    written = itertools.islice(module.write(chain, random.Random(0)), 6)
    assert list(written) == ["One", "two", "three", "One", "two", "three"]


def test_words_are_streamed(folder: Path, serve: Serve) -> None:
    """The pieces of a streamed run are its words one by one, and together the text of a run that is waited for."""
    server = serve("examples/text_generator/text_generator.py", cwd=folder)
    body = {"parameters": {"words": 12, "seed": 3}}
    waited = httpx.post(f"{server.url}/invoke", json=body, timeout=PATIENCE).json()["outputs"]["text"]
    answer = httpx.post(f"{server.url}/invoke?mode=stream", json=body, timeout=PATIENCE)
    events = [json.loads(line.removeprefix("data: ")) for line in answer.text.splitlines() if line.startswith("data: ")]
    words = [event["data"]["delta"] for event in events if event["event_type"] == "output_delta"]
    assert len(words) == 12
    assert "".join(words) == waited == events[-1]["data"]["outputs"]["text"]
