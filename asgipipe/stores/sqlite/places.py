"""Where files of a store may be: on a disk of this machine, in folders that nobody else reads."""

import os
import re
from pathlib import Path

from asgipipe.errors import StoreError

MOUNTS = Path("/proc/self/mountinfo")

_NETWORK = re.compile(
    r"(nfs\d?|cifs|smb\d?|smbfs|9p|ncpfs|afs|coda|ceph|glusterfs|lustre|beegfs|gpfs|ocfs2|gfs2?"
    r"|fuse\.(sshfs|s3fs|rclone|glusterfs|ceph|gcsfuse|blobfuse2?|goofys|juicefs|davfs2?|curlftpfs))\Z"
)
_ESCAPED = re.compile(r"\\([0-7]{3})")


def refuse_network(path: Path, mounts: Path = MOUNTS) -> None:
    """Raise StoreError when `path` is on a network file system; where the system does not tell, nothing is refused.

    SQLite's log needs memory shared between its readers, and locks that hold: https://www.sqlite.org/wal.html
    """
    kind = file_system(path, mounts)
    if kind is not None and _NETWORK.match(kind):
        raise StoreError(
            f"the store {path} is on a network file system ({kind}), whose locks SQLite cannot rely on: "
            "set store_url to a local disk, or to postgresql://..."
        )


def file_system(path: Path, mounts: Path = MOUNTS) -> str | None:
    """Return the type of the file system that holds `path`, or will; None when the system does not tell."""
    try:
        lines = mounts.read_text(errors="surrogateescape").splitlines()
    except OSError:
        return None
    place = path.resolve()
    found, depth = None, -1
    for line in lines:
        fields, _, kind = line.partition(" - ")
        mount = Path(_ESCAPED.sub(lambda code: chr(int(code[1], 8)), fields.split(" ")[4]))
        # Of mounts on one folder, the last one is on top.
        if len(mount.parts) >= depth and place.is_relative_to(mount):
            found, depth = kind.partition(" ")[0], len(mount.parts)
    return found


def make_folder(folder: Path) -> None:
    """Make a folder that only this user may read, unless it is there."""
    if not folder.is_dir():
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)
        flush(folder.parent)


def flush(folder: Path) -> None:
    """Have the names in a folder outlive a loss of power, which takes more than flushing the files."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
