"""What the right answer is, apart from ids and times."""

import json
import re
from collections.abc import Mapping
from typing import Final

from tests.benchmarks import workload

_UUID: Final = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")
_IDS: Final = ("deployment_id", "snapshot_id", "run_id")
_RUN_NAME: Final = re.compile(re.escape(workload.PIPELINE_NAME) + r"-\d{4}.?\d\d.?\d\d.\d\d.?\d\d.?\d\d\S*")


class WrongAnswerError(Exception):
    """A contender does not do the same work as the others."""


def expected(city: str, temperature: float, humidity: float = workload.DEFAULT_HUMIDITY) -> dict[str, object]:
    """Return the answer for these parameters with ids and times replaced by what kind of thing they are."""
    return {
        "success": True,
        "outputs": {workload.OUTPUT_NAME: workload.analyse(city, temperature, humidity)},
        "execution_time": "<seconds>",
        "metadata": {
            "deployment_id": "<uuid>",
            "deployment_name": workload.PIPELINE_NAME,
            "snapshot_id": "<uuid>",
            "snapshot_name": None,
            "pipeline_name": workload.PIPELINE_NAME,
            "run_id": "<uuid>",
            "run_name": "<name and time>",
            "parameters_used": {"city": city, "temperature": temperature, "humidity": humidity},
        },
        "error": None,
    }


def without_ids_and_times(answer: bytes) -> dict[str, object]:
    """Parse an answer and put the placeholders of `expected` where a well-formed id or time stands."""
    document: dict[str, object] = json.loads(answer)
    metadata = document.get("metadata")
    if isinstance(metadata, dict):
        for name in _IDS:
            if _UUID.fullmatch(str(metadata.get(name))):
                metadata[name] = "<uuid>"
        if _RUN_NAME.fullmatch(str(metadata.get("run_name"))):
            metadata["run_name"] = "<name and time>"
    execution_time = document.get("execution_time")
    if isinstance(execution_time, float) and 0 < execution_time < 10:
        document["execution_time"] = "<seconds>"
    return document


def verify(name: str, status: int, answer: bytes, want: Mapping[str, object]) -> None:
    """Raise WrongAnswerError unless the answer is `want`, apart from ids and times."""
    if status != 200:
        raise WrongAnswerError(f"{name} answered {status}: {answer[:500].decode(errors='replace')}")
    got = without_ids_and_times(answer)
    if got != want:
        raise WrongAnswerError(f"{name} answered\n  {json.dumps(got)}\ninstead of\n  {json.dumps(want)}")
