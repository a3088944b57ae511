"""Write text word by word with a Markov chain: each word is drawn from those that followed the two words before it.

A pipeline that is a generator streams. Its output is the joined text, because it yields strings.
"""

import random
from collections import defaultdict
from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path
from typing import Annotated, cast

from pydantic import Field

from asgipipe import get_step_context, pipeline

TEXT_FILE = Path(__file__).with_name("river.txt")

Pair = tuple[str, str]
Chain = Mapping[Pair, list[str]]


def learn(path: str = str(TEXT_FILE)) -> Chain:
    """Return for each pair of neighbouring words in the text the words that follow it, as often as they do."""
    words = Path(path).read_text(encoding="utf-8").split()
    chain: dict[Pair, list[str]] = defaultdict(list)
    for first, second, third in zip(words, words[1:], words[2:], strict=False):
        chain[first, second].append(third)
    return dict(chain)


def write(chain: Chain, rng: random.Random) -> Iterator[str]:
    """Yield words without end, beginning with a sentence; where the chain ends, another one begins."""
    beginnings = [pair for pair in chain if pair[0][0].isupper()]
    while True:
        pair = rng.choice(beginnings)
        yield from pair
        while following := chain.get(pair):
            pair = (pair[1], rng.choice(following))
            yield pair[1]


@pipeline(on_init=learn)
def text_generator(
    words: Annotated[int, Field(ge=1, le=1000, description="How many words to write.")] = 50,
    seed: Annotated[int, Field(ge=0, description="The same seed gives the same text.")] = 0,
) -> Annotated[Iterator[str], "text"]:
    """Write about a river."""
    chain = cast(Chain, get_step_context().pipeline_state)
    rng = random.Random(seed)  # noqa: S311 - it writes prose, not keys
    for position, word in enumerate(islice(write(chain, rng), words)):
        yield f" {word}" if position else word
