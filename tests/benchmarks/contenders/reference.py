"""The reference: one ASGI function and pydantic, the way a competent engineer writes it without a framework."""

from pydantic import ValidationError

from tests.benchmarks.asgi import Receive, Scope, Send
from tests.benchmarks.envelope import InvokeRequest, invoke


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    if scope["path"] != "/invoke":
        await respond(send, 404, b'{"detail":"not found"}')
    elif scope["method"] != "POST":
        await respond(send, 405, b'{"detail":"method not allowed"}')
    else:
        await endpoint(receive, send)


async def endpoint(receive: Receive, send: Send) -> None:
    try:
        request = InvokeRequest.model_validate_json(await read_body(receive))
    except ValidationError as error:
        await respond(send, 422, error.json(include_input=False).encode())
    else:
        await respond(send, 200, invoke(request).model_dump_json().encode())


async def read_body(receive: Receive) -> bytes:
    message = await receive()
    if not message.get("more_body"):
        body: bytes = message["body"]
        return body
    parts = [message["body"]]
    while message.get("more_body"):
        message = await receive()
        parts.append(message.get("body", b""))
    return b"".join(parts)


async def respond(send: Send, status: int, body: bytes) -> None:
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(body))]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": body})
