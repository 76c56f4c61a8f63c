"""Files of a node: read with plain errors, replaced in one step, so that a crash leaves the old text or the new."""

# Copyright (c) 2026 the kubekeel authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
from __future__ import annotations

import errno
import os
import stat
import tempfile

_NO_FILE = "%s is not a regular file"
_NO_LINK = "; kubekeel follows no link here. Put a file in its place"


class NodeError(Exception):
    """What the operator has to be told: which file or unit, what is wrong with it, what to do."""

    def __init__(self, message: str, **result: object) -> None:
        """Take the sentence, and what else belongs into the result of the module that fails of it."""
        super().__init__(message)
        self.result = result


def read(path: str, follow: bool = False) -> str | None:
    """Return a file's text, None where there is none. Bytes that are not UTF-8 survive a later C(write).

    Args:
        path: the file.
        follow: whether it may be a link; only for what is never written.

    Raises:
        NodeError: it is no regular file, or cannot be read.
    """
    try:
        # What was looked at is what is read, whoever may write to the folder; a pipe is not waited for.
        more = os.O_NONBLOCK | (0 if follow else os.O_NOFOLLOW)
        opener = lambda name, flags: os.open(name, flags | more)  # noqa: E731
        with open(path, encoding="utf-8", errors="surrogateescape", newline="", opener=opener) as file:
            _refuse_all_but_files(path, os.fstat(file.fileno()), follow)
            return file.read()
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) in (errno.ELOOP, errno.EISDIR):
            raise NodeError(_NO_FILE % path + ("" if follow else _NO_LINK)) from error
        raise NodeError("%s cannot be read: %s" % (path, _why(error))) from error


def write(path: str, text: str, mode: int = 0o644, sync: bool = True) -> None:
    """Replace a file, keeping its owner and mode; a new one belongs to root and gets C(mode).

    Without C(sync) it is whole for every reader all the same, but a power cut may leave nothing of it.

    Raises:
        NodeError: the folder is missing, read-only or full. The file is as it was.
    """
    folder, name = os.path.split(path)
    temporary = None
    try:
        try:
            before = os.lstat(path)
            _refuse_all_but_files(path, before)
            mode, owner, group = stat.S_IMODE(before.st_mode), before.st_uid, before.st_gid
        except FileNotFoundError:
            owner, group = os.geteuid(), os.getegid()
        descriptor, temporary = tempfile.mkstemp(prefix=".%s." % name, suffix=".kubekeel", dir=folder)
        with os.fdopen(descriptor, "w", encoding="utf-8", errors="surrogateescape", newline="") as file:
            file.write(text)
            file.flush()
            os.fchmod(descriptor, mode)
            os.fchown(descriptor, owner, group)
            if sync:
                os.fsync(descriptor)
        os.rename(temporary, path)
        temporary = None
        if sync:
            _sync_folder(folder)
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be written: %s" % (path, _why(error))) from error
    finally:
        if temporary:
            os.unlink(temporary)


def remove(path: str) -> None:
    """Remove a file, where it is there.

    Raises:
        NodeError: it cannot be removed.
    """
    try:
        os.unlink(path)
        _sync_folder(os.path.dirname(path))
    except FileNotFoundError:
        return
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be removed: %s" % (path, _why(error))) from error


def mode(path: str) -> int:
    """Return the permissions of a file.

    Raises:
        NodeError: it is not there, or cannot be read.
    """
    try:
        return stat.S_IMODE(os.lstat(path).st_mode)
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be read: %s" % (path, _why(error))) from error


def missing_folders(path: str) -> list[str]:
    """Return the folders on the way to a file that are not there, outermost first."""
    found: list[str] = []
    folder = os.path.dirname(path)
    while folder and not os.path.isdir(folder):
        found.insert(0, folder)
        folder = os.path.dirname(folder)
    return found


def remove_empty_folder(path: str) -> None:
    """Remove a folder, where it is there and nothing is in it.

    Raises:
        NodeError: it cannot be removed.
    """
    try:
        os.rmdir(path)
    except (OSError, ValueError) as error:
        if getattr(error, "errno", None) not in (errno.ENOENT, errno.ENOTEMPTY, errno.EEXIST):
            raise NodeError("%s cannot be removed: %s" % (path, _why(error))) from error


def make_folder(path: str, mode: int) -> None:
    """Create a folder and those above it.

    Raises:
        NodeError: it cannot be created.
    """
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
    except (OSError, ValueError) as error:
        raise NodeError("%s cannot be created: %s" % (path, _why(error))) from error


def _refuse_all_but_files(path: str, found: os.stat_result, follow: bool = False) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise NodeError(_NO_FILE % path + ("" if follow else _NO_LINK))


def _why(error: Exception) -> str:
    """Return what is wrong; a name with a byte 0 is a ValueError, which has no C(strerror)."""
    return getattr(error, "strerror", None) or str(error)


def _sync_folder(folder: str) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
