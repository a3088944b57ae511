"""The conformance suite of deployers, on a real engine."""

from pathlib import Path

import pytest

from asgipipe.deployers.deployer import BaseDeployer
from asgipipe.deployers.records import JSONObject, Workload
from asgipipe.testing.deployers import DeployerConformance, DeployerSubject
from tests.deployers.docker.workshop import Workshop, workload

pytestmark = pytest.mark.timeout(600)  # the first test of a run builds an image


class DockerSubject(DeployerSubject):
    def __init__(self, workshop: Workshop, **settings: object) -> None:
        self.workshop = workshop
        self.values = settings

    def deployer(self) -> BaseDeployer:
        return self.workshop.deployer(**self.values)

    def workload(self, target: str, project: Path, settings: JSONObject) -> Workload:
        return workload(project, settings, target=target)

    def leftovers(self, deployment_id: str) -> list[str]:
        client = self.workshop.client()
        filters: dict[str, str | list[str] | bool] = {"label": f"asgipipe.deployment={deployment_id}"}
        try:
            containers = [found.name or "" for found in client.containers.list(all=True, filters=filters)]
            volumes = [found.name or "" for found in client.volumes.list(filters=filters)]
            return containers + volumes + [str(found.id) for found in client.images.list(filters=filters)]
        finally:
            client.close()


class TestPublishedPort(DeployerConformance):
    """On a network of its own, where a third container holds the published port."""

    @pytest.fixture
    def subject(self, workshop: Workshop) -> DeployerSubject:
        return DockerSubject(workshop)


class TestHostNetwork(DeployerConformance):
    """On the network of the host, where each keeper takes the listener over from the one before."""

    @pytest.fixture
    def subject(self, workshop: Workshop) -> DeployerSubject:
        return DockerSubject(workshop, network="host")

    @pytest.fixture
    def server(self) -> JSONObject:
        """The settings of one kind of server: the others are the same containers as above."""
        return {}

    # What no network has a part in is proved above.
    test_starting_again_is_the_same_instance = None
    test_a_start_that_fails_is_an_error = None
    test_a_stop_ends_what_does_not_end_by_itself = None
    test_the_log_can_be_read_and_followed = None
    test_the_last_words_are_kept = None
    test_secrets_are_not_shown = None
    test_nothing_is_left_of_what_was_removed = None
    test_one_that_ended_is_discarded = None
