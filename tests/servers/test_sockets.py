import socket
from pathlib import Path

import pytest

from asgipipe.errors import ServerError
from asgipipe.servers.options import ServerOptions
from asgipipe.servers.sockets import bound, origin


@pytest.mark.parametrize(
    ("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("0.0.0.0", "127.0.0.1"), ("localhost", "localhost")]
)
def test_port_0_takes_a_free_one(host: str, shown: str) -> None:
    """The address that is shown can be used in a browser, and nothing listens before the server does."""
    options = ServerOptions(host, 0)
    with bound(options) as listener:
        port = listener.getsockname()[1]
        assert origin(listener, options) == f"http://{shown}:{port}"
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
    assert listener.fileno() == -1


def test_a_certificate_makes_it_https() -> None:
    """The scheme is that of the server."""
    options = ServerOptions("127.0.0.1", 0, uvicorn={"ssl_certfile": "x.pem"})
    with bound(options) as listener:
        assert origin(listener, options).startswith("https://127.0.0.1:")


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="needs IPv6")
def test_ipv6() -> None:
    """IPv6 addresses stand in brackets."""
    options = ServerOptions("::1", 0)
    try:
        with bound(options) as listener:
            assert origin(listener, options) == f"http://[::1]:{listener.getsockname()[1]}"
    except ServerError:
        pytest.skip("this machine has no IPv6 address")


def test_a_taken_port_is_named_with_the_way_out() -> None:
    """The error says which address, and what to do."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(ServerError, match=rf"127\.0\.0\.1:{port}.*--port"), bound(ServerOptions("127.0.0.1", port)):
            pass


@pytest.mark.parametrize(
    ("host", "reason"), [("192.0.2.1", "no address 192"), ("host.invalid", r"'host\.invalid' is unknown")]
)
def test_a_wrong_host_is_named(host: str, reason: str) -> None:
    """An address of another machine, or a name that leads nowhere, is the message."""
    with pytest.raises(ServerError, match=reason), bound(ServerOptions(host, 0)):
        pass


def test_an_inherited_socket_is_taken_over() -> None:
    """`fd` is a socket of the service manager's; a number that is none is an error."""
    with socket.socket() as given:
        given.bind(("127.0.0.1", 0))
        descriptor = given.detach()
        options = ServerOptions("127.0.0.1", 8000, uvicorn={"fd": descriptor})
        with bound(options) as listener:
            assert listener.fileno() == descriptor
    with pytest.raises(ServerError, match="fd"), bound(ServerOptions("127.0.0.1", 1, uvicorn={"fd": 987654})):
        pass


def test_a_socket_file_goes_with_the_server(tmp_path: Path) -> None:
    """The file of a Unix socket is removed at the end; a folder that does not exist is an error."""
    path = tmp_path / "socket"
    with bound(ServerOptions("x", 0, uvicorn={"uds": str(path)})) as listener:
        assert origin(listener, ServerOptions("x", 0)) == f"unix:{path}"
        assert path.is_socket()
    assert not path.exists()
    with pytest.raises(ServerError, match="missing"), bound(ServerOptions("x", 0, uvicorn={"uds": "missing/socket"})):
        pass
