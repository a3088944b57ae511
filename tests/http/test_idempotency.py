import pytest

from asgipipe.errors import BadRequestError
from asgipipe.http.idempotency import fingerprint, idempotency_key, key_in
from asgipipe.http.modes import Mode
from tests.http.wire import Ask, http_scope


@pytest.mark.parametrize("key", ["a", '"8e03978e-40d5-43dd-bc93-6894a57f9324"', "!~", "k" * 255])
def test_keys(key: str) -> None:
    """1 to 255 visible ASCII characters are a key, as they are."""
    asked = Ask(headers=[(b"Idempotency-Key", key.encode())])
    assert key_in(http_scope(asked)) == key
    assert key_in(http_scope(Ask())) is None


@pytest.mark.parametrize("keys", [[b""], [b"k" * 256], [b"a b"], [b"\x7f"], [b"\xc3\xa4"], [b"a\t"], [b"a", b"a"]])
def test_what_is_no_key(keys: list[bytes]) -> None:
    """Anything else is refused, and so are two keys."""
    with pytest.raises(BadRequestError, match="1 to 255 visible ASCII characters"):
        key_in(http_scope(Ask(headers=[(b"idempotency-key", key) for key in keys])))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b"", b"{}"),
        (b'{"a":1,"b":[1,2]}', b' { "b" : [1, 2],\n"a" : 1 } '),
        (b'{"a":"\\u00e4\\n"}', '{"a":"ä\\n"}'.encode()),
        (b'{"a":100.0}', b'{"a":1e2}'),
        (b'{"a":1.0}', b'{"a":1}'),
    ],
)
def test_the_same_request(one: bytes, other: bytes) -> None:
    """Order, spaces, escapes and the spelling of numbers make no difference."""
    assert fingerprint(Mode.SYNC, one) == fingerprint(Mode.SYNC, other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (b'{"a":1}', b'{"a":2}'),
        (b'{"a":1}', b'{"a":"1"}'),
        (b'{"a":1}', b'{"a":true}'),
        (b'{"a":[1,2]}', b'{"a":[2,1]}'),
        (b'{"a":null}', b"{}"),
        (b'{"a":9007199254740993}', b'{"a":9007199254740992}'),
    ],
)
def test_another_request(one: bytes, other: bytes) -> None:
    """What means something else is something else."""
    assert fingerprint(Mode.SYNC, one) != fingerprint(Mode.SYNC, other)


def test_the_mode_counts() -> None:
    """The same body in another mode is another request."""
    assert len({fingerprint(mode, b"{}") for mode in Mode}) == len(Mode)


def test_whose_a_key_is() -> None:
    """Callers are told apart by the key they authenticate with, however they spell the scheme; it is not kept."""

    def caller(authorization: bytes) -> str:
        return idempotency_key("k", Mode.SYNC, b"{}", {b"authorization": authorization} if authorization else {}).caller

    assert caller(b"") == ""
    assert caller(b"Bearer secret") == caller(b"bearer  secret ")
    assert len({caller(b""), caller(b"Bearer secret"), caller(b"Bearer other"), caller(b"Basic secret")}) == 4
    assert "secret" not in caller(b"Bearer secret")
