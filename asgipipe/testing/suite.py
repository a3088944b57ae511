"""The suite as pytest tests: one class for each subject."""

import asyncio
from collections.abc import Coroutine, Iterator
from enum import StrEnum
from itertools import product
from pathlib import Path
from typing import ClassVar

import pytest

pytest.register_assert_rewrite("asgipipe.testing.scenarios")

from asgipipe.testing.limits import LIMITS, Limit, limit_of  # noqa: E402  # asserts are made legible first
from asgipipe.testing.scenario import Scenario, scenarios  # noqa: E402
from asgipipe.testing.servers import SERVERS, ServedTrial, served  # noqa: E402
from asgipipe.testing.subject import Form, Subject  # noqa: E402
from asgipipe.testing.trial import InProcessTrial, Trial, Workshop  # noqa: E402


class Store(StrEnum):
    """What deployments keep jobs and recorded runs in; the value is part of a test's id."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    """Needs a fixture `postgresql_url`, the URL of a new, empty database; without one its tests are skipped."""


class Bench:
    """One event loop for all that is asked by one class, with what was made on it."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self.workshop = Workshop()

    def run(self, work: Coroutine[object, object, None]) -> None:
        self._runner.run(work)

    def close(self) -> None:
        with self._runner as runner:
            runner.run(self.workshop.close())


_SERVED = frozenset(Form) - {Form.NESTED_INCLUDE}
"""The forms that servers serve; a native form two deep differs from one in its paths alone, and so in process."""

_KEPT = {
    Store.SQLITE: frozenset({Form.STANDALONE}),  # which server processes use in their forms
    Store.POSTGRESQL: frozenset({Form.STANDALONE, Form.MOUNT}),
}
"""The forms in which deployments are served, in process, over each store; in the others they use memory alone."""


class Conformance:
    """Subclass it with a subject: every scenario becomes a test for each form, in process and over sockets.

    Those about what is kept are run over each of the `stores` as well.

    The ids of the tests hold the flavor, the form and the server, for `pytest -k`.
    """

    subject: ClassVar[type[Subject]]
    limits: ClassVar[tuple[Limit, ...]] = LIMITS
    forms: ClassVar[tuple[Form, ...]] = tuple(Form)
    servers: ClassVar[tuple[str, ...]] = tuple(SERVERS)
    stores: ClassVar[tuple[Store, ...]] = tuple(Store)

    @pytest.fixture(scope="class")
    @classmethod
    def bench(cls) -> Iterator[Bench]:
        bench = Bench()
        yield bench
        bench.close()

    def test_in_process(self, bench: Bench, form: Form, scenario: Scenario) -> None:
        """The scenario holds for the subject in this form."""
        self._judge(bench, InProcessTrial(self.subject(), form, bench.workshop), scenario)

    @pytest.mark.timeout(180)
    def test_over_sockets(
        self, bench: Bench, form: Form, server: str, tmp_path: Path, subtests: pytest.Subtests
    ) -> None:
        """Every scenario that real sockets matter for holds on the server, which is started once for all of them."""
        pytest.importorskip(server, reason=f"{server} is not installed")
        store_url = str(tmp_path / "store.db")
        with served(self.subject, form, server, store_url) as port:
            trial = ServedTrial(self.subject(), form, bench.workshop, store_url, port)
            for scenario in scenarios().values():
                if scenario.sockets and form in scenario.forms:
                    with subtests.test(scenario.name):
                        self._judge(bench, trial, scenario)

    @pytest.mark.timeout(180)
    def test_on_store(
        self, form: Form, store: Store, tmp_path: Path, request: pytest.FixtureRequest, subtests: pytest.Subtests
    ) -> None:
        """Every scenario about what is kept holds on the store, which is made once for all of them."""
        store_url = _store_url(store, tmp_path, request)
        bench = Bench()
        try:
            trial = InProcessTrial(self.subject(), form, bench.workshop, store_url)
            for scenario in scenarios().values():
                if scenario.stores and form in scenario.forms:
                    with subtests.test(scenario.name):
                        self._judge(bench, trial, scenario)
        finally:
            bench.close()

    def _judge(self, bench: Bench, trial: Trial, scenario: Scenario) -> None:
        limit = limit_of(self.limits, self.subject.flavor, trial.form, scenario)
        if limit is None:
            bench.run(scenario.run(trial))
            return
        with pytest.raises((Exception, pytest.fail.Exception)):  # a limit is one however it shows
            bench.run(scenario.run(trial))
        pytest.xfail(limit.reason)

    def pytest_generate_tests(self, metafunc: pytest.Metafunc) -> None:
        flavor = self.subject.flavor
        if "scenario" in metafunc.fixturenames:
            pairs = [
                pytest.param(form, scenario, id=f"{flavor}-{form}-{scenario.name}")
                for form, scenario in product(self.forms, scenarios().values())
                if scenario.in_process and form in scenario.forms
            ]
            metafunc.parametrize(("form", "scenario"), pairs)
        elif "store" in metafunc.fixturenames:
            kept = [
                pytest.param(form, store, id=f"{flavor}-{form}-{store}")
                for form, store in product(self.forms, self.stores)
                if form in _KEPT[store]
            ]
            metafunc.parametrize(("form", "store"), kept)
        elif "server" in metafunc.fixturenames:
            places = [
                pytest.param(form, server, id=f"{flavor}-{form}-{server}")
                for form, server in product(self.forms, self.servers)
                if form in _SERVED
            ]
            metafunc.parametrize(("form", "server"), places)


def _store_url(store: Store, folder: Path, request: pytest.FixtureRequest) -> str:
    if store is Store.SQLITE:
        return str(folder / "store.db")
    try:
        url: str = request.getfixturevalue("postgresql_url")
    except pytest.FixtureLookupError:
        pytest.skip("a fixture postgresql_url has to give the URL of a new, empty database")
    return url
