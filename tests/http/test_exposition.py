import json
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator

import prometheus_client
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Metric
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from asgipipe.http.exposition import BUCKETS, Format, negotiate, render
from asgipipe.jobs.states import JobState
from asgipipe.service.histogram import BOUNDS
from asgipipe.service.metrics import Metrics, MetricsSnapshot

Labels = frozenset[tuple[str, str]]
Parse = Callable[[str], Iterable[Metric]]
BOTH = pytest.mark.parametrize(("form", "parse"), [("text", parse_text), ("openmetrics", parse_openmetrics)])


def snapshot(runs: int = 3) -> MetricsSnapshot:
    """What is counted after some runs of 0.25 s, one failed run of 3 s and one that goes on."""
    metrics = Metrics("weather")
    for _ in range(runs + 2):
        metrics.run_started()
    for _ in range(runs):
        metrics.run_finished("completed", 0.25, 1_750_000_000.0)
        metrics.request_finished("POST", 200)
    metrics.run_finished("failed", 3.0, 1_750_000_000.0)
    metrics.request_finished("POST", 500)
    return metrics.snapshot()


def samples(body: bytes, parse: Parse) -> dict[tuple[str, Labels], float]:
    found: dict[tuple[str, Labels], float] = {}
    for family in parse(body.decode()):
        for sample in family.samples:
            key = (sample.name, frozenset(sample.labels.items()))
            assert key not in found, f"{key} stands in the text twice"
            found[key] = sample.value
    return found


def labels(**values: str) -> Labels:
    return frozenset(values.items())


# Negotiation

PROMETHEUS_2 = (
    b"application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    b"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,"
    b"application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,"
    b"text/plain;version=0.0.4;q=0.3,*/*;q=0.2"
)


@pytest.mark.parametrize(
    ("accept", "form"),
    [
        (None, "json"),
        (b"", "json"),
        (b"*/*", "json"),
        (b"application/*", "json"),
        (b"application/json", "json"),
        (b"application/json, text/plain, */*", "json"),  # axios
        (b"text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", "json"),  # browsers
        (b"text/plain", "text"),
        (b"TEXT/Plain ; Version=0.0.4 ; Q=0.5", "text"),
        (b"text/*", "text"),
        (b"text/plain;version=0.0.4;q=0.5,*/*;q=0.1", "text"),
        (b"text/plain, */*", "text"),
        (b"text/plain;q=0.2, */*", "json"),
        (b"application/json;q=0.3, text/plain;q=0.4", "text"),
        (b"application/json;q=0, */*", "openmetrics"),
        (b"application/*;q=0, */*", "text"),
        (b"text/plain;q=0.4, text/plain;version=1.0.0;q=0.6, application/json;q=0.5", "text"),
        (PROMETHEUS_2, "openmetrics"),
        (PROMETHEUS_3, "openmetrics"),
        (b"application/openmetrics-text", "openmetrics"),
        (b"application/openmetrics-text;q=0, text/plain", "text"),
        (b'text/plain;note="a, application/json;q=1";q=0.9, application/json;q=0.5', "text"),
        (b"image/png", "json"),
        (b"text/plain;q=0", "json"),
        (b"text/plain;q=2", "json"),
        (b"text/plain;q=", "json"),
        (b"text/plain;q=nan, application/json;q=0.1", "json"),
        (b";;,,=,/", "json"),
    ],
)
def test_the_format_follows_the_accept_header(accept: bytes | None, form: str) -> None:
    """Weights and precision decide as RFC 9110 says; JSON is what everybody gets who does not ask for text."""
    assert negotiate(accept) == form


@given(st.binary(max_size=200))
def test_any_accept_header_has_an_answer(accept: bytes) -> None:
    """No header is an error."""
    assert negotiate(accept) in ("json", "text", "openmetrics")


def test_a_long_accept_header_costs_little() -> None:
    """Quotes that are never closed do not make reading the header slow; a quadratic reader would take minutes."""
    assert negotiate(b'"\\' * 500_000) == "json"


# JSON


