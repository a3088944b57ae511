"""POST /invoke: run the pipeline and answer with the envelope."""

import asyncio
from typing import Annotated, NotRequired

import pydantic
from pydantic import ConfigDict, Field, TypeAdapter
from pydantic_core import to_json
from typing_extensions import TypedDict

from asgipipe.errors import UnavailableError
from asgipipe.http.body import read_body, require_finite, require_finite_value, require_json
from asgipipe.http.endpoints.acceptance import LEFT, Acceptance, Order
from asgipipe.http.endpoints.reservation import Reservations
from asgipipe.http.exchange import KEY, Exchange
from asgipipe.http.idempotency import HEADER, REPLAYED, idempotency_key, key_in
from asgipipe.http.modes import VARY, Manner, Mode, is_plain, manner_of
from asgipipe.http.responses import JSON
from asgipipe.http.turn import next_turn
from asgipipe.http.types import Receive, Scope, Send
from asgipipe.http.validation import LARGE, BodyValidator, refusal
from asgipipe.identifiers import uuid7
from asgipipe.jobs.jobs import IdempotencyKey, Submission
from asgipipe.pipelines.context import Run, Status
from asgipipe.pipelines.contract import Contract
from asgipipe.service.deployment import BaseDeploymentService
from asgipipe.settings.override import override_type

_FAILED = {Status.FAILED: 500, Status.TIMED_OUT: 504}

Invocation = tuple[dict[str, object], str | None, float | None, bytes | None]
"""Parameters, run name, timeout, and the capture_override as JSON."""


class InvokeBody:
    """Reads the body of an invoke in one validation of the raw bytes."""

    def __init__(self, contract: Contract, *, allow_capture: bool = True) -> None:
        self._contract = contract
        config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)
        fields = {
            "parameters": NotRequired[contract.parameters_type | None],
            "run_name": NotRequired[Annotated[str, Field(min_length=1, max_length=255)] | None],
            "capture_override": NotRequired[override_type(allowed=allow_capture)],
            "timeout": NotRequired[Annotated[float, Field(gt=0)] | None],
        }
        body = TypedDict("InvokeBody", fields)  # type: ignore[misc]  # made at run time
        body.__pydantic_config__ = config  # type: ignore[attr-defined]  # pydantic's protocol for TypedDicts
        adapter = TypeAdapter(body)
        self._validate = adapter.validator.validate_json
        self._validate_large = BodyValidator(adapter).validate
        self._validate_parameters = contract.parameters_adapter.validator.validate_json

    def read(self, body: bytes) -> Invocation:
        """Return what is to be run. Raises BadRequestError or ValidationError."""
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
        override = request.get("capture_override")
        capture = None if override is None else to_json(override)
        return self._contract.arguments(parameters), run_name, timeout, capture

    def _defaults(self) -> object:
        try:
            return self._validate_parameters(b"{}", strict=True)
        except pydantic.ValidationError as error:
            raise refusal(error, ("parameters",)) from None


