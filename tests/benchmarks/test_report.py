"""The figures are computed, judged and written as documented, from samples that are given."""

from pathlib import Path

import pytest

from tests.benchmarks import load, report
from tests.benchmarks.results import GOALS, Sample, Spread, ratio, spread
from tests.benchmarks.server import BenchmarkError


def sample(contender: str, round_number: int, rate: float, **figures: float) -> Sample:
    return Sample(
        contender=contender,
        round=round_number,
        requests=int(rate),
        requests_per_second=rate,
        cpu_per_request=figures.get("cpu", 50e-6),
        p50=figures.get("p50", 0.004),
        p99=figures.get("p99", 0.008),
        resident_bytes=int(figures.get("memory", 40)) * 2**20,
        startup=figures.get("startup", 0.4),
    )


SAMPLES = [
    sample("reference", 1, 100),
    sample("asgipipe_async", 1, 110, p99=0.016),
    sample("reference", 2, 200),
    sample("asgipipe_async", 2, 180),
    sample("reference", 3, 400),
    sample("asgipipe_async", 3, 480, p99=0.016),
]


def rate(found: Sample) -> float:
    return found.requests_per_second


def test_a_ratio_is_taken_within_its_round() -> None:
    """Each round is compared with the reference of the same round, and the median is of these ratios."""
    assert ratio(SAMPLES, "asgipipe_async", rate) == Spread(110 / 100, 180 / 200, 480 / 400)


def test_there_is_no_ratio_without_the_reference() -> None:
    """When the reference was not measured, the table leaves the ratio empty and judges no goal."""
    alone = [sample("asgipipe_async", 1, 110)]
    assert ratio(alone, "asgipipe_async", rate) is None
    assert report.goals_table(alone) == ""
    assert "| 110 (110 to 110) |  | 50.0 |  | 4.00 |" in report.sockets_table(alone)


def test_a_spread_is_median_least_and_most() -> None:
    """The median is shown with the extremes, whatever the order of the rounds."""
    assert spread(SAMPLES, "reference", rate) == Spread(200, 100, 400)


def test_the_table_shows_units() -> None:
    """Seconds become micro- and milliseconds, bytes become MiB."""
    row = report.sockets_table([sample("reference", 1, 12345)]).splitlines()[2]
    assert row.endswith("| 12,345 (12,345 to 12,345) | 1.00 (1.00 to 1.00) | 50.0 | 1.00 | 4.00 | 8.00 | 40 | 400 |")


def test_goals_are_judged() -> None:
    """A goal that is missed says so, in the same table as the ones that are met."""
    lines = report.goals_table(SAMPLES).splitlines()
    assert lines[2] == "| `asgipipe_async` | requests/s | at least 1 | 1.10 (0.90 to 1.20) | yes |"
    assert lines[3] == "| `asgipipe_async` | p99 | at most 1.2 | 2.00 (1.00 to 2.00) | **no** |"
    assert len(lines) == 2 + len(GOALS["asgipipe_async"])


def test_the_table_is_written_between_its_markers(tmp_path: Path) -> None:
    """Only what stands between the two markers is replaced, however often it is written."""
    path = tmp_path / "performance.md"
    path.write_text("before\n<!-- sockets:begin -->\nold\n<!-- sockets:end -->\nafter\n")
    report.write_between(path, "sockets", "first")
    report.write_between(path, "sockets", "second\n")
    assert path.read_text() == "before\n<!-- sockets:begin -->\n\nsecond\n\n<!-- sockets:end -->\nafter\n"


def test_a_document_without_markers_is_left_alone(tmp_path: Path) -> None:
    """A missing marker is an error that names it, and the file stays as it was."""
    path = tmp_path / "performance.md"
    path.write_text("nothing here")
    with pytest.raises(report.MarkerError, match="<!-- layers:begin -->"):
        report.write_between(path, "layers", "table")
    assert path.read_text() == "nothing here"


FIGURES = (
    '"requests":5000,"duration":2000000,"p50":1500.0,"p99":9000.0,"connect":0,"read":0,"write":0,"timeout":0,"status":'
)


def test_the_line_of_the_load_generator_is_read() -> None:
    """Microseconds become seconds and the rate is that of the time really used."""
    found = load.parse("reference", f"Running 2s test\n{{{FIGURES}0}}\n")
    assert (found.rate, found.p50, found.p99) == (2500.0, 0.0015, 0.009)


def test_a_failed_request_stops_the_measurement() -> None:
    """One answer with an error status is enough to distrust the run."""
    with pytest.raises(BenchmarkError, match=r"reference: requests failed under load: \{'status': 1\}"):
        load.parse("reference", f"{{{FIGURES}1}}")


def test_the_script_sends_the_request(tmp_path: Path) -> None:
    """The script of the load generator carries the method, the body and the key, with its braces intact."""
    text = load.write_script(tmp_path).read_text()
    assert 'wrk.method = "POST"' in text
    assert '{"parameters": {"city"' in text
    assert "Bearer benchmark-key" in text
    assert "{{" not in text
