"""The one table of what a framework cannot do: there a scenario must fail, and the reason says why."""

from dataclasses import dataclass

from asgipipe.testing.scenario import ALL, Scenario
from asgipipe.testing.subject import Form


@dataclass(frozen=True)
class Limit:
    """`scenarios` that cannot pass on `flavor` in `forms`, and what users do instead or have to know."""

    flavor: str
    scenarios: frozenset[str]
    reason: str
    forms: frozenset[Form] = ALL


LIMITS: tuple[Limit, ...] = ()
"""Those of the frameworks that asgipipe has adapters for; the table in docs/reference/frameworks.md is made of it."""


def limit_of(limits: tuple[Limit, ...], flavor: str, form: Form, scenario: Scenario) -> Limit | None:
    for limit in limits:
        if limit.flavor == flavor and form in limit.forms and scenario.name in limit.scenarios:
            return limit
    return None
