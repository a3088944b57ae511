"""`python deploying.py POINT ARGUMENTS...`: the command `asgipipe`, which kills itself at a point of a deployment.

POINT is `before-` or `after-`, the name of a method of the registry or of the deployer, and `-` and which of its calls.
"""

import os
import signal
import sys
from collections.abc import Callable
from itertools import count

from asgipipe.cli.main import main
from asgipipe.deployers.local import LocalDeployer
from asgipipe.deployers.registry import Registry


def dying(name: str, method: Callable[..., object], point: str) -> Callable[..., object]:
    calls = count(1)

    def call(*args: object, **kwargs: object) -> object:
        number = next(calls)
        if point == f"before-{name}-{number}":
            os.kill(os.getpid(), signal.SIGKILL)
        result = method(*args, **kwargs)
        if point == f"after-{name}-{number}":
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return call


if __name__ == "__main__":
    point = sys.argv.pop(1)
    for owner in (Registry, LocalDeployer):
        for name in ("add_snapshot", "add_deployment", "claim", "save", "release", "append", "start", "retire", "stop"):
            if name in vars(owner):
                setattr(owner, name, dying(name, getattr(owner, name), point))
    main()
