import json

from tests.cli.project import Project


def test_create_list_describe_delete(project: Project) -> None:
    """A snapshot is kept with its tags and settings, found by them, shown, and forgotten."""
    created = project.run("snapshot", "create", "pipelines.py:weather", "--tag=a", "--max-concurrency=7")
    assert (created.status, created.stdout) == (0, "weather-1 is made\n"), created
    project.run("snapshot", "create", "pipelines.py:ping", "--name=small", "--description=The smallest.")
    assert [each["name"] for each in project.ask("snapshot", "list", "--json").json["snapshots"]] == [
        "small",
        "weather-1",
    ]
    table = project.ask("snapshot", "list", "--tag=a").stdout.splitlines()
    assert [line.split()[0] for line in table] == ["NAME", "weather-1"]
    found = project.ask("snapshot", "describe", "weather-1", "--json").json
    assert found["settings"]["settings"]["deployment"] == {"max_concurrency": "7"}
    assert found["code_changed"] is False
    (project.folder / "pipelines.py").write_text((project.folder / "pipelines.py").read_text() + "\n# changed\n")
    page = project.ask("snapshot", "describe", "weather-1").stdout
    assert "changed since" in page
    assert '"max_concurrency": "7"' in page
    deleted = project.ask("snapshot", "delete", "small", "nothing")
    assert (deleted.status, deleted.stdout) == (1, "small is deleted\n")
    assert "there is no snapshot 'nothing'; did you mean" not in deleted.stderr
    assert "there is no snapshot 'nothing'" in deleted.stderr


def test_run(project: Project) -> None:
    """A snapshot is run here, with options of its own; what the pipeline prints is not on stdout."""
    project.run("snapshot", "create", "pipelines.py:weather")
    done = project.run("snapshot", "run", "weather-1", "--city=Rome", "--no-dry")
    assert done.status == 0, done
    assert done.json["output"]["city"] == "Rome"
    assert "asked for Rome" in done.stderr
    refused = project.run("snapshot", "run", "weather-1", '--json={"days": "x"}')
    assert (refused.status, refused.stdout) == (2, "")
    assert "city: Field required" in refused.stderr
    failed = project.run("snapshot", "run", "weather-1", "--city=Atlantis")
    assert (failed.status, failed.stdout) == (1, "")
    assert failed.stderr.endswith("Error: there is no Atlantis\n")


def test_secrets_stay_out(project: Project) -> None:
    """A key of the settings is not kept in the snapshot, nor shown."""
    environ = {"ASGIPIPE_AUTH_KEY": "canary-key-that-is-long"}
    created = project.run("snapshot", "create", "pipelines.py:ping", "--json", **environ)
    assert created.status == 0, created
    assert "canary" not in created.stdout + created.stderr
    assert "canary" not in json.dumps(project.ask("snapshot", "describe", "ping-1", "--json").json)


def test_mistakes(project: Project) -> None:
    """Names, targets and settings are checked before anything is kept."""
    for arguments, status, said in (
        (("pipelines.py:pong",), 2, "'pipelines.py:pong': 'pipelines' has no attribute 'pong'; did you mean 'ping'?"),
        (("pipelines.py:ping", "--name=-x"), 2, "no '-' at its beginning"),
    ):
        done = project.run("snapshot", "create", *arguments)
        assert done.status == status, done
        assert said in done.stderr
    assert project.ask("snapshot", "list").stderr.startswith("No snapshots in ")
    assert not (project.folder / ".asgipipe").exists()


def test_deploy(project: Project) -> None:
    """A snapshot is deployed under a name, once at a time."""
    project.run("snapshot", "create", "pipelines.py:ping", "--name=p", "--port=0")
    deployed = project.ask("snapshot", "deploy", "p", "--name=first", "--no-auth")
    assert deployed.status == 0, deployed
    assert "It is OPEN" in deployed.stderr
    refused = project.ask("snapshot", "deploy", "p", "--name=second")
    assert refused.status == 1
    assert "is served by deployment 'first'" in refused.stderr
    used = project.ask("snapshot", "delete", "p")
    assert used.status == 1
    assert "first" in used.stderr
