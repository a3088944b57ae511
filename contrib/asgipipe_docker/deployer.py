"""The deployer of flavor `docker`: each revision is a container, with the keeper of the local deployer in it.

What it makes bears the deployment's id as a label, so that any process finds and ends all of it, also when the command
that started it was killed.

Two revisions share one listening socket, so that no connection is lost between them. With the network of the host, the
keeper of the new one takes it over from the keeper before. With any other, neither could publish the port of the other:
a third container holds the port and gives its listener to both. In each case it goes through a volume they share.
"""

import time
from collections.abc import Iterator
from datetime import datetime
from typing import ClassVar

from docker import DockerClient
from docker.errors import APIError, NotFound
from docker.models.containers import Container

from asgipipe.deployers.deployer import BaseDeployer, DeployerSettings, Report
from asgipipe.deployers.records import Condition, Instance, JSONObject, Status, Workload
from asgipipe.errors import DeploymentError
from asgipipe.servers.drain import RETIRE
from asgipipe_docker import address as addresses
from asgipipe_docker import containers, images, names, reading
from asgipipe_docker.address import HOST_NETWORK, Address
from asgipipe_docker.engine import UnreachableError, connected, explanation
from asgipipe_docker.settings import DockerDeployerSettings

_CLEAN_UP = 10.0
"""Seconds that a server may take after the grace: what still runs is cancelled then, and its hooks run."""
_PAUSE = 0.1
_BUILT_IN_NETWORKS = ("bridge", HOST_NETWORK)


class DockerDeployer(BaseDeployer):
    """Runs deployments in containers of an engine that speaks Docker's API."""

    settings_class: ClassVar[type[DeployerSettings]] = DockerDeployerSettings

    def __init__(self, name: str, settings: DeployerSettings) -> None:
        super().__init__(name, settings)
        self._settings = DockerDeployerSettings.model_validate(settings.model_dump())

    def check(self) -> None:
        with connected(self._settings.base_url) as client:
            client.ping()
            network = self._settings.network
            if network not in _BUILT_IN_NETWORKS and not network.startswith("container:"):
                try:
                    client.networks.get(network)
                except NotFound:
                    raise DeploymentError(
                        f"the engine has no network {network!r}: docker network create {network}"
                    ) from None

    # Start

    def start(self, workload: Workload, *, replaces: Instance | None, report: Report) -> Instance:
        self.check()
        with connected(self._settings.base_url) as client:
            found = containers.find(client, names.container_name(workload))
            if found is not None and (instance := self._own(found, workload)) is not None:
                if found.status == "created":
                    _start(found)
                return instance
            image = images.image_of(client, workload, self._settings, report)
            report("starting a container")
            address, take_over = self._address(client, workload, replaces, image)
            instance = self._instance(workload, address, image)
            container = containers.make_server(
                client, workload, self._settings, instance, image=image, take_over=take_over
            )
            _start(container)
            return instance

    def _own(self, container: Container, workload: Workload) -> Instance | None:
        if container.labels.get(names.DEPLOYMENT) != workload.deployment_id:
            return None
        return names.labelled_instance(container.labels)

    def _address(
        self, client: DockerClient, workload: Workload, replaces: Instance | None, image: str
    ) -> tuple[Address, str | None]:
        """Return what the new instance listens on, and where it gets the listener, when somebody else has it."""
        settings, wanted = self._settings, addresses.wanted_port(self._settings, workload.port)
        if replaces is not None and (before := Address.of(replaces)).serves(settings, wanted):
            if before.listener is None:
                return before, containers.offer_of(replaces.revision)
            held = containers.find(client, before.listener)
            if held is not None and held.status == "running":
                return before, containers.listener_socket(before.listener)
        if settings.network == HOST_NETWORK:
            port = next(addresses.ports(settings, wanted), None)
            if port is None:
                raise addresses.none_free(settings, wanted)
            return Address(settings.network, settings.address, port, wanted, None), None
        name, port = containers.hold_address(client, workload, settings, image=image, wanted=wanted)
        return Address(settings.network, settings.address, port, wanted, name), containers.listener_socket(name)

    def _instance(self, workload: Workload, address: Address, image: str) -> Instance:
        url = f"{workload.scheme}://{addresses.public_host(self._settings)}:{address.port}{workload.root}"
        handle: JSONObject = {
            "container": names.container_name(workload),
            "deployment": workload.deployment_id,
            "image": image,
            "network": address.network,
            "host": address.host,
            "port": address.port,
            "wanted": address.wanted,
            "listener": address.listener,
        }
        return Instance(workload.revision, url, handle)

    # Look

    def inspect(self, instance: Instance) -> Condition:
        try:
            with connected(self._settings.base_url) as client:
                return self._condition(client, instance)
        except UnreachableError as error:
            return Condition(Status.UNKNOWN, error.reason)

    def _condition(self, client: DockerClient, instance: Instance) -> Condition:
        container = containers.find(client, _name(instance))
        if container is None:
            return Condition(Status.ABSENT, f"there is no container {_name(instance)}")
        try:
            condition = reading.condition_of(container, self._settings.start_timeout, _running_for(container))
            listener = Address.of(instance).listener
            if condition.status is Status.RUNNING and listener is not None:
                return _held(client, container, listener) or condition
        except APIError as error:  # it ended while it was looked at
            return Condition(Status.PENDING, explanation(error))
        return condition

    def instances(self, deployment_id: str) -> list[Instance]:
        with connected(self._settings.base_url) as client:
            found = [instance for instance, _ in containers.servers(client, deployment_id)]
        return sorted(found, key=lambda instance: instance.revision)

    def logs(self, instance: Instance, *, tail: int | None, follow: bool) -> Iterator[str]:
        with connected(self._settings.base_url) as client:
            container = containers.find(client, _name(instance))
            if container is None:
                return
            yield from reading.log_of(container, tail=tail, follow=follow)

    def reachable(self, instance: Instance) -> str | None:
        return instance.url if addresses.is_reachable(Address.of(instance), self._settings) else None

    def commands(self, instance: Instance) -> JSONObject:
        name = _name(instance)
        return {
            "log": f"docker logs --tail 100 --follow {name}",
            "container": f"docker inspect {name}",
            "all containers": f"docker ps --all --filter label={names.DEPLOYMENT}={instance.handle['deployment']}",
        }

    # End

    def stop(self, instance: Instance, *, grace: float) -> None:
        self._end(instance, "SIGTERM", grace)

    def retire(self, instance: Instance, *, by: Instance, grace: float) -> None:
        self._end(instance, "SIGTERM" if RETIRE is None else "SIGUSR2", grace)

    def _end(self, instance: Instance, first: str, grace: float) -> None:
        with connected(self._settings.base_url) as client:
            container = containers.find(client, _name(instance))
            if container is not None and container.status in containers.ALIVE:
                _end(container, first, grace)
            containers.drop_listeners(client, str(instance.handle["deployment"]))

    def discard(self, instance: Instance) -> None:
        with connected(self._settings.base_url) as client:
            container = containers.find(client, _name(instance))
            if container is not None:
                container.remove(v=True, force=True)
            used = {other.attrs["Config"]["Image"] for other in client.containers.list(all=True, ignore_removed=True)}
            image = str(instance.handle["image"])
            if image not in used:
                images.remove(client, image)

    def remove(self, deployment_id: str) -> None:
        with connected(self._settings.base_url) as client:
            filters = names.filters(deployment_id)
            for container in client.containers.list(all=True, filters=filters, ignore_removed=True):
                container.remove(v=True, force=True)
            for volume in client.volumes.list(filters=filters):
                volume.remove()
            for image in client.images.list(filters=filters):
                images.remove(client, str(image.id))


