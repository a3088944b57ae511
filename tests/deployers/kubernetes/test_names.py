import re

import pytest

from asgipipe.errors import DeploymentError
from tests.deployers.kubernetes.samples import ID, workload

pytest.importorskip("lightkube")

from asgipipe_kubernetes.names import object_name, own_labels, record_name

RFC_1035 = re.compile(r"[a-z]([-a-z0-9]{0,61}[a-z0-9])?")


@pytest.mark.parametrize(
    "name",
    [
        "weather",
        "Weather",
        "weather ",
        "wetter-für-köln",
        "東京",
        "",
        "9to5",
        "a--b",
        "-",
        "x" * 300,
        "a/b",
        "a.b",
        "../x",
    ],
)
def test_every_name_gives_one_that_a_service_may_have(name: str) -> None:
    """Whatever a deployment is called, its objects have a name by RFC 1035, with room for a revision's."""
    found = object_name(name, ID)
    assert RFC_1035.fullmatch(found)
    assert len(record_name(found, 1_000_000_000)) <= 253


def test_a_plain_name_stays_as_it_is() -> None:
    """A deployment called as a Service may be is found in the cluster by that name."""
    assert object_name("weather-2", ID) == "weather-2"


def test_names_that_look_alike_have_different_objects() -> None:
    """Names that are the same but for what Kubernetes does not allow are told apart by their ids."""
    names = {object_name(name, f"id of {name}") for name in ("weather", "Weather", "weather.", "wea ther", "wea-ther")}
    assert len(names) == 5


def test_an_id_that_is_no_label_is_refused() -> None:
    """By the id everything is found again, so one that cannot be a label is refused before anything is made."""
    with pytest.raises(DeploymentError, match="no deployment's id"):
        own_labels(workload(deployment_id="a b"))
