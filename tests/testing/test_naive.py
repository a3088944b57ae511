import asyncio

import pytest

from asgipipe.errors import UserError
from asgipipe.testing import Form
from asgipipe.testing.scenario import scenarios
from asgipipe.testing.subject import Subject
from asgipipe.testing.trial import InProcessTrial, Workshop
from tests.testing.naive import FAULTS, NaiveHost


def tried(subject: Subject, form: Form, name: str) -> None:
    async def main() -> None:
        workshop = Workshop()
        try:
            await scenarios()[name].run(InProcessTrial(subject, form, workshop))
        finally:
            await workshop.close()

    asyncio.run(main())


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario that is there for a fault of naive adapters fails on one that has it."""
    monkeypatch.setattr("asgipipe.testing.inprocess.PATIENCE", 1.0)
    monkeypatch.setattr("asgipipe.testing.client.PATIENCE", 2.0)
    subject, form, name = FAULTS[fault]
    with pytest.raises((Exception, pytest.fail.Exception)) as found:
        tried(subject, form, name)
    assert not isinstance(found.value, UserError), "it was not even built"


@pytest.mark.parametrize("name", sorted({name for subject, _, name in FAULTS.values() if type(subject) is NaiveHost}))
def test_the_host_without_a_fault_passes(name: str) -> None:
    """So it is the fault that is found, not the host around it."""
    form = Form.NESTED if name == "there_is_one_openapi_document" else Form.MOUNT
    if name != "the_prefix_itself_is_not_redirected":  # the fault that a plain mount has by itself
        tried(NaiveHost(), form, name)
