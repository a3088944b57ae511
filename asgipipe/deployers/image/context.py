"""The context of a build: every file that an image is made of, the Dockerfile among them."""

import hashlib
import io
import shutil
import tarfile
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from asgipipe.deployers.frozen import settings_text
from asgipipe.deployers.image.distribution import extras_of, this_distribution
from asgipipe.deployers.image.dockerfile import CA_FILE, LOCKED, OURS, REQUIREMENTS, WHEELS, dockerfile
from asgipipe.deployers.image.ignore import NEVER
from asgipipe.deployers.image.project import MARK, project_files
from asgipipe.deployers.image.recipe import Recipe
from asgipipe.deployers.image.requirements import project_requirements
from asgipipe.deployers.image.settings import ImageSettings
from asgipipe.errors import DeploymentError

_IN_MEMORY = 16 * 1024 * 1024
"""Bytes of a context beyond which it is kept in a file."""


@dataclass(frozen=True, slots=True)
class Context:
    """Files by their relative POSIX path: bytes, or where they are to be read."""

    files: Mapping[str, bytes | Path]

    @property
    def dockerfile(self) -> str:
        content = self.files["Dockerfile"]
        assert isinstance(content, bytes)
        return content.decode()

    def archive(self) -> tuple[IO[bytes], str]:
        """Return the files as an open tar archive, and its digest in hexadecimal: the same for the same files."""
        file = tempfile.SpooledTemporaryFile(_IN_MEMORY)  # noqa: SIM115  # whoever gets it closes it
        with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as archive:
            for name, content in sorted(self.files.items()):
                _add(archive, name, content)
        file.seek(0)
        digest = hashlib.file_digest(file, "sha256").hexdigest()
        file.seek(0)
        return file, digest

    def write(self, folder: Path) -> None:
        """Write the files into a folder, which holds nothing else afterwards.

        Raises DeploymentError when it holds what asgipipe has not made.
        """
        if folder.exists() and not _is_ours(folder):
            raise DeploymentError(f"{folder} is not empty, and not made by asgipipe: choose another one with --output")
        shutil.rmtree(folder, ignore_errors=True)
        for name, content in self.files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            if isinstance(content, Path):
                shutil.copyfile(content, path)
                path.chmod(_mode(content))
            else:
                path.write_bytes(content)


def image_context(recipe: Recipe, settings: ImageSettings) -> Context:
    """Return the context of the image that `recipe` asks for. Raises DeploymentError."""
    requirements = project_requirements(recipe.project)
    ours = this_distribution()
    extras = extras_of(recipe.values, recipe.environment) if settings.extras is None else settings.extras
    installed = [ours.requirement(extras, f"/{WHEELS}"), *sorted(settings.requirements)]
    files: dict[str, bytes | Path] = {f"app/{name}": path for name, path in project_files(recipe.project).items()}
    if not files:
        raise DeploymentError(f"the project {recipe.project} has no files for the image: deploy from where the code is")
    files |= {f"{REQUIREMENTS}/{name}": content for name, content in requirements.files.items()}
    files[OURS] = "".join(f"{line}\n" for line in installed).encode()
    if ours.wheel is not None:
        files[f"{WHEELS}/{ours.wheel[0]}"] = ours.wheel[1]
    if settings.ca_file is not None:
        files[CA_FILE] = _certificates(settings.ca_file)
    sources = [OURS, *([f"{REQUIREMENTS}/{requirements.file}"] if requirements.file else [])]
    text = dockerfile(
        recipe,
        settings,
        requirements=[*sources, *([LOCKED] if requirements.locked else [])],
        locked=requirements.locked,
        source_folder=(recipe.project / "src").is_dir(),
    )
    files["settings.yaml"] = settings_text(recipe.inner_settings).encode()
    files[".dockerignore"] = "".join(f"{line}\n" for line in (f"{MARK} what no image needs.", *NEVER)).encode()
    files["Dockerfile"] = text.encode()
    return Context(files)


def _certificates(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeploymentError(f"ca_file {path} cannot be read: {error.strerror}") from error


def _add(archive: tarfile.TarFile, name: str, content: bytes | Path) -> None:
    """Add a file that says nothing of when and by whom it was made."""
    member = tarfile.TarInfo(name)
    member.mode = _mode(content)
    data = content if isinstance(content, bytes) else _read(content)
    member.size = len(data)
    archive.addfile(member, io.BytesIO(data))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise DeploymentError(
            f"{path} cannot be read: {error.strerror}; if it is not needed, name it in .dockerignore"
        ) from error


def _mode(content: bytes | Path) -> int:
    return 0o755 if isinstance(content, Path) and content.stat().st_mode & 0o100 else 0o644


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    try:
        return (folder / "Dockerfile").read_text(encoding="utf-8", errors="replace").startswith(MARK)
    except FileNotFoundError:
        return not any(folder.iterdir())
