"""Small real file systems in image files: made, mounted, cut off from their disk, and always unmounted again.

The sweeps mount in `workers`: there the kernel unmounts everything as soon as a thread is gone, however it ends.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from pathlib import Path

PACKAGES = {
    "mkfs.ext4": "e2fsprogs",
    "mkfs.xfs": "xfsprogs",
    "mkfs.vfat": "dosfstools",
    "fusefat": "fusefat",
    "setfacl": "acl",
    "chattr": "e2fsprogs",
    "strace": "strace",
    "mount": "mount",
    "setpriv": "util-linux",
}

MIB = 1 << 20
SIZES = {"ext4": 16 * MIB, "xfs": 300 * MIB, "vfat": 8 * MIB}  # the least that mkfs takes, and for ext4 a journal
# No journal commit of its own accord, ext4 without the kindness that hides a missing fsync; copies of one xfs at once.
OPTIONS = {"ext4": "loop,noauto_da_alloc,commit=300", "xfs": "loop,nouuid"}

# What a power cut leaves: of the journal all, of the files what was synced; or nothing that was not synced.
JOURNAL, NOTHING = 1, 2

_SHUTDOWN = 0x8004587D  # FS_IOC_SHUTDOWN
_CLONE_NEWNS = 0x20000


class Lacking(Exception):
    """This machine cannot do what a test wants; the text says what to install or allow."""


def program(name: str) -> str:
    """The path of a program, also of those that only root has in its PATH; raises Lacking."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")
    if not found:
        raise Lacking(f"{name} is missing (apt-get install {PACKAGES.get(name, name)})")
    return found


def require(*programs: str, kinds: tuple[str, ...] = ()) -> None:
    """Raises Lacking unless this process is root's, has these programs, and its kernel these file systems."""
    if os.geteuid() != 0:
        raise Lacking("only root may mount file systems")
    for name in programs:
        program(name)
    known = Path("/proc/filesystems").read_text().split()
    for kind in kinds:
        if kind not in known:
            raise Lacking(f"the kernel does not know {kind}")


@contextlib.contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """A thread for each processor, each with mounts of its own, which go with it at the latest."""
    try:
        with ThreadPoolExecutor(os.cpu_count(), initializer=_private) as pool:
            yield pool
    except BrokenThreadPool:
        raise Lacking("a thread may not have mounts of its own (unshare)") from None


def _private() -> None:
    if ctypes.CDLL(None, use_errno=True).unshare(_CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    _run("mount", "--make-rprivate", "/")


def made(kind: str, image: Path, *options: str) -> Path:
    """A new file system of this kind in an image file."""
    with image.open("wb") as file:
        file.truncate(SIZES[kind])
    quiet = {"ext4": ("-q", "-F"), "xfs": ("-q", "-f")}.get(kind, ())
    _run(f"mkfs.{kind}", *quiet, *options, str(image))
    return image


def copied(image: Path, to: Path) -> Path:
    """A copy that is as sparse as the original."""
    _run("cp", "--sparse=always", str(image), str(to))
    return to


@contextlib.contextmanager
def mounted(source: Path | str, point: Path, *options: str) -> Iterator[Path]:
    """A file system under a mount point that is made for it; unmounted in any case."""
    with mounted_by(("mount", *options), source, point):
        yield point


@contextlib.contextmanager
def mounted_by(command: tuple[str, ...], source: Path | str, point: Path) -> Iterator[Path]:
    """The same by a command that takes source and mount point last, as those for FUSE do."""
    point.mkdir(exist_ok=True)
    _run(*command, str(source), str(point))
    try:
        yield point
    finally:
        done = subprocess.run([program("umount"), str(point)], capture_output=True, check=False)
        if done.returncode:  # something is still at work there, which must not keep it
            _run("umount", "--lazy", str(point))


def remount(point: Path, options: str) -> None:
    """Changes the options of a mounted file system."""
    _run("mount", "-o", f"remount,{options}", str(point))


def cut(point: Path, keeps: int) -> None:
    """Cuts a mounted file system off from its disk, as when the power goes."""
    descriptor = os.open(point, os.O_RDONLY)
    try:
        fcntl.ioctl(descriptor, _SHUTDOWN, struct.pack("I", keeps))
    finally:
        os.close(descriptor)


def _run(name: str, *arguments: str) -> None:
    done = subprocess.run([program(name), *arguments], capture_output=True, text=True, check=False)
    if done.returncode:
        raise Lacking(f"{name} {' '.join(arguments)}: {done.stderr.strip() or done.stdout.strip()}")
