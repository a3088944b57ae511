"""Parts that are found by name through entry points, so that a third party's package is an equal of ours."""

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points

from asgipipe import sources
from asgipipe.errors import DefinitionError, SourceError


@dataclass(frozen=True, slots=True)
class Plugins:
    """One kind of parts: the group of its entry points, the setting that names one, and the words for errors.

    `noun` is what one of them is called, `need` what a missing package stands for. `own` are the import strings of
    those that the core itself brings: found without reading what every installed distribution has to say, which takes
    as long as half of building a small deployment.
    """

    group: str
    setting: str
    noun: str
    need: str
    own: Mapping[str, str] = field(default_factory=dict)

    def installed(self) -> dict[str, EntryPoint]:
        return {entry.name: entry for entry in entry_points(group=self.group)}

    def load(self, given: object) -> object:
        """Return what a name or an import string stands for; anything else is that itself.

        Raises DefinitionError for an unknown name, a missing package, and a module that cannot be imported.
        """
        if not isinstance(given, str):
            return given
        if ":" not in given and "." not in given:
            return self._load_name(given)
        try:
            return sources.load(given)
        except SourceError as error:
            raise DefinitionError(f"{self.setting}: {error}") from error

    def _load_name(self, name: str) -> object:
        if name in self.own:
            return sources.load(self.own[name])
        known = self.installed()
        entry = known.get(name)
        if entry is None:
            close = difflib.get_close_matches(name, known, 1)
            hint = f"did you mean {close[0]!r}?" if close else f"there are: {', '.join(sorted(known))}"
            raise DefinitionError(f"{self.setting}: there is no {self.noun} {name!r}; {hint}")
        try:
            return sources.load(entry.value)
        except SourceError as error:
            cause = error.__cause__
            if isinstance(cause, ModuleNotFoundError):
                missing = (cause.name or "").partition(".")[0]
                command = _install(entry, missing)
                raise DefinitionError(f"{self.noun} {name!r} needs {self.need}: {command} ({cause})") from error
            raise


def _install(entry: EntryPoint, missing: str) -> str:
    """Return the command that installs what a part needs: the extra of its name where its package has one."""
    package = entry.dist
    extras = package.metadata.get_all("Provides-Extra") if package is not None else None
    if package is not None and entry.name in (extras or ()):
        return f'pip install "{package.name}[{entry.name}]"'
    return f"pip install {missing}"
