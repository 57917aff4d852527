"""What was written last: the text of every file, so that edits by hand can be told from ours, and its settings.

Both stand in `.deployment-written`, private like the secrets that `.env` shows, and are looked at only by a run that
has something to do.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from setup.config.model import Given, Source
from setup.config.secrets import DIRECTORY, SECRETS
from setup.config.settings import IMAGES, SETTINGS
from setup.config.types import show
from setup.deploy.targets import ENV
from setup.state_manager import STATE, DeploymentState, split_additions
from setup.volume.layout import File
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from setup.config.resolver import Resolution

FOLDER = ".deployment-written"
SETTINGS_FILE = f"{FOLDER}/settings.json"
_BY_LABEL = {source.label: source for source in Source}
_UNKNOWN = Given("", Source.DEFAULT)


def place(path: str) -> str:
    """Where the text of a file is kept."""
    return f"{FOLDER}/{path}"


def texts(volume: Volume, files: Iterable[File]) -> list[File]:
    """What is to be kept of these files, as far as it does not stand there already: no pictures, keys, certificates."""
    kept = [File(place(file.path), file.data, 0o600) for file in files if _is_text(file)]
    return [file for file in kept if volume.read(file.path) != file.data]


def everything(volume: Volume, files: Collection[str]) -> set[str]:
    """The paths of a whole deployment: these files of it, their texts, the state, and every secret that is there."""
    secrets = [f"{DIRECTORY}/{name}" for name in volume.names(DIRECTORY) if name in SECRETS]
    return {STATE, SETTINGS_FILE, *files, *map(place, files), *secrets}


def _is_text(file: File) -> bool:
    return b"\0" not in file.data and not file.path.startswith("tls/")


def base(volume: Volume, state: DeploymentState, path: str) -> bytes | None:
    """The text that was last written to a path, None where it is not known any more."""
    data = volume.read(place(path))
    return data if data is not None and state.knows(path, data) else None


def settings(volume: Volume, resolution: Resolution) -> list[File]:
    """The settings that are in force, unless they are recorded already."""
    import json

    found = {key: [show(one.value), one.source.label] for key, one in resolution.applying().items()}
    file = File(SETTINGS_FILE, f"{json.dumps(found, indent=1, ensure_ascii=False)}\n".encode(), 0o600)
    return [file] if volume.read(SETTINGS_FILE) != file.data else []


def deployed(volume: Volume) -> dict[str, Given]:
    """The settings in force, as far as they are known; what `.env` says of an image counts, as Compose goes by it."""
    from setup.formats import dotenv
    from setup.formats.yaml_file import Malformed

    found = recorded(volume.read(SETTINGS_FILE) or b"{}")
    try:
        values = dotenv.parse(split_additions(ENV, volume.read(ENV) or b"")[0]).values
    except Malformed:
        return found
    images = {key for key in values if key in SETTINGS and SETTINGS[key].group == IMAGES}
    return found | {key: found.get(key, _UNKNOWN)._replace(text=values[key]) for key in images}


def recorded(data: bytes) -> dict[str, Given]:
    """The record as it was written; nothing where it is damaged, as it serves comparisons only."""
    import json

    try:
        document: dict[str, Any] = json.loads(data)
        return {key: Given(str(text), _BY_LABEL[label]) for key, (text, label) in document.items() if key in SETTINGS}
    except (ValueError, TypeError, KeyError, AttributeError):
        return {}