def _name(instance: Instance) -> str:
    return str(instance.handle["container"])


def _start(container: Container) -> None:
    """Start it, or leave nothing of it."""
    try:
        container.start()
    except APIError as error:
        container.remove(v=True, force=True)
        raise DeploymentError(f"the container cannot be started: {explanation(error)}") from error


def _held(client: DockerClient, container: Container, listener: str) -> Condition | None:
    """Return what is wrong with the address of a container that runs."""
    holder = containers.find(client, listener)
    if holder is None or holder.status != "running":
        return Condition(Status.ERROR, f"the container {listener}, which holds its address, does not run")
    if not reading.has_listener_of(container, containers.listener_socket(listener)):
        return Condition(
            Status.ERROR,
            f"the container {listener}, which holds its address, was started anew: docker restart {container.name}",
        )
    return None


def _end(container: Container, first: str, grace: float) -> None:
    if container.status == "running":
        for number, seconds in ((first, grace), ("SIGTERM", _CLEAN_UP)):
            try:
                container.kill(number)
            except APIError:  # it has ended meanwhile
                break
            if _ends_within(container, seconds):
                break
    container.stop(timeout=0)  # for the engine, too, it is ended on purpose and not to be started again


def _ends_within(container: Container, seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        container.reload()
        if container.status != "running":
            return True
        time.sleep(_PAUSE)
    return False


def _running_for(container: Container) -> float:
    # With nanoseconds, which Python has none of: 2026-11-21T06:37:24.432155212Z
    started = datetime.fromisoformat(f"{container.attrs['State']['StartedAt'][:19]}+00:00")
    return time.time() - started.timestamp()
