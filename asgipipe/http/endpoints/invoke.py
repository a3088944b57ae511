"""POST /invoke: run the pipeline and answer with the envelope."""

import asyncio
from typing import Annotated, NotRequired
from urllib.parse import parse_qs

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter
from typing_extensions import TypedDict

from asgipipe.errors import BadRequestError, UnavailableError
from asgipipe.http.body import read_body, require_finite, require_finite_value, require_json
from asgipipe.http.exchange import KEY, Exchange
from asgipipe.http.problems import send_problem
from asgipipe.http.responses import JSON
from asgipipe.http.turn import next_turn
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.http.validation import LARGE, BodyValidator, refusal
from asgipipe.identifiers import uuid7
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.contract import Contract
from asgipipe.service.deployment import BaseDeploymentService
from asgipipe.service.envelope import EnvelopeWriter

_FAILED = {Status.FAILED: 500, Status.TIMED_OUT: 504}
_VARY = (b"vary", b"Accept, Prefer")


class InvokeBody:
    """Reads the body of an invoke in one validation of the raw bytes."""

    def __init__(self, contract: Contract) -> None:
        self._contract = contract
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        fields = {
            "parameters": NotRequired[contract.parameters_type | None],
            "run_name": NotRequired[Annotated[str, Field(min_length=1, max_length=255)] | None],
            # Nothing but null yet: what a run leaves behind cannot be chosen before something is recorded.
            "capture_override": NotRequired[None],
            "timeout": NotRequired[Annotated[float, Field(gt=0)] | None],
        }
        body = TypedDict("InvokeBody", fields)  # type: ignore[misc]  # made at run time
        body.__pydantic_config__ = config  # type: ignore[attr-defined]  # pydantic's protocol for TypedDicts
        adapter = TypeAdapter(body)
        self._validate = adapter.validator.validate_json
        self._validate_large = BodyValidator(adapter).validate
        self._validate_parameters = TypeAdapter(contract.parameters_type).validator.validate_json

    def read(self, body: bytes) -> tuple[dict[str, object], str | None, float | None]:
        """Return parameters, run name and timeout. Raises BadRequestError or ValidationError."""
        suspicious = False
        if self._contract.may_hold_infinity or b"NaN" in body or b"Infinity" in body:
            suspicious = require_finite(body, ())
        try:
            request: dict[str, object] = (
                self._validate(body or b"{}", strict=True) if len(body) <= LARGE else self._validate_large(body)
            )
        except pydantic.ValidationError as error:
            raise refusal(error) from None
        parameters = request.get("parameters")
        if suspicious:
            require_finite_value(parameters, ("parameters",))
        if parameters is None:
            parameters = self._defaults()
        run_name: str | None = request.get("run_name")  # type: ignore[assignment]  # validated
        timeout: float | None = request.get("timeout")  # type: ignore[assignment]  # validated
        return self._contract.arguments(parameters), run_name, timeout

    def _defaults(self) -> object:
        try:
            return self._validate_parameters(b"{}", strict=True)
        except pydantic.ValidationError as error:
            raise refusal(error, ("parameters",)) from None


class InvokeEndpoint:
    """Reads, runs, answers."""

    def __init__(
        self,
        service: BaseDeploymentService,
        *,
        max_body_size: int,
        receive_timeout: float,
        error_messages: bool,
        cancel_on_disconnect: bool,
    ) -> None:
        self._service = service
        self._body = InvokeBody(service.pipeline.contract)
        self._envelope = EnvelopeWriter(service.deployment, error_messages=error_messages)
        self._max_body_size = max_body_size
        self._receive_timeout = receive_timeout
        self._cancel_on_disconnect = cancel_on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        if scope["query_string"]:
            _check_mode(scope["query_string"])
        body = await read_body(receive, exchange.headers, limit=self._max_body_size, timeout=self._receive_timeout)
        if exchange.headers.get(b"content-type") != b"application/json":
            require_json(exchange.headers, body)
        parameters, run_name, timeout = self._body.read(body)
        if self._cancel_on_disconnect:
            run = await self._invoke_while_connected(receive, parameters, run_name, timeout)
        else:
            run = await self._service.invoke(parameters, run_name=run_name, timeout=timeout)
        if run.abandoned:
            _keep_place(exchange, run)
        status = 200 if run.outputs_json is not None else _FAILED.get(run.status)
        if status is None:
            problem = UnavailableError("The run was cancelled because the server is stopping.")
            problem.extra = {"run_id": run.id}
            await send_problem(send, problem)
            return
        answer = self._envelope.write(run)
        await next_turn()
        headers = [JSON, (b"content-length", b"%d" % len(answer)), _VARY]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _invoke_while_connected(
        self, receive: Receive, parameters: dict[str, object], run_name: str | None, timeout: float | None
    ) -> Run:
        run_id = uuid7()
        run = asyncio.ensure_future(self._service.invoke(parameters, run_id=run_id, run_name=run_name, timeout=timeout))
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({run, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                self._service.cancel(run_id, "the client went away")
            return await run
        finally:
            gone.cancel()
            if not run.done():
                run.cancel()


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _check_mode(query: bytes) -> None:
    modes = parse_qs(query.decode("latin-1"), keep_blank_values=True).get("mode", ["sync"])
    if modes != ["sync"]:
        raise BadRequestError("The query parameter mode can be 'sync'.")


def _keep_place(exchange: Exchange, run: Run) -> None:
    """A thread still works for this request: its place among the concurrent ones is free when the thread has ended."""
    run.on_thread_end, exchange.release = exchange.release, None
