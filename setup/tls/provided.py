"""The certificate that an operator gives: read where it can be seen from here, and judged."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING, NamedTuple

from setup.config.derived import certificate_names
from setup.config.model import FAIL, SKIP, Finding
from setup.config.values import Values
from setup.environment import shell_word
from setup.formats.yaml_file import Malformed, read_input
from setup.tls.trust_store import trusted
from setup.volume.volume import Volume

if TYPE_CHECKING:
    from datetime import datetime

CERTIFICATE_FILE, KEY_FILE = "certificate-file", "certificate-key"


class Seen(NamedTuple):
    """A file as far as it can be seen: its bytes, or a finding that says why there are none, as it may be missing."""

    path: str
    data: bytes | None
    finding: Finding | None = None
    missing: bool = False


def look(volume: Volume, values: Values) -> tuple[Seen, Seen]:
    """The certificate with its chain, and its key, where the settings say that they stand on the host."""
    chain, key = str(values["NGINX_SSL_CERTIFICATE_PATH"]), str(values["NGINX_SSL_CERTIFICATE_KEY_PATH"])
    return _see(volume, CERTIFICATE_FILE, chain), _see(volume, KEY_FILE, key)


def judge(
    volume: Volume, values: Values, chain: Seen, key: Seen, now: datetime, authority: bytes = b""
) -> tuple[list[Finding], datetime | None]:
    """What there is to say about a certificate that was seen, and when the first of its chain ends.

    `authority` is what its clients trust, if that is not the public ones and that of TLS_CA_PATH.
    """
    from setup.tls.certificates import Judged  # and with it the library

    read = (key.path, key.data) if key.data is not None else None
    roots = authority or trusted(volume, values)
    judged = Judged((chain.path, chain.data or b""), read, certificate_names(values), roots, now)
    return judged.findings, judged.end


def _see(volume: Volume, name: str, path: str) -> Seen:
    """One file. `./` is the deployment's directory; a path of the host's is a file here only where it is mounted so."""
    place = os.path.join(volume.path, path)
    command = "x509 -noout -text" if name == CERTIFICATE_FILE else "pkey -noout -check"
    by_hand = f"on the host: openssl {command} -in {shell_word(path)}"
    try:
        status = os.stat(place)
    except PermissionError:
        status = None
    except OSError:
        if path.startswith("./") and not os.path.islink(place):
            data = volume.coming.get(path[2:])
            finding = Finding(name, FAIL, f"{path} is not there yet", "put it there before the stack starts")
            return Seen(path, data, finding if data is None else None, missing=data is None)
        text = f"{path} cannot be seen from here and was not checked"
        return Seen(path, None, Finding(name, SKIP, text, by_hand))
    if status and stat.S_ISDIR(status.st_mode):
        todo = "remove it, and put the file there: Docker makes a directory where a file to mount is missing"
        return Seen(path, None, Finding(name, FAIL, f"{path} is a directory", todo))
    if not status or not os.access(place, os.R_OK, effective_ids=True):
        text = f"{path} may not be read by user {os.geteuid()} and was not checked"
        return Seen(path, None, Finding(name, SKIP, text, by_hand))
    try:
        return Seen(path, read_input(place))
    except Malformed as error:
        return Seen(path, None, Finding(name, FAIL, f"{path}: {error}", "put the file itself there"))
