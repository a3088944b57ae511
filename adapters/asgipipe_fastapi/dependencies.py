"""Dependencies that were added to routes when those were made already.

FastAPI reads `dependencies` once, when it makes a route, and from then on ignores what is appended in silence: a route
that was meant to be guarded would be open.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import cast

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
            dependant: Dependant | None = getattr(route, "dependant", None)
            if dependant is not None:
                _put_in_force(route, dependant, [*late, *_of(route)])
                _close(route)


def _of(route: RouteContext) -> Iterator[Depends]:
    """Yield what the route asks for as it is included, and what was added to the route itself since then."""
    included: Sequence[Depends] = route.dependencies
    yield from included
    own: Sequence[Depends] = getattr(route.original_route, "dependencies", ())
    yield from (depends for depends in own if depends not in included)


def _put_in_force(route: RouteContext, dependant: Dependant, wanted: Iterable[Depends]) -> None:
    for position, depends in enumerate(wanted):
        added = get_parameterless_sub_dependant(depends=depends, path=route.path_format or "")
        if any(_same(added, known) for known in dependant.dependencies):
            continue
        if _reads_body(added):
            raise DefinitionError(
                f"a dependency that reads the body was added to the route {route.path} when that was made already,"
                " where FastAPI ignores it; give it in the endpoint's extra_kwargs or in app_kwargs, as 'dependencies'"
            )
        dependant.dependencies.insert(position, added)


def _same(one: Dependant, other: Dependant) -> bool:
    return one.call == other.call and (one.own_oauth_scopes or []) == (other.own_oauth_scopes or [])


def _reads_body(dependant: Dependant) -> bool:
    return bool(dependant.body_params) or any(map(_reads_body, dependant.dependencies))


def _close(route: RouteContext) -> None:
    """Let what is appended later, when nobody looks at it any more, fail: a tuple has no `append`."""
    for owner in (route.original_route, route._route_context):
        if owner is not None and hasattr(owner, "dependencies"):
            owner.dependencies = cast(list[Depends], tuple(owner.dependencies))
