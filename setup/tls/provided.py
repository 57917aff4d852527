"""Read the certificate and the key that the operator provides, as far as they can be seen from here."""

from __future__ import annotations

import os
import stat

from setup.config.values import Values
from setup.environment import shell_word
from setup.findings import Finding, Level
from setup.formats.yaml_file import Malformed, read_input
from setup.typed import TYPE_CHECKING, NamedTuple
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from setup.tls.pem import PemFile

CERTIFICATE_FILE, KEY_FILE = "certificate-file", "certificate-key"


class ProvidedFile(NamedTuple):
    """A file of the operator's: its bytes, or a finding that says why there are none; `missing` if it may come yet."""

    path: str
    data: bytes | None
    finding: Finding | None = None
    missing: bool = False
    is_open: bool = False  # other users of the host can read it

    @property
    def pem(self) -> PemFile | None:
        """Return the file for a closer inspection, None if it cannot be read."""
        if self.data is None:
            return None
        from setup.tls.pem import PemFile

        return PemFile(self.path, self.data)


def find_open(chain: ProvidedFile, key: ProvidedFile) -> list[Finding]:
    """Report the files that hold a private key and that other users of the host can read."""
    holding = [key, chain] if b"PRIVATE KEY-----" in (chain.data or b"") else [key]
    paths = list(dict.fromkeys(file.path.removeprefix("./") for file in holding if file.is_open))
    text = f"accessible to other users of the host: {', '.join(paths)}"
    todo = f"chmod 0600 {' '.join(map(shell_word, paths))}"
    return [Finding("file-open", Level.WARN, text, todo)] if paths else []


def read_provided(volume: Volume, values: Values) -> tuple[ProvidedFile, ProvidedFile]:
    """Read the certificate with its chain, and its key, where the settings say that they are on the host."""
    chain, key = str(values["NGINX_SSL_CERTIFICATE_PATH"]), str(values["NGINX_SSL_CERTIFICATE_KEY_PATH"])
    return _read(volume, CERTIFICATE_FILE, chain), _read(volume, KEY_FILE, key)


def _read(volume: Volume, name: str, path: str) -> ProvidedFile:
    """Read one file. `./` is the deployment's directory; a path of the host is here only if it is mounted there."""
    location = os.path.join(volume.path, path)
    command = "x509 -noout -text" if name == CERTIFICATE_FILE else "pkey -noout -check"
    on_host = f"on the host: openssl {command} -in {shell_word(path)}"
    try:
        status = os.stat(location)
    except PermissionError:
        status = None
    except OSError:
        if path.startswith("./") and not os.path.islink(location):
            data = volume.coming.get(path[2:])
            finding = Finding(name, Level.FAIL, f"{path} does not exist yet", "put it there before the stack starts")
            return ProvidedFile(path, data, finding if data is None else None, missing=data is None)
        text = f"{path} is not visible here and was not checked"
        return ProvidedFile(path, None, Finding(name, Level.SKIP, text, on_host))
    if status and stat.S_ISDIR(status.st_mode):
        todo = "remove it and put the file there: Docker creates a directory if a file to mount is missing"
        return ProvidedFile(path, None, Finding(name, Level.FAIL, f"{path} is a directory", todo))
    if not status or not os.access(location, os.R_OK, effective_ids=True):
        text = f"{path} is not readable by user {os.geteuid()} and was not checked"
        return ProvidedFile(path, None, Finding(name, Level.SKIP, text, on_host))
    try:
        return ProvidedFile(path, read_input(location), is_open=bool(status.st_mode & 0o066))
    except Malformed as error:
        return ProvidedFile(path, None, Finding(name, Level.FAIL, f"{path}: {error}", "put the file itself there"))
