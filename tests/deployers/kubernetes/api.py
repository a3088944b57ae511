"""A small API server, as the documentation of Kubernetes describes it, for machines without a real one.

It keeps objects, applies manifests on the server's side with owners of fields, refuses what has the wrong content type
or members that are not in the schema, and serves logs. Nothing in it controls: pods and statuses are what a test says.
"""

import copy
import json
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import msgspec
import yaml
from lightkube.codecs import resource_registry

TOKEN = "token-of-the-tests"
NAMESPACE = "services"

_PATH = re.compile(
    r"/(?:api|apis/(?P<group>[^/]+))/(?P<version>v[^/]+)(?:/namespaces/(?P<namespace>[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+))?(?:/(?P<part>[^/]+))?"
)
_KINDS = {
    "configmaps": "ConfigMap",
    "deployments": "Deployment",
    "events": "Event",
    "horizontalpodautoscalers": "HorizontalPodAutoscaler",
    "ingresses": "Ingress",
    "poddisruptionbudgets": "PodDisruptionBudget",
    "pods": "Pod",
    "secrets": "Secret",
    "services": "Service",
}
Object = dict[str, object]
Key = tuple[str, str, str]


class Refused(Exception):
    def __init__(self, code: int, reason: str, message: str) -> None:
        super().__init__(message)
        self.status = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
        }


@dataclass
class State:
    """What the server keeps, by plural, namespace and name; and what it was told to refuse."""

    objects: dict[Key, Object] = field(default_factory=dict)
    applied: dict[tuple[Key, str], Object] = field(default_factory=dict)
    owners: dict[tuple[Key, str], str] = field(default_factory=dict)
    logs: dict[str, list[tuple[datetime, str]]] = field(default_factory=dict)
    forbidden: set[tuple[str, str]] = field(default_factory=set)
    absent: set[str] = field(default_factory=set)
    failing: bool = False
    version: int = 0
    requests: list[str] = field(default_factory=list)
    lock: threading.RLock = field(default_factory=threading.RLock)

    def log(self, pod: str, *lines: str) -> None:
        written = self.logs.setdefault(pod, [])
        for line in lines:
            last = written[-1][0] if written else datetime.now(UTC)
            written.append((max(datetime.now(UTC), last + timedelta(microseconds=1)), line))


