"""Reading what was recorded."""

import asyncio
from dataclasses import replace
from functools import partial

from asgipipe.stores.database import Transaction
from asgipipe.stores.lazy import LazyDatabase
from asgipipe.tracking import store
from asgipipe.tracking.artifacts import artifact_files
from asgipipe.tracking.records import RUN, RecordedArtifact, RecordedRun, RecordedStep, RunPage

INLINE = 1024 * 1024
"""Bytes of payloads that come with a run; those beyond are named, with their sizes."""


class RunReader:
    """The recorded runs of one deployment, or of all that share a store; used on the event loop.

    `artifact_url` says where payloads are that have files of their own. A store that does not exist is not made.
    """

    def __init__(self, lazy: LazyDatabase, deployment: str | None, *, artifact_url: str | None = None) -> None:
        self._lazy = lazy
        self._deployment = deployment
        self._artifact_url = artifact_url

    async def page(
        self,
        *,
        status: str | None = None,
        pipeline: str | None = None,
        limit: int = 50,
        cursor: str | None = None,
    ) -> RunPage:
        """Return the newest runs first. Raises UnavailableError and StoreError."""
        database = await self._lazy.open_existing()
        if database is None:
            return RunPage((), None)
        return await database.read(
            partial(
                store.page, deployment=self._deployment, status=status, pipeline=pipeline, limit=limit, cursor=cursor
            )
        )

    async def get(
        self,
        run_id: str,
        *,
        steps_after: int = 0,
        logs_after: int = 0,
        limit: int = 500,
        inline: int | None = INLINE,
    ) -> RecordedRun | None:
        """Return a run with at most `limit` of its steps and log records, and `inline` bytes of payloads, or all."""
        database = await self._lazy.open_existing()
        if database is None:
            return None
        found = await database.read(
            partial(self._read, run_id=run_id, steps_after=steps_after, logs_after=logs_after, limit=limit)
        )
        if found is None:
            return None
        run, artifacts = found
        shown = _Payloads(run, inline)
        wanted = [artifact for artifact in artifacts if shown.takes(artifact)]
        if wanted:
            bodies = await asyncio.get_running_loop().run_in_executor(None, self._load, wanted)
            shown.add(bodies)
        return shown.run()

    def _read(
        self, transaction: Transaction, run_id: str, steps_after: int, logs_after: int, limit: int
    ) -> tuple[RecordedRun, list[RecordedArtifact]] | None:
        run = store.run(transaction, self._deployment, run_id)
        if run is None:
            return None
        steps = [step for step in run.steps if step.number > steps_after]
        if not run.steps:
            steps = store.steps(transaction, run_id, steps_after, limit + 1)
        logs = [log for log in run.logs if log.number > logs_after]
        if not run.logs:
            logs = store.logs(transaction, run_id, logs_after, limit + 1)
        artifacts = store.artifacts(transaction, run_id, [RUN, *(step.number for step in steps[:limit])])
        whole = replace(
            run,
            steps=steps[:limit],
            logs=logs[:limit],
            next_step=steps[limit - 1].number if len(steps) > limit else None,
            next_log=logs[limit - 1].number if len(logs) > limit else None,
        )
        return whole, artifacts

    def _load(self, artifacts: list[RecordedArtifact]) -> dict[tuple[int, str], bytes]:
        files = artifact_files(self._artifact_url, self._lazy.database.place)
        bodies = {(one.step_number, one.name): files.get(one.content_hash or "") for one in artifacts}
        return {key: body for key, body in bodies.items() if body is not None}


class _Payloads:
    """Decides which payloads a run is shown with: those of the run first, then those of its steps, in order."""

    def __init__(self, run: RecordedRun, inline: int | None) -> None:
        self._run = run
        self._left = float("inf") if inline is None else inline
        self._omitted: list[RecordedArtifact] = []
        self._bodies: dict[tuple[int, str], bytes | None] = {
            (RUN, "parameters"): self._shown(RUN, "parameters", run.parameters),
            (RUN, "outputs"): self._shown(RUN, "outputs", run.outputs),
        }
        for step in run.steps:
            self._bodies[step.number, "outputs"] = self._shown(step.number, "outputs", step.outputs)

    def takes(self, artifact: RecordedArtifact) -> bool:
        """Say whether there is room for the payload of a file; without, it is omitted."""
        if artifact.size > self._left:
            self._omitted.append(artifact)
            return False
        self._left -= artifact.size
        return True

    def add(self, bodies: dict[tuple[int, str], bytes]) -> None:
        self._bodies.update(bodies)

    def run(self) -> RecordedRun:
        return replace(
            self._run,
            parameters=self._bodies[RUN, "parameters"],
            outputs=self._bodies[RUN, "outputs"],
            steps=[self._step(step) for step in self._run.steps],
            omitted=self._omitted,
        )

    def _step(self, step: RecordedStep) -> RecordedStep:
        return replace(step, outputs=self._bodies[step.number, "outputs"])

    def _shown(self, number: int, name: str, body: bytes | None) -> bytes | None:
        if body is None or self.takes(RecordedArtifact(number, name, len(body), None)):
            return body
        return None
