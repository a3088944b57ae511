"""Scenarios: functions that ask a deployment and look at its answers, registered by the name of their function."""

import importlib
import inspect
import pkgutil
from collections.abc import Callable, Coroutine
from dataclasses import dataclass

from asgipipe.testing.subject import Form
from asgipipe.testing.trial import Trial

Body = Callable[[Trial], Coroutine[object, object, None]]

ALL = frozenset(Form)
EMBEDDED = ALL - {Form.STANDALONE}


@dataclass(frozen=True)
class Scenario:
    """One behaviour. `forms` are those that it means something for.

    `sockets` ones are run over real servers too, `stores` ones over each kind of store.
    """

    name: str
    sentence: str
    run: Body
    sockets: bool
    in_process: bool
    stores: bool
    forms: frozenset[Form]


_registered: dict[str, Scenario] = {}


def scenario(
    *, sockets: bool = False, in_process: bool = True, stores: bool = False, forms: frozenset[Form] = ALL
) -> Callable[[Body], Body]:
    """Register a scenario; its docstring is one sentence that says what is true when it passes."""

    def register(body: Body) -> Body:
        name = body.__name__
        if name in _registered:
            raise ValueError(f"two scenarios are named {name}")
        sentence = inspect.getdoc(body) or ""
        _registered[name] = Scenario(name, sentence, body, sockets, in_process, stores, forms)
        return body

    return register


def scenarios() -> dict[str, Scenario]:
    """Return every scenario by name, in the order of their modules."""
    from asgipipe.testing import scenarios as package

    for module in pkgutil.iter_modules(package.__path__):
        importlib.import_module(f"{package.__name__}.{module.name}")
    return dict(_registered)
