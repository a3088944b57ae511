import pytest

from asgipipe.errors import SettingsError
from tests.deployers.kubernetes.samples import settings

pytest.importorskip("lightkube")

from asgipipe.deployers.flavors import settings_of
from asgipipe_kubernetes import KubernetesDeployerSettings
from asgipipe_kubernetes.settings import Autoscaling, Resources, Toleration


@pytest.mark.parametrize(
    ("values", "place"),
    [
        ({"image": None}, "give image"),
        ({"registry": "ghcr.io/acme"}, "give image"),
        ({"namespace": "Not_A_Label"}, "namespace"),
        ({"replicas": 0}, "replicas"),
        ({"autoscaling": {"max_replicas": 4}}, "cpu_request"),
        ({"autoscaling": {"min_replicas": 4, "max_replicas": 2}, "resources": {"cpu_request": "1"}}, "min_replicas"),
        ({"resources": {"cpu_request": "half"}}, "resources.cpu_request"),
        ({"resources": {"cpus": "1"}}, "resources.cpus"),
        ({"labels": {"asgipipe.dev/deployment": "x"}}, "labels"),
        ({"labels": {"app.kubernetes.io/name": "x"}}, "labels"),
        ({"labels": {"team": "no spaces"}}, "labels"),
        ({"pod_annotations": {"asgipipe.dev/revision": "9"}}, "pod_annotations"),
        ({"run_as_user": 0}, "run_as_user"),
        ({"external_url": "weather.example"}, "external_url"),
        ({"environment": {"NOT A NAME": "x"}}, "environment"),
        ({"replica": 2}, "did you mean"),
    ],
)
def test_mistakes_are_refused_with_their_place(values: dict[str, object], place: str) -> None:
    """Whatever no cluster would take is refused when the deployer is registered, and named."""
    with pytest.raises(SettingsError, match=place):
        settings_of("kubernetes", {"image": "weather:3", **values})


def test_every_setting_is_documented() -> None:
    """Each field, those of sections too, says what it means."""
    models = (KubernetesDeployerSettings, Resources, Autoscaling, Toleration)
    missing = [name for model in models for name, field in model.model_fields.items() if not field.description]
    assert missing == []


def test_the_number_of_pods_is_that_of_autoscaling() -> None:
    """Where there is autoscaling, `replicas` says nothing."""
    chosen = settings(replicas=9, autoscaling={"min_replicas": 2, "max_replicas": 5}, resources={"cpu_request": "500m"})
    assert (chosen.fewest, chosen.most) == (2, 5)