def test_json_has_the_members_of_the_contract() -> None:
    """The JSON answer has exactly the documented members, in RFC 8259 JSON."""
    content_type, body = render([("weather", "agent", snapshot())], "json")
    assert content_type == b"application/json"
    quantiles = json.loads(body)["execution_time_quantiles"]
    assert json.loads(body) == {
        "total_executions": 4,
        "successful_executions": 3,
        "failed_executions": 1,
        "canceled_executions": 0,
        "in_flight": 1,
        "average_execution_time": 0.9375,
        "execution_time_quantiles": {
            "0.5": pytest.approx(0.25, rel=0.12),
            "0.95": pytest.approx(3.0, rel=0.12),
            "0.99": quantiles["0.95"],
        },
        "last_execution_time": "2025-06-15T15:06:40.000Z",
    }


def test_json_without_runs_has_nulls() -> None:
    """Before the first run, times are null and counts are 0."""
    document = json.loads(render([("weather", "agent", Metrics("weather").snapshot())], "json")[1])
    assert document["execution_time_quantiles"] == {"0.5": None, "0.95": None, "0.99": None}
    assert document["average_execution_time"] is document["last_execution_time"] is None
    assert document["total_executions"] == document["in_flight"] == 0


@pytest.mark.parametrize("number", [0, 2])
def test_json_shows_one_deployment(number: int) -> None:
    """The document has no place for more than one deployment, and says so."""
    with pytest.raises(ValueError, match="values to unpack"):
        render([("weather", "agent", snapshot())] * number, "json")


# Text


def test_the_content_types_are_those_of_prometheus_client() -> None:
    """Scrapers are told the format they know by the name its library gives it."""
    snapshots = [("weather", "agent", snapshot())]
    assert render(snapshots, "text")[0].decode() == CONTENT_TYPE_PLAIN_0_0_4
    assert render(snapshots, "openmetrics")[0].decode() == openmetrics.CONTENT_TYPE_LATEST


@BOTH
def test_text_says_what_was_counted(form: Format, parse: Parse) -> None:
    """Every number of the snapshot is in the text, under the documented name and labels."""
    found = samples(render([("weather", "agent", snapshot())], form)[1], parse)
    names = {"deployment": "weather", "pipeline": "agent"}
    assert found["asgipipe_runs_total", labels(**names, status="completed")] == 3
    assert found["asgipipe_runs_total", labels(**names, status="failed")] == 1
    assert found["asgipipe_runs_total", labels(**names, status="canceled")] == 0
    assert found["asgipipe_runs_in_flight", labels(**names)] == 1
    assert found["asgipipe_run_duration_seconds_count", labels(**names)] == 4
    assert found["asgipipe_run_duration_seconds_sum", labels(**names)] == 3.75
    assert found["asgipipe_run_duration_seconds_bucket", labels(**names, le="0.1")] == 0
    assert found["asgipipe_run_duration_seconds_bucket", labels(**names, le="0.25")] == 3
    assert found["asgipipe_run_duration_seconds_bucket", labels(**names, le="+Inf")] == 4
    assert found["asgipipe_http_requests_total", labels(deployment="weather", method="POST", status="200")] == 3
    assert found["asgipipe_http_requests_total", labels(deployment="weather", method="POST", status="500")] == 1
    assert not any("jobs" in name for name, _ in found)


@BOTH
def test_types_are_declared(form: Format, parse: Parse) -> None:
    """Each family stands in the text once, with its type and a help text, also before anything was counted."""
    families = list(parse(render([("weather", "agent", Metrics("weather").snapshot())], form)[1].decode()))
    assert {family.name: family.type for family in families} == {
        "asgipipe_runs": "counter",
        "asgipipe_run_duration_seconds": "histogram",
        "asgipipe_runs_in_flight": "gauge",
        "asgipipe_http_requests": "counter",
        "asgipipe_capture_waits": "counter",
        "asgipipe_capture_lost_rows": "counter",
    }
    assert len(families) == 6
    assert all(family.documentation for family in families)


@BOTH
def test_deployments_do_not_clash(form: Format, parse: Parse) -> None:
    """Several deployments, also of the same pipeline, stand in one text."""
    found = samples(render([("one", "agent", snapshot(1)), ("two", "agent", snapshot(2))], form)[1], parse)
    assert found["asgipipe_runs_total", labels(deployment="one", pipeline="agent", status="completed")] == 1
    assert found["asgipipe_runs_total", labels(deployment="two", pipeline="agent", status="completed")] == 2


