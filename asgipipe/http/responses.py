"""Sending whole answers over ASGI."""

from asgipipe.http.types import HeaderList, Message, Send

JSON = (b"content-type", b"application/json")
HTML = (b"content-type", b"text/html; charset=utf-8")
TEXT = (b"content-type", b"text/plain; charset=utf-8")


async def respond(
    send: Send, status: int, content_type: tuple[bytes, bytes], body: bytes, headers: HeaderList = ()
) -> None:
    """Send one complete answer; `content-length` is added here."""
    await send(
        {
            "type": "http.response.start",
            "status": status,
            "headers": [content_type, (b"content-length", b"%d" % len(body)), *headers],
        }
    )
    await send({"type": "http.response.body", "body": body})


def without_body(send: Send) -> Send:
    """Drop the body of the answer to a HEAD request (RFC 9110, section 9.3.2)."""

    async def send_head(message: Message) -> None:
        if message["type"] == "http.response.body":
            message = {**message, "body": b""}
        await send(message)

    return send_head
