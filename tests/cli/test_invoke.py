import json
import signal

import pytest

from tests.cli.project import Done, Project


@pytest.fixture(scope="module")
def counting(weather: Project) -> Project:
    """The same project, in which `count` runs as well."""
    weather.deploy("pipelines.py:count")
    return weather


def invoke(project: Project, *arguments: str, stdin: str | None = None, **environ: str) -> Done:
    return project.ask("deployment", "invoke", "weather", *arguments, stdin=stdin, **environ)


@pytest.mark.parametrize(
    ("arguments", "stdin", "expected"),
    [
        (["--city=Rome"], None, {"city": "Rome", "days": 3, "dry": False, "unit": "C", "json": "none"}),
        (["--city", "5", "--days=1", "--dry", "--unit=F"], None, {"city": "5", "days": 1, "dry": True, "unit": "F"}),
        (['--json={"city": "Rome", "json": "kept"}', "--days=2"], None, {"city": "Rome", "days": 2, "json": "kept"}),
        (["--json=-"], '{"city": "Ōsaka"}', {"city": "Ōsaka"}),
        (["--city=Rome", "--stream"], None, {"city": "Rome"}),
    ],
)
def test_outputs(weather: Project, arguments: list[str], stdin: str | None, expected: dict[str, object]) -> None:
    """Options, --json and stdin give the parameters; stdout is the outputs as JSON and nothing else."""
    done = invoke(weather, *arguments, stdin=stdin)
    assert done.status == 0, done
    output = done.json["output"]
    assert {name: output[name] for name in expected} == expected
    assert "The run has completed in" in done.stderr


def test_the_help_has_the_parameters(weather: Project) -> None:
    """Each has an option with its type, and those whose name is taken are said to need --json."""
    found = invoke(weather, "--help").stdout
    for expected in (
        "--city TEXT",
        "--days INTEGER",
        "--dry / --no-dry",
        "--unit [C|F]",
        "--json alone can give: json.",
    ):
        assert expected in found
    assert "weather  Say how the weather will be." in weather.ask("deployment", "invoke", "--help").stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        ([], 2, "parameters.city: Field required"),
        (["--city=x", "--days=many"], 2, "'many' is not a valid integer"),
        (["--city=x", "--unit=K"], 2, "'K' is not one of 'C', 'F'"),
        (["--json=[]"], 2, "give a JSON object"),
        (["--city=x", "--async", "--stream"], 2, "give one of the two"),
        (["--town=x"], 2, "No such option"),
        (["--city=Atlantis"], 1, "there is no Atlantis"),
        (["--city=Atlantis", "--stream"], 1, "there is no Atlantis"),
    ],
)
def test_what_fails(weather: Project, arguments: list[str], status: int, said: str) -> None:
    """The status is 2 for wrong parameters and 1 for a run that failed; stdout is empty."""
    done = invoke(weather, *arguments)
    assert (done.status, done.stdout) == (status, ""), done
    assert said in done.stderr


def test_the_envelope_of_a_failure(weather: Project) -> None:
    """--envelope prints the whole answer, also when it is that of a failed run."""
    done = invoke(weather, "--city=Atlantis", "--envelope")
    assert (done.status, done.json["success"], done.json["error"]) == (1, False, "there is no Atlantis")


def test_a_job(weather: Project) -> None:
    """--async prints the id of a job, which `asgipipe job` knows."""
    job_id = invoke(weather, "--city=Rome", "--async").stdout.strip()
    followed = weather.ask("job", "follow", job_id)
    assert followed.status == 0, followed
    assert weather.ask("job", "show", job_id, "--json").json["parameters"]["city"] == "Rome"


def test_keys(weather: Project) -> None:
    """The key that is kept for this user is used, another's is refused with the way out, and so is none."""
    wrong = invoke(weather, "--city=Rome", ASGIPIPE_KEY="wrong")
    assert wrong.status == 1
    assert "does not know the key of ASGIPIPE_KEY" in wrong.stderr
    assert "asgipipe deployment rotate-key weather" in wrong.stderr
    none = invoke(weather, "--city=Rome", ASGIPIPE_CONFIG_DIR=str(weather.folder / "elsewhere"))
    assert none.status == 1
    assert "there is no key of 'weather' in" in none.stderr


def test_a_stream(counting: Project) -> None:
    """What the pipeline puts out is on stdout, a line for each."""
    done = counting.ask("deployment", "invoke", "count", "--to=3", "--stream")
    assert (done.status, done.stdout) == (0, "0\n1\n2\n")
    assert counting.ask("deployment", "invoke", "count").json == {"output": [0, 1, 2]}


def test_an_interrupted_stream(counting: Project) -> None:
    """Ctrl-C cancels the run, and the status says that it was cut short."""
    with counting.start("deployment", "invoke", "count", "--to=10000", "--stream") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "0\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(20) == 130
        assert "The run is canceled." in process.stderr.read()
    (job,) = counting.ask("job", "list", "--deployment=count", "--limit=1", "--json").json["jobs"]
    followed = counting.ask("job", "follow", job["job_id"])
    assert followed.status == 4, followed


def test_large_parameters(weather: Project) -> None:
    """A megabyte of JSON goes through a pipe."""
    text = "x" * 1_000_000
    done = invoke(weather, "--json=-", stdin=json.dumps({"city": text}))
    assert done.json["output"]["city"] == text
