"""The lock of a volume: one run writes at a time, and its holder is named to the loser."""

from __future__ import annotations

import contextlib
import fcntl
import os
import time

from setup.errors import Busy, VolumeError
from setup.typed import TYPE_CHECKING
from setup.volume import directories
from setup.volume.layout import LOCK

if TYPE_CHECKING:
    from collections.abc import Iterator


def take(root: int, top: str) -> int:
    """Take the lock and return its descriptor; raise Busy if another run has it."""
    descriptor = _open(root, top)
    try:
        _require_ours(os.fstat(descriptor))
        _lock(descriptor, fcntl.LOCK_EX)
    except BaseException as error:
        directories.close(descriptor)
        if isinstance(error, OSError):
            raise directories.explained(root, top, LOCK, "locked", error) from None
        raise
    return descriptor


def require_free(root: int) -> None:
    """Raise Busy while another run has the lock; write nothing, and count a volume that cannot answer as free."""
    with contextlib.suppress(OSError, VolumeError):
        descriptor = os.open(LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=root)
        try:
            _lock(descriptor, fcntl.LOCK_SH)
        finally:
            directories.close(descriptor)


@contextlib.contextmanager
def alone(folder: str) -> Iterator[None]:
    """Lock a folder that is no volume, against others who also lock it; leave no file in it."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with contextlib.suppress(OSError):  # a share that cannot lock: there nobody else is kept out
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise Busy(f"another export is in progress in {folder}: run the same command again") from None
        yield
    finally:
        directories.close(descriptor)


def _open(root: int, top: str) -> int:
    """Open the lock file, or create it: the first write, which shows what the volume can do."""
    flags = os.O_RDWR | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        with contextlib.suppress(FileNotFoundError):
            return os.open(LOCK, flags, dir_fd=root)
        descriptor = os.open(LOCK, flags | os.O_CREAT, 0o600, dir_fd=root)
        try:
            directories.require_mode(descriptor, 0o600, LOCK)  # a umask may have taken the owner's bits
        except BaseException:
            directories.close(descriptor)
            os.unlink(LOCK, dir_fd=root)  # nothing can be locked here: as if this run had not been
            raise
    except OSError as error:
        raise directories.explained(root, top, LOCK, "opened", error) from None
    return descriptor


def sign(descriptor: int) -> None:
    """Write into the lock file who holds it; otherwise it is empty. On a full disk the lock holds all the same."""
    _write(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n")


def release(descriptor: int) -> None:
    """Release the lock; keep its file, so that two runs never lock two different files."""
    _write(descriptor, "")
    directories.close(descriptor)


def _require_ours(status: os.stat_result) -> None:
    """Raise VolumeError for a file with a second name: `sign` and `release` would overwrite somebody else's file."""
    directories.require_regular(LOCK, status)
    if status.st_nlink != 1:
        raise VolumeError(f"{LOCK} has other names (hard links): remove it and run the same command again")


def _lock(descriptor: int, how: int) -> None:
    try:
        for pause in (0.01, 0.02, 0.04, 0.08, 0.0):
            try:
                return fcntl.flock(descriptor, how | fcntl.LOCK_NB)
            except BlockingIOError:  # somebody who has not signed may only be asking, as `require_free` does
                if not pause or os.pread(descriptor, 1, 0):
                    raise
            time.sleep(pause)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another run"
        advice = "wait for it to end"
        container = holder.partition("process 1 on ")[2]  # its host name is its id
        if container:
            advice += f", or stop it (docker stop {container}),"
        raise Busy(f"another run is working on this volume ({holder}): {advice} and run again") from None
    except OSError as error:
        raise VolumeError(
            f"the volume cannot be locked ({directories.reason(error)}): "
            "use a local volume, or a network one that supports flock"
        ) from None


def _write(descriptor: int, text: str) -> None:
    with contextlib.suppress(OSError):
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, text.encode(), 0)
