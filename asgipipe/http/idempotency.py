"""Idempotency keys: what a request is, and whose it is
(https://datatracker.ietf.org/doc/draft-ietf-httpapi-idempotency-key-header/).
"""

import hashlib
import json
import re
from collections.abc import Mapping

from asgipipe.errors import BadRequestError
from asgipipe.http.modes import Mode
from asgipipe.http.types import Scope
from asgipipe.jobs.jobs import IdempotencyKey

HEADER = b"idempotency-key"
REPLAYED = (b"idempotent-replayed", b"true")
LONGEST = 255

_VISIBLE = re.compile(rb"[!-~]{1,%d}" % LONGEST).fullmatch


def key_in(scope: Scope) -> str | None:
    """Return the key that a request has. Raises BadRequestError for one that is no key, and for two."""
    given: list[bytes] = [value for name, value in scope["headers"] if name.lower() == HEADER]
    if not given:
        return None
    if len(given) > 1 or _VISIBLE(given[0]) is None:
        raise BadRequestError(f"An Idempotency-Key has 1 to {LONGEST} visible ASCII characters, and is sent once.")
    return given[0].decode("ascii")


def idempotency_key(key: str, mode: Mode, body: bytes, headers: Mapping[bytes, bytes]) -> IdempotencyKey:
    """Return the key with whose it is and what it stands for; `body` was validated."""
    return IdempotencyKey(key, caller=_caller(headers.get(b"authorization", b"")), fingerprint=fingerprint(mode, body))


def fingerprint(mode: Mode, body: bytes) -> str:
    """Return a digest of the mode and the body: the same for JSON that differs in its order, spaces and escapes only.

    Numbers are the same when their values are (RFC 8785), but whole ones of any size are told apart.
    """
    value = json.loads(body or b"{}", parse_float=_number)
    canonical = json.dumps(value, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(f"{mode}\n{canonical}".encode()).hexdigest()


def _number(text: str) -> int | float:
    number = float(text)
    return int(number) if number.is_integer() else number


def _caller(authorization: bytes) -> str:
    """Return a digest of the key that a request came with. Without one, all callers are the same."""
    if not authorization:
        return ""
    scheme, _, credentials = authorization.partition(b" ")
    known = credentials.strip() if scheme.lower() == b"bearer" else authorization
    return hashlib.sha256(b"asgipipe idempotency\n" + known).hexdigest()