@dataclass(frozen=True)
class Call:
    """One request, taken apart."""

    state: State
    method: str
    plural: str
    api: str
    namespace: str
    name: str
    part: str
    query: dict[str, str]
    kind: str
    body: bytes

    @property
    def key(self) -> Key:
        return self.plural, self.namespace, self.name

    def answer(self) -> tuple[int, object]:
        if self.plural == "selfsubjectaccessreviews":
            return HTTPStatus.CREATED, self._review()
        if self.plural == "customresourcedefinitions":
            return HTTPStatus.OK, {"kind": "List", "items": [], "metadata": {}}
        if self.plural not in _KINDS or self.plural in self.state.absent:
            raise Refused(404, "NotFound", "the server could not find the requested resource")
        self._authorize()
        match self.method:
            case "GET" if self.part == "log":
                return HTTPStatus.OK, self._log()
            case "GET" if self.name:
                return HTTPStatus.OK, self._found()
            case "GET":
                return HTTPStatus.OK, self._list()
            case "POST":
                return HTTPStatus.CREATED, self._create()
            case "PATCH":
                return self._patch()
            case "DELETE":
                return HTTPStatus.OK, self._delete()
        raise Refused(405, "MethodNotAllowed", f"the server does not allow {self.method}")

    def _authorize(self) -> None:
        verb = {"GET": "get" if self.name else "list", "POST": "create"}.get(self.method, self.method.lower())
        if (verb, self.plural) in self.state.forbidden:
            raise Refused(
                403,
                "Forbidden",
                f'{self.plural} is forbidden: User "ada" cannot {verb} resource "{self.plural}" in API group '
                f'"{self.api.rpartition("/")[0]}" in the namespace "{self.namespace}"',
            )
        if self.namespace != NAMESPACE and self.method in {"POST", "PATCH"}:
            raise Refused(404, "NotFound", f'namespaces "{self.namespace}" not found')

    def _review(self) -> Object:
        asked = json.loads(self.body)
        wanted = asked["spec"]["resourceAttributes"]
        resource = "/".join(filter(None, (wanted["resource"], wanted.get("subresource"))))
        return {**asked, "status": {"allowed": (wanted["verb"], resource) not in self.state.forbidden}}

    def _found(self) -> Object:
        try:
            return self.state.objects[self.key]
        except KeyError:
            raise Refused(404, "NotFound", f'{self.plural} "{self.name}" not found') from None

    def _list(self) -> Object:
        matching = [
            found
            for (plural, namespace, _), found in sorted(self.state.objects.items())
            if (plural, namespace) == (self.plural, self.namespace)
            and selected(labels_of(found), self.query.get("labelSelector", ""))
            and selected(Fields(found), self.query.get("fieldSelector", ""))
        ]
        begin, limit = int(self.query.get("continue", "0")), int(self.query.get("limit", "500"))
        metadata: Object = {"resourceVersion": str(self.state.version)}
        if begin + limit < len(matching):
            metadata["continue"] = str(begin + limit)
        kind = f"{_KINDS[self.plural]}List"
        return {"apiVersion": self.api, "kind": kind, "metadata": metadata, "items": matching[begin : begin + limit]}

    def _create(self) -> Object:
        given = json.loads(self.body)
        key = (self.plural, self.namespace, given["metadata"]["name"])
        if key in self.state.objects:
            raise Refused(409, "AlreadyExists", f'{self.plural} "{key[2]}" already exists')
        self._check_schema(given)
        return self._store(key, given, before=None)

    def _patch(self) -> tuple[int, object]:
        if self.kind == "application/apply-patch+yaml":
            return self._apply()
        if self.kind != "application/merge-patch+json":
            raise Refused(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {self.kind}")
        before = self._found()
        change = json.loads(self.body)
        if self.part == "status":
            change = {"status": change["status"]}
        manager = self.query.get("fieldManager", "unknown")
        for path, _ in leaves(change):
            self.state.owners[self.key, path] = manager
        return HTTPStatus.OK, self._store(self.key, merged(copy.deepcopy(before), change), before=before)

    def _apply(self) -> tuple[int, object]:
        manager = self.query.get("fieldManager")
        if not manager:
            raise Refused(400, "BadRequest", "PatchOptions.meta.k8s.io is invalid: fieldManager: Required value")
        given = yaml.safe_load(self.body)
        metadata = given["metadata"]
        if (metadata["name"], metadata.get("namespace", self.namespace)) != (self.name, self.namespace):
            raise Refused(400, "BadRequest", "the name of the object does not match the name on the URL")
        self._check_schema(given)
        before = self.state.objects.get(self.key)
        self._check_owners(given, before or {}, manager)
        after = copy.deepcopy(before or {})
        prune(after, self.state.applied.get((self.key, manager), {}), given)
        self.state.applied[self.key, manager] = given
        stored = self._store(self.key, merged(after, given), before=before)
        return (HTTPStatus.OK if before else HTTPStatus.CREATED), stored

    def _check_owners(self, given: Object, before: Object, manager: str) -> None:
        values = dict(leaves(before))
        for path, value in leaves(given):
            owner = self.state.owners.get((self.key, path), manager)
            if owner != manager and values.get(path) != value and self.query.get("force") != "true":
                message = f'Apply failed with 1 conflict: conflict with "{owner}" using {self.api}: {path}'
                raise Refused(409, "Conflict", message)
            self.state.owners[self.key, path] = manager

    def _check_schema(self, given: Object) -> None:
        kind = resource_registry.load(str(given["apiVersion"]), str(given["kind"]))
        if (given["apiVersion"], given["kind"]) != (self.api, _KINDS[self.plural]):
            raise Refused(400, "BadRequest", "the API version in the data does not match the expected one")
        read = msgspec.to_builtins(msgspec.convert(given, kind, strict=True))
        unknown = {path for path, _ in leaves(given)} - {path for path, _ in leaves(read)}
        if unknown:
            raise Refused(500, "InternalError", f"failed to create typed patch object: {unknown}: not in schema")

    def _store(self, key: Key, given: Object, before: Object | None) -> Object:
        self.state.version += 1
        metadata = given["metadata"]
        assert isinstance(metadata, dict)
        metadata.setdefault("namespace", self.namespace)
        metadata.setdefault("uid", f"uid-{self.state.version}")
        metadata["resourceVersion"] = str(self.state.version)
        generation = metadata.get("generation", 0)
        if before is None or before.get("spec") != given.get("spec"):
            metadata["generation"] = generation + 1
        if key[0] == "deployments":
            spec = given["spec"]
            assert isinstance(spec, dict)
            spec.setdefault("replicas", 1)
        self.state.objects[key] = given
        return given

    def _delete(self) -> Object:
        found = self._found()
        metadata, spec = found["metadata"], found.get("spec")
        assert isinstance(metadata, dict)
        grace = int(self.query.get("gracePeriodSeconds", "30"))
        if self.plural == "pods" and isinstance(spec, dict) and spec.get("nodeName") and grace:
            metadata["deletionGracePeriodSeconds"] = grace
            metadata["deletionTimestamp"] = (datetime.now(UTC) + timedelta(seconds=grace)).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            )
            return found
        del self.state.objects[self.key]
        for each in [each for each in self.state.applied if each[0] == self.key]:
            del self.state.applied[each]
        for owned in [owned for owned in self.state.owners if owned[0] == self.key]:
            del self.state.owners[owned]
        return {"kind": "Status", "apiVersion": "v1", "status": "Success", "metadata": {}}

    def _log(self) -> str:
        self._found()
        if self.name not in self.state.logs:
            message = f'container "service" in pod "{self.name}" is waiting to start: ContainerCreating'
            raise Refused(400, "BadRequest", message)
        lines = self.state.logs[self.name]
        if "sinceSeconds" in self.query:
            since = datetime.now(UTC) - timedelta(seconds=int(self.query["sinceSeconds"]))
            lines = [line for line in lines if line[0] >= since]
        if "tailLines" in self.query:
            tail = int(self.query["tailLines"])
            lines = lines[len(lines) - min(tail, len(lines)) :]
        stamped = self.query.get("timestamps") == "true"
        return "".join(f"{stamp(at)} {text}\n" if stamped else f"{text}\n" for at, text in lines)


