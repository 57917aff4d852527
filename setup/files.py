"""The only door to the volume: every write is staged beside its target and then renamed into place.

All paths are opened below the output directory's descriptor and no symbolic link is followed on the
way (`folders`), so that nothing on the volume can lead a write elsewhere.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from setup import folders, lock
from setup.errors import VolumeError
from setup.model import File

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

STAGED = ".avatar-setup-new"

# What link(2) answers on file systems without hard links.
_NO_LINKS = (errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV)


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
                f"the output directory {self.path} cannot be opened ({folders.reason(error)}): "
                f"create it first (mkdir -p) and mount it, as in 'docker run -v /app/avatar:/out avatar-setup'"
            ) from None

    def close(self) -> None:
        os.close(self._root)

    def read(self, path: str) -> bytes | None:
        """The bytes of a regular file, None where there is none; VolumeError for anything else."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            with folders.parent(self._root, path) as (folder, name):
                descriptor = os.open(name, flags, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(path, "read", error) from None
        try:
            folders.require_regular(path, os.fstat(descriptor))
            with os.fdopen(descriptor, "rb", closefd=False) as file:
                return file.read()
        except OSError as error:
            raise self._error(path, "read", error) from None
        finally:
            os.close(descriptor)

    def owner(self) -> tuple[int, int]:
        """User and group id of the output directory."""
        status = os.fstat(self._root)
        return status.st_uid, status.st_gid

    @contextlib.contextmanager
    def locked(self, places: Iterable[str]) -> Iterator[None]:
        """Holds the volume's lock; raises Busy, naming the holder, when another run has it.

        While it is held the lock file carries a line about the holder; at rest it is empty. What an
        interrupted run left staged in `places` is removed first, and what this one leaves by an error.
        """
        descriptor = lock.take(self._root, self.path)
        try:
            lock.sign(descriptor)
            self.sweep(places)
            yield
        except BaseException:
            with contextlib.suppress(VolumeError):
                self.sweep(places)
            raise
        finally:
            lock.release(descriptor)

    def sweep(self, places: Iterable[str]) -> None:
        """Removes what is staged in these folders."""
        for place in places:
            name = ""
            try:
                with folders.parent(self._root, os.path.join(place, "-")) as (folder, _):
                    for name in os.listdir(folder):
                        if name.startswith(".") and name.endswith(STAGED):
                            os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._error(os.path.join(place, name), "removed", error) from None

    def stage(self, files: Iterable[File], *, fresh: bool = False, backup: bool = False) -> list[Staged]:
        """Writes each file under its temporary name, with its final mode from the first moment, durably.

        `fresh` files may replace nothing but an empty one; `backup` keeps what they replace as FILE.bak.
        """
        staged, opened, path = [], [], ""
        try:
            for file in files:
                path = file.path
                with folders.parent(self._root, path, create=True) as (folder, name):
                    opened.append(_write(file, folder, _staged_name(name)))
                staged.append(Staged(path, fresh, backup))
            _make_durable(opened)
        except OSError as error:
            raise self._error(path, "written", error) from None
        finally:
            for descriptor in opened:
                os.close(descriptor)
        return staged

    def publish(self, staged: Iterable[Staged]) -> None:
        """Renames staged files into place in their order, then makes the directories durable."""
        places: dict[str, str] = {}
        path = ""
        try:
            for one in staged:
                path = one.path
                with folders.parent(self._root, path) as (folder, name):
                    self._publish_one(one, folder, name)
                places[os.path.dirname(path)] = path
            for place in sorted(places):
                path = places[place]
                with folders.parent(self._root, os.path.join(place, "-")) as (folder, _):
                    if not folders.sync(folder):
                        self._warn("it cannot make directories durable; a power cut just now may undo this run")
        except OSError as error:
            raise self._error(path, "written", error) from None

    def replace(self, file: File) -> None:
        """Publishes one file at once, over whatever it was before."""
        self.publish(self.stage([file]))

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

    def _publish_one(self, one: Staged, folder: int, name: str) -> None:
        there = _status(name, folder)
        if there is not None:
            folders.require_regular(one.path, there)
        if one.fresh and there is not None and there.st_size:
            raise VolumeError(f"{one.path} has been filled in the meantime: run the same command again")
        staged = _staged_name(name)
        if one.fresh and there is None:
            if _linked(one.path, folder, staged, name):
                os.unlink(staged, dir_fd=folder)
                return
            self._warn("it has no hard links; new secrets are renamed into place under the lock instead")
        elif one.backup and there is not None:
            _keep(one.path, folder, name)
        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _warn(self, text: str) -> None:
        warning = f"the volume's file system promises less: {text}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _error(self, path: str, verb: str, error: OSError) -> VolumeError:
        return folders.explained(self._root, self.path, path, verb, error)


def _staged_name(name: str) -> str:
    return f".{name.lstrip('.')}{STAGED}"


def _write(file: File, folder: int, temporary: str) -> int:
    """Writes a file under its temporary name and returns its descriptor, still open."""
    with contextlib.suppress(FileNotFoundError):
        os.unlink(temporary, dir_fd=folder)
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(temporary, flags, file.mode, dir_fd=folder)
    try:
        if stat.S_IMODE(os.fstat(descriptor).st_mode) != file.mode:  # a umask took some bits away
            os.fchmod(descriptor, file.mode)
        with os.fdopen(descriptor, "wb", closefd=False) as out:
            out.write(file.data)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _make_durable(descriptors: list[int]) -> None:
    """Makes files durable together: told about all of them first, a journal commits once instead of for each."""
    for descriptor in descriptors:
        with contextlib.suppress(OSError):  # only a hint: it starts writing back, and does not wait
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    for descriptor in descriptors:
        os.fsync(descriptor)


def _keep(path: str, folder: int, name: str) -> None:
    """Keeps a file that is about to be replaced under NAME.bak."""
    kept = f"{name}.bak"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(kept, dir_fd=folder)
    if not _linked(path, folder, name, kept):
        os.rename(name, kept, src_dir_fd=folder, dst_dir_fd=folder)


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


def _status(name: str, folder: int) -> os.stat_result | None:
    try:
        return os.stat(name, dir_fd=folder, follow_symlinks=False)
    except FileNotFoundError:
        return None
