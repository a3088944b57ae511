import asyncio
from pathlib import Path

import pytest

from asgipipe.errors import UserError
from asgipipe.settings.stores import MEMORY
from asgipipe.testing import Form
from asgipipe.testing.scenario import scenarios
from asgipipe.testing.subject import Subject
from asgipipe.testing.trial import InProcessTrial, Workshop
from tests.testing import naive, naive_jobs
from tests.testing.naive import NaiveHost

FAULTS = {**naive.FAULTS, **naive_jobs.FAULTS}
PREFIXED = {
    "there_is_one_openapi_document",
    *(name for _, form, name in naive_jobs.FAULTS.values() if form is Form.NESTED),
}


def tried(subject: Subject, form: Form, name: str, folder: Path) -> None:
    scenario = scenarios()[name]
    store_url = MEMORY if scenario.in_process else str(folder / "store.db")

    async def main() -> None:
        workshop = Workshop()
        try:
            await scenario.run(InProcessTrial(subject, form, workshop, store_url))
        finally:
            await workshop.close()

    asyncio.run(main())


@pytest.mark.parametrize("fault", FAULTS)
def test_each_fault_is_found(fault: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The scenario that is there for a fault of naive adapters fails on one that has it."""
    monkeypatch.setattr("asgipipe.testing.inprocess.PATIENCE", 1.0)
    monkeypatch.setattr("asgipipe.testing.client.PATIENCE", 2.0)
    subject, form, name = FAULTS[fault]
    with pytest.raises((Exception, pytest.fail.Exception)) as found:
        tried(subject, form, name, tmp_path)
    assert not isinstance(found.value, UserError), "it was not even built"


@pytest.mark.parametrize("name", sorted({name for subject, _, name in FAULTS.values() if type(subject) is NaiveHost}))
def test_the_host_without_a_fault_passes(name: str, tmp_path: Path) -> None:
    """So it is the fault that is found, not the host around it."""
    form = Form.NESTED if name in PREFIXED else Form.MOUNT
    if name != "the_prefix_itself_is_not_redirected":  # the fault that a plain mount has by itself
        tried(NaiveHost(), form, name, tmp_path)
