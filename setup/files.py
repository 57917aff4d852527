"""The only module that changes the disk: every write is staged beside its target and then renamed.

All paths are opened below the output directory's descriptor and no symbolic link is followed on the
way, so that nothing on the volume can lead a write elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from setup.errors import Busy, VolumeError
from setup.model import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

LOCK = ".deployment-state.lock"
STAGED = ".avatar-setup-new"
PRIVATE_DIRECTORIES = (".secrets",)

# What link(2) answers on file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)
# What fsync(2) answers for a directory where that means nothing.
_NO_DIRECTORY_SYNC = (errno.EINVAL, errno.EBADF, errno.ENOTSUP, errno.EACCES)


class Staged(NamedTuple):
    """A file that is complete and durable under its temporary name."""

    path: str
    fresh: bool  # it may take the place of nothing but an empty file
    backup: bool = False


class Volume:
    """The output directory, opened once; `warnings` collects where its file system promises less."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.warnings: list[str] = []
        try:
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise VolumeError(
                f"the output directory {self.path} cannot be opened ({_reason(error)}): "
                f"create it first (mkdir -p) and mount it, as in 'docker run -v /app/avatar:/out avatar-setup'"
            ) from None

    def close(self) -> None:
        os.close(self._root)

    def read(self, path: str) -> bytes | None:
        """The bytes of a regular file, None where there is none; VolumeError for anything else."""
        try:
            with self._parent(path) as (folder, name):
                descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
                with os.fdopen(descriptor, "rb") as file:
                    self._require_regular(path, os.fstat(descriptor))
                    return file.read()
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(path, "read", error) from None

    def owner(self) -> tuple[int, int]:
        """User and group id of the output directory."""
        status = os.fstat(self._root)
        return status.st_uid, status.st_gid

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Holds the volume's lock; raises Busy, naming the holder, when another run has it.

        While it is held the lock file carries a line about the holder; at rest it is empty.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(LOCK, flags, 0o600, dir_fd=self._root)
        except OSError as error:
            raise self._error(LOCK, "opened", error) from None
        try:
            self._require_regular(LOCK, os.fstat(descriptor))
            _lock(descriptor)
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {os.uname().nodename}\n".encode(), 0)
            try:
                yield
            finally:
                os.ftruncate(descriptor, 0)
        finally:
            os.close(descriptor)

    def stage(self, files: Iterable[File], *, fresh: bool = False, backup: bool = False) -> list[Staged]:
        """Writes each file under its temporary name, with its final mode from the first moment, durably.

        `fresh` files may replace nothing but an empty one; `backup` keeps what they replace as FILE.bak.
        """
        staged: list[Staged] = []
        try:
            for file in files:
                staged.append(Staged(file.path, fresh, backup))
                self._write_staged(file)
        except BaseException:
            self.discard(staged)
            raise
        return staged

    def publish(self, staged: Iterable[Staged]) -> None:
        """Renames staged files into place in their order, then makes the directories durable."""
        folders: set[str] = set()
        for one in staged:
            try:
                with self._parent(one.path) as (folder, name):
                    self._publish_one(one, folder, name)
            except OSError as error:
                raise self._error(one.path, "written", error) from None
            folders.add(os.path.dirname(one.path))
        for path in sorted(folders):
            self._sync_directory(path)

    def replace(self, file: File) -> None:
        """Publishes one file at once, over whatever it was before."""
        staged = self.stage([file])
        try:
            self.publish(staged)
        except BaseException:
            self.discard(staged)
            raise

    def discard(self, staged: Iterable[Staged]) -> None:
        """Removes staged files that will not be published."""
        for one in staged:
            with contextlib.suppress(OSError), self._parent(one.path) as (folder, name):
                os.unlink(_staged_name(name), dir_fd=folder)

    def sweep(self, folders: Iterable[str]) -> None:
        """Removes what an interrupted run left staged in these folders."""
        for path in folders:
            with contextlib.suppress(FileNotFoundError), self._parent(os.path.join(path, "-")) as (folder, _):
                for name in os.listdir(folder):
                    if name.startswith(".") and name.endswith(STAGED):
                        os.unlink(name, dir_fd=folder)

    def check_writable(self) -> None:
        """Raises VolumeError, with the command to type, unless files can be made in the directory."""
        if os.access(self.path, os.W_OK | os.X_OK):
            return
        uid, gid = self.owner()
        raise VolumeError(
            f"the output directory {self.path} is not writable for user {os.geteuid()} (it belongs to {uid}:{gid}): "
            f"mount it without :ro and run as its owner, as in 'docker run --user {uid}:{gid} -v /app/avatar:/out "
            "avatar-setup'"
        )

    def _write_staged(self, file: File) -> None:
        try:
            with self._parent(file.path, create=True) as (folder, name):
                temporary = _staged_name(name)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=folder)
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
                with os.fdopen(os.open(temporary, flags, file.mode, dir_fd=folder), "wb") as out:
                    if stat.S_IMODE(os.fstat(out.fileno()).st_mode) != file.mode:  # a umask took some bits away
                        os.fchmod(out.fileno(), file.mode)
                    out.write(file.data)
                    out.flush()
                    os.fsync(out.fileno())
        except OSError as error:
            raise self._error(file.path, "written", error) from None

    def _publish_one(self, one: Staged, folder: int, name: str) -> None:
        there = _status(name, folder)
        if there is not None:
            self._require_regular(one.path, there)
        if one.fresh and there is not None and there.st_size:
            raise VolumeError(f"{one.path} has been filled in the meantime: run the same command again")
        staged = _staged_name(name)
        if one.fresh and there is None:
            if self._linked(one.path, folder, staged, name):
                os.unlink(staged, dir_fd=folder)
                return
            self._warn("it has no hard links; new secrets are renamed into place under the lock instead")
        elif one.backup and there is not None:
            self._keep(one.path, folder, name)
        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _keep(self, path: str, folder: int, name: str) -> None:
        """Keeps a file that is about to be replaced under NAME.bak."""
        kept = f"{name}.bak"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(kept, dir_fd=folder)
        if not self._linked(path, folder, name, kept):
            os.rename(name, kept, src_dir_fd=folder, dst_dir_fd=folder)

    @staticmethod
    def _linked(path: str, folder: int, name: str, new: str) -> bool:
        """Gives a file a second name, in a way that cannot replace anything; False without hard links."""
        try:
            os.link(name, new, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
        except FileExistsError:
            raise VolumeError(f"{path} appeared in the meantime: run the same command again") from None
        except OSError as error:
            if error.errno in _NO_LINKS:
                return False
            raise
        return True

    @contextlib.contextmanager
    def _parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        """The descriptor of a path's directory and the last name, no link followed on the way."""
        *folders, name = path.split("/")
        if not {"", ".", ".."}.isdisjoint((*folders, name)):
            raise VolumeError(f"{path} is not a path below the output directory")
        descriptor, walked = os.dup(self._root), ""
        try:
            for folder in folders:
                walked = f"{walked}/{folder}".lstrip("/")
                below = self._open_directory(descriptor, folder, walked, create)
                os.close(descriptor)
                descriptor = below
            yield descriptor, name
        finally:
            os.close(descriptor)

    def _open_directory(self, parent: int, name: str, path: str, create: bool) -> int:
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        mode = 0o700 if path in PRIVATE_DIRECTORIES else 0o755
        if create:
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, mode, dir_fd=parent)
                os.fsync(parent)
        try:
            descriptor = os.open(name, flags, dir_fd=parent)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise VolumeError(f"{path} is not a directory (or a link to one): move it away and run again") from None
            raise
        if create and self._mode_differs(descriptor, mode):
            os.fchmod(descriptor, mode)
        return descriptor

    @staticmethod
    def _mode_differs(descriptor: int, mode: int) -> bool:
        """Whether a directory of ours lacks bits, or a private one has too many; wider public ones stay."""
        there = stat.S_IMODE(os.fstat(descriptor).st_mode)
        return there != mode if mode == 0o700 else there & mode != mode

    def _sync_directory(self, path: str) -> None:
        with self._parent(os.path.join(path, "-")) as (folder, _):
            try:
                os.fsync(folder)
            except OSError as error:
                if error.errno not in _NO_DIRECTORY_SYNC:
                    raise self._error(path or self.path, "synced", error) from None
                self._warn("it cannot make directories durable; a power cut just now may undo this run")

    def _warn(self, text: str) -> None:
        warning = f"the volume's file system promises less: {text}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _require_regular(self, path: str, status: os.stat_result) -> None:
        if not stat.S_ISREG(status.st_mode):
            raise VolumeError(f"{path} is not a regular file: move it away and run the same command again")

    def _error(self, path: str, verb: str, error: OSError) -> VolumeError:
        if error.errno == errno.ELOOP:
            return VolumeError(f"{path} is a symbolic link: replace it by the file itself and run again")
        uid, gid = self.owner()
        hint = {
            errno.ENOSPC: ": free some space on the volume and run the same command again",
            errno.EDQUOT: ": raise the quota and run the same command again",
            errno.EACCES: f": run as the directory's owner, as in 'docker run --user {uid}:{gid} ...'",
            errno.EROFS: ": mount the volume without :ro",
        }.get(error.errno or 0, ": nothing is half-written; run the same command again")
        return VolumeError(f"{os.path.join(self.path, path)} cannot be {verb} ({_reason(error)}){hint}")


def _staged_name(name: str) -> str:
    return f".{name.lstrip('.')}{STAGED}"


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 200, 0).decode(errors="replace").strip() or "another run"
        raise Busy(f"another run is working on this volume ({holder}): wait for it to end and run again") from None
    except OSError as error:
        raise VolumeError(
            f"the volume cannot be locked ({_reason(error)}): use a local volume, or a network one with flock"
        ) from None


def _reason(error: OSError) -> str:
    return (error.strerror or "input/output error").lower()
