import pytest

from asgipipe.settings import DeploymentSettings, exposed_without_key


@pytest.mark.parametrize(
    "host", ["0.0.0.0", "::", "192.168.1.4", "10.0.0.1", "my-host", "localhost.example", "::ffff:10.0.0.1"]
)
def test_exposed(host: str) -> None:
    """An address that is not this machine's alone is exposed, unless there is a key."""
    settings = DeploymentSettings(uvicorn_host=host)
    assert exposed_without_key(settings, [])
    assert not exposed_without_key(settings, ["key"])


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost", "LOCALHOST", "::ffff:127.0.0.1"])
def test_loopback(host: str) -> None:
    """A loopback address is reached from this machine only."""
    assert not exposed_without_key(DeploymentSettings(uvicorn_host=host), [])


def test_socket_file() -> None:
    """A Unix socket is guarded by its file permissions."""
    settings = DeploymentSettings(uvicorn_host="0.0.0.0", uvicorn_kwargs={"uds": "/run/x.sock"})
    assert not exposed_without_key(settings, [])
