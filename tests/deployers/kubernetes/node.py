"""A node for a real control plane: what the kubelet, the scheduler and the proxy of Services do, in one process.

Containers are processes of this machine, in the folder that is their working directory, each at a loopback address of
its own. Probes are asked ten times as often as they say, so that tests do not wait for them.
"""

import base64
import http.client
import os
import select
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
from lightkube import ApiError, Client, KubeConfig
from lightkube.models.core_v1 import Container, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import ConfigMap, Endpoints, Node, Pod, PodBinding, Secret
from lightkube.types import PatchType

from tests.deployers.kubernetes.api import stamp

NAME = "node"
_PAUSE = 0.05
_FASTER = 10
_MESSAGE = 2048
"""Bytes of a log that a pod's status tells of a container that has ended."""


@dataclass
class Running:
    """A container, its log with the time of each line, and what was last said of it."""

    process: "subprocess.Popen[bytes]"
    address: str
    folder: Path
    pod: Pod
    lines: list[tuple[datetime, bytes]] = field(default_factory=list)
    told: dict[str, object] | None = None
    probed_at: float = 0.0
    ready: bool = False
    kill_at: float | None = None
    hook: "subprocess.Popen[bytes] | None" = None

    @property
    def container(self) -> Container:
        assert self.pod.spec is not None
        return self.pod.spec.containers[0]

    def read(self) -> None:
        """Take in what the container writes, until it has ended; the last line may have no end."""
        assert self.process.stdout is not None
        with self.process.stdout as output:
            for line in output:
                last = self.lines[-1][0] if self.lines else datetime.now(UTC)
                self.lines.append((max(datetime.now(UTC), last + timedelta(microseconds=1)), line.rstrip(b"\n")))


