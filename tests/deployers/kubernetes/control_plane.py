"""A real API server and its database, from the folder that KUBEBUILDER_ASSETS names, as envtest has it."""

import os
import shutil
import socket
import ssl
import subprocess
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.error import URLError

from tests.deployers.kubernetes.api import NAMESPACE, TOKEN, write_kubeconfig

_PATIENCE = 120.0
_WITHOUT_INSECURE_PORT = (1, 24)


@dataclass(frozen=True)
class ControlPlane:
    url: str
    kubeconfig: Path
    version: tuple[int, int]


def missing(*programs: str) -> str | None:
    """Return why there is none; `programs` are needed besides etcd and the API server."""
    folder = os.environ.get("KUBEBUILDER_ASSETS")
    if not folder:
        return "KUBEBUILDER_ASSETS names no folder with etcd and kube-apiserver"
    absent = [name for name in ("etcd", "kube-apiserver", *programs) if not (Path(folder) / name).is_file()]
    return f"{', '.join(absent)} not found in KUBEBUILDER_ASSETS" if absent else None


@contextmanager
def running(*, controllers: bool = False) -> Iterator[ControlPlane]:
    """Start one with an empty database; all of it has ended when this returns.

    With `controllers`, Deployments make pods.
    """
    folder = Path(tempfile.mkdtemp(prefix="asgipipe-cluster-"))
    assets = Path(os.environ["KUBEBUILDER_ASSETS"])
    etcd, peer, port = free_port(), free_port(), free_port()
    url = f"https://127.0.0.1:{port}"
    key = folder / "account.key"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    (folder / "tokens.csv").write_text(f"{TOKEN},ada,ada,system:masters\n", encoding="utf-8")
    kubeconfig = write_kubeconfig(folder / "config", url)
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        for name, arguments in (
            ("etcd", _etcd(folder, etcd, peer)),
            ("kube-apiserver", _api_server(folder, etcd, port)),
        ):
            stack.enter_context(_process([str(assets / name), *arguments], folder / f"{name}.log"))
        _await(url, folder)
        version = _version(url)
        if controllers:
            manager = [str(assets / "kube-controller-manager"), *_controllers(kubeconfig, version)]
            stack.enter_context(_process(manager, folder / "controllers.log"))
        _post(url, "/api/v1/namespaces", f'{{"metadata": {{"name": "{NAMESPACE}"}}}}')
        yield ControlPlane(url, kubeconfig, version)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _etcd(folder: Path, port: int, peer: int) -> list[str]:
    return [
        *("--data-dir", str(folder / "etcd"), "--unsafe-no-fsync"),
        *(f"--listen-client-urls=http://127.0.0.1:{port}", f"--advertise-client-urls=http://127.0.0.1:{port}"),
        f"--listen-peer-urls=http://127.0.0.1:{peer}",
    ]


def _api_server(folder: Path, etcd: int, port: int) -> list[str]:
    return [
        f"--etcd-servers=http://127.0.0.1:{etcd}",
        f"--cert-dir={folder / 'certificates'}",
        *("--bind-address=127.0.0.1", f"--secure-port={port}", "--service-cluster-ip-range=10.0.0.0/24"),
        *("--service-account-issuer=https://cluster.test", f"--service-account-key-file={folder / 'account.key'}"),
        f"--service-account-signing-key-file={folder / 'account.key'}",
        *("--authorization-mode=RBAC", f"--token-auth-file={folder / 'tokens.csv'}"),
        "--disable-admission-plugins=ServiceAccount",
    ]


def _controllers(kubeconfig: Path, version: tuple[int, int]) -> list[str]:
    return [
        *(f"--kubeconfig={kubeconfig}", "--controllers=deployment,replicaset,garbagecollector,endpoint"),
        *("--leader-elect=false", "--secure-port=0"),
        *(["--port=0"] if version < _WITHOUT_INSECURE_PORT else []),
    ]


@contextmanager
def _process(command: list[str], log: Path) -> Iterator[None]:
    with log.open("wb") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _request(url: str, path: str, data: str | None = None) -> bytes:
    headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
    request = urllib.request.Request(url + path, None if data is None else data.encode(), headers)
    context = ssl._create_unverified_context()  # noqa: S323  # it has made its certificate itself
    with urllib.request.urlopen(request, timeout=10, context=context) as answer:
        return bytes(answer.read())


def _post(url: str, path: str, document: str) -> None:
    _request(url, path, document)


def _version(url: str) -> tuple[int, int]:
    found = _request(url, "/version").decode()
    text = found.partition('"gitVersion": "v')[2].partition('"')[0]
    major, minor = text.split(".")[:2]
    return int(major), int(minor)


def _await(url: str, folder: Path) -> None:
    deadline = time.monotonic() + _PATIENCE
    while True:
        try:
            _request(url, "/readyz")
        except (URLError, OSError) as error:
            if time.monotonic() > deadline:
                log = (folder / "kube-apiserver.log").read_text(encoding="utf-8", errors="replace")
                raise AssertionError(f"the API server did not start: {error}\n{log[-2000:]}") from error
            time.sleep(0.2)
        else:
            return
