"""Finding an app runner by flavor, import string or class."""

import sys
from pathlib import Path

import pytest

from asgipipe import BaseDeploymentAppRunner, Deployment
from asgipipe.errors import DefinitionError
from asgipipe.jobs.queue import _QUEUES
from asgipipe.runners.registry import _RUNNERS, flavors, load_app_runner
from asgipipe.runners.starlette import StarletteAppRunner
from asgipipe.settings.plugins import Plugins
from tests.http.wire import Ask, ask_one, deployed
from tests.runners.extras import hello


class OwnRunner(StarletteAppRunner):
    flavor = "own"

    def __init__(self, *args: object, greeting: str = "none", **options: object) -> None:
        super().__init__(*args, **options)  # type: ignore[arg-type]  # passed on as they come
        self.greeting = greeting


@pytest.mark.parametrize(
    ("flavor", "name"),
    [
        ("starlette", "starlette"),
        ("asgipipe.runners.starlette:StarletteAppRunner", "starlette"),
        ("tests.runners.test_registry:OwnRunner", "own"),
        ("tests.runners.test_registry.OwnRunner", "own"),
        (OwnRunner, "own"),
    ],
)
def test_a_flavor_is_a_name_an_import_string_or_a_class(flavor: object, name: str) -> None:
    """`deployment_app_runner_flavor` in all its forms; /info tells which it is."""
    info = ask_one(hello, Ask(path="/info"), {"deployment_app_runner_flavor": flavor}).json()
    assert info["app"]["app_runner_flavor"] == name


def test_arguments_reach_the_app_runner() -> None:
    """`deployment_app_runner_kwargs` are those of the class."""
    made = {"deployment_app_runner_flavor": OwnRunner, "deployment_app_runner_kwargs": {"greeting": "Ave"}}
    runner = Deployment(hello, made, layers=()).app_runner
    assert isinstance(runner, OwnRunner)
    assert runner.greeting == "Ave"


class Unmakable(StarletteAppRunner):
    def __init__(self, *args: object, **options: object) -> None:
        raise OSError("no such device")


class Incomplete(BaseDeploymentAppRunner):
    flavor = "incomplete"


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ({"deployment_app_runner_kwargs": {"colour": "red"}}, "app runner 'starlette' takes no option 'colour'"),
        ({"deployment_app_runner_flavor": "starlet"}, "there is no app runner 'starlet'; did you mean 'starlette'?"),
        ({"deployment_app_runner_flavor": "zope"}, "there is no app runner 'zope'; there are: django, "),
        ({"deployment_app_runner_flavor": dict}, "deployment_app_runner_flavor <class 'dict'> is not a subclass"),
        (
            {"deployment_app_runner_flavor": "os.path:join"},
            "'os.path:join' is not a subclass of BaseDeploymentAppRunner",
        ),
        ({"deployment_app_runner_flavor": "no.such:Runner"}, "'no.such:Runner': there is no module named 'no.such'"),
        ({"deployment_app_runner_flavor": Unmakable}, "raised OSError: no such device"),
        ({"deployment_app_runner_flavor": Incomplete}, "raised TypeError: Can't instantiate abstract class Incomplete"),
    ],
)
def test_what_is_no_app_runner_is_refused(made: dict[str, object], message: str) -> None:
    """When the deployment is built: what was given, what is wrong with it, what may have been meant."""
    with pytest.raises(DefinitionError) as refused:
        deployed(hello, made)
    assert message in str(refused.value)
    assert "deployment_app_runner" in str(refused.value)


@pytest.mark.parametrize("plugins", [_RUNNERS, _QUEUES], ids=["app runners", "job queues"])
def test_parts_of_the_core_are_found_as_their_entry_points_say(plugins: Plugins) -> None:
    """The short way to them leads to the same."""
    installed = plugins.installed()
    assert plugins.own
    assert {name: installed[name].value for name in plugins.own} == plugins.own


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder on the Python path in which packages can be installed."""
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.startswith("registry_sample")]:
        monkeypatch.delitem(sys.modules, name)
    return tmp_path


def install(folder: Path, module: str, flavor: str, extras: str = "") -> None:
    (folder / f"registry_sample_{flavor}.py").write_text(module)
    metadata = folder / f"registry_sample_{flavor}-1.0.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: registry-sample-{flavor}\nVersion: 1.0\n{extras}\n"
    )
    (metadata / "entry_points.txt").write_text(f"[asgipipe.app_runners]\n{flavor} = registry_sample_{flavor}:Runner\n")


def test_a_package_of_somebody_elses_brings_a_flavor(installed: Path) -> None:
    """Its entry point makes it an equal of ours."""
    install(installed, "from asgipipe.runners.starlette import StarletteAppRunner as Runner", "third")
    assert {"starlette", "third"} <= set(flavors())
    assert load_app_runner("third") is StarletteAppRunner


def test_a_missing_framework_names_what_mends_it(installed: Path) -> None:
    """The exact command: the package's extra of that name, where it has one, else what is missing."""
    install(installed, "import no_such_framework.core", "withextra", "Provides-Extra: withextra\n")
    install(installed, "import no_such_framework.core", "without")
    with pytest.raises(DefinitionError) as refused:
        load_app_runner("withextra")
    assert str(refused.value).startswith(
        "app runner 'withextra' needs its framework: pip install \"registry-sample-withextra[withextra]\" ("
    )
    with pytest.raises(
        DefinitionError, match=r"app runner 'without' needs its framework: pip install no_such_framework \("
    ):
        load_app_runner("without")


def test_another_failure_of_an_app_runners_module_is_told_as_it_is(installed: Path) -> None:
    """A module that fails for another reason does not ask for an installation."""
    install(installed, "raise RuntimeError('broken build')", "broken")
    with pytest.raises(Exception, match="importing 'registry_sample_broken' raised RuntimeError: broken build"):
        load_app_runner("broken")
