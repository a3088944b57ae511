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


_INCLUDED = frozenset({Form.INCLUDE, Form.NESTED_INCLUDE})

LIMITS: tuple[Limit, ...] = (
    Limit(
        "starlette",
        frozenset({"the_prefix_itself_is_not_redirected"}),
        "A `Mount` of the host's redirects `/weather` to `/weather/` (307). `mount` does not.",
        _INCLUDED,
    ),
    Limit(
        "django",
        frozenset({"the_prefix_itself_is_not_redirected"}),
        "`/weather` without its slash is the host's: APPEND_SLASH redirects it to `/weather/` (301). `mount` does not.",
        _INCLUDED,
    ),
    Limit(
        "django",
        frozenset(
            {
                "a_message_that_is_too_large_closes_the_websocket",
                "a_run_is_cancelled_with_its_websocket",
                "a_websocket_cancels_a_job",
                "a_websocket_echoes",
                "a_websocket_follows_any_job",
                "a_websocket_is_not_for_pages_of_others",
                "a_websocket_needs_the_key",
                "a_websocket_of_ours_needs_the_key",
                "a_websocket_outlives_bad_messages",
                "a_websocket_runs_the_pipeline",
                "a_websocket_to_no_websocket_is_refused",
            }
        ),
        "Django's ASGI application knows no WebSocket: every handshake fails with a 500 of the server's. Use `mount`.",
        _INCLUDED,
    ),
    Limit(
        "django",
        frozenset(
            {
                "it_starts_and_stops_with_the_host",
                "a_failing_start_keeps_the_server_from_serving",
                "one_deployment_at_two_prefixes_stops_once",
            }
        ),
        "Django takes no lifespan events: the first request starts the deployment, a failing start is a 503, and the"
        " end of the process stops it. `mount` starts and stops it with the server.",
        _INCLUDED,
    ),
)
"""Those of the frameworks that asgipipe has adapters for; the table in docs/reference/frameworks.md is made of it."""


def markdown(limits: tuple[Limit, ...] = LIMITS) -> str:
    """Return the table for the documentation."""
    lines = ["| framework | form | what it cannot do | scenarios |", "|---|---|---|---|"]
    for limit in limits:
        forms = "all" if limit.forms == ALL else ", ".join(form for form in Form if form in limit.forms)
        names = ", ".join(f"`{name}`" for name in sorted(limit.scenarios))
        lines.append(f"| {limit.flavor} | {forms} | {limit.reason} | {names} |")
    return "\n".join(lines)


def limit_of(limits: tuple[Limit, ...], flavor: str, form: Form, scenario: Scenario) -> Limit | None:
    for limit in limits:
        if limit.flavor == flavor and form in limit.forms and scenario.name in limit.scenarios:
            return limit
    return None
