"""Markdown of what was measured, and where it goes."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from tests.benchmarks.contenders import CONTENDERS
from tests.benchmarks.results import GOALS, Goal, Sample, Spread, ratio, spread


class MarkerError(Exception):
    """The document has no place for the table."""


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """Return a markdown table; every column but the first is aligned right."""
    rule = ["---", *["---:"] * (len(header) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (header, rule, *rows))


def sockets_table(samples: Sequence[Sample], beside: str) -> str:
    """Return the table of all contenders, in the order in which they were measured."""
    header = (
        "contender",
        "requests/s",
        f"ratio to {beside}",
        "CPU µs/request",
        "CPU ratio",
        "p50 ms",
        "p99 ms",
        "RSS MiB",
        "start-up ms",
    )
    return table(header, [_row(samples, name) for name in _names(samples)])


def _row(samples: Sequence[Sample], name: str) -> list[str]:
    rate = ratio(samples, name, lambda sample: sample.requests_per_second)
    cpu = ratio(samples, name, lambda sample: sample.cpu_per_request)
    return [
        f"`{name}`: {CONTENDERS[name].description}",
        _spread(spread(samples, name, lambda sample: sample.requests_per_second), ",.0f"),
        _spread(rate, ".2f") if rate else "",
        f"{spread(samples, name, lambda sample: sample.cpu_per_request * 1e6).median:.1f}",
        f"{cpu.median:.2f}" if cpu else "",
        f"{spread(samples, name, lambda sample: sample.p50 * 1e3).median:.2f}",
        f"{spread(samples, name, lambda sample: sample.p99 * 1e3).median:.2f}",
        f"{spread(samples, name, lambda sample: sample.resident_bytes / 2**20).median:.0f}",
        f"{spread(samples, name, lambda sample: sample.startup * 1e3).median:.0f}",
    ]


def goals_table(samples: Sequence[Sample]) -> str:
    """Return the medians of the measured contenders beside their goals, missed ones in bold; empty without any."""
    judged = {name: _judged(samples, name) for name in _names(samples) if name in GOALS}
    columns = list(dict.fromkeys(what for cells in judged.values() for what in cells))
    rows = [[f"`{name}`", *(cells.get(what, "") for what in columns)] for name, cells in judged.items() if cells]
    return table(("contender", *columns), rows) if rows else ""


def _judged(samples: Sequence[Sample], name: str) -> dict[str, str]:
    cells: dict[str, str] = {}
    for goal in GOALS[name]:
        if measured := ratio(samples, name, goal.figure, goal.beside):
            cells[goal.what] = _verdict(goal, round(measured.median, 2))
    return cells


def _verdict(goal: Goal, value: float) -> str:
    if goal.met(value):
        return f"{value:.2f} {'≥' if goal.at_least else '≤'} {goal.bound:g}"
    return f"**{value:.2f} {'<' if goal.at_least else '>'} {goal.bound:g}**"


def facts_list(facts: Mapping[str, str], **more: str) -> str:
    """Return the facts as a markdown list."""
    return "\n".join(f"- {name}: {value}" for name, value in {**facts, **more}.items())


def _names(samples: Sequence[Sample]) -> list[str]:
    return list(dict.fromkeys(sample.contender for sample in samples))


def _spread(value: Spread, form: str) -> str:
    return f"{value.median:{form}} ({value.low:{form}} to {value.high:{form}})"


def write_between(path: Path, name: str, text: str) -> None:
    """Replace what stands between `<!-- name:begin -->` and `<!-- name:end -->` in the file."""
    head, tail = parts_around(path, name)
    path.write_text(f"{head}\n\n{text.strip()}\n\n{tail}", encoding="utf-8")


def parts_around(path: Path, name: str) -> tuple[str, str]:
    """Return the document up to the first marker and from the second on; raises MarkerError when there is no place."""
    begin, end = f"<!-- {name}:begin -->", f"<!-- {name}:end -->"
    document = path.read_text(encoding="utf-8") if path.is_file() else ""
    head, found_begin, rest = document.partition(begin)
    _, found_end, tail = rest.partition(end)
    if not found_begin or not found_end:
        raise MarkerError(f"{path} has no place for the table: add the lines {begin} and {end}")
    return head + begin, end + tail
