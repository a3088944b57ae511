"""Asking a service whether it is ready."""

from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import urljoin

if TYPE_CHECKING:
    import httpx

_PATIENCE = 5.0
"""Seconds that a service may take to answer `/ready`, which does no work."""
_LONGEST_REASON = 300


@dataclass(frozen=True, slots=True)
class Answer:
    """What `/ready` said; `status` is None when nobody answered."""

    status: int | None
    reason: str

    @property
    def ready(self) -> bool:
        # A deployment may be without this endpoint (include_default_endpoints): a 404 comes from one that answers.
        return self.status is not None and self.status < 500


def ask_ready(url: str, path: str) -> Answer:
    """Ask the service at the root `url`; `path` is the whole path of its `/ready`."""
    import httpx  # takes a while, and commands that ask nothing go without

    url = urljoin(url, path)
    try:
        # Not verified: only the deployer's own instance is asked, nothing secret is sent, and its certificate is for
        # the name that clients know it by, seldom for the address that the deployer does.
        answer = httpx.get(url, timeout=_PATIENCE, verify=False, trust_env=False)  # noqa: S501
    except httpx.HTTPError as error:
        return Answer(None, f"{url} does not answer: {str(error) or type(error).__name__}"[:_LONGEST_REASON])
    return Answer(answer.status_code, f"{url} answered {answer.status_code}: {_detail(answer)}")


def _detail(answer: "httpx.Response") -> str:
    try:
        found = answer.json()
        text = str(found["detail"])
    except (ValueError, KeyError, TypeError):
        text = answer.reason_phrase
    return text[:_LONGEST_REASON]
