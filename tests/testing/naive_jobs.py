"""Hosts that are careless with jobs, streams, keys and what is recorded, each with one fault."""

import json
import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain
from types import MappingProxyType

from starlette.responses import JSONResponse, Response

from asgipipe import Deployment
from asgipipe.http.types import ASGIApp, Message, Receive, Scope, Send
from asgipipe.testing import Form
from asgipipe.testing.client import Answer
from asgipipe.testing.reference import StarletteSubject
from tests.testing.naive import (
    Faulty,
    NaiveHost,
    answers_get_only,
    around,
    collects_streams,
    knows_no_websockets,
    loses_the_root_path,
    never_hears_of_a_disconnect,
    on_start,
    repeats_headers,
    replayed,
)


def without(*names: bytes) -> Callable[[ASGIApp], ASGIApp]:
    """Return what loses headers of requests."""

    @around
    async def lost(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, "headers": [pair for pair in scope["headers"] if pair[0] not in names]}, receive, send)

    return lost


def on_body(send: Send, change: Callable[[bytes], bytes]) -> Send:
    """Return a `send` that changes each piece of a body, whose length nobody may know then."""

    def forget_length(message: Message) -> None:
        message["headers"] = [pair for pair in message["headers"] if pair[0] != b"content-length"]

    async def changed(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": change(message.get("body", b""))}
        await send(message)

    return on_start(changed, forget_length)


async def body_of(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


# Requests


@around
async def loses_queries(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app({**scope, "query_string": b""}, receive, send)


@around
async def loses_queries_of_jobs(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    lost = {} if scope["path"].endswith("/invoke") else {"query_string": b""}
    await app({**scope, **lost}, receive, send)


@around
async def loses_capture(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if not scope["path"].endswith("/invoke"):
        await app(scope, receive, send)
        return
    body = json.loads(await body_of(receive))
    body.pop("capture_override", None)
    headers = [pair for pair in scope["headers"] if pair[0] != b"content-length"]
    await app({**scope, "headers": headers}, replayed(json.dumps(body).encode()), send)


# Answers


@around
async def accepts_everything(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if b"mode=" in scope["query_string"] and scope["path"].endswith("/invoke"):
        await JSONResponse({"job_id": "1"}, 202)(scope, receive, send)
    else:
        await app(scope, receive, send)


@around
async def is_always_ready(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/ready"):
        await JSONResponse({"status": "ready"})(scope, receive, send)
    else:
        await app(scope, receive, send)


@around
async def answers_for_the_websocket(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"].endswith("/stream"):
        await Response(status_code=426)(scope, receive, send)
    else:
        await app(scope, receive, send)


@around
async def says_nothing_of_failures(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, on_body(send, lambda body: body.replace(b"told to fail", b"it failed")))


@around
async def sorts_members(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    def sort(body: bytes) -> bytes:
        return json.dumps(json.loads(body), sort_keys=True).encode() if body.startswith(b"{") else body

    await app(scope, receive, on_body(send, sort))


@around
async def adds_locations(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    await app(scope, receive, on_start(send, lambda message: message["headers"].append((b"location", b"/"))))


@around
async def forgets_when_to_retry(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    def forget(message: Message) -> None:
        message["headers"] = [pair for pair in message["headers"] if pair[0] != b"retry-after"]

    await app(scope, receive, on_start(send, forget))


@around
async def keeps_logs_to_itself(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    of_logs = re.compile(rb"id: \d+\nevent: log\n.*\n\n")
    await app(scope, receive, on_body(send, lambda body: of_logs.sub(b"", body)))


@around
async def ends_at_the_first_failure(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    async def end(message: Message) -> None:
        if b"event: step_failed" in message.get("body", b""):
            message = {**message, "body": message["body"].partition(b"id: 5")[0]}
        await send(message)

    await app(scope, receive, end)


# Memories of their own


def caches_paths(app: ASGIApp) -> ASGIApp:
    """What was read once is answered so for ever, whatever the query."""
    return _cached(app, lambda scope: str(scope["path"]) if scope["method"] == "GET" else None)


def caches_keys(app: ASGIApp) -> ASGIApp:
    """An Idempotency-Key has one answer, whatever it was sent with, and by whom."""

    def key(scope: Scope) -> str | None:
        found = dict(scope["headers"]).get(b"idempotency-key")
        return None if found is None else found.decode("latin-1")

    return _cached(app, key, (b"idempotent-replayed", b"true"))


def _cached(app: ASGIApp, key_of: Callable[[Scope], str | None], *more: tuple[bytes, bytes]) -> ASGIApp:
    kept: dict[str, Answer] = {}

    @around
    async def cached(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
        key = key_of(scope)
        if key is None or "/stream" in scope["path"]:
            await app(scope, receive, send)
            return
        if key in kept:
            await _again(kept[key], more, send)
            return
        body = bytearray()
        start: list[Message] = []

        async def keep(message: Message) -> None:
            if message["type"] == "http.response.start":
                start.append(message)
            else:
                body.extend(message.get("body", b""))
            await send(message)

        await app(scope, receive, keep)
        kept[key] = Answer(start[0]["status"], tuple(start[0]["headers"]), bytes(body))

    return cached(app)


async def _again(answer: Answer, more: tuple[tuple[bytes, bytes], ...], send: Send) -> None:
    await send({"type": "http.response.start", "status": answer.status, "headers": [*answer.headers, *more]})
    await send({"type": "http.response.body", "body": answer.body})


# WebSockets


def on_socket(change: Callable[[Scope, Receive, Send], tuple[Scope, Receive, Send]]) -> Callable[[ASGIApp], ASGIApp]:
    def wrap(app: ASGIApp) -> ASGIApp:
        async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["type"] == "websocket":
                await app(*change(scope, receive, send))
            else:
                await app(scope, receive, send)

        return wrapped

    return wrap


@on_socket
def hears_of_runs_only(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    async def hear() -> Message:
        while '"type": "' in ((message := await receive()).get("text") or ""):
            continue
        return message

    return scope, hear, send


@on_socket
def never_hears_of_the_end(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    async def deaf() -> Message:
        message = await receive()
        while message["type"] == "websocket.disconnect":
            message = await receive()
        return message

    return scope, deaf, send


@on_socket
def closes_on_errors(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    async def close(message: Message) -> None:
        failed = (message.get("text") or "").startswith('{"type":"error"')
        await send({"type": "websocket.close", "code": 1008} if failed else message)

    return scope, receive, close


@on_socket
def closes_as_it_likes(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    async def close(message: Message) -> None:
        await send({**message, "code": 1000} if message["type"] == "websocket.close" else message)

    return scope, receive, close


@on_socket
def loses_subprotocols(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    return {**scope, "subprotocols": []}, receive, send


@on_socket
def loses_origins(scope: Scope, receive: Receive, send: Send) -> tuple[Scope, Receive, Send]:
    return {**scope, "headers": [pair for pair in scope["headers"] if pair[0] != b"origin"]}, receive, send


# Deployments


class Rebuilt(StarletteSubject):
    """Serves a deployment of its own making in the place of the one that it is given."""

    def __init__(self, name: str | None = None, **settings: object) -> None:
        self._name = name
        self._settings = settings

    def mount(self, deployments: Mapping[str, Deployment]) -> ASGIApp:
        return super().mount({prefix: self._rebuilt(deployment) for prefix, deployment in deployments.items()})

    def _rebuilt(self, deployment: Deployment) -> Deployment:
        return Deployment(deployment.pipeline, self._settings, name=self._name or deployment.name, layers=())


Fault = Callable[[ASGIApp], ASGIApp]


def shown_by(fault: Fault | StarletteSubject, *names: str, form: Form = Form.MOUNT) -> Iterator[tuple[str, Faulty]]:
    subject = fault if isinstance(fault, StarletteSubject) else NaiveHost(fault)
    return ((name, (subject, form, name)) for name in names)


FAULTS: Mapping[str, Faulty] = MappingProxyType(
    dict(
        chain(
            shown_by(
                loses_queries,
                "the_way_to_run_is_chosen_by_mode_accept_and_prefer",
                "a_streamed_run_is_a_job_that_is_followed",
            ),
            shown_by(loses_queries_of_jobs, "a_list_of_jobs_that_cannot_be_is_400", "a_job_can_be_cancelled"),
            shown_by(
                loses_the_root_path,
                "an_accepted_job_says_where_it_is",
                "jobs_are_where_the_settings_put_them",
                form=Form.NESTED,
            ),
            shown_by(sorts_members, "a_job_is_described_by_the_contracts_members", "a_recorded_run_can_be_read"),
            shown_by(says_nothing_of_failures, "a_job_that_fails_says_why"),
            shown_by(accepts_everything, "what_is_refused_is_no_job"),
            shown_by(
                caches_paths, "jobs_are_listed_newest_first", "metrics_count_jobs", "runs_are_listed_newest_first"
            ),
            shown_by(forgets_when_to_retry, "more_jobs_than_may_wait_are_429", "a_store_that_cannot_be_used_is_503"),
            shown_by(answers_get_only, "what_is_read_of_jobs_answers_head_and_names_its_methods"),
            shown_by(adds_locations, "without_their_endpoints_jobs_are_accepted_without_links"),
            shown_by(is_always_ready, "a_drain_refuses_jobs_and_hands_back_what_runs"),
            shown_by(
                keeps_logs_to_itself,
                "the_events_of_a_job_are_those_of_its_run",
                "events_that_are_no_longer_kept_are_said_to_be_gone",
            ),
            shown_by(ends_at_the_first_failure, "a_job_that_is_retried_says_so_and_ends_once"),
            shown_by(repeats_headers, "an_event_stream_is_one_to_the_letter"),
            shown_by(without(b"last-event-id"), "an_event_stream_goes_on_after_the_last_event_id"),
            shown_by(collects_streams, "events_arrive_while_the_job_runs"),
            shown_by(never_hears_of_a_disconnect, "what_a_run_does_when_its_client_leaves_is_a_setting"),
            shown_by(
                without(b"idempotency-key"),
                "a_repeated_request_gets_the_first_answer",
                "a_repeated_job_is_the_first_one",
                "a_repeated_stream_follows_what_still_runs",
                "a_key_in_use_is_409",
                "what_is_no_key_is_400",
            ),
            shown_by(
                caches_keys,
                "a_key_stands_for_one_request",
                "a_refusal_leaves_its_key_free",
                "keys_are_of_one_caller_and_deployment",
                "a_key_is_forgotten_after_its_lifetime",
            ),
            shown_by(
                loses_capture,
                "the_mode_decides_what_is_recorded",
                "the_request_decides_before_the_pipeline",
                "a_capture_that_cannot_be_is_422",
            ),
            shown_by(Rebuilt(capture="full"), "nothing_is_recorded_unless_it_is_asked_for"),
            shown_by(Rebuilt(capture="none"), "runs_of_jobs_are_recorded_alike"),
            shown_by(Rebuilt(run_jobs=False), "a_job_whose_workers_were_lost_is_interrupted"),
            shown_by(Rebuilt("one"), "runs_and_jobs_are_of_one_deployment"),
            shown_by(knows_no_websockets, "a_websocket_runs_the_pipeline"),
            shown_by(hears_of_runs_only, "a_websocket_follows_any_job", "a_websocket_cancels_a_job"),
            shown_by(never_hears_of_the_end, "a_run_is_cancelled_with_its_websocket"),
            shown_by(closes_on_errors, "a_websocket_outlives_bad_messages"),
            shown_by(closes_as_it_likes, "a_message_that_is_too_large_closes_the_websocket"),
            shown_by(loses_subprotocols, "a_websocket_of_ours_needs_the_key"),
            shown_by(loses_origins, "a_websocket_is_not_for_pages_of_others"),
            shown_by(answers_for_the_websocket, "the_path_of_a_websocket_is_for_nothing_else"),
        )
    )
)
"""By the scenario that has to find it: what is at fault, the form in which it shows, and the scenario once more."""
