"""An endpoint that answers a constant: what the server alone costs."""

from typing import Final

from tests.benchmarks.asgi import Receive, Scope, Send
from tests.benchmarks.envelope import InvokeRequest, invoke
from tests.benchmarks.tasks import INVOKE

_ANSWER: Final = invoke(InvokeRequest.model_validate_json(INVOKE.request)).model_dump_json().encode()
_START: Final = {
    "type": "http.response.start",
    "status": 200,
    "headers": [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(_ANSWER))],
}
_BODY: Final = {"type": "http.response.body", "body": _ANSWER}


async def app(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["type"] != "http":
        raise NotImplementedError(scope["type"])
    await send(_START)
    await send(_BODY)
