"""The text generator."""

import itertools
import random
from collections.abc import Callable
from types import ModuleType

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
