"""Two answers to one request, the one of the reference among them."""

from asgipipe.testing.client import Answer, Ask, Client

OF_THE_SERVER = frozenset({"date", "connection", "transfer-encoding"})
OF_THE_REQUEST = frozenset({"x-request-id"})


def fields(answer: Answer) -> list[tuple[str, str]]:
    """Return the headers that two answers to one request share, in one order and with one spelling of their names."""
    left_out = OF_THE_SERVER | OF_THE_REQUEST
    if answer.status == 204:  # hosts add the length of its empty body, which RFC 9110, section 8.6, forbids
        left_out |= {"content-length"}
    return sorted((name.lower(), value) for name, value in answer.headers if name.lower() not in left_out)


async def assert_same(client: Client, reference: Client, *asks: Ask) -> None:
    """Each request gets the same status, headers and bytes as from the reference."""
    for ask in asks:
        answer, expected = await client.send(ask), await reference.send(ask)
        what = f"{ask.method} {ask.target} {dict(ask.headers)}"
        assert answer.status == expected.status, f"{what}: {answer}\nbut the reference: {expected}"
        assert_equal_bytes(answer.body, expected.body, what)
        assert fields(answer) == fields(expected), f"{what}: {fields(answer)}\nbut the reference: {fields(expected)}"


def assert_equal_bytes(body: bytes, expected: bytes, what: str) -> None:
    """Fail with the place where two bodies begin to differ."""
    if body == expected:
        return
    pairs = enumerate(zip(body, expected, strict=False))
    at = next((index for index, (one, other) in pairs if one != other), min(len(body), len(expected)))
    start = max(0, at - 60)
    raise AssertionError(
        f"{what}: byte {at} differs: {body[start : at + 200]!r}\nbut the reference: {expected[start : at + 200]!r}"
    )
