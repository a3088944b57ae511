"""Operations on deployers; each may be repeated."""

from dataclasses import replace

from asgipipe.deployers.records import DeployerRecord, Status
from asgipipe.deployers.registry.names import check_name, unknown
from asgipipe.deployers.registry.table import DEPLOYERS, DEPLOYMENTS
from asgipipe.errors import DeploymentError
from asgipipe.stores.database import Transaction

LOCAL = DeployerRecord("local", "local", {}, "", 0.0)
"""The deployer that is always there, unless somebody has registered it with settings of its own."""

_MOST = 1000


def find(transaction: Transaction, name: str, *, lock: bool = False) -> DeployerRecord:
    """Raises DeploymentError when there is none."""
    found = DEPLOYERS.find(transaction, name, lock=lock)
    if found is None and name != LOCAL.name:
        raise unknown("deployer", name, {LOCAL.name, *DEPLOYERS.names(transaction)})
    return found or LOCAL


def every(transaction: Transaction) -> list[DeployerRecord]:
    """Return all of them, by name."""
    kept = DEPLOYERS.where(transaction, "name <> '' ORDER BY name LIMIT ?", _MOST)
    ours = [] if any(deployer.name == LOCAL.name for deployer in kept) else [LOCAL]
    return sorted([*ours, *kept], key=lambda deployer: deployer.name)


def add(transaction: Transaction, deployer: DeployerRecord) -> None:
    check_name("deployer", deployer.name)
    if deployer.name == LOCAL.name and deployer.flavor != LOCAL.flavor:
        raise DeploymentError(f"the deployer {LOCAL.name!r} has the flavor {LOCAL.flavor}; choose another name")
    if DEPLOYERS.insert(transaction, deployer) or DEPLOYERS.find(transaction, deployer.name) == deployer:
        return
    raise DeploymentError(f"there is a deployer {deployer.name!r} already; choose another name, or update that one")


def update(transaction: Transaction, deployer: DeployerRecord) -> None:
    """Give a deployer other settings."""
    known = find(transaction, deployer.name, lock=True)
    if known.flavor != deployer.flavor:
        raise DeploymentError(
            f"deployer {deployer.name!r} has the flavor {known.flavor}, and keeps it: register another one"
        )
    if not DEPLOYERS.insert(transaction, deployer):
        DEPLOYERS.update(transaction, replace(known, settings=deployer.settings), ("settings",))


def delete(transaction: Transaction, name: str, *, force: bool) -> None:
    """Forget a deployer; without `force` only one none of whose deployments is there, or should be."""
    deployer = find(transaction, name, lock=True)
    if deployer is LOCAL:
        raise DeploymentError(f"the deployer {name!r} is always there")
    there = [
        deployment.name
        for deployment in DEPLOYMENTS.where(transaction, "deployer = ? ORDER BY name", name)
        if deployment.wanted is not Status.ABSENT or deployment.instance or deployment.incoming
    ]
    if there and not force:
        names = ", ".join(there[:5]) + (" and more" if len(there) > 5 else "")
        raise DeploymentError(
            f"deployer {name!r} manages {names}; deprovision what it manages first, or delete it with --force, which "
            "leaves behind what runs"
        )
    DEPLOYERS.delete(transaction, name)
