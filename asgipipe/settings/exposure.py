"""Whether others can reach a deployment."""

from collections.abc import Sequence
from ipaddress import IPv6Address, ip_address

from asgipipe.settings.deployment import DeploymentSettings


def exposed_without_key(settings: DeploymentSettings, keys: Sequence[str]) -> bool:
    """Tell whether other machines can reach the address that is served and need none of the `keys` in force."""
    if keys or "uds" in settings.uvicorn_kwargs:
        return False
    return not is_loopback(settings.uvicorn_host)


def is_loopback(host: str) -> bool:
    """Tell whether `host` can be reached from this machine only; of names, only `localhost` is trusted to be so."""
    if host.lower() == "localhost":
        return True
    try:
        address = ip_address(host)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback
