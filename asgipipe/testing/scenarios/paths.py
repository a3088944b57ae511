"""How a path may be written."""

from urllib.parse import quote

from asgipipe.testing.client import Ask
from asgipipe.testing.comparison import assert_same
from asgipipe.testing.scenario import EMBEDDED, scenario
from asgipipe.testing.trial import Trial

SLASHES = ("/health/", "/invoke/", "/docs/", "/openapi.json/", "/named/x/", "/named/", "/native/")
DOUBLED = ("//health", "//", "//named/x", "/named//x", "/below//x", "///invoke")
ENCODED = ("/named/a%2Fb", "/below/a%2Fb", "/named/%25", "/named/a%20b", "/%72eady", "/health%2F", "/named/%00")


@scenario(sockets=True)
async def nothing_redirects_between_a_path_and_its_slash(trial: Trial) -> None:
    """The unlisted form of a path is a 404 problem, never a redirect made from the Host header."""
    client, reference = await trial.client("full"), await trial.reference("full")
    for target in SLASHES:
        for method in ("GET", "POST", "HEAD"):
            answer = await client.send(Ask(method, target))
            assert answer.status in {404, 405}, (method, target, answer)
            assert answer.header("location") is None
        await assert_same(client, reference, Ask("GET", target), Ask("POST", target))


@scenario(sockets=True)
async def doubled_slashes_are_part_of_the_path(trial: Trial) -> None:
    """`//health` is not `/health`; a path value may begin with a slash."""
    client, reference = await trial.client("full"), await trial.reference("full")
    assert (await client.get("//health")).status == 404
    assert (await client.get("/below//x")).json() == "/x"
    await assert_same(client, reference, *(Ask("GET", target) for target in DOUBLED))


@scenario(sockets=True)
async def path_values_are_decoded_once(trial: Trial) -> None:
    """UTF-8 arrives as text, `%2f` separates like a slash, `%25` is a percent sign."""
    client, reference = await trial.client("full"), await trial.reference("full")
    for value in ("München", "東京", "a+b", "é", "100%", "a;b=c", "a&b"):
        answer = await client.get(f"/named/{quote(value)}")
        assert (answer.status, answer.json()) == (200, value), answer
    assert (await client.get("/below/a%2Fb")).json() == "a/b"
    assert (await client.get("/named/%2541")).json() == "%41"
    await assert_same(client, reference, *(Ask("GET", target) for target in ENCODED))


@scenario(sockets=True)
async def query_values_are_decoded(trial: Trial) -> None:
    """Text, repeated values and what is no number."""
    client, reference = await trial.client("full"), await trial.reference("full")
    assert (await client.get("/class?name=M%C3%BCn+chen")).json().endswith("Mün chen")
    queries = ("/named/x?times=2", "/named/x?times=x", "/named/x?times=1&times=2", "/class", "/class?name=a&other=b")
    await assert_same(client, reference, *(Ask("GET", target) for target in queries))


@scenario(sockets=True, forms=EMBEDDED)
async def the_prefix_itself_is_not_redirected(trial: Trial) -> None:
    """The bare prefix is a 404 problem of the deployment's; with a slash it is the dashboard."""
    client = await trial.client()
    assert (await client.get("")).problem["type"] == "urn:asgipipe:not-found"
    assert (await client.get("/")).status == 200