class Kubelet:
    """Runs the pods of a namespace; `serve` and `close` are called once."""

    def __init__(self, kubeconfig: Path, namespace: str, folder: Path) -> None:
        self.client = Client(config=KubeConfig.from_file(kubeconfig), field_manager="kubelet", namespace=namespace)
        self.namespace = namespace
        self.folder = folder
        self.containers: dict[str, Running] = {}
        self._number = 1
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kubelet")

    def begin(self, log_port: int) -> None:
        self.client.create(Node(metadata=ObjectMeta(name=NAME)))
        status = {
            "addresses": [{"type": "InternalIP", "address": "127.0.0.1"}],
            "daemonEndpoints": {"kubeletEndpoint": {"Port": log_port}},
        }
        self.client.patch(Node.Status, NAME, {"status": status}, patch_type=PatchType.MERGE)
        self._thread.start()

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        for running in self.containers.values():
            _kill(running)
        self.client.close()

    def _run(self) -> None:
        while not self._over.wait(_PAUSE):
            pods = {_name(pod): pod for pod in self.client.list(Pod)}
            for name, pod in pods.items():
                with suppress(ApiError):  # it was changed or deleted meanwhile: the next look shows it
                    self._look_after(name, pod)
            for name in [name for name in self.containers if name not in pods]:
                _kill(self.containers.pop(name))

    def _look_after(self, name: str, pod: Pod) -> None:
        assert pod.spec is not None
        assert pod.metadata is not None
        is_ending = pod.metadata.deletionTimestamp is not None
        if not pod.spec.nodeName:
            target = ObjectReference(apiVersion="v1", kind="Node", name=NAME)
            with suppress(msgspec.ValidationError):  # the answer is a Status, which lightkube reads as a Binding
                self.client.create(PodBinding(metadata=ObjectMeta(name=name), target=target), name)
        elif name in self.containers and is_ending:
            self._end(name, pod)
        elif is_ending:
            self.client.delete(Pod, name, grace_period=0)
        elif name not in self.containers:
            self.containers[name] = self._start(name, pod)
        else:
            self._tell(name, self.containers[name])

    def _start(self, name: str, pod: Pod) -> Running:
        assert pod.spec is not None
        (container,) = pod.spec.containers
        folder = self.folder / name
        folder.mkdir()
        self._number += 1
        address = f"127.77.{self._number // 250}.{self._number % 250 + 1}"
        settings = self.client.get(ConfigMap, _source(pod))
        (folder / "settings.yaml").write_text((settings.data or {})["settings.yaml"], encoding="utf-8")
        places = {"asgipipe": f"{sys.executable} -m asgipipe", "/etc/asgipipe/settings.yaml": f"{folder}/settings.yaml"}
        command = [part for word in container.command or [] for part in places.get(word, word).split(" ")]
        process = subprocess.Popen(
            command,
            cwd=container.workingDir,
            env={**_environment(), **self._variables(container), "ASGIPIPE_UVICORN_HOST": address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        running = Running(process, address, folder, pod)
        threading.Thread(target=running.read, daemon=True).start()
        return running

    def _variables(self, container: Container) -> dict[str, str]:
        found: dict[str, str] = {}
        for source in container.envFrom or []:
            assert source.secretRef is not None
            secret = self.client.get(Secret, source.secretRef.name or "")
            found |= {name: base64.b64decode(value).decode() for name, value in (secret.data or {}).items()}
        return found | {variable.name: variable.value or "" for variable in container.env or []}

    def _tell(self, name: str, running: Running) -> None:
        """Say how a container is, when that is not what was said before."""
        code = running.process.poll()
        running.ready = code is None and _is_ready(running)
        now = stamp(datetime.now(UTC).replace(microsecond=0))
        about: dict[str, object] = {"name": running.container.name, "image": "-", "imageID": "-", "restartCount": 0}
        if code is None:
            status = {**about, "ready": running.ready, "started": running.ready, "state": {"running": {}}}
        else:
            ended = {"exitCode": code if code >= 0 else 128 - code, "reason": "Error", "message": _message(running)}
            waiting = {"reason": "CrashLoopBackOff", "message": "back-off 10s restarting failed container"}
            state = {"state": {"waiting": waiting}, "lastState": {"terminated": ended}}
            status = {**about, **state, "ready": False, "restartCount": 1}
        if status == running.told:
            return
        running.told = status
        conditions = [
            {"type": kind, "status": "True" if running.ready else "False", "lastTransitionTime": now}
            for kind in ("Ready", "ContainersReady")
        ]
        shown = running.address.replace("127.", "10.", 1)  # the API takes no loopback address for a pod
        addresses = {"podIP": shown, "podIPs": [{"ip": shown}], "hostIP": "127.0.0.1"}
        told = {"phase": "Running", "conditions": conditions, "containerStatuses": [status], **addresses}
        self.client.patch(Pod.Status, name, {"status": told}, patch_type=PatchType.MERGE)

    def _end(self, name: str, pod: Pod) -> None:
        """Run the hook, tell the container with SIGTERM, and kill it when its time is over."""
        running = self.containers[name]
        assert pod.metadata is not None
        if running.kill_at is None:
            running.hook = _hook(running)
            running.probed_at = time.monotonic()
        elif running.hook is not None and running.hook.poll() is not None:
            running.hook = None
            running.process.send_signal(signal.SIGTERM)
        running.kill_at = running.probed_at + (pod.metadata.deletionGracePeriodSeconds or 0)
        if running.process.poll() is not None or time.monotonic() > running.kill_at:
            _kill(running)
            self.client.delete(Pod, name, grace_period=0)


class _Logs(BaseHTTPRequestHandler):
    """What the API server asks a kubelet for a log."""

    kubelet: Kubelet

    def do_GET(self) -> None:
        place = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(place.query).items()}
        running = self.kubelet.containers.get(place.path.split("/")[3])
        lines = [] if running is None else list(running.lines)
        if "sinceSeconds" in query:
            since = datetime.now(UTC) - timedelta(seconds=int(query["sinceSeconds"]))
            lines = [line for line in lines if line[0] >= since]
        if "tailLines" in query:
            lines = lines[len(lines) - min(int(query["tailLines"]), len(lines)) :]
        data = b"".join(b"%s %s\n" % (stamp(at).encode(), text) for at, text in lines)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


class Proxy:
    """A port of this machine that leads to the ready pods of one Service, connection by connection."""

    def __init__(self, kubelet: Kubelet, service: str) -> None:
        self._kubelet, self._service = kubelet, service
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="proxy")
        self._thread.start()
        self._turn = 0

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._listener.close()

    def _run(self) -> None:
        while not self._over.is_set():
            if select.select([self._listener], [], [], 0.05)[0]:
                connection, _ = self._listener.accept()
                threading.Thread(target=self._carry, args=(connection,), daemon=True).start()

    def _carry(self, connection: socket.socket) -> None:
        with connection, suppress(OSError, ApiError):
            places = self._places()
            if not places:
                return
            self._turn += 1
            with socket.create_connection(places[self._turn % len(places)], timeout=5) as other:
                _pipe(connection, other)

    def _places(self) -> list[tuple[str, int]]:
        found = self._kubelet.client.get(Endpoints, self._service)
        return [
            (address.ip.replace("10.", "127.", 1), port.port)
            for subset in found.subsets or []
            for address in subset.addresses or []
            for port in subset.ports or []
        ]


