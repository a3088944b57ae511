"""Metrics as JSON, as Prometheus text (version 0.0.4) and as OpenMetrics text (version 1.0.0).

prometheus_client is imported when the first text is asked for. Its global registry is never touched.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Final, Literal

from pydantic_core import to_json

from asgipipe.http.negotiation import chosen
from asgipipe.jobs.states import JobState
from asgipipe.service.metrics import MetricsSnapshot

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Metric

Format = Literal["json", "text", "openmetrics"]
DeploymentSnapshot = tuple[str, str, MetricsSnapshot]
"""Name of the deployment, name of its pipeline, what it counted."""

BUCKETS: Final = (0.0001, 0.0005, 0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 50.0, 250.0)
"""Upper edges of `asgipipe_run_duration_seconds` in seconds; each is an edge of the service's histogram."""

_NO_JOBS: Final[Mapping[str, Mapping[JobState, int]]] = {}

logger = logging.getLogger(__name__)


# Negotiation (RFC 9110, section 12.5.1)

# From the most wanted to the least, where a client has no preference. Versions and other parameters are not compared:
# there is one version of each, and a scraper that asks for another one is better served with it than with JSON.
_OFFERS: Final[Mapping[Format, tuple[str, ...]]] = {
    "json": ("application/json", "application/*", "*/*"),
    "openmetrics": ("application/openmetrics-text", "application/*", "*/*"),
    "text": ("text/plain", "text/*", "*/*"),
}


def negotiate(accept: bytes | None) -> Format:
    """Choose the format for an `Accept` header; JSON when it is missing, empty or accepts none of the three."""
    return chosen(accept.decode("latin-1"), _OFFERS) or "json" if accept else "json"


# Rendering


_CONTENT_TYPES: Final[Mapping[Format, bytes]] = {
    "json": b"application/json",
    "text": b"text/plain; version=0.0.4; charset=utf-8",
    "openmetrics": b"application/openmetrics-text; version=1.0.0; charset=utf-8",
}


def render(
    snapshots: Sequence[DeploymentSnapshot],
    form: Format,
    *,
    jobs: Mapping[str, Mapping[JobState, int]] = _NO_JOBS,
    extra: "CollectorRegistry | None" = None,
) -> tuple[bytes, bytes]:
    """Return the content type and the body of an answer that shows `snapshots`.

    JSON shows one deployment; ValueError for any other number. Text shows all of them, with their `jobs` by the name of
    the deployment, followed by the metrics of
    `extra`, a registry of the user's: families named like ours are left out, and all of it when a collector fails.
    """
    if form == "json":
        ((_, _, snapshot),) = snapshots
        body = to_json(document(snapshot))
    else:
        families = [*_families(snapshots), *_jobs(snapshots, jobs)]
        body = _encode(families if extra is None else [*families, *_collect(extra, families, form)], form)
    return _CONTENT_TYPES[form], body


def document(snapshot: MetricsSnapshot) -> dict[str, object]:
    """Return the members of the JSON answer."""
    return {
        "total_executions": snapshot.total_executions,
        "successful_executions": snapshot.successful_executions,
        "failed_executions": snapshot.failed_executions,
        "canceled_executions": snapshot.canceled_executions,
        "in_flight": snapshot.in_flight,
        "average_execution_time": snapshot.average_execution_time,
        "execution_time_quantiles": dict(snapshot.execution_time_quantiles),
        "last_execution_time": snapshot.last_execution_time,
    }


def _families(snapshots: Sequence[DeploymentSnapshot]) -> "Iterator[Metric]":
    # A family may stand in a text only once, so each collects the samples of all deployments.
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
    from prometheus_client.utils import floatToGoString

    names = ("deployment", "pipeline")
    runs = CounterMetricFamily("asgipipe_runs", "Finished runs by their end.", labels=(*names, "status"))
    seconds = HistogramMetricFamily(
        "asgipipe_run_duration_seconds", "How long finished runs took.", labels=names, unit="seconds"
    )
    in_flight = GaugeMetricFamily("asgipipe_runs_in_flight", "Runs that are running.", labels=names)
    requests = CounterMetricFamily(
        "asgipipe_http_requests", "Answered requests.", labels=("deployment", "method", "status")
    )
    edges = [*map(floatToGoString, BUCKETS), "+Inf"]
    waits = CounterMetricFamily("asgipipe_capture_waits", "Runs that waited for room to be recorded.", labels=names)
    lost = CounterMetricFamily(
        "asgipipe_capture_lost_rows", "Rows of recorded runs that could not be written.", labels=names
    )
    for deployment, pipeline, snapshot in snapshots:
        labels = (deployment, pipeline)
        waits.add_metric(labels, snapshot.capture_waits)
        lost.add_metric(labels, snapshot.capture_lost)
        runs.add_metric((*labels, "completed"), snapshot.successful_executions)
        runs.add_metric((*labels, "failed"), snapshot.failed_executions)
        runs.add_metric((*labels, "canceled"), snapshot.canceled_executions)
        counts = [*snapshot.durations.at_most(BUCKETS), snapshot.total_executions]
        seconds.add_metric(labels, list(zip(edges, counts, strict=True)), snapshot.durations.seconds)
        in_flight.add_metric(labels, snapshot.in_flight)
        for (method, status), count in snapshot.requests.items():
            requests.add_metric((deployment, method, status), count)
    yield from (runs, seconds, in_flight, requests, waits, lost)


def _jobs(snapshots: Sequence[DeploymentSnapshot], jobs: Mapping[str, Mapping[JobState, int]]) -> "Iterator[Metric]":
    from prometheus_client.core import GaugeMetricFamily

    family = GaugeMetricFamily("asgipipe_jobs", "Jobs by their state.", labels=("deployment", "pipeline", "state"))
    for deployment, pipeline, _ in snapshots:
        for state, count in jobs.get(deployment, {}).items():
            family.add_metric((deployment, pipeline, state.value), count)
    if family.samples:
        yield family


def _collect(extra: "CollectorRegistry", ours: "Sequence[Metric]", form: Format) -> "list[Metric]":
    names = {family.name for family in ours}
    try:
        families = [family for family in extra.collect() if family.name not in names]
        _encode(families, form)  # a sample that this format cannot say must not cost us ours
    except Exception:  # boundary: collectors are the user's code
        logger.exception("A Prometheus collector of the user's failed; /metrics leaves their registry out")
        return []
    return families


class _Collected:
    def __init__(self, families: "Sequence[Metric]") -> None:
        self._families = families

    def collect(self) -> "Iterable[Metric]":
        return self._families


def _encode(families: "Sequence[Metric]", form: Format) -> bytes:
    from prometheus_client import exposition
    from prometheus_client.openmetrics import exposition as openmetrics

    generate_latest = openmetrics.generate_latest if form == "openmetrics" else exposition.generate_latest
    return generate_latest(_Collected(families))
