"""The only door to the volume: every write is staged beside its target and then renamed into place.

All paths are opened below the output directory's descriptor and no symbolic link is followed on the
way (`folders`), so that nothing on the volume can lead a write elsewhere.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterable, Iterator

from setup.errors import DecisionNeeded, InputError, VolumeError
from setup.typed import NamedTuple
from setup.volume import atomic, directories, lock
from setup.volume.layout import BACKUP_SUFFIX, File, is_staged_name, staged_name


class Staged(NamedTuple):
    """A file that is complete and durable under its temporary name."""

    path: str
    once: bool  # it may take the place of nothing but an empty file
    backup: bool = False


class Volume:
    """The output directory, closed as a context; `warnings` collects where its file system promises less."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.path = os.fspath(path)
        self.warnings: list[str] = []
        self.coming: dict[str, bytes] = {}  # files that this run will write, for what reads them before
        self._settled: set[str] = set()  # folders whose own entries this run has made durable
        self._worked = False  # this run had the lock, so no other run explains what it found
        try:
            self._root = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError as error:
            raise VolumeError(
                f"the output directory {self.path} cannot be opened ({directories.reason(error)}): "
                f"create it first (mkdir -p) and mount it, as in 'docker run -v /app/avatar:/out avatar-setup'"
            ) from None

    def __enter__(self) -> Volume:
        return self

    def __exit__(self, _kind: object, error: object, _trace: object) -> None:
        with contextlib.closing(self):
            if isinstance(error, (InputError, VolumeError, DecisionNeeded)):
                self.require_free()

    def require_free(self) -> None:
        """Raise Busy if another run is in progress: what looked wrong without the lock may be its unfinished work."""
        if not self._worked:
            lock.require_free(self._root)

    def close(self) -> None:
        directories.close(self._root)

    def read(self, path: str) -> bytes | None:
        """Return the bytes of a regular file, None if there is none; raise VolumeError for anything else."""
        return self.read_each([path])[path]

    def read_each(self, paths: Iterable[str]) -> dict[str, bytes | None]:
        """Return what `read` does for each path; the folder of several in a row is opened once."""
        paths = list(paths)
        data = {}
        for path, file in zip(paths, self.files(paths), strict=True):
            data[path] = self.coming.get(path) if file is None else file.data
        return data

    def file(self, path: str) -> File | None:
        """Return a regular file with its mode, None if there is none; raise VolumeError for anything else."""
        return self.files([path])[0]

    def files(self, paths: Iterable[str]) -> list[File | None]:
        """Return what `file` does for each path; the folder of several in a row is opened once."""
        files: list[File | None] = []
        for _, group in itertools.groupby(paths, os.path.dirname):
            members = list(group)
            try:
                with directories.parent(self._root, members[0]) as (folder, _):
                    for path in members:
                        files.append(self._file(folder, path))
            except FileNotFoundError:
                files += [None] * len(members)
            except OSError as error:
                raise self._error(members[0], "read", error) from None
        return files

    def _file(self, folder: int, path: str) -> File | None:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            descriptor = os.open(directories.split(path)[-1], flags, dir_fd=folder)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise self._error(path, "read", error) from None
        try:
            status = os.fstat(descriptor)
            directories.require_regular(path, status)
            with os.fdopen(descriptor, "rb", buffering=0, closefd=False) as file:
                return File(path, file.read(), status.st_mode & 0o777)
        except OSError as error:
            raise self._error(path, "read", error) from None
        finally:
            directories.close(descriptor)

    def status(self, path: str) -> os.stat_result | None:
        """Return mode, owner and times of what exists at a path, without following a link; None if nothing does."""
        return self.status_each([path]).get(path)

    def status_each(self, paths: Iterable[str]) -> dict[str, os.stat_result]:
        """Return what `status` does for each path where something exists."""
        existing = {}
        for place, group in itertools.groupby(paths, os.path.dirname):
            path = place
            try:
                with directories.parent(self._root, os.path.join(place, "-")) as (folder, _):
                    for path in group:
                        status = atomic.status(directories.split(path)[-1], folder)
                        if status:
                            existing[path] = status
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._error(path, "looked at", error) from None
        return existing

    def free(self) -> tuple[int, int]:
        """Return the bytes and inodes free for an ordinary user; inodes are -1 on a file system that has no count."""
        status = os.fstatvfs(self._root)
        return status.f_bavail * status.f_frsize, status.f_favail if status.f_files else -1

    def names(self, folder: str) -> list[str]:
        """List a folder, sorted; return nothing if it does not exist."""
        try:
            return directories.names(self._root, folder)
        except OSError as error:
            raise self._error(folder, "read", error) from None

    def remove(self, path: str) -> None:
        """Remove a file, or a folder with its contents, if it exists."""
        try:
            directories.remove(self._root, path)
        except OSError as error:
            raise self._error(path, "removed", error) from None

    def owner(self) -> tuple[int, int]:
        """Return the user and group id of the output directory."""
        try:
            status = os.fstat(self._root)
        except OSError as error:
            raise self._error("", "read", error) from None
        return status.st_uid, status.st_gid

    @contextlib.contextmanager
    def locked(self, places: Iterable[str]) -> Iterator[None]:
        """Hold the volume's lock; raise Busy, naming the holder, if another run has it.

        While it is held the lock file carries a line about the holder; at rest it is empty. What an
        interrupted run left staged in `places` is removed first, and what this one leaves by an error.
        """
        descriptor = lock.take(self._root, self.path)
        self._worked = True
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

    def staged(self, places: Iterable[str]) -> list[str]:
        """List what is staged in these folders: the work of a run in progress, or of an interrupted one."""
        paths: list[str] = []
        for place in places:
            paths += (os.path.join(place, name) for name in self.names(place) if is_staged_name(name))
        return paths

    def sweep(self, places: Iterable[str]) -> None:
        """Remove what is staged in these folders."""
        for place in places:
            name = ""
            try:
                with directories.parent(self._root, os.path.join(place, "-")) as (folder, _):
                    for name in os.listdir(folder):
                        if is_staged_name(name):
                            os.unlink(name, dir_fd=folder)
            except FileNotFoundError:
                continue
            except OSError as error:
                raise self._error(os.path.join(place, name), "removed", error) from None

    def stage(self, files: Iterable[File], *, backup: bool = False) -> list[Staged]:
        """Write each file durably under its temporary name, with its final mode from the first moment.

        What is written `once` may replace nothing but an empty file; `backup` keeps what is replaced as FILE.bak.
        """
        staged, opened, path = [], [], ""
        try:
            for file in files:
                path = file.path
                with directories.parent(self._root, path, create=True) as (folder, name):
                    opened.append(atomic.write(file, folder, name))
                staged.append(Staged(path, file.once, backup))
            atomic.make_durable(opened)
        except OSError as error:
            raise self._error(path, "written", error) from None
        finally:
            for descriptor in opened:
                directories.close(descriptor)
        return staged

    def publish(self, staged: Iterable[Staged]) -> None:
        """Rename staged files into place in their order, then make the directories durable."""
        places: dict[str, str] = {}
        path = ""
        try:
            for file in staged:
                path = file.path
                with directories.parent(self._root, path) as (folder, name):
                    self._publish_file(file, folder, name)
                places |= dict.fromkeys(self._unsettled(path), path)
            for place in sorted(places):
                path = places[place]
                with directories.parent(self._root, os.path.join(place, "-")) as (folder, _):
                    if not directories.sync(folder):
                        self._warn("it cannot make directories durable; a power cut just now may undo this run")
                self._settled.add(place)
        except OSError as error:
            raise self._error(path, "written", error) from None

    def replace(self, file: File) -> None:
        """Publish one file at once, over its earlier version."""
        self.publish(self.stage([file]))

    def check_writable(self) -> None:
        """Raise VolumeError, with the command to type, unless files can be created in the directory."""
        if os.access(self.path, os.W_OK | os.X_OK):
            return
        (uid, gid), mode = self.owner(), os.fstat(self._root).st_mode & 0o777
        if os.fstatvfs(self._root).f_flag & os.ST_RDONLY:
            todo = "mount it without :ro"
        elif uid == os.geteuid() and mode & 0o300 != 0o300:
            todo = f"its mode is {mode:04o}: on the host, chmod u+rwx the directory that is mounted there"
        else:
            todo = (
                f"run as its owner, as in 'docker run --user {uid}:{gid} -v /app/avatar:/out avatar-setup'; "
                "if it is immutable (lsattr -d), make it ordinary (chattr -i -a)"
            )
        where = f"the output directory {self.path} is not writable for user {os.geteuid()}"
        raise VolumeError(f"{where} (it belongs to {uid}:{gid}): {todo}")

    def _unsettled(self, path: str) -> Iterator[str]:
        """Yield a path's folder and those above it: a killed run may have created them and no more."""
        place = os.path.dirname(path)
        yield place
        while place:
            place = os.path.dirname(place)
            if place not in self._settled:
                yield place

    def _publish_file(self, file: Staged, folder: int, name: str) -> None:
        existing = atomic.status(name, folder)
        if existing is not None:
            directories.require_regular(file.path, existing)
        if file.once and existing is not None and existing.st_size:
            raise VolumeError(f"{file.path} has been filled in the meantime: run the same command again")
        staged = staged_name(name)
        if file.once and existing is None:
            if atomic.linked(file.path, folder, staged, name):
                os.unlink(staged, dir_fd=folder)
                return
            self._warn("it has no hard links; new secrets are renamed into place under the lock instead")
        elif file.backup and existing is not None:
            self._keep(file.path, folder, name)
        os.rename(staged, name, src_dir_fd=folder, dst_dir_fd=folder)

    def _keep(self, path: str, folder: int, name: str) -> None:
        try:
            atomic.back_up(folder, name)
        except OSError as error:
            raise self._error(f"{path}{BACKUP_SUFFIX}", "written", error) from None

    def _warn(self, text: str) -> None:
        warning = f"the volume's file system promises less: {text}"
        if warning not in self.warnings:
            self.warnings.append(warning)

    def _error(self, path: str, verb: str, error: OSError) -> VolumeError:
        return directories.explained(self._root, self.path, path, verb, error)
