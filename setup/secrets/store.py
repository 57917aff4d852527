"""Read the secrets of a volume."""

from __future__ import annotations

from setup.config.secrets import SECRETS
from setup.errors import VolumeError
from setup.typed import TYPE_CHECKING
from setup.volume.layout import secret_path

if TYPE_CHECKING:
    from setup.volume.volume import Volume


def read_secrets(volume: Volume) -> dict[str, str | None]:
    """Read every secret's text, "" for an empty file, None if there is no file."""
    data = volume.read_each(map(secret_path, SECRETS))
    return {name: _text(path, data[path]) for name, path in zip(SECRETS, data, strict=True)}


def read_secret(volume: Volume, name: str) -> str | None:
    """Read one secret's text; raises VolumeError for a file that cannot hold one."""
    path = secret_path(name)
    return _text(path, volume.read(path))


def _text(path: str, data: bytes | None) -> str | None:
    if data is None:
        return None
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise VolumeError(f"{path} is not UTF-8 text: restore its value from a backup") from None
    if text and not text.strip():
        raise VolumeError(f"{path} contains only white space: put its value into it, or empty it (: > {path})")
    return text


def read_filled(volume: Volume) -> dict[str, str]:
    """Read the text of every secret that has one."""
    return {name: text for name, text in read_secrets(volume).items() if text}
