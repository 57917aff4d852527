"""One file below a directory's descriptor: written under a temporary name, made durable, linked, kept."""

from __future__ import annotations

import contextlib
import errno
import os

from setup.errors import VolumeError
from setup.typed import TYPE_CHECKING
from setup.volume import directories
from setup.volume.layout import BACKUP_SUFFIX, File, staged_name

if TYPE_CHECKING:
    from collections.abc import Iterable

# What link(2) answers on file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


def write(file: File, folder: int, name: str) -> int:
    """Write a file under its temporary name, with its final mode from the first moment; return its descriptor."""
    temporary = _free(folder, name)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, file.mode, dir_fd=folder)
    try:
        directories.require_mode(descriptor, file.mode, file.path)  # a umask took some bits away
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            out.write(file.data)
    except BaseException:
        directories.close(descriptor)
        raise
    return descriptor


def make_durable(descriptors: Iterable[int]) -> None:
    """Make files durable together: the journal, given all of them first, commits once instead of for each."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # only a hint: it starts writing back, and does not wait
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for descriptor in descriptors:
        os.fsync(descriptor)


def back_up(folder: int, name: str) -> None:
    """Keep a file that will be replaced as NAME.bak; one of the two exists at every moment."""
    kept = f"{name}{BACKUP_SUFFIX}"
    existing = status(kept, folder)
    if existing is not None:
        directories.require_regular(kept, existing)
    if linked(kept, folder, name, _free(folder, kept)):
        os.rename(staged_name(kept), kept, src_dir_fd=folder, dst_dir_fd=folder)
        return
    source = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(source, "rb") as file:
        copy = write(File(kept, file.read(), os.fstat(source).st_mode & 0o777), folder, kept)
    try:
        os.fsync(copy)
    finally:
        directories.close(copy)
    os.rename(staged_name(kept), kept, src_dir_fd=folder, dst_dir_fd=folder)


def linked(path: str, folder: int, name: str, new: str) -> bool:
    """Give a file a second name without replacing anything; return False without hard links."""
    try:
        os.link(name, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError:
        raise VolumeError(f"{path} appeared in the meantime: run the same command again") from None
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    return True


def status(name: str, folder: int) -> os.stat_result | None:
    """Return the status of a name without following a link; None if it does not exist."""
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _free(folder: int, name: str) -> str:
    """Return a temporary name beside a name, after removing what has it."""
    temporary = staged_name(name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    return temporary
