import httpx
import pytest

from asgipipe.client import DeploymentClient, UnknownError
from asgipipe.client.address import and_above, from_info, from_openapi, served_at
from tests.client.scripted import AT_ONCE, Played, envelope

INFO = {
    "app": {
        "app_runner_flavor": "starlette",
        "openapi_url_path": "/root/openapi.json",
        "invoke_url_path": "/root/api/go",
        "info_url_path": "/root/api/info",
        "jobs_url_path": None,
    }
}


def operations(**paths: str) -> dict[str, object]:
    return {"paths": {path: {"get": {"operationId": name}} for name, path in paths.items()}}


def test_where_info_says() -> None:
    """What stands before the document's own path is where the deployment is mounted, whatever a proxy takes away."""
    found = from_info("https://a.test/behind/proxy/root/api/info", INFO)
    assert found is not None
    assert found.url("invoke") == "https://a.test/behind/proxy/root/api/go"
    assert found.url("jobs", "x") is None
    assert from_info("https://a.test/elsewhere", INFO) is None


def test_where_the_document_says() -> None:
    """The OpenAPI document of a deployment tells as much, that of an application with other operations nothing."""
    document = operations(
        invoke="/api/go", job="/api/j/{job_id}", jobs="/api/j", stream="/s/{job_id}", openapi="/o.json"
    )
    found = from_openapi("http://a.test/m/o.json", document)
    assert found is not None
    assert found.url("jobs", "a/b", "cancel") == "http://a.test/m/api/j/a%2Fb/cancel"
    assert found.url("stream", "x") == "http://a.test/m/s/x"
    assert from_openapi("http://a.test/o.json", operations(items="/items", openapi="/o.json")) is None
    assert from_openapi("http://a.test/o.json", {"paths": ["odd"]}) is None


@pytest.mark.parametrize("path", ["//evil.test/", "@evil.test/", "http://evil.test/", ".evil.test/", "", 7, None])
def test_nobody_is_sent_elsewhere(path: object) -> None:
    """Whatever a document says, what is learned lies on the host that was asked."""
    found = from_info("http://a.test/root/api/info", {"app": {**INFO["app"], "invoke_url_path": path}})
    assert found is not None
    url = found.url("invoke")
    assert url is None or httpx.URL(url).host == "a.test"


def test_where_a_server_says() -> None:
    """The list of a server gives the root of each deployment, on the same host."""
    listed = {"pipelines": [{"url": "/p/one/"}, {"url": "/"}, {"url": "http://evil.test/"}, "odd"]}
    assert served_at("http://a.test:80/p/pipelines", listed) == ["http://a.test:80/p/one", "http://a.test:80"]
    assert served_at("http://a.test/pipelines", {"pipelines": "odd"}) == []


def test_folders_above() -> None:
    """A root is looked for a document in, and all the folders that it is in."""
    assert and_above("http://a.test/b/c") == ["http://a.test/b/c", "http://a.test/b", "http://a.test"]
    assert and_above("http://a.test") == ["http://a.test"]


def test_nothing_is_looked_for_that_was_found() -> None:
    """Where the usual paths answer, nothing else is asked; where an id is unknown, it is looked around once."""

    def answers(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/invoke":
            return httpx.Response(200, json=envelope())
        return httpx.Response(404, json={"detail": "There is no job of this id."})

    played = Played(answers)
    client = DeploymentClient("http://a.test", retries=AT_ONCE, http=played.http)
    client.invoke()
    assert len(played.asked) == 1
    for _ in range(3):
        with pytest.raises(UnknownError, match="There is no job of this id"):
            client.job("x").show()
    assert [request.url.path for request in played.asked].count("/info") == 1