def stamp(at: datetime) -> str:
    """Return a time as the kubelet writes it: RFC 3339 with nanoseconds, without zeros at the end."""
    fraction = f"{at.microsecond:06}".rstrip("0")
    return at.strftime("%Y-%m-%dT%H:%M:%S") + (f".{fraction}Z" if fraction else "Z")


class Fields(dict[str, str]):
    """The fields of an object by their path."""

    def __init__(self, found: Object) -> None:
        super().__init__({path.removeprefix("."): str(value) for path, value in leaves(found)})


def labels_of(found: Object) -> dict[str, str]:
    metadata = found["metadata"]
    assert isinstance(metadata, dict)
    return dict(metadata.get("labels") or {})


def selected(values: dict[str, str], selector: str) -> bool:
    for each in filter(None, selector.split(",")):
        name, equals, value = each.partition("=")
        if name not in values or (equals and values[name] != value.removeprefix("=")):
            return False
    return True


def leaves(value: object, path: str = "") -> Iterator[tuple[str, object]]:
    """Yield each member that is no mapping by its path; a list is one value."""
    if isinstance(value, dict) and value:
        for name, member in value.items():
            yield from leaves(member, f"{path}.{name}")
    else:
        yield path, value


def merged(into: Object, change: Object) -> Object:
    for name, value in change.items():
        before = into.get(name)
        if isinstance(value, dict) and isinstance(before, dict):
            merged(before, value)
        elif value is None:
            into.pop(name, None)
        else:
            into[name] = copy.deepcopy(value)
    return into


def prune(found: Object, before: Object, after: Object) -> None:
    """Remove what a manager has applied before and does not apply now."""
    for name, value in before.items():
        now, there = after.get(name), found.get(name)
        if name not in after:
            found.pop(name, None)
        elif isinstance(value, dict) and isinstance(now, dict) and isinstance(there, dict):
            prune(there, value, now)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # head and body are two writes, and the second would wait for the first one's answer
    state: State

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        place = urlsplit(self.path)
        found = _PATH.fullmatch(place.path)
        try:
            if self.headers.get("Authorization") != f"Bearer {TOKEN}":
                raise Refused(401, "Unauthorized", "Unauthorized")
            if self.state.failing:
                raise Refused(503, "ServiceUnavailable", "etcdserver: no leader")
            if found is None:
                raise Refused(404, "NotFound", "the server could not find the requested resource")
            with self.state.lock:
                self.state.requests.append(f"{self.command} {found['plural']} {found['name'] or ''}".rstrip())
                self._answer(*self._call(found, place.query, body).answer())
        except Refused as refused:
            self._answer(int(str(refused.status["code"])), refused.status)

    do_GET = do_POST = do_PATCH = do_DELETE = _serve  # noqa: N815  # the names that http.server looks for

    def _call(self, found: "re.Match[str]", query: str, body: bytes) -> Call:
        return Call(
            state=self.state,
            method=self.command,
            plural=found["plural"],
            api="/".join(filter(None, (found["group"], found["version"]))),
            namespace=found["namespace"] or "",
            name=found["name"] or "",
            part=found["part"] or "",
            query={name: values[0] for name, values in parse_qs(query).items()},
            kind=self.headers.get("Content-Type") or "",
            body=body,
        )

    def _answer(self, status: int, document: object) -> None:
        is_text = isinstance(document, str)
        data = document.encode() if isinstance(document, str) else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain" if is_text else "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""


@contextmanager
def serving(state: State) -> Iterator[str]:
    """Serve a state; yield the URL."""
    handler = type("Bound", (Handler,), {"state": state})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def write_kubeconfig(path: Path, server: str) -> Path:
    """Write how the tests get to a server; one with TLS has made its certificate itself."""
    cluster = {"server": server, "insecure-skip-tls-verify": True}
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "test", "cluster": cluster}],
        "users": [{"name": "ada", "user": {"token": TOKEN}}],
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "ada", "namespace": NAMESPACE}}],
        "current-context": "test",
    }
    path.write_text(yaml.safe_dump(config), encoding="utf-8")
    return path
