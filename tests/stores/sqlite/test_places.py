from pathlib import Path

import pytest

from asgipipe.errors import StoreError
from asgipipe.stores.sqlite.places import file_system, refuse_network

MOUNTS = r"""22 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
30 22 0:26 / /net rw,relatime shared:2 - nfs4 server:/export rw,vers=4.2
31 22 0:27 / /net/local rw - xfs /dev/vdb rw
32 22 0:28 / /with\040space rw - fuse.sshfs me@host: rw
33 22 0:29 / /share rw master:1 propagate_from:2 - cifs //server/share rw
34 22 0:30 / /twice rw - nfs server:/a rw
35 34 0:31 / /twice rw - tmpfs tmpfs rw
36 22 0:32 / /c rw - 9p drvfs rw
"""


@pytest.fixture
def mounts(tmp_path: Path) -> Path:
    table = tmp_path / "mountinfo"
    table.write_text(MOUNTS)
    return table


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/srv/store.db", "ext4"),
        ("/net/store.db", "nfs4"),
        ("/network/store.db", "ext4"),
        ("/net/local/deep/store.db", "xfs"),
        ("/with space/store.db", "fuse.sshfs"),
        ("/twice/store.db", "tmpfs"),
    ],
)
def test_the_innermost_mount_counts(mounts: Path, path: str, kind: str) -> None:
    """The type is that of the deepest mount above the path, the last one of several on one folder."""
    assert file_system(Path(path), mounts) == kind


@pytest.mark.parametrize("path", ["/net/x/store.db", "/with space/store.db", "/share/store.db", "/c/store.db"])
def test_network_file_systems_are_refused(mounts: Path, path: str) -> None:
    """A place on a network file system is refused, with its type and two ways out."""
    with pytest.raises(StoreError, match=r"network file system \(.+\).*store_url.*local disk.*postgresql://") as caught:
        refuse_network(Path(path), mounts)
    assert path in str(caught.value)


def test_a_link_is_followed(mounts: Path, tmp_path: Path) -> None:
    """A link that leads to a network file system is one."""
    link = tmp_path / "link"
    link.symlink_to("/net")
    with pytest.raises(StoreError):
        refuse_network(link / "store.db", mounts)


@pytest.mark.parametrize("path", ["/srv/store.db", "/net/local/store.db", "/twice/store.db"])
def test_local_disks_are_taken(mounts: Path, path: str) -> None:
    """Local disks are not refused, and neither is anything where the system does not tell."""
    refuse_network(Path(path), mounts)
    refuse_network(Path("/net/store.db"), mounts.with_name("nowhere"))
