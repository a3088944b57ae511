"""How a pipeline of this program is found again by another process: its import string, or the path of its file."""

import sys
from pathlib import Path
from types import ModuleType

from asgipipe.errors import DefinitionError
from asgipipe.pipelines.pipeline import Pipeline, PipelineOptions

_MAIN = "__main__"


def target_of(pipeline: Pipeline[..., object]) -> str:
    """Return a TARGET of `asgipipe serve` that leads to `pipeline`.

    Raises DefinitionError for one that no module has under a name: of a lambda, of a function inside another one, or a
    copy that was changed and kept nowhere.
    """
    for name in dict.fromkeys((pipeline.__module__, _MAIN)):
        module = sys.modules.get(name)
        attribute = None if module is None else _name_in(module, pipeline)
        if module is not None and attribute is not None:
            return f"{_place(module, pipeline)}:{attribute}"
    raise DefinitionError(
        f"pipeline {pipeline.name!r} cannot be imported by the process that is to serve it: no module has it under a "
        "name. Define it, or assign the changed copy to a name, outside of any function"
    )


def _name_in(module: ModuleType, pipeline: Pipeline[..., object]) -> str | None:
    same = [name for name, value in vars(module).items() if value is pipeline]
    if not same and pipeline.options == PipelineOptions() and not pipeline.settings_layers:
        # What was made of a plain function is made of it again.
        same = [name for name, value in vars(module).items() if value is pipeline.function]
    return next(iter(same), None)


def _place(module: ModuleType, pipeline: Pipeline[..., object]) -> str:
    if module.__name__ != _MAIN:
        return module.__name__
    spec = getattr(module, "__spec__", None)
    if spec is not None:  # python -m package.module
        return str(spec.name)
    file = getattr(module, "__file__", None)
    if file is None:
        raise DefinitionError(
            f"pipeline {pipeline.name!r} was defined in a session that has no file, so the process that is to serve it "
            "cannot import it: write it to a module, and import it from there"
        )
    return str(Path(file).absolute())
