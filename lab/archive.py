"""Files of a node as data, and the tar archive that carries them there."""

import io
import tarfile
from collections.abc import Iterable
from dataclasses import dataclass

EXECUTABLE = 0o755
READABLE = 0o644
SECRET = 0o600


@dataclass(frozen=True)
class File:
    """A regular file; ``path`` is absolute without the leading slash."""

    path: str
    content: bytes
    mode: int = READABLE
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Directory:
    """A folder that needs a mode of its own, or that nothing else creates."""

    path: str
    mode: int = EXECUTABLE
    uid: int = 0
    gid: int = 0


@dataclass(frozen=True)
class Link:
    """A symbolic link."""

    path: str
    target: str


Entry = File | Directory | Link


def pack(entries: Iterable[Entry], modified: float = 0.0) -> bytes:
    """Return an uncompressed tar archive of the entries, in their order.

    ``modified`` is the modification time of all of them in seconds since 1970.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for entry in entries:
            member = tarfile.TarInfo(entry.path)
            member.mtime = int(modified)
            match entry:
                case File(content=content):
                    member.size, member.mode = len(content), entry.mode
                    member.uid, member.gid = entry.uid, entry.gid
                    archive.addfile(member, io.BytesIO(content))
                case Directory():
                    member.type, member.mode = tarfile.DIRTYPE, entry.mode
                    member.uid, member.gid = entry.uid, entry.gid
                    archive.addfile(member)
                case Link(target=target):
                    member.type, member.linkname = tarfile.SYMTYPE, target
                    archive.addfile(member)
        end = archive.offset + 2 * tarfile.BLOCKSIZE
    # Not what tarfile fills its last record up with: podman stops reading at the two empty blocks, and where
    # more comes later than that it fails (a broken pipe).
    return buffer.getvalue()[:end]
