"""The answer of a run, written straight to bytes."""

from typing import TYPE_CHECKING

from pydantic_core import to_json

from asgipipe.jobs.records import Job
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.execution import message_of

if TYPE_CHECKING:
    from asgipipe.service.deployment import DeploymentResponse

SILENT = "the pipeline failed"
"""What is said of an exception where its message is kept back."""


class EnvelopeWriter:
    """Writes envelopes; what is the same for every run of the deployment is made once."""

    def __init__(self, deployment: "DeploymentResponse", *, error_messages: bool) -> None:
        self._error_messages = error_messages
        same = {
            "deployment_id": deployment.id,
            "deployment_name": deployment.name,
            "snapshot_id": deployment.snapshot_id,
            "snapshot_name": deployment.snapshot_name,
            "pipeline_name": deployment.pipeline_name,
        }
        self._metadata = b',"metadata":' + to_json(same)[:-1] + b',"run_id":"'

    def write(self, run: Run) -> bytes:
        """Return the envelope of a run as JSON."""
        outputs = run.outputs_json
        return b"".join(
            (
                b'{"success":false,"outputs":null,"execution_time":'
                if outputs is None
                else b'{"success":true,"outputs":%b,"execution_time":' % outputs,
                b"%.6f" % run.execution_time,
                self._metadata,
                run.id.encode(),
                b'","run_name":',
                to_json(run.name),
                b',"parameters_used":',
                run.parameters_json,
                b'},"error":null}' if outputs is not None else b'},"error":%b}' % to_json(self.message(run)),
            )
        )

    def unfinished(self, job: Job, error: str, execution_time: float = 0.0) -> bytes:
        """Return the envelope of a job that ended without a run, or whose run is lost; may be called in any thread."""
        return b"".join(
            (
                b'{"success":false,"outputs":null,"execution_time":%.6f' % execution_time,
                self._metadata,
                job.id.encode(),
                b'","run_name":',
                to_json(job.run_name),
                b',"parameters_used":',
                job.parameters,
                b'},"error":%b}' % to_json(error),
            )
        )

    def message(self, run: Run) -> str:
        """Return the `error` of a run that did not complete."""
        if run.status is Status.FAILED and not self._error_messages:
            return SILENT
        return message_of(run.error)
