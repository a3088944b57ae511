"""Dependencies that were added to routes when those were made already.

FastAPI reads `dependencies` once, when it makes a route, and from then on ignores what is appended in silence: a route
that was meant to be guarded would be open.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from fastapi.dependencies.models import Dependant
from fastapi.dependencies.utils import get_parameterless_sub_dependant
from fastapi.params import Depends
from fastapi.routing import APIRouter, RouteContext, iter_route_contexts
from starlette.routing import BaseRoute

from asgipipe.errors import DefinitionError


class Watched:
    """A router whose routes are `routes`, with the dependencies that they were made with."""

    def __init__(self, router: APIRouter, routes: Sequence[BaseRoute]) -> None:
        self._router = router
        self._routes = routes
        self._known = tuple(router.dependencies)

    def put_in_force(self) -> None:
        """Put dependencies that were added to the router, or to its routes, in force.

        Those that read the body come too late for that: they raise DefinitionError. The routes' lists are closed.
        """
        late = [depends for depends in self._router.dependencies if depends not in self._known]
        for route in iter_route_contexts(self._routes):
            owners = _owners(route)
            dependants = [owner.dependant for owner in owners if getattr(owner, "dependant", None) is not None]
            if dependants:
                added = [depends for owner in owners for depends in owner.dependencies]
                _put_in_force(route.path or "", dependants[0], [*late, *added])
            for owner in owners:
                # What is appended later, when nobody looks at it any more, fails: a tuple has no `append`.
                owner.dependencies = tuple(owner.dependencies)


def _owners(route: RouteContext) -> list[Any]:
    """Return what has a list of the route's dependencies: the route that answers first, the one it was made of last."""
    context = route._route_context
    owners = (context and context.starlette_route, context, route.original_route)
    return [owner for owner in owners if hasattr(owner, "dependencies")]


def _put_in_force(path: str, dependant: Dependant, wanted: Iterable[Depends]) -> None:
    for position, depends in enumerate(wanted):
        added = get_parameterless_sub_dependant(depends=depends, path=path)
        if any(_same(added, known) for known in dependant.dependencies):
            continue
        if _reads_body(added):
            raise DefinitionError(
                f"a dependency that reads the body was added to the route {path} when that was made already,"
                " where FastAPI ignores it; give it in the endpoint's extra_kwargs or in app_kwargs, as 'dependencies'"
            )
        dependant.dependencies.insert(position, added)


def _same(one: Dependant, other: Dependant) -> bool:
    return one.call == other.call and (one.own_oauth_scopes or []) == (other.own_oauth_scopes or [])


def _reads_body(dependant: Dependant) -> bool:
    return bool(dependant.body_params) or any(map(_reads_body, dependant.dependencies))