class InvokeEndpoint:
    """Reads, runs, answers; jobs are left to `acceptance`."""

    def __init__(
        self,
        service: BaseDeploymentService,
        acceptance: Acceptance,
        body: InvokeBody,
        *,
        max_body_size: int,
        receive_timeout: float,
        cancel_on_disconnect: bool,
    ) -> None:
        self._service = service
        self._acceptance = acceptance
        self._reservations = Reservations(service)
        self._body = body
        self._envelope = service.envelopes
        self._max_body_size = max_body_size
        self._receive_timeout = receive_timeout
        self._cancel_on_disconnect = cancel_on_disconnect

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        exchange: Exchange = scope[KEY]
        headers = exchange.headers
        # The usual case is written out: each call that it is spared is a hundredth of what a run costs.
        if self._cancel_on_disconnect or HEADER in headers or not is_plain(scope, headers):
            await self._special(scope, receive, send)
            return
        body = await read_body(receive, headers, limit=self._max_body_size, timeout=self._receive_timeout)
        if headers.get(b"content-type") != b"application/json":
            require_json(headers, body)
        parameters, run_name, timeout, capture = self._body.read(body)
        run = await self._service.invoke(parameters, run_name=run_name, timeout=timeout, capture=capture)
        if run.outputs_json is not None and not run.abandoned:
            status, answer = 200, self._envelope.write(run)
        else:
            status, answer = self._answer(exchange, run)
        await next_turn()
        start = [JSON, (b"content-length", b"%d" % len(answer)), VARY]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": answer})

    async def _special(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request for a job or a stream, or one with a key, or one that its client may still take back."""
        exchange: Exchange = scope[KEY]
        headers = exchange.headers
        manner = manner_of(scope)
        given = key_in(scope) if HEADER in headers else None
        body = await read_body(receive, headers, limit=self._max_body_size, timeout=self._receive_timeout)
        require_json(headers, body)
        invocation = self._body.read(body)
        key = None if given is None else idempotency_key(given, manner.mode, body, headers)
        if manner.mode is not Mode.SYNC:
            order = Order(_submission(invocation, manner), manner, key)
            await self._acceptance.answer(order, scope, receive, send)
        elif key is not None:
            await self._once(invocation, key, exchange, receive, send)
        else:
            status, answer = self._answer(exchange, await self._invoke(receive, invocation, uuid7()))
            await next_turn()
            await send({"type": "http.response.start", "status": status, "headers": _headers(answer)})
            await send({"type": "http.response.body", "body": answer})

    async def _once(
        self, invocation: Invocation, key: IdempotencyKey, exchange: Exchange, receive: Receive, send: Send
    ) -> None:
        """Run, or give the answer again that the key has had."""
        run_id = uuid7()
        async with self._reservations.reserved(key, run_id) as reservation:
            replay = reservation.replay
            if replay is not None:
                status, answer = replay
            else:
                run = await self._invoke(receive, invocation, run_id)
                status, answer = self._answer(exchange, run)
                await reservation.keep(status, answer)
        headers = _headers(answer) if replay is None else [*_headers(answer), REPLAYED]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": answer})

    async def _invoke(self, receive: Receive, invocation: Invocation, run_id: str) -> Run:
        if self._cancel_on_disconnect:
            return await self._invoke_while_connected(receive, invocation, run_id)
        parameters, run_name, timeout, capture = invocation
        return await self._service.invoke(
            parameters, run_id=run_id, run_name=run_name, timeout=timeout, capture=capture
        )

    async def _invoke_while_connected(self, receive: Receive, invocation: Invocation, run_id: str) -> Run:
        parameters, run_name, timeout, capture = invocation
        run = asyncio.ensure_future(
            self._service.invoke(parameters, run_id=run_id, run_name=run_name, timeout=timeout, capture=capture)
        )
        gone = asyncio.ensure_future(_disconnected(receive))
        try:
            await asyncio.wait({run, gone}, return_when=asyncio.FIRST_COMPLETED)
            if not run.done():
                self._service.cancel(run_id, LEFT)
            return await run
        finally:
            gone.cancel()
            if not run.done():
                run.cancel()

    def _answer(self, exchange: Exchange, run: Run) -> tuple[int, bytes]:
        """Return the status and the envelope. Raises UnavailableError when the run was cancelled."""
        if run.abandoned:
            _keep_place(exchange, run)
        status = 200 if run.outputs_json is not None else _FAILED.get(run.status)
        if status is None:
            problem = UnavailableError("The run was cancelled because the server is stopping.")
            problem.extra = {"run_id": run.id}
            raise problem
        return status, self._envelope.write(run)


def _submission(invocation: Invocation, manner: Manner) -> Submission:
    parameters, run_name, timeout, capture = invocation
    return Submission(
        parameters,
        run_name=run_name,
        timeout=timeout,
        priority=manner.priority,
        delay=manner.delay,
        max_attempts=manner.max_attempts,
        capture=capture,
    )


def _headers(answer: bytes) -> list[tuple[bytes, bytes]]:
    return [JSON, (b"content-length", b"%d" % len(answer)), VARY]


async def _disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass


def _keep_place(exchange: Exchange, run: Run) -> None:
    """A thread still works for this request: its place among the concurrent ones is free when the thread has ended."""
    run.on_thread_end, exchange.release = exchange.release, None
