"""Custom endpoints: every kind, validated and answered alike."""

from asgipipe.testing.client import JSON, Ask
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.scenario import scenario
from asgipipe.testing.specimens import BEARER, MIB
from asgipipe.testing.trial import Trial

CITY = b'{"name": "Ur", "population": 2}'
TYPED = (
    Ask("GET", "/named/x"),
    Ask("GET", "/named/x?times=3"),
    Ask("HEAD", "/named/x"),
    Ask("POST", "/grown", JSON, CITY),
    Ask("POST", "/grown?factor=5", JSON, CITY),
    Ask("POST", "/grown?factor=five", JSON, CITY),
    Ask("POST", "/grown", JSON, b'{"name": "Ur", "population": "2"}'),
    Ask("POST", "/grown", JSON, b"[]"),
    Ask("POST", "/grown", JSON, b""),
    Ask("POST", "/grown", JSON, CITY.decode().encode("utf-16")),
    Ask("POST", "/grown", JSON, b'{"name": "Ur", "population": 1e400}'),
    Ask("POST", "/grown", JSON, b"[" * 100_000),
    Ask("POST", "/grown", {"content-type": "application/vnd.city+json"}, CITY),
    Ask("GET", "/class?name=x"),
    Ask("GET", "/class"),
    Ask("GET", "/function?name=x"),
    Ask("GET", "/fails"),
)


@scenario(sockets=True)
async def typed_handlers_are_validated_alike(trial: Trial) -> None:
    """Path, query and body values, results, and what does not fit: the same answers as the reference's."""
    client, reference = await trial.client("full"), await trial.reference("full")
    assert (await client.get("/named/x?times=3")).json() == "xxx"
    assert (await client.send(TYPED[3])).json() == {"name": "Ur", "population": 4}
    refused = (await client.send(TYPED[6])).problem["errors"]
    assert refused == [{"loc": ["body", "population"], "msg": "Input should be a valid integer", "type": "int_type"}]
    await assert_same(client, reference, *TYPED)


@scenario()
async def typed_handlers_answer_alike_through_the_framework(trial: Trial) -> None:
    """With native middleware and an extension in the way, the answers stay what they were."""
    client, reference = await trial.client("through", BEARER), await trial.reference("through", BEARER)
    await assert_same(client, reference, *TYPED)


@scenario()
async def builders_get_the_app_runner_and_their_arguments(trial: Trial) -> None:
    """A builder class and a builder function are called once; what they make answers."""
    client = await trial.client("full")
    assert (await client.get("/class?name=you")).json() == "Ave from full, you"
    assert (await client.get("/function?name=you")).json() == "Salve from full, you"


@scenario(sockets=True)
async def a_handler_may_ask_for_the_frameworks_request(trial: Trial) -> None:
    """It is given the framework's own request, body included, and its response is sent as it is."""
    for name in ("full", "through"):
        client = await trial.client(name, BEARER)
        answer = await client.send(Ask("POST", "/request", {"content-type": "text/plain"}, b"quiet"))
        assert (answer.status, answer.body) == (203, b"QUIET"), answer
        assert answer.header("content-type") == "text/plain; charset=utf-8"
        assert answer.header("x-kind") == "native"
        chunked = await client.send(Ask("POST", "/request", {"content-type": "text/plain"}, chunks=[b"in ", b"two"]))
        assert chunked.body == b"IN TWO"


@scenario(sockets=True)
async def a_handler_for_the_framework_takes_large_bodies(trial: Trial) -> None:
    """3 MiB reach a handler that reads the framework's request: the limit is the deployment's, not the framework's."""
    client = await trial.client("full")
    answer = await client.send(Ask("POST", "/request", {"content-type": "text/plain"}, b"x" * (3 * MIB)))
    assert (answer.status, len(answer.body)) == (203, 3 * MIB), (answer.status, answer.body[:200])


@scenario(sockets=True)
async def a_form_reaches_a_handler_for_the_framework(trial: Trial) -> None:
    """No check of the framework's for forms of its own pages (CSRF) stands before our endpoints."""
    client = await trial.client("full")
    form = {"content-type": "application/x-www-form-urlencoded"}
    assert (await client.send(Ask("POST", "/request", form, b"a=b"))).status == 203


@scenario(sockets=True)
async def a_native_object_is_served(trial: Trial) -> None:
    """A native route answers as the framework lets it answer, at the path of its endpoint and nowhere else."""
    for name in ("full", "through"):
        client = await trial.client(name, BEARER)
        answer = await client.get("/native")
        assert (answer.status, answer.body) == (200, b"native"), answer
        assert (await client.get("/native/x")).status == 404, name
        assert (await client.get("/nativex")).status == 404, name


@scenario(sockets=True)
async def an_asgi_application_is_a_native_object(trial: Trial) -> None:
    """Any ASGI application may be an endpoint; it answers plain HTTP requests as it likes."""
    client = await trial.client("full")
    answer = await client.get("/echo")
    assert (answer.status, answer.body) == (426, b"a WebSocket"), answer
