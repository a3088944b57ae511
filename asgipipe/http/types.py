"""The ASGI types (asgiref 3, https://asgi.readthedocs.io) and the two shapes that cross module borders here."""

from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any

# ASGI messages and scopes are open dictionaries by specification.
Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
ASGIApp = Callable[[Scope, Receive, Send], Awaitable[None]]

HeaderList = Sequence[tuple[bytes, bytes]]
