"""Adapt to running in a container: require a volume, become its owner, and name it as the host does."""

from __future__ import annotations

import contextlib
import os
import sys

from setup.errors import InputError, VolumeError
from setup.typed import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

IMAGE_FLAG = "AVATAR_SETUP_IMAGE"  # set by the Dockerfile


def require_mount(path: str, environ: Mapping[str, str]) -> None:
    """Raise VolumeError in a container without a mounted volume: what is written would be lost."""
    if not environ.get(IMAGE_FLAG):
        return
    place = os.path.realpath(path)
    if not any(f"{place}/".startswith(f"{mount}/") for mount in _mounts() if mount != "/"):
        raise VolumeError(
            f"no volume is mounted at {path}, so everything would be lost with this container: "
            f"mount a directory of the host, as in 'docker run -it --rm -v /app/avatar:{path} avatar-setup'"
        )


def become_owner(path: str, environ: Mapping[str, str]) -> None:
    """Become PUID:PGID, or the owner of the output directory, if this process is root.

    So no files owned by root appear in somebody else's directory. Raise VolumeError with the
    command to type when the container may not change its user.
    """
    wanted = {name: _identity(name, environ.get(name, "")) for name in ("PUID", "PGID")}
    if os.geteuid() != 0:
        return
    try:
        status = os.stat(path)
    except OSError:
        return  # the volume says what is wrong with it when it is opened
    uid = status.st_uid if wanted["PUID"] is None else wanted["PUID"]
    gid = status.st_gid if wanted["PGID"] is None else wanted["PGID"]
    if (uid, gid) == (os.geteuid(), os.getegid()):
        return
    try:
        os.setgroups([])
        os.setgid(gid)
        os.setuid(uid)
    except OSError:  # a capability is missing, or the id is not mapped into this namespace
        raise VolumeError(
            f"{path} belongs to {status.st_uid}:{status.st_gid}, and this container cannot become {uid}:{gid}: "
            f"start it with 'docker run --user {uid}:{gid} ...', or allow --cap-add SETUID --cap-add SETGID"
        ) from None
    _require_readable_program(path, uid)


def _require_readable_program(path: str, uid: int) -> None:
    """Raise VolumeError if this process has just become a user who may not read the rest of the program."""
    for place in (__file__, os.__file__):
        try:
            os.close(os.open(place, os.O_RDONLY | os.O_CLOEXEC))
        except OSError:
            folder = os.path.dirname(os.path.dirname(os.path.abspath(place)))
            raise VolumeError(
                f"{path} belongs to user {uid}, who may not read this program in {folder}: put the program where every "
                f"user can read it, or give the directory to root (chown root {shell_word(path)})"
            ) from None


@contextlib.contextmanager
def as_owner(path: str) -> Iterator[None]:
    """Read as the owner of a directory if this process is root: so no link there leads to what only root may read."""
    try:
        status = os.stat(path)
    except OSError:  # whoever reads it says what is wrong
        yield
        return
    if os.geteuid() != 0 or status.st_uid == 0:
        yield
        return
    before = os.getegid(), os.getgroups()
    try:
        os.setgroups([])
        os.setegid(status.st_gid)
        os.seteuid(status.st_uid)
    except OSError:
        raise VolumeError(
            f"{path} belongs to {status.st_uid}:{status.st_gid}, and this container cannot read it as that user: "
            "allow --cap-add SETUID --cap-add SETGID"
        ) from None
    try:
        _require_readable_program(path, status.st_uid)
        yield
    finally:
        os.seteuid(0)
        os.setegid(before[0])
        os.setgroups(before[1])


def host_path(path: str, environ: Mapping[str, str]) -> str:
    """Return the directory as the host knows it, "" if that is not certain.

    The kernel names a mount's root within its file system. Docker itself mounts /etc/hostname from the
    host's /var/lib/docker: a mount of the same file system, under that very path, lies there as named.
    Inside the virtual machines of desktops, that host is not the operator's.
    """
    if not environ.get(IMAGE_FLAG):
        return os.path.abspath(path)
    if any(word in os.uname().release.lower() for word in ("linuxkit", "microsoft", "orbstack")):
        return ""
    mounts = _mounts()
    (device, root), (engine, record) = (mounts.get(at, ("", "")) for at in (path, "/etc/hostname"))
    return root if device and device == engine and record.startswith("/var/lib/docker/containers/") else ""


def command_again(path: str, host: str, environ: Mapping[str, str]) -> str:
    """Return the command that starts this program on the host for the same directory."""
    if environ.get(IMAGE_FLAG):
        return f"docker run --rm -v {shell_word(host) if host else 'DIRECTORY'}:{path} avatar-setup"
    if os.path.basename(sys.argv[0]) == "configure":
        return f"configure --output-dir {shell_word(path)}"
    python = sys.executable
    if python.startswith(f"{os.getcwd()}/"):
        python = os.path.relpath(python)
    return f"{shell_word(python)} -m setup --output-dir {shell_word(path)}"


def shell_word(text: str) -> str:
    """Quote a text as one word of a shell's command line; loading `shlex` takes a fifth of a short run."""
    if text and all(char.isascii() and (char.isalnum() or char in "_./:@%+=,-") for char in text):
        return text
    return "'" + text.replace("'", "'\\''") + "'"


def _mounts() -> dict[str, tuple[str, str]]:
    """Mount point -> device and root of every mount of this container; the last one counts."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            rows = [line.split(" ") for line in file]
    except OSError:
        return {}
    return {_unescaped(row[4]): (row[2], _unescaped(row[3])) for row in rows}


def _unescaped(text: str) -> str:
    """Decode blank, tab, newline and backslash, which the kernel writes as three octal digits."""
    head, *parts = text.split("\\")
    return head + "".join(chr(int(part[:3], 8)) + part[3:] for part in parts)


def _identity(name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit() and int(text) < 2**32 - 1):
        raise InputError(f"{name}={text!r}: it must be a numeric user or group id, as in {name}=1000")
    return int(text)
