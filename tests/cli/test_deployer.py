import subprocess
import sys

from tests.cli.project import Project


def test_flavors(project: Project) -> None:
    """Each installed flavor is listed with its settings, what they mean and what they are by default."""
    found = project.ask("deployer", "flavors", "--json").json
    assert found["local"]["allocate_port_if_busy"]["default"] is True
    shown = project.ask("deployer", "flavors").stdout
    assert "log_max_bytes          10000000       Bytes of a log file before the next one begins." in shown
    assert not (project.folder / ".asgipipe").exists()


def test_register_update_delete(project: Project) -> None:
    """A deployer is registered with settings, which are shown, changed, and forgotten with it."""
    registered = project.ask("deployer", "register", "fixed", "--flavor=local", "--set=port_range=[9000, 9001]")
    assert (registered.status, registered.stdout) == (0, "fixed is registered\n"), registered
    assert project.ask("deployer", "update", "fixed", "--set=log_files=1").status == 0
    found = project.ask("deployer", "describe", "fixed", "--json").json
    assert found["settings"] == {"port_range": [9000, 9001], "log_files": 1}
    assert (found["problem"], found["deployments"]) == (None, [])
    assert "Works         yes" in project.ask("deployer", "describe", "fixed").stdout
    assert [each["name"] for each in project.ask("deployer", "list", "--json").json] == ["fixed", "local"]
    assert project.ask("deployer", "delete", "fixed").stdout == "fixed is deleted\n"
    assert [line.split()[0] for line in project.ask("deployer", "list").stdout.splitlines()] == ["NAME", "local"]


def test_mistakes(project: Project) -> None:
    """Each is one message that names what is wrong, with the status for it."""
    for arguments, status, said in (
        (("register", "x", "--flavor=lokal"), 2, "there is no deployer flavor 'lokal'"),
        (("register", "x", "--flavor=local", "--set=prot=1"), 2, "prot: unknown field; did you mean port?"),
        (("register", "x", "--flavor=local", "--set=port"), 2, "--set takes FIELD=VALUE, not 'port'"),
        (("register", "-x", "--flavor=local"), 2, "No such option"),
        (("register", "--flavor=local", "--", "-x"), 2, "no '-' at its beginning"),
        (("describe", "x"), 1, "there is no deployer 'x'; there is local"),
        (("delete", "x"), 1, "there is no deployer 'x'"),
    ):
        done = project.ask("deployer", *arguments)
        assert done.status == status, done
        assert said in done.stderr, done


def test_a_deployer_in_use(project: Project) -> None:
    """It is not deleted while something of it runs, but with --force, which names what nobody can end any more."""
    project.ask("deployer", "register", "mine", "--flavor=local")
    project.deploy("pipelines.py:ping", "--deployer=mine")
    refused = project.ask("deployer", "delete", "mine")
    assert refused.status == 1
    assert "has deployments that are not ABSENT: ping; deprovision them, or give --force" in refused.stderr
    moved = project.run("deploy", "pipelines.py:ping", "--deployer=local", "--update")
    assert moved.status == 1
    assert "keeps its deployer, 'mine'" in moved.stderr
    forced = project.ask("deployer", "delete", "mine", "--force")
    assert forced.status == 0
    assert "nobody can end any more what runs of ping" in forced.stderr
    (row,) = project.ask("deployment", "list", "--json").json["deployments"]
    assert (row["status"], row["reason"]) == ("UNKNOWN", "there is no deployer 'mine'; there is local")
    assert project.ask("deployment", "describe", "ping").status == 0
    assert project.ask("deployment", "delete", "ping").status == 1
    project.ask("deployer", "register", "mine", "--flavor=local")
    assert project.ask("deployment", "delete", "ping").status == 0


def test_it_is_quick() -> None:
    """Commands that neither load nor call a pipeline import neither the servers nor an HTTP client."""
    script = "import asgipipe.cli.deployer, asgipipe.cli.deployment, sys; print(*sys.modules)"
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout.split()
    assert not {"httpx", "uvicorn", "starlette", "asgipipe.servers"} & set(found)
