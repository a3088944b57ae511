"""The figures are computed, judged and written as documented, from samples that are given."""

from pathlib import Path

import pytest

from tests.benchmarks import load, report
from tests.benchmarks.results import Sample, Spread, ratio, spread
from tests.benchmarks.server import BenchmarkError
from tests.benchmarks.tasks import COMFORT, INVOKE, Task


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
    sample("asgipipe_starlette_async", 1, 110, p99=0.016),
    sample("reference", 2, 200),
    sample("asgipipe_starlette_async", 2, 180),
    sample("reference", 3, 400),
    sample("asgipipe_starlette_async", 3, 480, p99=0.016),
]


def rate(found: Sample) -> float:
    return found.requests_per_second


def test_a_ratio_is_taken_within_its_round() -> None:
    """Each round is compared with the reference of the same round, and the median is of these ratios."""
    assert ratio(SAMPLES, "asgipipe_starlette_async", rate) == Spread(110 / 100, 180 / 200, 480 / 400)


def test_there_is_no_ratio_without_the_reference() -> None:
    """When the reference was not measured, the table leaves the ratio empty and judges no goal."""
    alone = [sample("asgipipe_starlette_async", 1, 110)]
    assert ratio(alone, "asgipipe_starlette_async", rate) is None
    assert report.goals_table(alone) == ""
    assert "| 110 (110 to 110) |  | 50.0 |  | 4.00 |" in report.sockets_table(alone, "`reference`")


def test_a_spread_is_median_least_and_most() -> None:
    """The median is shown with the extremes, whatever the order of the rounds."""
    assert spread(SAMPLES, "reference", rate) == Spread(200, 100, 400)


def test_the_table_shows_units() -> None:
    """Seconds become micro- and milliseconds, bytes become MiB."""
    row = report.sockets_table([sample("reference", 1, 12345)], "`reference`").splitlines()[2]
    assert row.endswith("| 12,345 (12,345 to 12,345) | 1.00 (1.00 to 1.00) | 50.0 | 1.00 | 4.00 | 8.00 | 40 | 400 |")


def test_goals_are_judged() -> None:
    """A goal that is met and one that is missed stand in one row, each with its bound."""
    lines = report.goals_table(SAMPLES).splitlines()
    assert lines[0] == "| contender | requests/s | p99 | memory | start-up |"
    assert lines[2:] == ["| `asgipipe_starlette_async` | 1.10 ≥ 1 | **2.00 > 1.2** | 1.00 ≤ 1.3 | 1.00 ≤ 2 |"]


def test_memory_and_startup_are_also_judged_beside_the_framework() -> None:
    """Where an application by hand was measured with the same framework, the goals are judged beside it as well."""
    more = [
        sample("quart_hand", 1, 50, memory=80, startup=1.0),
        sample("asgipipe_quart_sync", 1, 96, memory=100, startup=1.6),
        sample("reference", 1, 100),
    ]
    row = report.goals_table(more).splitlines()[2]
    assert row == (
        "| `asgipipe_quart_sync` | 0.96 ≥ 0.95 | 1.00 ≤ 1.2 | **2.50 > 1.3** | **4.00 > 2** | 1.25 ≤ 1.3 | 1.60 ≤ 2 |"
    )


def test_a_custom_endpoint_is_judged_beside_the_one_by_hand() -> None:
    """Its ratios are taken to the same endpoint in the same framework, not to the reference."""
    pair = [sample("django_comfort", 1, 100), sample("asgipipe_django_comfort", 1, 300)]
    assert ratio(pair, "asgipipe_django_comfort", rate) == Spread(3, 3, 3)
    assert report.goals_table(pair).splitlines()[2] == "| `asgipipe_django_comfort` | 3.00 ≥ 1 |"


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


@pytest.mark.parametrize("task", [INVOKE, COMFORT], ids=lambda task: task.path)
def test_the_script_sends_the_request(tmp_path: Path, task: Task) -> None:
    """The script of the load generator carries the method, the body and the key, with its braces intact."""
    text = load.write_script(tmp_path, task).read_text()
    assert 'wrk.method = "POST"' in text
    assert f"[==[{task.request.decode()}]==]" in text
    assert "Bearer benchmark-key" in text
    assert "{{" not in text
