"""What snapshots, deployers and deployments may be called, and what is said about a name that nothing has."""

from collections.abc import Iterable
from difflib import get_close_matches

from asgipipe.errors import DeploymentError

LONGEST = 100


class WrongNameError(DeploymentError):
    """A name that nothing can have."""

    exit_code = 2


def check_name(noun: str, name: str) -> None:
    """Raise WrongNameError unless `name` has 1 to 100 printable characters, no space at its ends and no '-' first."""
    # A '-' at its beginning would make an option of it on every command line.
    wrong = not name.isprintable() or name != name.strip() or name.startswith("-")
    if wrong or not 1 <= len(name) <= LONGEST:
        shown = ascii(name[:LONGEST])
        raise WrongNameError(
            f"{shown} cannot name a {noun}: a name has 1 to {LONGEST} printable characters, no space at its ends and "
            "no '-' at its beginning"
        )


def unknown(noun: str, name: str, known: Iterable[str]) -> DeploymentError:
    """Return the error about a `name` that is none of the `known` ones."""
    known = sorted(known)
    close = get_close_matches(name, known, n=1)
    if close:
        hint = f"did you mean {close[0]!r}?"
    elif 0 < len(known) <= 5:
        hint = f"there {'is' if len(known) == 1 else 'are'} {', '.join(known)}"
    else:
        hint = f"'asgipipe {noun} list' shows {'them' if known else 'that there is none'}"
    return DeploymentError(f"there is no {noun} {name[:LONGEST]!r}; {hint}")
