"""Directories below the output directory: opened, and made, without following a link on the way."""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from setup.errors import VolumeError
from setup.typed import TYPE_CHECKING
from setup.volume.layout import folder_mode

if TYPE_CHECKING:
    from collections.abc import Iterator

# What fsync(2) answers for a directory where that means nothing.
_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)
_NOT_REGULAR = (errno.EISDIR, errno.ENXIO, errno.ENODEV)
# What fchmod(2) answers on a file system without modes, or to somebody else than the owner.
_NO_MODES = (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL)


@contextlib.contextmanager
def parent(root: int, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """Return the descriptor of a path's directory and the last name; `create` makes missing folders."""
    *folders, name = split(path)
    descriptor, walked = os.dup(root), ""
    try:
        for folder in folders:
            walked = f"{walked}/{folder}".lstrip("/")
            below = _open(descriptor, folder, walked, create)
            close(descriptor)
            descriptor = below
        yield descriptor, name
    finally:
        close(descriptor)


def split(path: str) -> list[str]:
    """Return the folders of a path and its last name; raise VolumeError for one that leads elsewhere."""
    names = path.split("/")
    if not {"", ".", ".."}.isdisjoint(names):
        raise VolumeError(f"{path} is not a path below the output directory")
    return names


def _open(above: int, name: str, path: str, create: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    mode = folder_mode(path)
    if create:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=above)
            sync(above)
    try:
        descriptor = os.open(name, flags, dir_fd=above)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENOTDIR):
            raise VolumeError(f"{path} is not a directory (or a link to one): move it away and run again") from None
        raise
    if create and _mode_differs(descriptor, mode):
        try:
            require_mode(descriptor, mode, path)
        except BaseException:
            close(descriptor)
            raise
    return descriptor


def close(descriptor: int) -> None:
    """Close a descriptor that may be closed already, by a call that a signal interrupted.

    No error of the disk is lost: what must last was synced before.
    """
    with contextlib.suppress(OSError):
        os.close(descriptor)


def _mode_differs(descriptor: int, mode: int) -> bool:
    """Tell whether a directory lacks bits, or a private one has too many; public ones may have more."""
    current = _mode(descriptor)
    return current != mode if mode == 0o700 else current & mode != mode


def require_mode(descriptor: int, mode: int, path: str) -> None:
    """Give a file or directory exactly this mode; raise VolumeError if it cannot have it."""
    if _mode(descriptor) == mode:
        return
    try:
        os.fchmod(descriptor, mode)
    except OSError as error:
        if error.errno not in _NO_MODES:
            raise
    if _mode(descriptor) == mode:  # some file systems ignore it in silence
        return
    owner = os.fstat(descriptor).st_uid
    if os.geteuid() not in (0, owner):
        raise VolumeError(
            f"{path} belongs to user {owner} and is open to others: run as its owner, as in "
            f"'docker run --user {owner} ...', or give it to user {os.geteuid()} (chown -R {os.geteuid()})"
        )
    raise VolumeError(
        "the volume's file system keeps no file modes (vfat, exfat and some network shares do not), so every user of "
        "the host could read the secrets: use a directory on ext4, xfs or btrfs, or a Docker volume, as in "
        "'docker run -v avatar:/out avatar-setup'"
    )


def _mode(descriptor: int) -> int:
    return stat.S_IMODE(os.fstat(descriptor).st_mode)


def names(root: int, folder: str) -> list[str]:
    """List a folder, sorted; return nothing if it does not exist."""
    try:
        with parent(root, f"{folder}/-".lstrip("/")) as (descriptor, _):
            return sorted(os.listdir(descriptor))
    except FileNotFoundError:
        return []


def remove(root: int, path: str) -> None:
    """Remove a file, or a folder with its contents, durably; remove a link instead of following it."""
    with contextlib.suppress(FileNotFoundError), parent(root, path) as (folder, name):
        _remove(folder, name)
        sync(folder)


def _remove(above: int, name: str) -> None:
    try:
        folder = os.open(name, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=above)
    except NotADirectoryError:
        os.unlink(name, dir_fd=above)
        return
    try:
        for below in os.listdir(folder):
            _remove(folder, below)
    finally:
        os.close(folder)
    os.rmdir(name, dir_fd=above)


def sync(descriptor: int) -> bool:
    """Make a directory's entries durable; return False on a file system that cannot."""
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_DIRECTORY_SYNC:
            raise
        return False
    return True


def require_regular(path: str, status: os.stat_result) -> None:
    """Raise VolumeError for a directory, a link, a pipe or a device in a file's place."""
    if not stat.S_ISREG(status.st_mode):
        raise _not_regular(path)


def _not_regular(path: str) -> VolumeError:
    return VolumeError(f"{path} is not a regular file: move it away and run the same command again")


def explained(root: int, top: str, path: str, verb: str, error: OSError) -> VolumeError:
    """Explain a failed call on a file to the operator, with what to type."""
    if error.errno == errno.ELOOP:
        return VolumeError(f"{path} is a symbolic link: replace it with the file itself and run again")
    if error.errno in _NOT_REGULAR:
        return _not_regular(path)
    if error.errno == errno.EACCES:
        return VolumeError(f"{os.path.join(top, path)} cannot be {verb} ({reason(error)}){_whose(root)}")
    hint = {
        errno.ENOSPC: ": free some space on the volume (or inodes: see df -i) and run the same command again",
        errno.EDQUOT: ": raise the quota and run the same command again",
        errno.EPERM: ": it is immutable (lsattr), or another user owns it in a directory like /tmp (ls -l): "
        "make it ordinary (chattr -i -a) or move it away, and run the same command again",
        errno.EROFS: ": mount the volume without :ro",
        errno.EBUSY: ": it is a mount point; mount the directory as a whole, not single files in it",
    }.get(error.errno or 0, ": nothing is half-written; run the same command again")
    return VolumeError(f"{os.path.join(top, path)} cannot be {verb} ({reason(error)}){hint}")


def _whose(root: int) -> str:
    """Say what to type if rights are missing: as the directory's owner, or because somebody else owns a file in it."""
    try:
        status = os.fstat(root)
    except OSError:
        return ": run as the directory's owner"
    owner = f"{status.st_uid}:{status.st_gid}"
    if os.geteuid() == status.st_uid:
        return (
            f": another user owns it: give everything in the directory to its owner, as in 'sudo chown -R {owner} ...'"
        )
    return f": run as the directory's owner, as in 'docker run --user {owner} ...'"


def reason(error: OSError) -> str:
    """Return the system's word for an error."""
    return (error.strerror or "input/output error").lower()
