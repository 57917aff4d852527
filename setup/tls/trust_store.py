"""Decide which authorities the API services trust: the public roots, and a private CA if there is one."""

from __future__ import annotations

import contextlib
import os

from setup.config.values import Values
from setup.errors import InputError, VolumeError
from setup.formats.yaml_file import Malformed, read_input
from setup.volume.layout import CA_BUNDLE
from setup.volume.volume import Volume

PUBLIC_ROOTS = ("/etc/ssl/certs/ca-certificates.crt", "/etc/pki/tls/certs/ca-bundle.crt", "/etc/ssl/cert.pem")


def make_ca_bundle(volume: Volume, values: Values, own_authority: bytes = b"") -> bytes:
    """Return what the API services trust, b"" if the public roots suffice.

    `own_authority` is the certificate of the deployment's own CA.
    """
    if not (own_authority or values["TLS_CA_PATH"]):
        return b""
    return read_trusted(volume, values, read_known(volume)) + own_authority


def read_known(volume: Volume) -> bytes:
    """Return the present bundle, b"" if there is none; something odd in its place is reported before it is written."""
    with contextlib.suppress(VolumeError):
        return volume.read(CA_BUNDLE) or b""
    return b""


def read_trusted(volume: Volume, values: Values, known: bytes = b"") -> bytes:
    """Return the public roots followed by the private CA."""
    private = read_private_authority(volume, values, known)
    return read_public_roots() + (private + b"\n" if private else b"")


def read_private_authority(volume: Volume, values: Values, known: bytes = b"") -> bytes:
    """Return the CA of TLS_CA_PATH, b"" for none; raises InputError if it is no readable PEM certificate.

    One that is part of a `known` bundle was parsed when that was written.
    """
    path = str(values["TLS_CA_PATH"])
    if not path:
        return b""
    bundle, location = (os.path.realpath(os.path.join(volume.path, name)) for name in (CA_BUNDLE, path))
    try:
        if location == bundle:
            raise Malformed(f"it is {CA_BUNDLE}, which avatar-setup generates from it")
        private = _read(volume, path)
    except Malformed as error:
        raise InputError(
            f"TLS_CA_PATH={path}: {error}. Put the CA's certificate into a file of its own below the deployment's "
            "directory, as in TLS_CA_PATH=./tls/ca.crt, or mount it and give the path inside the container"
        ) from None
    if not private.strip() or private.strip() not in known:
        private = serialize_again(path, private)
    return private.strip()


def serialize_again(path: str, certificates: bytes) -> bytes:
    """Return certificates as every program reads them: a slip in their text would make the whole bundle unreadable.

    Raise InputError if they hold anything else, or one that some program would skip.
    """
    from setup.tls import pem
    from setup.tls.certificates import load_authorities, to_pem

    try:
        if b"PRIVATE KEY-----" in certificates:
            raise pem.private_key_beside(path)
        return to_pem(load_authorities(pem.PemFile(path, certificates)))
    except pem.Unusable as error:
        raise InputError(f"TLS_CA_PATH={path}: {error.problem.text}: {error.problem.todo}") from None


def _read(volume: Volume, path: str) -> bytes:
    if path.startswith("/"):
        return read_input(path)
    try:
        data = volume.read(path.removeprefix("./"))
    except VolumeError as error:
        raise Malformed(str(error)) from None
    if data is None:
        raise Malformed("no such file below the output directory")
    return data


def read_public_roots() -> bytes:
    """Return the public authorities in PEM, as this system has them; raises InputError if it has none."""
    for path in PUBLIC_ROOTS:
        try:
            with open(path, "rb") as file:
                return file.read().strip() + b"\n"
        except OSError:
            continue
    raise InputError("no public roots found on this system: install the package ca-certificates")
