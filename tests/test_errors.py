import inspect
import pickle
import re
from collections.abc import Iterator

import pytest

from asgipipe import errors
from asgipipe.errors import AsgipipeError, HTTPError, RunCanceled, SettingsError, SettingsIssue, SourceError, UserError

BRANCH = re.compile(r"^(?P<indent>(?:│   |    )*)(?:├── |└── )(?P<name>\w+) +(?P<rest>.*)$")


def subclasses(cls: type) -> Iterator[type]:
    for child in cls.__subclasses__():
        if child.__module__ == errors.__name__:
            yield child
            yield from subclasses(child)


HTTP_ERRORS = list(subclasses(HTTPError))


def drawn() -> Iterator[tuple[str, str, str]]:
    """The tree in the module's docstring: each class with its parent and what is said of it."""
    parents = ["AsgipipeError"]
    for line in (errors.__doc__ or "").splitlines():
        if found := BRANCH.match(line.rstrip() + " "):
            depth = len(found["indent"]) // 4 + 1
            del parents[depth:]
            yield found["name"], parents[-1], found["rest"].strip()
            parents.append(found["name"])


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    """Every class stands below its base, and none is missing."""
    classes = {cls.__name__: cls.__bases__[0].__name__ for cls in subclasses(AsgipipeError)}
    assert {name: parent for name, parent, _ in drawn()} == classes
    public = {name for name, cls in vars(errors).items() if inspect.isclass(cls) and issubclass(cls, BaseException)}
    assert public == {*classes, "AsgipipeError", "RunCanceled"}


def test_the_statuses_in_the_docstring_are_those_of_the_classes() -> None:
    """A number in the tree is the status that is sent, and every refused request has one."""
    said = {name: int(rest.partition(" ")[0]) for name, parent, rest in drawn() if parent == "HTTPError"}
    assert said == {cls.__name__: cls.status for cls in HTTP_ERRORS}


def test_every_refusal_has_a_status_and_a_problem_type_of_its_own() -> None:
    """Clients tell them apart by either."""
    assert len({cls.status for cls in HTTP_ERRORS}) == len(HTTP_ERRORS)
    assert len({cls.slug for cls in HTTP_ERRORS}) == len(HTTP_ERRORS)
    assert len({cls.title for cls in HTTP_ERRORS}) == len(HTTP_ERRORS)


@pytest.mark.parametrize("cls", HTTP_ERRORS)
def test_a_problem_type_is_a_stable_word(cls: type[HTTPError]) -> None:
    """The slug becomes part of a URN: lower case and hyphens; statuses are those of errors, headers are lower case."""
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", cls.slug)
    assert 400 <= cls.status < 600
    required = [
        parameter.name
        for parameter in list(inspect.signature(cls).parameters.values())
        if parameter.default is parameter.empty and parameter.kind is parameter.POSITIONAL_OR_KEYWORD
    ]
    given: dict[str, object] = {"detail": "said", "limit": 7, "allowed": ["GET", "DELETE"]}
    error = cls(*(given[name] for name in required))  # type: ignore[arg-type]  # each as its name says
    assert error.detail
    assert all(name == name.lower() for name, _ in error.headers)


def test_refusals_that_can_be_waited_out_say_how_long() -> None:
    """429 and 503 carry Retry-After, 405 Allow, 401 its scheme."""
    assert errors.TooManyRequestsError(3).headers == ((b"retry-after", b"3"),)
    assert errors.UnavailableError("starting", retry_after=5).headers == ((b"retry-after", b"5"),)
    assert errors.MethodNotAllowedError(["POST", "GET"]).headers == ((b"allow", b"GET, POST"),)
    assert errors.UnauthorizedError().headers == ((b"www-authenticate", b"Bearer"),)


def test_a_cancelled_run_is_no_exception_that_pipelines_catch() -> None:
    """`except Exception` lets it pass."""
    assert not issubclass(RunCanceled, Exception)


@pytest.mark.parametrize("cls", list(subclasses(UserError)))
def test_a_mistake_of_the_users_ends_the_command_with_a_status(cls: type[UserError]) -> None:
    """No mistake is mistaken for success."""
    assert cls.exit_code in (1, 2, 3)


@pytest.mark.parametrize(
    ("issue", "text"),
    [
        (SettingsIssue("uvicorn_port", "is too large"), "uvicorn_port: is too large"),
        (SettingsIssue("", "cannot be read", "a.yaml:1:1"), "a.yaml:1:1: cannot be read"),
        (
            SettingsIssue("uvicorn_prot", "is unknown", "--prot", "did you mean uvicorn_port?"),
            "--prot: uvicorn_prot: is unknown; did you mean uvicorn_port?",
        ),
    ],
)
def test_a_wrong_setting_is_one_line(issue: SettingsIssue, text: str) -> None:
    """Place, path, message and the way out, as far as there are any."""
    assert str(issue) == text
    assert str(SettingsError([issue, issue])) == f"{text}\n{text}"


@pytest.mark.parametrize(
    "error",
    [
        SourceError("a:b", "leads nowhere"),
        SettingsError([SettingsIssue("a", "b")]),
        errors.StepTimeoutError("name", 1.5),
        errors.RunTimeoutError(2),
        errors.OutputError("output 'a'"),
        RunCanceled("reason"),
    ],
)
def test_errors_survive_the_way_between_processes(error: BaseException) -> None:
    """Process pools of the user's send exceptions with pickle: their text is the same on the other side."""
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - bytes of the line's own
    assert (type(copy), str(copy)) == (type(error), str(error))
