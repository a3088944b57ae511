import itertools
import json
import os
import random
import subprocess
import sys
import time
from uuid import RFC_4122, UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from asgipipe.identifiers import NAMESPACE, UUID7Source, derived, uuid7

DAY = 24 * 60 * 60 * 10**9
NOW = 1_800_000_000 * 10**9

JUMPS = st.lists(
    st.one_of(st.integers(0, 2_000_000), st.integers(-DAY, DAY), st.sampled_from([-DAY, 0, DAY])), max_size=200
)


class Clock:
    """A clock that moves by the given nanoseconds, back and forth, whenever it is read; then it stands still."""

    def __init__(self, jumps: list[int]) -> None:
        self.now = NOW
        self.jumps = iter(jumps)

    def __call__(self) -> int:
        self.now += next(self.jumps, 0)
        return self.now


@given(JUMPS, st.integers(0, 10_000))
def test_identifiers_increase_whatever_the_clock_does(jumps: list[int], more: int) -> None:
    """Strictly, as text and as numbers, while the clock jumps by up to 24 hours and when thousands share a moment."""
    source = UUID7Source(Clock(jumps), random.Random(1).getrandbits)
    made = [source() for _ in range(len(jumps) + more + 1)]
    assert all(earlier < later for earlier, later in itertools.pairwise(made))
    numbers = [UUID(text).int for text in made]
    assert numbers == sorted(set(numbers))


@given(JUMPS)
def test_identifiers_are_uuids_of_version_7(jumps: list[int]) -> None:
    """Version and variant bits are RFC 9562's, and the text is in the usual form."""
    source = UUID7Source(Clock(jumps))
    for _ in range(len(jumps) + 1):
        text = source()
        identifier = UUID(text)
        assert (identifier.version, identifier.variant, str(identifier)) == (7, RFC_4122, text)


@given(st.integers(0, 2**48 - 2), st.integers(0, 999_999))
def test_identifiers_carry_the_milliseconds(milliseconds: int, rest: int) -> None:
    """The first 48 bits are the time, rounded down."""
    source = UUID7Source(lambda: milliseconds * 1_000_000 + rest)
    assert UUID(source()).int >> 80 == milliseconds


def test_a_full_counter_runs_ahead_of_the_clock() -> None:
    """The 4097th identifier of a millisecond belongs to the next one, and the clock catches up."""
    moment = [NOW]
    source = UUID7Source(lambda: moment[0], lambda bits: (1 << bits) - 1)
    made = [UUID(source()).int >> 80 for _ in range(4097)]
    assert made == [NOW // 10**6] * 4096 + [NOW // 10**6 + 1]
    moment[0] += 10**6
    assert UUID(source()).int >> 80 == NOW // 10**6 + 1
    moment[0] += 10**6
    assert UUID(source()).int >> 80 == NOW // 10**6 + 2


@pytest.mark.parametrize("fill", [0, 1])
def test_every_random_bit_may_be_set_or_not(fill: int) -> None:
    """Whatever the random source gives, the fixed bits are in place."""
    source = UUID7Source(lambda: NOW, lambda bits: fill * ((1 << bits) - 1))
    assert (UUID(source()).version, UUID(source()).variant) == (7, RFC_4122)


def test_the_real_source_follows_the_real_clock() -> None:
    """Its identifiers carry the present time and never repeat."""
    before = time.time_ns() // 10**6
    made = [uuid7() for _ in range(1000)]
    assert len(set(made)) == 1000
    assert before <= UUID(made[0]).int >> 80 <= time.time_ns() // 10**6 + 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system cannot fork")
def test_forked_processes_never_share_a_sequence() -> None:
    """Workers that are forked after the first identifier was made give different ones, at the same time."""
    program = """
import json, os, sys
from asgipipe.identifiers import uuid7
uuid7()
pipes = []
for _ in range(4):
    reading, writing = os.pipe()
    if os.fork() == 0:
        with os.fdopen(writing, "w") as output:
            json.dump([uuid7() for _ in range(2000)], output)
        os._exit(0)
    os.close(writing)
    pipes.append(reading)
made = [uuid7() for _ in range(2000)]
for reading in pipes:
    with os.fdopen(reading) as given:
        made += json.load(given)
    os.wait()
print(json.dumps([len(made), len(set(made)), len({text[19:] for text in made})]))
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert json.loads(done.stdout) == [10_000, 10_000, 10_000]


def test_identifiers_of_names_are_the_same_everywhere() -> None:
    """They depend on the names alone, and on where one name ends and the next begins."""
    assert derived("deployment", "weather") == "345d07e6-1856-543d-90ee-300cfbc6b1a8"
    assert UUID(derived("a")).version == 5
    assert len({derived("ab", "c"), derived("a", "bc"), derived("abc"), derived("ab", "c", "")}) == 4
    assert NAMESPACE.variant == RFC_4122
