"""The how-to pages, carried out section by section."""

import shutil
from pathlib import Path

import pytest

from tests import documents
from tests.conftest import PATIENCE, Serve

PAGES = sorted((Path(__file__).parents[2] / "docs" / "how-to").glob("*.md"))

# What a page is about; where it is not installed, the page cannot be carried out.
NEEDED = {
    "deploy-to-kubernetes": ("lightkube",),
    "deploy-with-docker": ("docker",),
    "embed-in-django": ("django",),
    "embed-in-fastapi": ("fastapi",),
    "embed-in-quart": ("quart", "hypercorn"),
    "serve-with-gunicorn": ("gunicorn", "uvicorn_worker", "hypercorn"),
    "stream-results": ("websockets",),
    "use-postgresql": ("psycopg", "pgqueuer"),
}
PROGRAMS = ("node",)
"""What commands may begin with that is not installed everywhere."""
PLACES = {"postgresql://app@db.example/jobs": "postgresql_url", "--flavor docker": "docker_flavor"}
"""Texts in the pages for which tests have something of their own: a database, an engine."""


def sections() -> list[tuple[Path, str]]:
    """Return each page with each of its sections that hold blocks; "" is what stands before the first heading."""
    return [(page, section) for page in PAGES for section in dict.fromkeys(b.section for b in documents.blocks(page))]


def test_there_is_a_page_for_each_host() -> None:
    """Each framework that deployments can be embedded in has a page."""
    assert {f"embed-in-{name}" for name in ("django", "fastapi", "quart", "starlette")} <= {page.stem for page in PAGES}


@pytest.mark.timeout(5 * PATIENCE)  # one page runs the conformance suite
@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("page", "section"), [pytest.param(*each, id=f"{each[0].stem}: {each[1] or 'first screen'}") for each in sections()]
)
def test_page_holds(page: Path, section: str, tmp_path: Path, serve: Serve, request: pytest.FixtureRequest) -> None:
    """The blocks of each section do what they show, given the files of the first screen."""
    for module in NEEDED.get(page.stem, ()):
        pytest.importorskip(module)
    blocks = documents.part(documents.blocks(page), section)
    for program in PROGRAMS:
        if shutil.which(program) is None and any(f"$ {program} " in block.text for block in blocks):
            pytest.skip(f"{program} is not installed")
    used = {text: fixture for text, fixture in PLACES.items() if any(text in block.text for block in blocks)}
    places = {text: request.getfixturevalue(fixture) for text, fixture in used.items()}
    documents.play(blocks, tmp_path, serve, places)
