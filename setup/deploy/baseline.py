"""Remember what was written last: the text of every file, to tell edits by hand from our own changes, and the settings.

Both are in `.deployment-written`, private because `.env` shows secrets. Only a run that has something to do reads them.
"""

from __future__ import annotations

from setup.config.model import BY_LABEL, Given, Source
from setup.config.secrets import SECRETS
from setup.config.settings import IMAGES, SETTINGS
from setup.config.types import show
from setup.state_manager import DeploymentState, split_additions
from setup.typed import TYPE_CHECKING, Any
from setup.volume.layout import (
    ENV,
    LABEL_KEY,
    SECRETS_FOLDER,
    SETTINGS_RECORD,
    STATE,
    TLS_FOLDER,
    File,
    file_at,
    secret_path,
    written_path,
)
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from setup.config.resolver import Resolution

_UNKNOWN = Given("", Source.DEFAULT)


def texts(volume: Volume, files: Iterable[File]) -> list[File]:
    """Return the texts to keep of these files, if they are not kept already: no pictures, keys or certificates."""
    kept = []
    for file in files:
        if b"\0" in file.data or file.path.startswith(f"{TLS_FOLDER}/"):
            continue
        text = file_at(written_path(file.path), file.data)
        if volume.read(text.path) != text.data:
            kept.append(text)
    return kept


def everything(volume: Volume, files: Collection[str]) -> set[str]:
    """Return the paths of a whole deployment: these files, their texts, the state, and every secret on the volume."""
    secrets = [secret_path(name) for name in volume.names(SECRETS_FOLDER) if name in SECRETS]
    return {STATE, SETTINGS_RECORD, LABEL_KEY, *files, *map(written_path, files), *secrets}


def read_text(volume: Volume, state: DeploymentState, path: str) -> bytes | None:
    """Read the text that was last written to a path; None if it is no longer known."""
    data = volume.read(written_path(path))
    return data if data is not None and state.knows(path, data) else None


def settings(volume: Volume, resolution: Resolution) -> list[File]:
    """Return the record of the settings in force, if it changes."""
    import json

    record = {key: [show(setting.value), setting.source.label] for key, setting in resolution.applying().items()}
    file = file_at(SETTINGS_RECORD, f"{json.dumps(record, indent=1, ensure_ascii=False)}\n".encode())
    return [file] if volume.read(SETTINGS_RECORD) != file.data else []


def deployed(volume: Volume) -> dict[str, Given]:
    """Return the settings in force, as far as they are known; for an image, `.env` counts, because Compose reads it."""
    from setup.formats import dotenv
    from setup.formats.yaml_file import Malformed

    settings = recorded(volume.read(SETTINGS_RECORD) or b"{}")
    try:
        values = dotenv.parse(split_additions(ENV, volume.read(ENV) or b"")[0]).values
    except Malformed:
        return settings
    for key, text in values.items():
        if key in SETTINGS and SETTINGS[key].group == IMAGES:
            settings[key] = settings.get(key, _UNKNOWN)._replace(text=text)
    return settings


def recorded(data: bytes) -> dict[str, Given]:
    """Parse the record of the settings; a damaged one is empty, because it only serves comparisons."""
    import json

    try:
        document: dict[str, Any] = json.loads(data)
        return {key: Given(str(text), BY_LABEL[label]) for key, (text, label) in document.items() if key in SETTINGS}
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        return {}
