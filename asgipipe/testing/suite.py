"""The suite as pytest tests: one class for each subject."""

import asyncio
from collections.abc import Coroutine, Iterator
from itertools import product
from typing import ClassVar

import pytest

pytest.register_assert_rewrite("asgipipe.testing.scenarios")

from asgipipe.testing.limits import LIMITS, Limit, limit_of  # noqa: E402  # asserts are made legible first
from asgipipe.testing.scenario import Scenario, scenarios  # noqa: E402
from asgipipe.testing.servers import SERVERS, ServedTrial, served  # noqa: E402
from asgipipe.testing.subject import Form, Subject  # noqa: E402
from asgipipe.testing.trial import InProcessTrial, Trial, Workshop  # noqa: E402


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


class Conformance:
    """Subclass it with a subject: every scenario becomes a test for each form, in process and over sockets.

    The ids of the tests hold the flavor, the form and the server, for `pytest -k`.
    """

    subject: ClassVar[type[Subject]]
    limits: ClassVar[tuple[Limit, ...]] = LIMITS
    forms: ClassVar[tuple[Form, ...]] = tuple(Form)
    servers: ClassVar[tuple[str, ...]] = tuple(SERVERS)

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
    def test_over_sockets(self, bench: Bench, form: Form, server: str, subtests: pytest.Subtests) -> None:
        """Every scenario that real sockets matter for holds on the server, which is started once for all of them."""
        pytest.importorskip(server, reason=f"{server} is not installed")
        with served(self.subject, form, server) as address:
            trial = ServedTrial(self.subject(), form, bench.workshop, address)
            for scenario in scenarios().values():
                if scenario.sockets and form in scenario.forms:
                    with subtests.test(scenario.name):
                        self._judge(bench, trial, scenario)

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
        elif "server" in metafunc.fixturenames:
            places = [
                pytest.param(form, server, id=f"{flavor}-{form}-{server}")
                for form, server in product(self.forms, self.servers)
                if form is not Form.NESTED_INCLUDE
            ]
            metafunc.parametrize(("form", "server"), places)