@BOTH
@given(st.text(st.characters(exclude_categories=["Cs"]), min_size=1), st.text(st.characters(exclude_categories=["Cs"])))
def test_names_are_escaped(form: Format, parse: Parse, deployment: str, pipeline: str) -> None:
    """Quotes, backslashes, line ends and any other character of a name arrive as they were."""
    found = samples(render([(deployment, pipeline, snapshot())], form)[1], parse)
    assert found["asgipipe_runs_in_flight", labels(deployment=deployment, pipeline=pipeline)] == 1


def test_buckets_are_edges_of_the_histogram() -> None:
    """Every Prometheus bucket is an exact sum of buckets of the service's histogram."""
    assert set(BUCKETS) <= set(BOUNDS)
    assert list(BUCKETS) == sorted(BUCKETS)


# The user's own metrics


@BOTH
def test_metrics_of_the_user_are_added(form: Format, parse: Parse) -> None:
    """A registry of the user's stands in the same text, behind ours."""
    registry = CollectorRegistry()
    Counter("tokens", "Tokens.", ["model"], registry=registry).labels("small").inc(7)
    found = samples(render([("weather", "agent", snapshot())], form, extra=registry)[1], parse)
    assert found["tokens_total", labels(model="small")] == 7
    assert found["asgipipe_runs_in_flight", labels(deployment="weather", pipeline="agent")] == 1


@BOTH
def test_metrics_named_like_ours_are_left_out(form: Format, parse: Parse) -> None:
    """A family of the user's that has one of our names does not make the text invalid."""
    registry = CollectorRegistry()
    Gauge("asgipipe_runs_in_flight", "A second one.", registry=registry).set(99)
    Gauge("users", "Users.", registry=registry).set(5)
    found = samples(render([("weather", "agent", snapshot())], form, extra=registry)[1], parse)
    assert found["users", labels()] == 5
    assert ("asgipipe_runs_in_flight", labels()) not in found


class _Raises:
    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("first", "Comes before the failure.", value=1.0)
        raise RuntimeError("the database is away")


class _Unprintable:
    def collect(self) -> Iterator[Metric]:
        family = Metric("odd", "Has a sample that is no number.", "gauge")
        family.add_sample("odd", {}, "seven")  # type: ignore[arg-type] # what users do
        yield family


@BOTH
@pytest.mark.parametrize("collector", [_Raises(), _Unprintable()], ids=["raises", "unprintable"])
def test_a_failing_collector_costs_only_the_users_metrics(
    form: Format, parse: Parse, collector: _Raises | _Unprintable, caplog: pytest.LogCaptureFixture
) -> None:
    """When user code fails, our metrics are still there and the log says what happened."""
    registry = CollectorRegistry()
    registry.register(collector)
    snapshots = [("weather", "agent", snapshot())]
    assert render(snapshots, form, extra=registry) == render(snapshots, form)
    (record,) = caplog.records
    assert record.exc_info is not None


def test_the_hosts_registry_is_left_alone() -> None:
    """Rendering registers nothing in the global registry, which belongs to the host."""
    before = set(prometheus_client.REGISTRY._names_to_collectors)
    _, body = render([("weather", "agent", snapshot())], "text")
    assert set(prometheus_client.REGISTRY._names_to_collectors) == before
    assert b"process_" not in body
    assert b"python_info" not in body


def test_prometheus_client_is_imported_when_text_is_asked_for() -> None:
    """Neither the module nor a JSON answer imports prometheus_client."""
    program = (
        "import sys; from asgipipe.http.exposition import render; from asgipipe.service.metrics import Metrics;"
        "shot = [('a', 'b', Metrics('a').snapshot())]; render(shot, 'json'); print('prometheus_client' in sys.modules);"
        "render(shot, 'text'); print('prometheus_client' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "True"]


@BOTH
def test_jobs_by_their_state(form: Format, parse: Parse) -> None:
    """Each deployment's jobs are a gauge; where nobody counted them there is none."""
    shots = [("one", "agent", snapshot()), ("two", "agent", snapshot())]
    found = samples(render(shots, form, jobs={"two": {JobState.PENDING: 3, JobState.FAILED: 0}})[1], parse)
    jobs = {key: value for key, value in found.items() if key[0] == "asgipipe_jobs"}
    assert jobs == {
        ("asgipipe_jobs", labels(deployment="two", pipeline="agent", state="pending")): 3,
        ("asgipipe_jobs", labels(deployment="two", pipeline="agent", state="failed")): 0,
    }
    assert b"asgipipe_jobs" not in render(shots, form)[1]