def _pipe(one: socket.socket, other: socket.socket) -> None:
    both = {one: other, other: one}
    while True:
        for ready in select.select(list(both), [], [])[0]:
            data = ready.recv(65536)
            if not data:
                return
            both[ready].sendall(data)


def _source(pod: Pod) -> str:
    assert pod.spec is not None
    return next(volume.configMap.name or "" for volume in pod.spec.volumes or [] if volume.configMap is not None)


def _name(pod: Pod) -> str:
    assert pod.metadata is not None
    return pod.metadata.name or ""


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("ASGIPIPE_")}


def _port(running: Running) -> int:
    (port,) = running.container.ports or []
    return port.containerPort


def _is_ready(running: Running) -> bool:
    """Ask the readiness probe again if it is time; say what it said last."""
    probe = running.container.readinessProbe
    assert probe is not None
    if time.monotonic() < running.probed_at + (probe.periodSeconds or 10) / _FASTER:
        return running.ready
    running.probed_at = time.monotonic()
    if probe.httpGet is None:
        with suppress(OSError), socket.create_connection((running.address, _port(running)), 1):
            return True
        return False
    connection = http.client.HTTPConnection(running.address, _port(running), timeout=probe.timeoutSeconds)
    try:
        connection.request("GET", probe.httpGet.path or "/")
        return 200 <= connection.getresponse().status < 400
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def _message(running: Running) -> str:
    return b"\n".join(text for _, text in running.lines)[-_MESSAGE:].decode("utf-8", "replace")


def _hook(running: Running) -> "subprocess.Popen[bytes]":
    """Start the hook, with the number and the address that the container has on this machine."""
    lifecycle = running.container.lifecycle
    if lifecycle is None or lifecycle.preStop is None or lifecycle.preStop.exec is None:
        return subprocess.Popen(["true"])
    command = [
        word.replace("os.kill(1,", f"os.kill({running.process.pid},").replace("127.0.0.1", running.address)
        for word in lifecycle.preStop.exec.command or []
    ]
    return subprocess.Popen([sys.executable, *command[1:]], start_new_session=True)


def _kill(running: Running) -> None:
    for process in filter(None, (running.hook, running.process)):
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    shutil.rmtree(running.folder, ignore_errors=True)


@contextmanager
def running(kubeconfig: Path, namespace: str, folder: Path) -> Iterator[Kubelet]:
    """Run a node until the end of the block; its log server has made its certificate itself."""
    certificate, key = folder / "kubelet.crt", folder / "kubelet.key"
    subject = ["-subj", "/CN=node", "-days", "1", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *subject], check=True, capture_output=True
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    with ExitStack() as stack:
        kubelet = Kubelet(kubeconfig, namespace, folder)
        handler = type("Bound", (_Logs,), {"kubelet": kubelet})
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        server.daemon_threads = True
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        stack.callback(server.server_close)
        stack.callback(thread.join)
        stack.callback(server.shutdown)
        kubelet.begin(int(server.server_address[1]))
        stack.callback(kubelet.close)
        yield kubelet
